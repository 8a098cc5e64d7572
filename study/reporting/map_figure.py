"""The map as pictures: P(convergent) over its axes, with the trainings that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from study.reporting import drawing, symbols
from study.reporting.atlas import Atlas, Sheet
from study.reporting.drawing import INKS
from study.reporting.outcomes import OUTCOMES
from study.reporting.scale import Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray

# Where the ground gets one shade darker; at the first and the last the boundary is 90 % sure.
SHADES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SHADE = 0.1
# What the source recommends: twice as much noise on the data as in a Langevin step, and this
# final learning rate, of SGD.
RECOMMENDED = {"eps_data_ratio": 2.0, "gamma_0": 0.0005}
_HATCH = "////"
# Marks of one word are spread over its step by multiples of these (the plastic number), evenly.
_SPREADS = (0.7548776662, 0.5698402910)


def recommended(axes: Sequence[str], scales: dict[str, Scale], adam: bool) -> dict[str, float]:
    """The values that the source recommends, of the axes whose range holds them.

    Args:
        axes: The axes.
        scales: Of each.
        adam: Whether all trainings use Adam, whose rate is not that of SGD.
    """
    found = {}
    for name in axes:
        value = RECOMMENDED.get(name)
        if value is None or (adam and name == "gamma_0"):
            continue
        scale = scales[name]
        place = scale.place([value])[0]
        if scale.low <= place <= scale.high:
            found[name] = value
    return found


def panel(atlas: Atlas, first: str, second: str, averaged: bool, adam: bool = False) -> Figure:
    """P over two axes; the only two of a map are drawn larger."""
    alone = len(atlas.found.axes) == 2
    figure = drawing.new_figure(*((6.4, 4.9) if alone else (4.1, 3.6)))
    ax = drawing.subplots(figure, 1, 1)[0, 0]
    _draw_pair(ax, atlas, atlas.sheet(first, second, averaged), adam)
    return figure


def along(atlas: Atlas, adam: bool = False) -> Figure:
    """P along the only axis, above the trainings by outcome."""
    figure = drawing.new_figure(6.4, 4.6)
    _draw_line(figure, atlas, adam)
    return figure


def whole(atlas: Atlas, caption: str, adam: bool = False) -> Figure:
    """The map as one picture that stands alone: all pairs of axes, with legend and caption."""
    pairs = atlas.pairs
    if not pairs:
        figure = drawing.new_figure(7.5, 5.6)
        _draw_line(figure, atlas, adam)
    else:
        columns = min(3, len(pairs))
        rows = -(-len(pairs) // columns)
        width, height = (7.5, 5.6) if len(pairs) == 1 else (4.1 * columns, 3.5 * rows)
        figure = drawing.new_figure(width, height + 1.0)
        grid = list(drawing.subplots(figure, rows, columns).flat)
        for ax, (first, second) in zip(grid, pairs, strict=False):
            _draw_pair(ax, atlas, atlas.sheet(first, second), adam)
        for ax in grid[len(pairs) :]:
            ax.set_axis_off()
    drawing.legend(figure, atlas.trained)
    figure.supxlabel(caption, fontsize=8.5, color=INKS["muted"], x=0.01, ha="left")
    return figure


def _draw_pair(ax: Axes, atlas: Atlas, sheet: Sheet, adam: bool) -> None:
    pair = sheet.pair
    across, up = atlas.scales[pair.first], atlas.scales[pair.second]
    _dress(ax, "x", pair.first, across)
    _dress(ax, "y", pair.second, up)
    ax.grid(visible=False)
    x, columns = _stretched(pair.x, across)
    y, rows = _stretched(pair.y, up)
    cells = np.ix_(rows, columns)
    _ground(ax, x, y, pair.probability[cells])
    _hatch(ax, x, y, sheet.broken[cells])
    shown = (pair.first, pair.second)
    grade = atlas.grades(atlas.found.axes if sheet.averaged else shown)
    left = _series(across, atlas, pair.first, _SPREADS[0])
    above = _series(up, atlas, pair.second, _SPREADS[1])
    drawing.points(ax, left, above, atlas.trained, grade)
    _source(ax, recommended(shown, dict(atlas.scales), adam), shown, (across, up))
    x, y = (
        scale.place([point[name] for point in atlas.next])
        for name, scale in zip(shown, (across, up), strict=True)
    )
    _number(ax, x, y)


def _ground(ax: Axes, x: Array, y: Array, p: Array) -> None:
    """Shades that lie on each other, so that no seams show; the boundary and how sure it is."""
    for level in SHADES:
        if p.max() > level:
            ax.contourf(x, y, p, [level, 2], colors=[INKS["convergent"]], alpha=_SHADE, zorder=0)
    ink, muted = INKS["ink"], INKS["muted"]
    lines: list[tuple[float, dict[str, Any]]] = [
        (SHADES[0], {"colors": muted, "linewidths": 0.8, "linestyles": [(0, (3, 2))]}),
        (0.5, {"colors": ink, "linewidths": 1.8}),
        (SHADES[-1], {"colors": muted, "linewidths": 0.8, "linestyles": [(0, (3, 2))]}),
    ]
    for level, style in lines:
        if p.min() < level < p.max():
            ax.contour(x, y, p, [level], zorder=1, **style)


def _hatch(ax: Axes, x: Array, y: Array, broken: Array) -> None:
    if not broken.any():
        return
    inside = broken.astype(float)
    ink = INKS["diverged"]
    filled = ax.contourf(x, y, inside, [0.5, 2], colors="none", hatches=[_HATCH], zorder=0.5)
    filled.set(facecolor="none", edgecolor=ink, linewidth=0, hatch_linewidth=0.4)
    if not broken.all():
        style: Any = [(0, (1, 1.5))]
        ax.contour(x, y, inside, [0.5], colors=ink, linewidths=0.9, linestyles=style, zorder=1)


def _source(
    ax: Axes, values: dict[str, float], shown: Sequence[str], scales: Sequence[Scale]
) -> None:
    """The source's recommendation: a line along an axis, a star where both are recommended."""
    ink = INKS["ink"]
    places = [
        scale.place([values[name]])[0] if name in values else None
        for name, scale in zip(shown, scales, strict=True)
    ]
    x, y = places
    text = {"eps_data_ratio": "source: ε_data = 2ε", "gamma_0": "source: γ₀ = 0.0005"}
    line: dict[str, Any] = {"color": ink, "lw": 0.9, "ls": (0, (6, 3)), "zorder": 2}
    note: dict[str, Any] = {"fontsize": 8, "color": ink, "textcoords": "offset points"}
    if x is not None and y is not None:
        ax.plot(x, y, marker="*", ms=13, mfc=INKS["paper"], mec=ink, mew=1.1, ls="", zorder=5)
        side = -1 if x > scales[0].place([_middle(scales[0])])[0] else 1
        note |= {"xytext": (9 * side, 7), "ha": "left" if side > 0 else "right", "zorder": 5}
        note["bbox"] = {"facecolor": INKS["paper"], "alpha": 0.85, "lw": 0, "pad": 1}
        ax.annotate("source: ε_data = 2ε, γ₀ = 0.0005", (x, y), **note)
    elif x is not None:
        ax.axvline(x, **line)
        note |= {"xycoords": ax.get_xaxis_transform(), "xytext": (0, 3), "ha": "center"}
        ax.annotate(text[shown[0]], (x, 1), **note)
    elif y is not None:
        ax.axhline(y, **line)
        note |= {"xycoords": ax.get_yaxis_transform(), "xytext": (4, 0), "va": "center"}
        ax.annotate(text[shown[1]], (1, y), rotation=-90, **note)


