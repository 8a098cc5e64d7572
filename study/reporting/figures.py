"""The pictures of a study: its trainings over the space, and a few of them in time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ebm_core.config import Band, TrainConfig
from ebm_core.verdict import MARGIN_FLOOR, PAPER_BAND, Thresholds
from study.reporting import drawing, symbols
from study.reporting.answer import axis_answer
from study.reporting.drawing import INKS
from study.reporting.outcomes import axes_of, chosen, configurations, is_numeric, tidy
from study.reporting.sentences import number
from study.schema.distributions import Distribution, Range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.spec import StudySpec


@dataclass(frozen=True)
class Panel:
    """A quantity that is drawn over an axis.

    Attributes:
        column: Where it stands in the table.
        title: Its name.
        note: What to look for.
        well: The interval that convergence asks for.
        log: Whether it is drawn on a logarithmic scale.
        linear: Half-width of the linear middle of a signed logarithmic scale; None if not one.
    """

    column: str
    title: str
    note: str = ""
    well: tuple[float, float] | None = None
    log: bool = False
    linear: float | None = None


def overview(frame: pd.DataFrame, spec: StudySpec) -> Figure:
    """The study at a glance.

    One parameter: margin, gradient magnitude, balance and long run over it, below each other.
    Several: every pair of them. For data in the plane how well the density fits comes in addition.
    """
    frame = tidy(frame)
    axes = {name: spec.parameters[name] for name in axes_of(frame, spec.parameters)}
    if len(axes) == 1:
        [(name, distribution)] = axes.items()
        return _over_axis(frame, name, distribution, _panels(frame, spec.base))
    return _in_pairs(frame, axes)


def panels(frame: pd.DataFrame, spec: StudySpec, mapped: bool) -> list[Figure]:
    """The overview in pieces that a page may lay out, without a legend.

    Args:
        frame: The table of results.
        spec: The study.
        mapped: Whether a map shows the pairs of axes already.
    """
    frame = tidy(frame)
    axes = {name: spec.parameters[name] for name in axes_of(frame, spec.parameters)}
    found = []
    if len(axes) == 1:
        [(name, distribution)] = axes.items()
        for each in _panels(frame, spec.base):
            figure, ax = _piece(5.4, 2.6)
            _shade(ax, frame, name)
            _draw(ax, frame, _place(ax, "x", frame[name], distribution), each)
            ax.set_xlabel(symbols.label(name))
            found.append(figure)
        return found
    for first, second in () if mapped else itertools.combinations(axes, 2):
        figure, ax = _piece(4.1, 3.4)
        _draw_pair(ax, frame, first, second, axes)
        found.append(figure)
    if _has_misfit(frame):
        figure, ax = _piece(4.1, 3.4)
        _draw_misfit(ax, frame)
        found.append(figure)
    return found


def _piece(width: float, height: float) -> tuple[Figure, Axes]:
    figure = drawing.new_figure(width, height)
    return figure, drawing.subplots(figure, 1, 1)[0, 0]


def curves(
    frame: pd.DataFrame, folder: Path, base: Mapping[str, Any] | None = None
) -> list[Figure]:
    """d and r over the updates of the members `chosen` that left their traces, a figure each.

    Args:
        frame: The table of results.
        folder: The study's folder.
        base: The study's base configuration, for the band.
    """
    rows = [row for _, row in chosen(frame).iterrows()]
    left = [row for row in rows if (member_folder(folder, row) / "traces.npz").is_file()]
    return _traces(left, folder, band_of(base or {}))


def member_folder(folder: Path, row: pd.Series) -> Path:
    """Where pictures, traces and configuration of a training lie."""
    return folder / "trials" / f"{int(row['trial']):04d}" / f"seed-{int(row['seed'])}"


def band_of(base: Mapping[str, Any]) -> Band:
    """The band of r that a base configuration asks for."""
    band = base.get("band") or {}
    return band if isinstance(band, Band) else Band.model_validate(dict(band))


def _panels(frame: pd.DataFrame, base: Mapping[str, Any]) -> list[Panel]:
    band = band_of(base)
    if band.unit == "matched" and not frame["r_matched"].notna().any():
        band = PAPER_BAND  # as the verdict does
    column, symbol = {
        "matched": ("r_matched", "r / r*"),
        "scaled": ("r_scaled", "r / (ε√N)"),
        "absolute": ("r", "r"),
    }[band.unit]
    level = f"band {number(band.low)} to {number(band.high)}"
    # sd d is the sd of U times sqrt(2 / n), n samples of a batch
    n = base.get("batch_size", TrainConfig.model_fields["batch_size"].default)
    limit = Thresholds().balance * math.sqrt(n / 2)
    # A few large values would flatten the rest
    imbalance, departure = frame["d_balance"].abs().max(), frame["long_run_departure"].abs().max()
    found = [
        Panel("convergence_margin", "Convergence margin", "convergent above 0", (0, 1)),
        Panel(column, f"Gradient magnitude {symbol}", level, (band.low, band.high), log=True),
        Panel(
            "d_balance",
            "Imbalance |mean d| / sd d",
            f"at most {number(limit)}",
            (0, limit),
            linear=2 * limit if imbalance > 8 * limit else None,
        ),
        Panel(
            "long_run_departure",
            "Long-run departure, sd of U",
            "0: long chains stay",
            linear=1.0 if departure > 5 else None,
        ),
    ]
    if "kl" in frame:
        found.append(Panel("kl", "Misfit KL(q ‖ p), nats", "the smaller the better", log=True))
    return [panel for panel in found if frame[panel.column].notna().any()]


def _over_axis(
    frame: pd.DataFrame, name: str, distribution: Distribution, panels: Sequence[Panel]
) -> Figure:
    # without any panel, one empty one: a study in which all failed still has a picture
    height = max(1, len(panels))
    figure = drawing.new_figure(9.6, 0.8 + 1.7 * height)
    column = drawing.subplots(figure, height, 1, sharex=True)
    x = _place(column[0, 0], "x", frame[name], distribution)
    for ax, panel in zip(column[:, 0], panels, strict=False):
        _shade(ax, frame, name)
        _draw(ax, frame, x, panel)
    column[-1, 0].set_xlabel(symbols.label(name))
    drawing.legend(figure, frame)
    return figure


def _shade(ax: Axes, frame: pd.DataFrame, name: str) -> None:
    """Where everything tried has converged, across the panel."""
    answer = axis_answer(configurations(frame, [name]), name)
    low, high = answer.low, answer.high
    if answer.clean and low is not None and high is not None and low < high:
        ax.axvspan(low, high, color=INKS["band"], alpha=0.5, lw=0, zorder=0)


def _draw(ax: Axes, frame: pd.DataFrame, x: pd.Series, panel: Panel) -> None:
    y = frame[panel.column].abs() if panel.column == "d_balance" else frame[panel.column]
    if panel.log:
        y = y.where(y > 0)
        ax.set_yscale("log")
    elif panel.linear:
        ax.set_yscale("symlog", linthresh=panel.linear)
    if panel.well:
        ax.axhspan(*panel.well, color=INKS["band"], lw=0, zorder=0)
    elif not panel.log:
        ax.axhline(0, color=INKS["muted"], lw=0.7, zorder=1)
    drawing.points(ax, x, y, frame)
    drawing.title(ax, panel.title, panel.note)
    if panel.log:
        drawing.log_ticks(ax.yaxis)
    if panel.column == "convergence_margin":
        # What has no margin stands below the floor, so that no training is missing
        drawing.points(ax, x, pd.Series(MARGIN_FLOOR - 0.6, frame.index).where(y.isna()), frame)
        ax.set_ylim(MARGIN_FLOOR - (0.9 if y.isna().any() else 0.3), 1)
    elif panel.column == "d_balance":
        ax.set_ylim(bottom=0)


def _in_pairs(frame: pd.DataFrame, parameters: Mapping[str, Distribution]) -> Figure:
    pairs = list(itertools.combinations(parameters, 2))
    fit = _has_misfit(frame)
    count = len(pairs) + fit
    columns = min(3, max(1, count))
    rows = max(1, -(-count // columns))
    height = {1: 5.0, 2: 4.4, 3: 3.2}[columns]
    figure = drawing.new_figure(6.4 if columns == 1 else 9.6, 0.5 + height * rows)
    grid = list(drawing.subplots(figure, rows, columns).flat)
    for ax, (first, second) in zip(grid, pairs, strict=False):
        _draw_pair(ax, frame, first, second, parameters)
    if fit:
        _draw_misfit(grid[len(pairs)], frame)
    for ax in grid[count:]:
        ax.set_axis_off()
    drawing.legend(figure, frame)
    return figure


def _draw_pair(
    ax: Axes, frame: pd.DataFrame, first: str, second: str, parameters: Mapping[str, Distribution]
) -> None:
    x = _place(ax, "x", frame[first], parameters[first])
    y = _place(ax, "y", frame[second], parameters[second])
    drawing.points(ax, x, y, frame)
    ax.set(xlabel=symbols.label(first), ylabel=symbols.label(second))


def _has_misfit(frame: pd.DataFrame) -> bool:
    return "kl" in frame and bool((frame["kl"].notna() & frame["r_matched"].notna()).any())


def _draw_misfit(ax: Axes, frame: pd.DataFrame) -> None:
    positive = (frame["kl"] > 0) & (frame["r_matched"] > 0)
    ax.set(xscale="log", yscale="log", xlabel="r / r*", ylabel="misfit KL(q ‖ p), nats")
    drawing.points(ax, frame["r_matched"].where(positive), frame["kl"], frame)
    drawing.log_ticks(ax.xaxis)
    drawing.log_ticks(ax.yaxis)


def _place(ax: Axes, which: str, values: pd.Series, distribution: Distribution) -> pd.Series:
    """Where values stand on an axis, which is scaled as their distribution is; words in a row."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    if not is_numeric(values):
        words = sorted(values.astype(str).unique())
        axis.set_ticks(range(len(words)), words)
        return values.astype(str).map({w: i for i, w in enumerate(words)}).astype("float64")
    places = pd.to_numeric(values)
    low, high = _extent(places, distribution)
    if low > 0 and (distribution.log if isinstance(distribution, Range) else high >= 10 * low):
        ax.set(**{f"{which}scale": "log"})
        pad = (high / low) ** 0.04
        ax.set(**{f"{which}lim": (low / pad, high * pad)})
        drawing.log_ticks(axis)
    else:
        pad = 0.04 * (high - low)
        ax.set(**{f"{which}lim": (low - pad, high + pad)})
    return places


