"""Draws restlessness against what the long run finds, a panel a study.

python tests/benchmarks/restlessness_figure.py studies/agreement_* --out docs/restlessness.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ebm_core.assessment import Thresholds
from ebm_core.departure import LongRunLimits

# Okabe and Ito's blue and vermilion
_BLUE, _RED = "#0072B2", "#D55E00"
_DIMENSIONS = {"digits": 64, "gmm": 2, "rings": 2}


def draw(folders: list[Path]) -> Figure:
    """One panel a study: trainings that neither diverged nor collapsed."""
    figure = Figure(figsize=(3.3 * len(folders), 3.4), dpi=150, layout="constrained")
    for ax, folder in zip(
        figure.subplots(1, len(folders), squeeze=False)[0], folders, strict=True
    ):
        _panel(ax, folder)
    figure.axes[0].set_ylabel("departure of long chains, sd")
    marks = {
        label: mark
        for ax in figure.axes
        for mark, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        marks.values(), marks, loc="outside lower center", ncols=len(marks), frameon=False
    )
    return figure


def _panel(ax: Axes, folder: Path) -> None:
    table = pd.read_csv(folder / "results.csv")
    table = table[table["long_run"].isin(["holds", "departs"]) & table["restlessness"].notna()]
    limits = Thresholds()
    wide = table["chain_spread"].apply(lambda s: max(s, 1 / s) > limits.chain_spread)
    holds = table["long_run"] == "holds"
    for chosen, marker, label in (
        (~wide, "o", "spread as the data"),
        (wide, "^", "spread too widely"),
    ):
        for held, colour in ((True, _BLUE), (False, _RED)):
            part = table[chosen & (holds == held)]
            ax.scatter(
                part["restlessness"],
                part["long_run_departure"].abs(),
                s=22,
                marker=marker,
                facecolors=colour if held else "none",
                edgecolors=colour,
                linewidths=1,
                label=f"{label}, {'holds' if held else 'departs'}" if len(part) else None,
            )
    name = folder.name.removeprefix("agreement_")
    limit = LongRunLimits().in_dimensions(_DIMENSIONS.get(name, 64)).energy
    ax.axvline(limits.restlessness, color="0.6", lw=0.8, zorder=0)
    ax.axhline(limit, color="0.6", lw=0.8, zorder=0)
    ax.set(xscale="log", yscale="log", title=name, xlabel="restlessness")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws restlessness against departures.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    given = parser.parse_args()
    draw(given.folders).savefig(given.out)


if __name__ == "__main__":
    main()
