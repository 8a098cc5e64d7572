"""How well each quantity foretells the long run, drawn: one row a quantity, areas as dots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from study.reporting import drawing
from study.reporting.agreement import KINDS, Comparison, Report, Row
from study.reporting.agreement_text import GROUPS
from study.reporting.drawing import INKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting.discrimination import Estimate

# One half, and both halves together: ink, marker and place beside the middle of a row.
_SERIES = (
    ("held_out", "the half that chose nothing", INKS["ink"], "o", -0.17),
    ("both", "both halves, each by the rules of the other", INKS["convergent"], "D", 0.17),
)


def areas(found: Comparison) -> list[Figure]:
    """The areas of all rows with their intervals: overall, and within thirds if there are any.

    Returns:
        A figure each; none where nothing is compared.
    """
    if not found.rows:
        return []
    return [_areas(found, within) for within in ((False, True) if found.edges else (False,))]


def _areas(found: Comparison, within: bool) -> Figure:
    rows, places, headings = _places(found)
    figure = drawing.new_figure(5.6, 1.2 + 0.3 * (max(places) + 1))
    ax = drawing.subplots(figure, 1, 1)[0, 0]
    for name, _, ink, marker, offset in _SERIES:
        for row, place in zip(rows, places, strict=True):
            report = getattr(row, name)
            if report:
                _dot(ax, _area(report, within), place + offset, ink, marker)
    ax.axvline(0.5, color=INKS["muted"], lw=0.9, ls=(0, (4, 3)), zorder=1)
    ax.grid(visible=False, axis="y")
    ax.set_xlim(0, 1)
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.set_xlabel("AUROC, 95 % interval; 0.5 is chance")
    drawing.title(ax, "Within thirds of epsilon" if within else "Overall")
    ax.tick_params(axis="y", length=0)
    ticks = dict(zip(places, (row.name for row in rows), strict=True)) | headings
    ax.set_yticks(list(ticks), list(ticks.values()))
    for label, place in zip(ax.get_yticklabels(), ticks, strict=True):
        if place in headings:
            label.set(fontweight="bold", fontsize=9)
    ax.set_ylim(max(places) + 0.6, -0.6)
    _legend(figure)
    return figure


def _places(found: Comparison) -> tuple[list[Row], list[int], dict[int, str]]:
    """The rows by kind, where each stands from the top, and the headings between them."""
    rows: list[Row] = []
    places: list[int] = []
    headings: dict[int, str] = {}
    top = 0
    for kind in KINDS:
        of_kind = [row for row in found.rows if row.kind == kind]
        if not of_kind:
            continue
        headings[top] = GROUPS[kind]
        rows += of_kind
        places += range(top + 1, top + 1 + len(of_kind))
        top += 1 + len(of_kind)
    return rows, places, headings


def _area(report: Report, within: bool) -> Estimate:
    return report.within if within else report.overall.auroc


def _dot(ax: Axes, area: Estimate, y: float, ink: str, marker: str) -> None:
    if np.isnan(area.value):
        return
    ax.plot([area.low, area.high], [y, y], color=ink, lw=1.2, solid_capstyle="butt", zorder=2)
    ax.plot(area.value, y, marker=marker, color=ink, ms=5, ls="", clip_on=False, zorder=3)


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    figure.legend(
        handles=[
            Line2D([], [], color=ink, marker=marker, ms=5, lw=1.2, label=label)
            for _, label, ink, marker, _ in _SERIES
        ],
        loc="outside upper left",
        ncols=1,
        frameon=False,
        fontsize=8.5,
        labelcolor=INKS["ink"],
        columnspacing=1.6,
        borderpad=0,
    )