def _number(ax: Axes, x: Array, y: Array) -> None:
    """Numbers what to train next; those at one place stand side by side."""
    from matplotlib.transforms import offset_copy

    ink = INKS["ink"]
    ring: dict[str, Any] = {"mfc": INKS["paper"], "mec": ink, "mew": 1, "ls": "", "zorder": 6}
    text: dict[str, Any] = {"fontsize": 8, "fontweight": "bold", "color": ink, "zorder": 7}
    places = list(zip(x, y, strict=True))
    for rank, place in enumerate(places):
        before, of = places[:rank].count(place), places.count(place)
        aside = 12 * (before - (of - 1) / 2)
        at = offset_copy(ax.transData, fig=ax.get_figure(root=True), x=aside, units="points")
        ax.plot(*place, marker="o", ms=10.5, clip_on=False, transform=at, **ring)
        style = {"ha": "center", "va": "center_baseline", **text}
        ax.annotate(str(rank + 1), place, (aside, 0), textcoords="offset points", **style)


def _draw_line(figure: Figure, atlas: Atlas, adam: bool) -> None:
    name = atlas.found.axes[0]
    scale, line = atlas.scales[name], atlas.line
    above, below = drawing.subplots(
        figure, 2, 1, sharex=True, gridspec_kw={"height_ratios": [2.2, 1]}
    )[:, 0]
    x, columns = _stretched(line.values, scale)
    p = line.probability[columns]
    ink = INKS["convergent"]
    for level in SHADES:
        above.fill_between(x, 0, 1, where=p > level, color=ink, alpha=_SHADE, lw=0, zorder=0)
    above.plot(x, p, color=INKS["ink"], lw=1.8, zorder=2)
    above.axhline(0.5, color=INKS["muted"], lw=0.8, ls=(0, (3, 2)), zorder=1)
    above.set_ylim(0, 1)
    above.set_ylabel("P(convergent)")
    broken = atlas.broken([{name: value} for value in line.values])[columns] > 0.5
    seen = [each for each in OUTCOMES if (atlas.trained["outcome"] == each).any()]
    rows = atlas.trained["outcome"].map({each: -rank for rank, each in enumerate(seen)})
    if broken.any():
        hatch: dict[str, Any] = {"hatch": _HATCH, "ec": INKS["diverged"], "fc": "none", "lw": 0}
        above.fill_between(x, 0, 1, where=broken, zorder=0.5, hatch_linewidth=0.4, **hatch)
    x_marks = _series(scale, atlas, name, _SPREADS[0])
    drawing.points(below, x_marks, rows.astype(float), atlas.trained)
    below.set_yticks([-rank for rank in range(len(seen))], seen)
    below.set_ylim(0.6 - len(seen), 0.6)
    below.grid(visible=False, axis="y")
    below.tick_params(axis="y", length=0)
    _dress(below, "x", name, scale)
    values = recommended([name], dict(atlas.scales), adam)
    _source(above, values, (name, ""), (scale, scale))
    places = scale.place([point[name] for point in atlas.next])
    _number(above, places, np.full(len(places), 0.07))


