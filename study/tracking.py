"""The record of a study in MLflow, which only this module and `mlflow_store` touch.

A study is one parent run, each (configuration, seed) a child of it. Runs are found again by their
tags, so that a study that goes on after an interruption writes into the runs it had.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from ebm_core.config import flatten
from study.mlflow_store import VIEW, absolute_uri, artifact_root, connect, identity
from study.table import CAUSE

# A page with some hundred denser curves becomes slow to look at
MAX_POINTS = 200
# Curves over updates that are columns of the table too
ASSESSED = ("r", "r_scaled", "r_matched", "r_band_adherence")
OUTCOMES = ("status", "verdict", "reasons", "oscillation", "long_run")

NOTE = (
    "Curves: values at single updates. The last point of `r`, `r_scaled`, `r_matched` and "
    "`r_band_adherence` is what the table of the study holds, if it holds one: the assessed "
    "window's."
)
# MLflow's own table starts with the parent alone, folded, and without a metric or tag in sight
SHOWN = {
    "searchFilter": "tags.role = 'training'",
    "orderByKey": "metrics.`convergence_score`",
    "orderByAsc": False,
    "selectedColumns": [
        *(f"metrics.`{name}`" for name in ("convergence_score", "d_balance", "epsilon")),
        *(f"metrics.`{name}`" for name in ("r_matched", "r_scaled")),
        *(f"tags.`{name}`" for name in ("verdict", "reasons", "long_run")),
    ],
}
# Updates a batch: up to ten curves fit in MLflow's 1,000 values, and no update is written in part
_BATCH = 100


@dataclass
class _Curve:
    """How far the curves of a run are: planned updates, and the last update logged (or -1)."""

    updates: int
    last: int

    def slot(self, update: int) -> int:
        """Which of `MAX_POINTS` points an update falls to; the last is the end of training."""
        return update * (MAX_POINTS - 1) // self.updates


class Tracker:
    """Writes one study into MLflow, from one process.

    Args:
        uri: A database (``sqlite:///mlflow.db`` is relative to the working directory), a
            server, or a folder as ``file:///…``.
        experiment: Its name; created where there is none.
        study: The name of the study.
        folder: The study's own folder, absolute. A file there keeps the identity of the study,
            so that another of the same name, begun after it was deleted, gets runs of its own.
    """

    def __init__(self, uri: str, experiment: str, study: str, folder: Path) -> None:
        self.uri = absolute_uri(uri)
        self.experiment = experiment
        self.study = study
        self.folder = folder
        self.run_id = ""
        self._client: Any = None
        self._experiment_id = ""
        self._curves: dict[str, _Curve] = {}

    def open(self, params: Mapping[str, Any]) -> str:
        """Find or create database, experiment and the run of the study, and set that running.

        Args:
            params: What the study was asked, nested or flat. MLflow lets nobody change a param:
                one that differs from the time before (more trials, say) goes to a tag
                ``changed.KEY``.

        Returns:
            The id of the run.

        Raises:
            TrackingError: If the store cannot be reached, read or written.
        """
        artifacts = artifact_root(self.uri, self.folder)
        self._client = connect(self.uri, artifacts)
        self._experiment_id = self._open_experiment(artifacts)
        study_id = identity(self.folder, self.uri, self._experiment_id)
        self.run_id, stored = self._open_run(
            {"role": "study", "study_id": study_id},
            name=self.study,
            more={"study": self.study},
        )
        values = _flat(params)
        changed = {key for key, value in values.items() if stored.get(key, value) != value}
        self._log(
            self.run_id,
            params={key: value for key, value in values.items() if key not in stored},
            tags={f"changed.{key}": values[key] for key in changed},
        )
        return self.run_id

    def child(self, trial: int, seed: int, params: Mapping[str, Any], name: str) -> str:
        """The run of one (configuration, seed), found or created, and set running.

        Args:
            trial: Number of the configuration.
            seed: Seed of this repeat.
            params: The full configuration, nested or flat, with its planned `updates`.
            name: Shown in MLflow, for example ``ε=0.080 ρ=2 seed=0``.

        Returns:
            The id of the run.

        Raises:
            MlflowException: If the run is there with another configuration.
        """
        run_id, stored = self._open_run(
            {"mlflow.parentRunId": self.run_id, "trial": str(trial), "seed": str(seed)},
            name=name,
            more={"role": "training", "study": self.study, "mlflow.note.content": NOTE},
        )
        values = _flat(params)
        new = {key: value for key, value in values.items() if stored.get(key) != value}
        self._log(run_id, params=new)
        return run_id

    def log_curve(self, run_id: str, points: Sequence[Mapping[str, float]]) -> None:
        """Log values over updates, thinned to at most `MAX_POINTS` points a curve.

        Whatever is not later than what the run has already is skipped, after a restart too. At
        the last update, curves that are columns of the table are left to `finish_child`. NaN and
        infinity are left out: a gap in the curve.

        Args:
            run_id: A child.
            points: In order, each an `update` and values by name.
        """
        curve = self._curve(run_id)
        kept: list[tuple[int, dict[str, float]]] = []
        last = curve.last
        for point in points:
            update = int(point["update"])
            if update <= last or curve.slot(update) == curve.slot(last):
                continue
            left_out = {"update", *(ASSESSED if update >= curve.updates else ())}
            values = {name: value for name, value in point.items() if _finite(value)}
            kept.append((update, {name: values[name] for name in values.keys() - left_out}))
            last = update
        for start in range(0, len(kept), _BATCH):
            self._log(run_id, kept[start : start + _BATCH])
        curve.last = last

    def finish_child(
        self, run_id: str, row: Mapping[str, Any], artifacts: Path, failed: bool = False
    ) -> None:
        """Log the outcome of one training, and close its run. Doing it again changes nothing.

        Every number in the row becomes a metric at step `updates`, what was searched included,
        since MLflow sorts and compares params as text only. For a curve (r, r_scaled, r_matched,
        r_band_adherence) this is one last point, so that what MLflow shows as its value is the
        table's. Where the table has none, the curve stays as it is: MLflow hides a curve that
        ends in NaN. So do all curves of a training that failed to run.

        Args:
            run_id: A child.
            row: Its row of the table.
            artifacts: A folder; every file below it is uploaded.
            failed: Whether it failed to run; it may then lack the folder.

        Raises:
            FileNotFoundError: If there is no such folder, which MLflow would overlook.
        """
        if not (failed or artifacts.is_dir()):
            raise FileNotFoundError(f"{artifacts}: a finished training must leave its files here")
        curve = self._curve(run_id)
        self._client.log_artifacts(run_id, str(artifacts))
        final = {name: value for name, value in row.items() if _finite(value)}
        if failed:
            final = {name: value for name, value in final.items() if name not in ASSESSED}
        else:
            curve.last = max(curve.last, int(row["updates"]))
        tags = {name: _text(row.get(name)) for name in OUTCOMES}
        if cause := _text(row.get(CAUSE)):
            tags[CAUSE] = cause
        self._log_final(run_id, max(curve.last, 0), final, tags)
        self._client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def close(
        self,
        metrics: Mapping[str, Any],
        tags: Mapping[str, Any],
        artifacts: Iterable[Path],
        description: str,
        status: str,
    ) -> None:
        """Log the outcome of the study and close its run, and children left running as KILLED.

        Args:
            metrics: Numbers; what is not finite is left out.
            tags: Texts by name.
            artifacts: Files, or folders that keep their name.
            description: Markdown, shown on the page of the run.
            status: FINISHED, FAILED or KILLED.
        """
        for path in artifacts:
            if path.is_dir():
                self._client.log_artifacts(self.run_id, str(path), path.name)
            else:
                self._client.log_artifact(self.run_id, str(path))
        finite = {name: value for name, value in metrics.items() if _finite(value)}
        self._log_final(self.run_id, 0, finite, {**tags, "mlflow.note.content": description})
        running = {"mlflow.parentRunId": self.run_id}, "attributes.status = 'RUNNING'"
        while orphans := self._search(*running):
            for orphan in orphans:
                self._client.set_terminated(orphan.info.run_id, "KILLED")
        self._client.set_terminated(self.run_id, status)

    def _open_experiment(self, artifacts: Path | None) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                self._client.create_experiment(
                    self.experiment, artifact_location=artifacts.as_uri() if artifacts else None
                )
            except MlflowException as error:
                # Another study may have been faster
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self._client.get_experiment_by_name(self.experiment)
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        tags = {
            "mlflow.experimentKind": "custom_model_development",
            f"mlflow.sharedViewState.{VIEW}": json.dumps(SHOWN),
        }
        for key in tags.keys() - found.tags.keys():
            self._client.set_experiment_tag(found.experiment_id, key, tags[key])
        return str(found.experiment_id)

    def _open_run(
        self, tags: Mapping[str, str], name: str, more: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """The run with these tags, running, and its params; a new one gets `more` tags."""
        if found := self._search(tags):
            run_id = found[0].info.run_id
            self._client.update_run(run_id, status="RUNNING")
            return run_id, found[0].data.params
        run = self._client.create_run(self._experiment_id, tags={**tags, **more}, run_name=name)
        return str(run.info.run_id), {}

    def _search(self, tags: Mapping[str, str], *conditions: str) -> list[Any]:
        equal = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
        query = " and ".join([*equal, *conditions])
        return list(self._client.search_runs([self._experiment_id], query))

    def _curve(self, run_id: str) -> _Curve:
        if run_id not in self._curves:
            data = self._client.get_run(run_id).data
            steps = [
                metric.step
                for name in data.metrics
                for metric in self._client.get_metric_history(run_id, name)
            ]
            self._curves[run_id] = _Curve(int(data.params["updates"]), max(steps, default=-1))
        return self._curves[run_id]

    def _log_final(
        self, run_id: str, step: int, values: Mapping[str, float], tags: Mapping[str, Any]
    ) -> None:
        """Log values that the run does not show yet, so that a repeat adds no points."""
        shown = self._client.get_run(run_id).data.metrics
        new = {name: value for name, value in values.items() if shown.get(name) != value}
        self._log(run_id, [(step, new)], tags=tags, later=1)

    def _log(
        self,
        run_id: str,
        points: Sequence[tuple[int, Mapping[str, float]]] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, Any] | None = None,
        later: int = 0,
    ) -> None:
        """One batch; of two points at one step, the `later` milliseconds decide which counts."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000) + later
        self._client.log_batch(
            run_id,
            metrics=[
                Metric(name, float(value), now, step)
                for step, values in points
                for name, value in values.items()
            ],
            params=[Param(key, value) for key, value in (params or {}).items()],
            tags=[RunTag(key, str(value)) for key, value in (tags or {}).items()],
        )


def _flat(tree: Mapping[str, Any]) -> dict[str, str]:
    """Nested values as texts by dotted key."""
    return {name: str(value) for name, value in flatten(tree).items()}


def _finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Any) -> str:
    """A cell of the table; None and NaN are empty ones."""
    return value if isinstance(value, str) else ""
