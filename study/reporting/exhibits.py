"""Single trainings as the report shows them: with their pictures, their causes, their mistakes."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from study.reporting import agreement_figure, agreement_text, drawing, figures
from study.reporting.agreement import MARGIN, Comparison
from study.reporting.outcomes import LONG_RUNS, chosen, reasons_of
from study.reporting.sentences import number

# Verdicts that the long run contradicts, and trainings that broke off: at most so many by name.
LONGEST = 60


def plain(value: float | str) -> str:
    return value if isinstance(value, str) else number(value)


def members(
    frame: pd.DataFrame, axes: Sequence[str], folder: Path, room: int
) -> list[dict[str, Any]]:
    """The chosen trainings that left pictures, each with those that fit into the page.

    Args:
        frame: A tidy table.
        axes: The parameters that vary.
        folder: Of the study.
        room: For all pictures together, in characters of base64.
    """
    found = []
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
    found = [_told(row, axes) for _, row in broken.iterrows()]
    # what failed outside of learning first: it can be mended
    return sorted(found, key=lambda each: each["outcome"] != "failed")


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
    labels = ("overall", "within thirds of epsilon")
    drawn = [
        drawing.to_svg(figure, f"How well each quantity foretells the long run, {which}")
        for figure, which in zip(agreement_figure.areas(found), labels, strict=False)
    ]
    return {
        "steps": steps,
        "detectable": "" if math.isnan(found.detectable) else number(found.detectable),
        "counts": agreement_text.counts_sentence(found),
        "too_few": few,
        "findings": agreement_text.findings(found),
        "choices": agreement_text.choices(found),
        "headings": agreement_text.HEADINGS,
        "figures": drawn,
        "held_out": agreement_text.held_out(found),
        "both": agreement_text.both(found),
        "thirds": agreement_text.each_third(found),
        "wrong": []
        if few
        else [_mistaken(row, axes) for _, row in found.wrong[:LONGEST].iterrows()],
        "more": max(0, len(found.wrong) - LONGEST),
    }


def _told(row: pd.Series, axes: Sequence[str]) -> dict[str, Any]:
    """A training, for a caption."""
    names = dict.fromkeys([*axes, "epsilon"])
    return {
        "trial": row["trial"],
        "seed": row["seed"],
        "outcome": row["outcome"],
        "reasons": reasons_of(row["reasons"]) if row["outcome"] == "nonconvergent" else [],
        "long_run": row["long_run"] if row["long_run"] in LONG_RUNS else "",
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
