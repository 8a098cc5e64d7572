"""Tables and picture of what gradient magnitude runs have that hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

# Largest |mean d| / sd d of runs that fit their data, as in the verdict
BALANCED = 0.5


def ratios(runs: pd.DataFrame) -> pd.DataFrame:
    """r over each reference, a column each; 0 where the reference is infinite."""
    noise = runs["epsilon"] * np.sqrt(runs["dimensions"])
    return pd.DataFrame(
        {
            "r / r*": runs["r"] / runs["r_star"],
            "r_rms / floor": runs["r_rms"] / runs["floor"],
            "r / r10": runs["r"] / runs["smooth"],
            "r / (ε√N)": runs["r"] / noise,
        }
    )


def settled(runs: pd.DataFrame) -> pd.DataFrame:
    """The same runs, where only those hold whose d is balanced: they fit the data besides."""
    balanced = runs["d_balance"].abs() <= BALANCED
    return runs.assign(long_run=runs["long_run"].where(balanced, "departs"))


def distribution(runs: pd.DataFrame) -> pd.DataFrame:
    """Of each ratio among runs that hold: median, 10 and 90 %, sd of the logarithm; by case."""
    held = runs[(runs["long_run"] == "holds") & np.isfinite(runs["floor"])]
    rows = []
    for name, group in [*held.groupby("case", sort=False), ("all", held)]:
        row: dict[str, Any] = {"case": name, "hold": len(group)}
        row["of"] = len(runs) if name == "all" else int((runs["case"] == name).sum())
        for key, ratio in ratios(group).items():
            low, middle, high = ratio.quantile([0.1, 0.5, 0.9])
            spread = np.log(ratio).std()
            row[str(key)] = f"{middle:.2f} ({low:.2f}–{high:.2f}), {spread:.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def separation(runs: pd.DataFrame) -> pd.DataFrame:
    """AUROC of closeness to the centre, the median of runs that hold on all *other* data sets."""
    rows = []
    table, held = ratios(runs), runs["long_run"] == "holds"
    closeness = pd.DataFrame(index=runs.index, columns=table.columns, dtype=float)
    for data in runs["data"].unique():
        here = runs["data"] == data
        centre = table[held & ~here & np.isfinite(runs["floor"])].median()
        with np.errstate(divide="ignore"):
            closeness[here] = -np.abs(np.log(table[here] / centre))
    for name, group in [*runs.groupby("data", sort=False), ("all", runs)]:
        row: dict[str, Any] = {"data": name, "hold": int(held[group.index].sum())}
        row["depart"] = len(group) - row["hold"]
        for key in table:
            row[str(key)] = _auroc(closeness.loc[group.index, key], held[group.index])
        rows.append(row)
    return pd.DataFrame(rows)


def _auroc(score: pd.Series, label: pd.Series) -> float:
    """Chance that a run that holds scores higher than one that departs; NaN without either."""
    yes, no = int(label.sum()), int((~label).sum())
    if yes == 0 or no == 0:
        return math.nan
    return float((score.rank()[label].sum() - yes * (yes + 1) / 2) / (yes * no))


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, numbers to three digits."""
    cells = [[f"{c:.3g}" if isinstance(c, float) else str(c) for c in row] for row in table.values]
    lines = [list(table.columns), ["---"] * len(table.columns), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def picture(runs: pd.DataFrame) -> Any:
    """Each ratio over rho: grey where a run departs, hollow where it holds without balance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    usable = runs[np.isfinite(runs["floor"])]
    held, fits = usable["long_run"] == "holds", settled(usable)["long_run"] == "holds"
    for axes, (name, ratio) in zip(
        figure.subplots(2, 2).flat, ratios(usable).items(), strict=True
    ):
        left = usable["eps_data_ratio"][~held]
        axes.scatter(left, ratio[~held], s=10, color="0.8", label="departs")
        for index, (case, group) in enumerate(usable[held].groupby("case", sort=False)):
            colour = f"C{index % 10}"
            axes.scatter(
                group["eps_data_ratio"],
                ratio[group.index],
                s=24,
                marker={"digits": "o", "patches": "s"}.get(group["data"].iloc[0], "^"),
                facecolor=[colour if fit else "none" for fit in fits[group.index]],
                edgecolor=colour,
                label=case,
            )
        axes.axhspan(*ratio[fits].quantile([0.1, 0.9]), color="C0", alpha=0.12)
        axes.set(yscale="log", ylim=(0.03, 8), title=name, xlabel="ρ = ε_data / ε")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure
