"""What stands in the report of a study, as plain values for its template."""

from __future__ import annotations

import json
import platform
import shlex
from dataclasses import replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import ebm_core
from study.reporting import drawing, exhibits, figures, mapped, parallel, symbols
from study.reporting.advice import ADVICE
from study.reporting.agreement import compare
from study.reporting.answer import Answer, summarize
from study.reporting.atlas import as_searched
from study.reporting.columns import table
from study.reporting.exhibits import plain
from study.reporting.outcomes import OUTCOMES, axes_of, chosen, tidy
from study.reporting.sentences import counted, listed, number

if TYPE_CHECKING:
    from study.spec import StudySpec

# In characters, the page; and all embedded pictures together, in base64.
PAGE_BUDGET, PICTURE_BUDGET = 2_900_000, 1_900_000

_LIBRARIES = ("torch", "numpy", "ray", "optuna", "mlflow", "scikit-learn")
_SIGNS = dict(zip(OUTCOMES, "●■✖▼◆✚", strict=True))
_LONG_RUN_SIGNS = {"holds": "●", "departs": "○"}


def compose(
    spec: StudySpec, frame: pd.DataFrame, folder: Path
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Everything that the template needs but pictures of trainings, and the study's own pictures.

    Args:
        spec: The study.
        frame: Its table.
        folder: Where the files of its trainings lie.

    Returns:
        Values by name, and files by name.
    """
    frame = as_searched(tidy(frame), spec.parameters)
    axes = axes_of(frame, spec.parameters)
    answer = summarize(frame, spec.parameters)
    the_map, map_files = mapped.mapped(spec, frame)
    if not the_map["missing"]:
        answer = replace(answer, mapped=the_map["answer"], quality=the_map["quality"])
    sharpest, front_files = mapped.sharpest(spec, frame)
    columns, rows = table(frame, axes)
    disagreeing = answer.agreement.indicators_disagree
    seen = {**answer.trainings, **answer.reasons, "indicators_disagree": disagreeing}
    failed = exhibits.failures(frame, axes)
    content = {
        "name": spec.name,
        "question": question(spec),
        "design": design(spec, frame),
        "answer": answer,
        "tiles": tiles(answer, frame),
        "shares": [(name, answer.configurations[name]) for name in OUTCOMES],
        "glossary": symbols.glossary(axes),
        "map": the_map,
        "panels": [
            drawing.to_svg(figure, f"Trainings of the study, panel {place}")
            for place, figure in enumerate(
                figures.panels(frame, spec, mapped=not the_map["missing"])
            )
        ],
        "curves": [
            drawing.to_svg(figure, f"d and r over the updates, training {place}")
            for place, figure in enumerate(figures.curves(frame, folder, spec.base))
        ],
        "columns": columns,
        "rows": rows,
        "members": [],
        "data": {
            "trainings": parallel.trainings(frame, axes),
            "axes": parallel.coordinates(frame, axes, spec.parameters),
        },
        "sharpest": sharpest,
        "failures": failed[: exhibits.LONGEST],
        "more_failures": max(0, len(failed) - exhibits.LONGEST),
        "foretelling": exhibits.foretelling(
            compare(frame, spec.parameters), spec.long_run.steps, axes
        ),
        "advice": [(name, each, seen.get(name, 0)) for name, each in ADVICE.items()],
        "cost": cost(frame),
        "commands": commands(spec, frame, folder),
        "versions": versions(),
        "document": json.dumps(spec.resolved(), indent=2, ensure_ascii=False),
        "written": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        "signs": _SIGNS,
        "long_run_signs": _LONG_RUN_SIGNS,
    }
    overview = drawing.to_png(figures.overview(frame, spec))
    return content, {"overview.png": overview, **map_files, **front_files}


def members(spec: StudySpec, frame: pd.DataFrame, folder: Path, page: str) -> list[dict[str, Any]]:
    """Trainings with those of their pictures that still fit into a page without any."""
    frame = tidy(frame)
    room = min(PICTURE_BUDGET, PAGE_BUDGET - len(page.encode()))
    return exhibits.members(frame, axes_of(frame, spec.parameters), folder, room)


def question(spec: StudySpec) -> str:
    """What the study asks, as a question."""
    data = spec.base.get("data")
    data = data.get("name") if isinstance(data, dict) else data or "this data"
    names = axes_named(spec)
    if not names:
        return f"Does learning converge on {data}?"
    return f"For which {listed(names)} does learning converge on {data}?"


def axes_named(spec: StudySpec) -> list[str]:
    return [name for name, each in spec.parameters.items() if each.distribution != "constant"]


def design(spec: StudySpec, frame: pd.DataFrame) -> str:
    """How the question was put, in one line."""
    ranges = [f"{name} {_range(spec.parameters[name])}" for name in axes_named(spec)]
    trained = counted(frame["trial"].nunique(), "configuration")
    repeats = f" with {spec.seeds} seeds each" if spec.seeds > 1 else ""
    return "; ".join([*ranges, f"{trained} by {spec.method}{repeats}"]) + "."


def _range(distribution: Any) -> str:
    if distribution.distribution in ("choice", "grid"):
        return f"in {listed(plain(value) for value in distribution.values)}"
    log = ", logarithmic" if distribution.log else ""
    return f"{number(distribution.min)} to {number(distribution.max)}{log}"


def tiles(answer: Answer, frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    """The numbers to read first: value, its unit or what it is out of, what it says."""
    converged, agreement = answer.configurations["convergent"], answer.agreement
    found = [(f"{converged}", f"of {answer.assessed}", "assessed configurations converged")]
    if agreement.compared:
        share = f"of {agreement.compared}"
        found.append((f"{agreement.agree}", share, "verdicts that the long run confirms"))
    if answer.sharpest is not None and frame["data_epsilon"].nunique() > 1:
        sharpest = frame.loc[frame["trial"] == answer.sharpest, "data_epsilon"].iloc[0]
        found.append((number(sharpest), "", "data_epsilon of the setting to take"))
    value, unit = duration(frame["seconds"].sum()).split(" ", 1)
    return [*found, (value, unit, f"in {counted(len(frame), 'training')}")]


def cost(frame: pd.DataFrame) -> str:
    """What the trainings took, in a sentence."""
    seconds, updates = frame["seconds"].sum(), frame["updates"].sum()
    sentence = f"{counted(len(frame), 'training')} made {counted(int(updates), 'update')}"
    sentence += f" in {duration(seconds)} inside the update loop"
    if updates:
        sentence += f": {number(1000 * seconds / updates)} ms an update"
    return f"{sentence}. Start, long runs and pictures come in addition."


def duration(seconds: float) -> str:
    """A time for people: ``9.6 s``, ``12 min``, ``3.5 h``."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"


def commands(spec: StudySpec, frame: pd.DataFrame, folder: Path) -> list[tuple[str, str]]:
    """What each command does, and the command."""
    place = shlex.quote(str(folder))
    found = [
        (
            "The study again, beside this one:",
            f"python -m study.run {place}/study.json --fresh",
        ),
        ("This page again:", f"python -m study.report {place}"),
        ("Every training in MLflow:", f"python -m study.ui {shlex.quote(spec.name)}"),
    ]
    for _, row in chosen(frame).iterrows():
        pack = figures.member_folder(folder, row) / "pack.yaml"
        if pack.is_file():
            what = f"Trial {row['trial']} alone, d and r bit for bit on the same machine:"
            found.append((what, f"python -m ebm_core train --pack {shlex.quote(str(pack))}"))
            break
    return found


def versions() -> str:
    """What is installed where this page is written."""
    found = [f"Python {platform.python_version()}", f"ebm_core {ebm_core.__version__}"]
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue  # a page can be written where nothing is trained
    return ", ".join(found)