def _extent(values: pd.Series, distribution: Distribution) -> tuple[float, float]:
    """Lowest and highest of the values and of the range they are from; never a single point."""
    ends = [values.min(), values.max()]
    if isinstance(distribution, Range):
        ends += [distribution.min, distribution.top]
    low, high = float(min(ends)), float(max(ends))
    return (low, high) if low < high else (low - abs(low) / 2 - 1e-3, high + abs(high) / 2 + 1e-3)


def _traces(rows: Sequence[pd.Series], folder: Path, band: Band) -> list[Figure]:
    figures, spreads, tops = [], [], []
    for row in rows:
        with np.load(member_folder(folder, row) / "traces.npz") as traces:
            d, r = traces["d"], traces["r"]
        figures.append(_trace(row, d, r, band))
        late = d[len(d) // 2 :]
        spreads.append(np.std(late[np.isfinite(late)]) if np.isfinite(late).any() else 0.0)
        usable = np.isfinite(d).any() and (r > 0).any()  # r of a constant energy is 0
        if row["outcome"] not in ("diverged", "collapsed") and usable:
            tops.append((np.nanmax(np.abs(d)), np.nanmin(r[r > 0]), np.nanmax(r)))
    for figure in figures:
        above, below = figure.axes
        # Linear where d lives late in training, logarithmic for the burst at its start
        above.set_yscale("symlog", linthresh=max(1.0, 4 * float(np.median(spreads))))
        below.set_yscale("log")
        if tops:
            # what breaks off leaves the picture, instead of flattening all others
            d_top, _, r_top = (max(values) for values in zip(*tops, strict=True))
            above.set_ylim(-1.2 * d_top, 1.2 * d_top)
            tick = 10.0 ** math.floor(math.log10(max(d_top, 1e-12)))
            above.set_yticks([-tick, 0, tick])  # more of them run into each other about 0
            below.set_ylim(min(low for _, low, _ in tops) / 1.5, 2 * r_top)
    return figures


def _trace(row: pd.Series, d: np.ndarray, r: np.ndarray, band: Band) -> Figure:
    figure = drawing.new_figure(3.4, 3.6)
    above, below = drawing.subplots(figure, 2, 1, sharex=True)[:, 0]
    above.set_ylabel("d, nats")
    below.set_ylabel("r, units of x")
    ink = INKS[row["outcome"]]
    drawing.envelope(above, d, ink)
    drawing.envelope(below, np.where(r > 0, r, np.nan), ink)
    above.axhline(0, color=INKS["muted"], lw=0.7, zorder=1)
    r_star = row["r"] / row["r_matched"] if row["r_matched"] else np.nan
    if band.unit == "matched" and np.isfinite(r_star):
        ends = band.low * r_star, band.high * r_star
        below.axhspan(*ends, color=INKS["band"], lw=0, zorder=0)
    setting = f"ε {number(row['epsilon'])}, γ₀ {number(row['gamma_0'])}"
    heading = f"trial {row['trial']}, {row['outcome']}\n{setting}"
    above.set_title(heading, loc="left", fontsize=8.5, color=ink)
    below.set_xlabel("update")
    below.locator_params(axis="x", nbins=4)
    return figure
