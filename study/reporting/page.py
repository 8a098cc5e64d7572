"""What stands in the report of a study, as plain values for its template."""

from __future__ import annotations

import base64
import json
import math
import platform
import shlex
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import ebm_core
from study.reporting import agreement_figure, agreement_text, drawing, figures
from study.reporting.advice import ADVICE
from study.reporting.agreement import MARGIN, Comparison, compare
from study.reporting.answer import Answer, summarize
from study.reporting.columns import table
from study.reporting.outcomes import OUTCOMES, axes_of, chosen, reasons_of, tidy
from study.reporting.sentences import counted, listed, number

if TYPE_CHECKING:
    from study.spec import StudySpec

# In base64 characters, all embedded pictures together: the page stays under 3 MB.
PICTURE_BUDGET = 2_000_000

# Verdicts that the long run contradicts, at most so many by name.
LONGEST = 60
_LIBRARIES = ("torch", "numpy", "ray", "optuna", "mlflow", "scikit-learn")
_SIGNS = dict(zip(OUTCOMES, "●■✖▼◆✚", strict=True))
_LONG_RUN_SIGNS = {"holds": "●", "departs": "○"}


def compose(spec: StudySpec, frame: pd.DataFrame, folder: Path) -> tuple[dict[str, Any], bytes]:
    """Everything that the template needs, and the overview as a picture.

    Args:
        spec: The study.
        frame: Its table.
        folder: Where the files of its trainings lie.
    """
    frame = tidy(frame)
    axes = axes_of(frame, spec.parameters)
    answer = summarize(frame, spec.parameters)
    overview = figures.overview(frame, spec)
    curves = figures.curves(frame, folder, spec.base)
    columns, rows = table(frame, axes)
    disagreeing = answer.agreement.indicators_disagree
    seen = {**answer.trainings, **answer.reasons, "indicators_disagree": disagreeing}
    content = {
        "name": spec.name,
        "question": question(spec),
        "design": design(spec, frame),
        "answer": answer,
        "tiles": tiles(answer, frame),
        "shares": [(name, answer.configurations[name]) for name in OUTCOMES],
        "overview": drawing.to_svg(overview, f"Outcome over {listed(axes or ['trials'])}"),
        "curves": drawing.to_svg(curves, "d and r over the updates") if curves else "",
        "columns": columns,
        "rows": rows,
        "members": members(frame, axes, folder),
        "failures": failures(frame, axes),
        "foretelling": foretelling(compare(frame, spec.parameters), spec.long_run.steps, axes),
        "advice": [(name, each, seen.get(name, 0)) for name, each in ADVICE.items()],
        "cost": cost(frame),
        "commands": commands(spec, frame, folder),
        "versions": versions(),
        "document": json.dumps(spec.resolved(), indent=2, ensure_ascii=False),
        "written": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        "signs": _SIGNS,
        "long_run_signs": _LONG_RUN_SIGNS,
    }
    return content, drawing.to_png(overview)


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


def plain(value: float | str) -> str:
    return value if isinstance(value, str) else number(value)


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


def members(frame: pd.DataFrame, axes: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """The chosen trainings that left pictures, each with those that fit into the page."""
    found = []
    room = PICTURE_BUDGET
    for _, row in chosen(frame).iterrows():
        place = figures.member_folder(folder, row)
        pictures = {}
        for kind, names in (
            ("diagnostics", ("diagnostics",)),
            ("states", ("samples", "landscape")),
        ):
            files = [path for name in names if (path := place / f"{name}.png").is_file()]
            uri = _data_uri(files[0]) if files else ""
            pictures[kind] = uri if len(uri) <= room else ""
            room -= len(pictures[kind])
        if any(pictures.values()):
            found.append({**_told(row, axes), **pictures})
    return found


def failures(frame: pd.DataFrame, axes: Sequence[str]) -> list[dict[str, Any]]:
    """The trainings that broke off or have no verdict, with their causes."""
    broken = frame[~frame["outcome"].isin(("convergent", "nonconvergent"))]
    return [_told(row, axes) for _, row in broken.iterrows()]


def foretelling(found: Comparison, steps: int, axes: Sequence[str]) -> dict[str, Any] | None:
    """What foretells the long run; None where no training has one.

    Args:
        found: Quantities against long run.
        steps: Of a long run.
        axes: The parameters that vary.
    """
    if not found.holds + found.departs:
        return None
    few = agreement_text.too_few(found)
    figure = agreement_figure.areas(found)
    label = "How well each quantity foretells the long run"
    return {
        "steps": steps,
        "detectable": "" if math.isnan(found.detectable) else number(found.detectable),
        "counts": agreement_text.counts_sentence(found),
        "too_few": few,
        "findings": agreement_text.findings(found),
        "choices": agreement_text.choices(found),
        "headings": agreement_text.HEADINGS,
        "figure": drawing.to_svg(figure, label) if figure else "",
        "held_out": agreement_text.held_out(found),
        "both": agreement_text.both(found),
        "thirds": agreement_text.each_third(found),
        "wrong": []
        if few
        else [_mistaken(row, axes) for _, row in found.wrong[:LONGEST].iterrows()],
        "more": max(0, len(found.wrong) - LONGEST),
    }


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


def _told(row: pd.Series, axes: Sequence[str]) -> dict[str, Any]:
    """A training, for a caption."""
    names = dict.fromkeys([*axes, "epsilon"])
    return {
        "trial": row["trial"],
        "seed": row["seed"],
        "outcome": row["outcome"],
        "reasons": reasons_of(row["reasons"]) if row["outcome"] == "nonconvergent" else [],
        "long_run": row["long_run"] if row["long_run"] in _LONG_RUN_SIGNS else "",
        "setting": ", ".join(f"{name} {plain(row[name])}" for name in names),
        "cause": row["cause"] or "no cause was recorded",
    }


def _mistaken(row: pd.Series, axes: Sequence[str]) -> dict[str, Any]:
    """A training of which verdict and long run disagree, with what led the verdict astray."""
    margins = {name: row[name] for name in map(str, row.index) if name.startswith(MARGIN)}
    known = {name: value for name, value in margins.items() if value == value}
    least = min(known, key=lambda name: known[name], default="")
    return {
        **_told(row, axes),
        "departure": plain(row["long_run_departure"]).replace("-", "−"),
        "margin": plain(row["convergence_margin"]).replace("-", "−"),
        "least": least.removeprefix(MARGIN),
    }


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
