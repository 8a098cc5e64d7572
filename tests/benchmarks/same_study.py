"""What two folders hold of one study: table, traces, MLflow, Optuna and files, all of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from study.ledger import FILE
from study.mlflow_store import absolute_uri, artifact_root, connect

# Times, and names that MLflow makes up
DIFFERS = {"seconds", "conclusion_seconds", "mlflow_run_id"}
# Where a command that is started says what it does
LOG = "said.txt"

Key = tuple[int, int]


@dataclass
class Comparison:
    """Of a study with the one it should be equal to.

    Attributes:
        trainings: That it should have.
        lost: How many of these are missing in the table, or have not ended in MLflow or Optuna.
        doubled: Rows, runs and points of curves that are there twice.
        differences: Everything else that is not the same, a line each.
    """

    trainings: int
    lost: int
    doubled: int
    differences: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        return not (self.lost or self.doubled or self.differences)


@dataclass
class _Content:
    """What a folder holds."""

    table: pd.DataFrame
    traces: dict[str, bytes]
    parents: dict[Any, Any]
    children: dict[Any, Any]
    proposals: dict[Any, Any]
    ended: set[int]
    files: set[str]


def compared(reference: Path, other: Path, name: str, but_for: Collection[str] = ()) -> Comparison:
    """Compares the studies of one name that two working directories hold.

    Args:
        reference: One working directory, of the study that the other should be equal to.
        other: The other.
        name: Of the study.
        but_for: Params of its run in MLflow that may differ.
    """
    wanted, found = _content(reference, name), _content(other, name)
    for parent in [*wanted.parents.values(), *found.parents.values()]:
        for param in but_for:
            del parent["params"][param]
    rows = Counter(_keys(found.table))
    told = {key[:2] for key, run in found.children.items() if run["status"] == "FINISHED"}
    everywhere = {key for key in rows if key in told and key[0] in found.ended}
    doubled = sum(count - 1 for count in rows.values())
    doubled += sum(key[-1] > 0 for key in [*found.children, *found.parents])
    doubled += sum(_repeats(child) for child in found.children.values())
    return Comparison(
        len(wanted.table), len(wanted.table) - len(everywhere), doubled, _differ(wanted, found)
    )


def _content(folder: Path, name: str) -> _Content:
    study = folder / "studies" / name
    table = pd.read_csv(study / "results.csv", dtype=str, keep_default_na=False)
    parents, children = _runs(folder, study, name)
    trials = optuna.load_study(study_name=name, storage=f"sqlite:///{study / FILE}").trials
    return _Content(
        table=table.drop(columns=list(DIFFERS)),
        traces=_traces(study),
        parents=parents,
        children=children,
        proposals={each.number: (each.state.name, each.params, each.values) for each in trials},
        ended={each.number for each in trials if each.state.is_finished()},
        files={str(path.relative_to(folder)) for path in folder.rglob("*") if _kept(path)},
    )


def _kept(path: Path) -> bool:
    """Whether to compare it: MLflow names its own by run, and `LOG` is what commands said."""
    return "mlartifacts" not in path.parts and path.name != LOG


def _traces(study: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(study.glob("trials/*/*/traces.npz")):
        with np.load(path) as arrays:
            for key in ("d", "r"):
                found[f"{path.relative_to(study)}: {key}"] = arrays[key].tobytes()
    return found


def _runs(folder: Path, study: Path, name: str) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """What MLflow holds of the study and of its trainings, those that were deleted included."""
    from mlflow.entities import ViewType

    uri = absolute_uri(f"sqlite:///{folder / 'mlflow.db'}")
    client = connect(uri, artifact_root(uri, study))
    experiment = client.get_experiment_by_name(name).experiment_id
    parents: dict[Any, Any] = {}
    children: dict[Any, Any] = {}
    for run in client.search_runs([experiment], run_view_type=ViewType.ALL, max_results=1000):
        tags = run.data.tags
        child = "mlflow.parentRunId" in tags
        kept, key = (children, (int(tags["trial"]), int(tags["seed"]))) if child else (parents, ())
        # the last number tells the second of a key from the first
        kept[(*key, sum(each[:-1] == key for each in kept))] = {
            "status": run.info.status,
            "stage": run.info.lifecycle_stage,
            "params": run.data.params,
            "histories": {
                metric: [
                    # NaN is not equal to itself
                    (point.step, repr(point.value))
                    for point in client.get_metric_history(run.info.run_id, metric)
                ]
                for metric in run.data.metrics.keys() - DIFFERS
            },
            "tags": {key: tags[key] for key in ("verdict", "status", "answer") if key in tags},
            "artifacts": sorted(_artifacts(client, run.info.run_id, None)),
        }
    return parents, children


def _artifacts(client: Any, run: str, folder: str | None) -> list[str]:
    found = []
    for each in client.list_artifacts(run, folder):
        found += _artifacts(client, run, each.path) if each.is_dir else [each.path]
    return found


def _keys(table: pd.DataFrame) -> list[Key]:
    return [(int(row["trial"]), int(row["seed"])) for _, row in table.iterrows()]


def _repeats(run: dict[str, Any]) -> int:
    """How many points of curves are there more than once."""
    return sum(
        count - 1
        for history in run["histories"].values()
        for count in Counter(step for step, _ in history).values()
    )


def _differ(wanted: _Content, found: _Content) -> list[str]:
    lines = [f"file not there: {path}" for path in sorted(wanted.files - found.files)]
    lines += [f"file left over: {path}" for path in sorted(found.files - wanted.files)]
    if not wanted.table.equals(found.table):
        lines.append(f"results.csv: {_rows(wanted.table)} rows, {_rows(found.table)} found")
    lines += _entries("traces", wanted.traces, found.traces)
    lines += _entries("MLflow, study", wanted.parents, found.parents)
    lines += _entries("MLflow, training", wanted.children, found.children)
    lines += _entries("Optuna", wanted.proposals, found.proposals)
    return lines


def _rows(table: pd.DataFrame) -> str:
    return json.dumps(table.to_dict("records"))


def _entries(title: str, wanted: dict[Any, Any], found: dict[Any, Any]) -> list[str]:
    lines = []
    for key in sorted(wanted.keys() | found.keys(), key=str):
        here, there = wanted.get(key), found.get(key)
        if isinstance(here, dict) and isinstance(there, dict):
            lines += _entries(f"{title} {key}", here, there)
        elif here != there:
            lines.append(f"{title} {key}: {_short(here)}, found {_short(there)}")
    return lines


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]} …"
