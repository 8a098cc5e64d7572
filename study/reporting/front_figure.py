"""The sharpest convergent configurations, drawn: noise on the data against margin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from study.reporting import drawing, scale, symbols
from study.reporting.drawing import INKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def front(frame: pd.DataFrame, best: pd.DataFrame) -> Figure:
    """Trainings with a positive margin, and the line of those that none beats.

    Args:
        frame: The tidy table of trainings.
        best: Of `sharpest_front`, not empty.
    """
    shown = frame[frame["outcome"] == "convergent"]
    figure = drawing.new_figure(6.4, 4.0)
    ax = drawing.subplots(figure, 1, 1)[0, 0]
    if scale.of_column(shown["data_epsilon"]).kind == "log":
        ax.set_xscale("log")
    x, y = best["data_epsilon"].to_numpy(float), best["convergence_margin"].to_numpy(float)
    ax.plot(x, y, drawstyle="steps-post", color=INKS["ink"], lw=1.2, zorder=2)
    drawing.points(ax, shown["data_epsilon"], shown["convergence_margin"], shown)
    for trial, left, up in _apart(list(zip(best["trial"], x, y, strict=True))):
        style: dict[str, Any] = {"fontsize": 8, "color": INKS["ink"], "ha": "right", "zorder": 4}
        ax.annotate(str(trial), (left, up), (-5, 4), textcoords="offset points", **style)
    ax.set_xlabel(symbols.label("data_epsilon"))
    ax.set_ylabel("convergence margin")
    ax.set_ylim(0, max(1.0, float(np.nanmax(shown["convergence_margin"])) * 1.05))
    if ax.get_xscale() == "log":
        drawing.log_ticks(ax.xaxis)
    drawing.legend(figure, shown)
    return figure


def _apart(labels: list[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """Those labels that stand clear of the one before: a tenth further right, or higher."""
    kept: list[tuple[int, float, float]] = []
    for trial, x, y in labels:
        if not kept or x > 1.1 * kept[-1][1] or y > kept[-1][2] + 0.06:
            kept.append((trial, x, y))
    return kept