def _dress(ax: Axes, which: str, name: str, scale: Scale) -> None:
    """An axis as its scale is, its ends a little wider than the ground."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    ax.set(**{f"{which}label": symbols.label(name)})
    low, high = scale.low, scale.high
    if scale.kind == "log":
        ax.set(**{f"{which}scale": "log"})
        pad = (high / low) ** 0.015
        low, high = low / pad, high * pad
    else:
        pad = 0.015 * (high - low)
        low, high = low - pad, high + pad
    ax.set(**{f"{which}lim": (low, high)})
    places, texts = zip(*scale.ticks(), strict=True)
    axis.set_ticks(places, texts)
    axis.set_ticks([], minor=True)


def _stretched(values: Sequence[Any], scale: Scale) -> tuple[Array, Array]:
    """Where cells are drawn, increasing, and which of `values` each shows.

    Cells of numbers run to the ends of the scale; words get a step each.
    """
    places = scale.place(values)
    order = np.argsort(places)
    if scale.kind == "words":
        edge = 0.5 - 1e-6
        ends = [(place - edge, place + edge) for place in places[order]]
        return np.array(ends).ravel(), np.repeat(order, 2)
    found, which = places[order], order
    if found[0] > scale.low:
        found, which = np.r_[scale.low, found], np.r_[which[0], which]
    if found[-1] < scale.high:
        found, which = np.r_[found, scale.high], np.r_[which, which[-1]]
    return found, which


def _series(scale: Scale, atlas: Atlas, name: str, spread: float) -> pd.Series:
    """Where configurations stand along an axis; those of one word beside each other."""
    places = scale.place(atlas.trained[name])
    if scale.kind == "words":
        places = places + 0.6 * ((spread * np.arange(len(places))) % 1 - 0.5)
    return pd.Series(places, atlas.trained.index)


def _middle(scale: Scale) -> float:
    if scale.kind == "log":
        return float(np.sqrt(scale.low * scale.high))
    return (scale.low + scale.high) / 2
