"""The table of the report: which columns it shows, and its cells as text with a key to sort by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from study.reporting.outcomes import OUTCOMES, is_numeric, reasons_of
from study.reporting.sentences import number


@dataclass(frozen=True)
class Column:
    """A column of the page.

    Attributes:
        name: Of the column in the results table.
        label: Its heading.
        hint: What it is, in a few words.
        decimals: Of its cells, so that they line up; None for three significant digits.
        numeric: Whether its cells are numbers, set flush right.
    """

    name: str
    label: str
    hint: str = ""
    decimals: int | None = None
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell of the page.

    Attributes:
        text: What it says.
        key: What it is ordered by; empty for what stays last, and where the text tells.
        kind: How it is dressed: as a ``verdict``, as a ``long_run``, or plainly.
        more: What else it says: the reasons, the departure.
    """

    text: str
    key: float | str = ""
    kind: str = ""
    more: str = ""


_MEASURED = (
    Column("r_matched", "r / r*", "gradient magnitude over what the score of the data asks", 2),
    Column("r_scaled", "r / ε√N", "gradient magnitude over the noise of a step", 3),
    Column("r_band_adherence", "in band", "share of assessed updates with r in the band", 2),
    Column("r_paper_band_adherence", "printed", "the same for the band printed in the source", 2),
    Column("d_balance", "balance", "mean d over sd d; 0: data and chains lie equally low", 2),
    Column("restlessness", "restless", "share of the variance of U redrawn in 25 updates", 2),
    Column("chain_spread", "spread", "variance of chains over that of the noised data", 2),
    Column("clipped_share", "clipped", "share of assessed updates whose gradient was clipped", 2),
    Column("acf_min", "acf", "lowest autocorrelation of d at a short lag", 2),
    Column("corr_d_r", "corr", "correlation of d and r at lag 0", 2),
    Column("kl", "KL", "misfit of the density, nats", 3),
    Column("tv", "TV", "total variation of the density, 0 to 1", 3),
    Column(
        "nearest_ratio",
        "nearest",
        "distance of samples to the closest datum, over that of other data",
        2,
    ),
    Column("sharpness", "sharp", "grain of noised data over that of samples; under 1: softer", 2),
    Column("held_out_over_training", "held − data", "U of held-out over training data, in sd", 2),
    Column("held_out_over_samples", "held − chains", "U of held-out data over samples, in sd", 2),
    Column("convergence_score", "score", "mean over the requirements, 0 to 1", 2),
    Column("seconds", "seconds", "time inside the update loop", 1),
)


def table(frame: pd.DataFrame, axes: Sequence[str]) -> tuple[list[Column], list[list[Cell]]]:
    """Headings and rows; columns that nothing was measured for are left out.

    Args:
        frame: A tidy table.
        axes: The parameters that vary.
    """
    shown = [Column("trial", "trial")]
    if frame["seed"].nunique() > 1:
        shown.append(Column("seed", "seed"))
    shown += [Column(name, name, numeric=is_numeric(frame[name])) for name in axes]
    if {"epsilon", "eps_data_ratio"} & set(axes):
        shown.append(Column("data_epsilon", "data_epsilon", "sd of the noise on the data"))
    shown += [
        Column("outcome", "verdict", "from what training shows, with the reasons", numeric=False),
        Column("long_run", "long run", "do long chains stay; departure in sd", numeric=False),
    ]
    shown += [each for each in _MEASURED if each.name in frame and frame[each.name].notna().any()]
    return shown, [[_cell(row, column) for column in shown] for _, row in frame.iterrows()]


def _cell(row: pd.Series, column: Column) -> Cell:
    value = row[column.name]
    if column.name == "outcome":
        more = ", ".join(reasons_of(row["reasons"])) if value == "nonconvergent" else ""
        return Cell(value, OUTCOMES.index(value), "verdict", more)
    if column.name == "long_run":
        departure = row["long_run_departure"]
        said = _fixed(departure, 2)
        if said and row.get("long_run_summary", "energy") not in ("energy", ""):
            said += f", {row['long_run_summary']}"
        return Cell(value or "not_run", _key(departure), "long_run", said)
    if not column.numeric:
        return Cell(str(value))
    if column.decimals is not None:
        return Cell(_fixed(value, column.decimals))
    return Cell("" if math.isnan(value) else number(value))


def _fixed(value: float, decimals: int) -> str:
    """Fixed decimals under a true minus sign, so that a column lines up; empty for NaN."""
    return "" if math.isnan(value) else f"{value:,.{decimals}f}".replace("-", "−")


def _key(value: float) -> float | str:
    return "" if math.isnan(value) else float(value)
