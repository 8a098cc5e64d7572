"""The panels of the diagnostic figure, each drawn on axes that are handed in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ebm_core.config import Band
from ebm_core.diagnostics import (
    MAX_LAG,
    autocorrelation,
    cross_correlation,
    is_constant,
    white_noise_bound,
)
from ebm_core.plots.style import BLUE, GREEN, GREY, RED, legend, say
from ebm_core.verdict import PAPER_BAND, Assessment, band_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

_ASSESSED = ("convergent", "nonconvergent")
_BINS = 1_500


# -- series over the updates ---------------------------------------------------------------------


def draw_d(ax: Axes, d: Array, assessment: Assessment) -> None:
    """d over the updates, about 0."""
    balance = assessment.evidence["d_balance"]
    level = f": mean {balance:+.2f} sd d" if _has_level(assessment, balance) else ""
    ax.set(title=f"Energy difference d{level}", xlabel="update t", ylabel="d, nats")
    if _draw_series(ax, d, assessment, BLUE):
        ax.axhline(0, color="black", linewidth=0.8)
        _limit_d(ax, d, d[slice(*assessment.window)])
        legend(ax)


def draw_r(
    ax: Axes,
    r: Array,
    assessment: Assessment,
    band: Band,
    epsilon: float,
    dimensions: int,
    r_star: float,
) -> None:
    """r over the updates, with its band and the printed one, both in units of x."""
    unit = {"matched": " r*", "scaled": " ε√N", "absolute": ""}[band.unit]
    scale = band_scale(band.unit, epsilon, dimensions, r_star)
    mean = assessment.evidence["r"]
    level = ""
    if _has_level(assessment, mean):
        level = f": mean {mean:.3g}"
        level += f" = {mean / scale:.3g}{unit}" if unit and math.isfinite(scale) else ""
    ax.set(title=f"Gradient magnitude r{level}", xlabel="update t", ylabel="r, units of x")
    if not _draw_series(ax, r, assessment, RED):
        return
    edges = []
    if math.isfinite(scale):
        edges += [band.low * scale, band.high * scale]
        label = f"band [{band.low:.3g}, {band.high:.3g}]{unit}"
        ax.axhspan(*edges, color=GREEN, alpha=0.25, linewidth=0, zorder=0, label=label)
    if band != PAPER_BAND:
        paper = band_scale(PAPER_BAND.unit, epsilon, dimensions, None)
        label = f"paper's band [{PAPER_BAND.low:.2g}, {PAPER_BAND.high:.2g}] ε√N"
        for edge in (PAPER_BAND.low * paper, PAPER_BAND.high * paper):
            edges.append(edge)
            ax.axhline(edge, color=GREY, linewidth=0.9, linestyle=(0, (5, 3)), label=label)
            label = "_nolegend_"
    _limit_r(ax, np.concatenate([r[np.isfinite(r)], edges]))
    legend(ax)


def _has_level(assessment: Assessment, mean: float) -> bool:
    """Whether a mean says something: that of a series on its way to infinity does not."""
    return math.isfinite(mean) and not assessment.censored


def _draw_series(ax: Axes, series: Array, assessment: Assessment, colour: str) -> bool:
    """The whole run in light, the window in full colour. False if there is nothing to draw."""
    finite = np.isfinite(series)
    if not finite.any():
        say(ax, "no finite value" if series.size else "no updates were made")
        return False
    from matplotlib import ticker

    t = np.arange(series.size)
    first, last = assessment.window
    inside = finite & (t >= first) & (t < last)
    assessed = assessment.verdict in _ASSESSED
    whole: dict[str, Any] = {"color": colour, "alpha": 0.4 if assessed else 1.0, "linewidth": 0.8}
    few = "o" if np.count_nonzero(finite) < 50 else ""
    name = "whole run" if assessed else "whole run, not assessed"
    ax.plot(*_thinned(t[finite], series[finite]), marker=few, markersize=3, label=name, **whole)
    if assessed:
        label = f"assessed: {first:,} to {last - 1:,}"
        ax.plot(*_thinned(t[inside], series[inside]), color=colour, linewidth=0.8, label=label)
        ax.axvspan(first, last - 1, color="black", alpha=0.06, linewidth=0, zorder=-1)
    if not finite.all():
        at = int(np.argmin(finite))
        label = f"not finite from update {at:,} on"
        ax.axvline(at, color="black", linewidth=1.2, linestyle=":", label=label)
    # a run that broke off early is drawn as long as it went
    last_finite = int(np.flatnonzero(finite)[-1])
    margin = 0.02 * (last_finite + 1)
    ax.set_xlim(-margin, last_finite + 1 + margin)
    ax.xaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return True


def _thinned(t: NDArray[np.int64], y: Array) -> tuple[NDArray[np.int64], Array]:
    """A long series as the lowest and highest value of each bin, in order: looks the same."""
    size = math.ceil(y.size / _BINS)
    if size <= 2:
        return t, y
    keep = []
    for start in range(0, y.size, size):
        part = y[start : start + size]
        keep += [start + int(part.argmin()), start + int(part.argmax())]
    index = np.unique(keep)
    return t[index], y[index]


def _limit_d(ax: Axes, d: Array, window: Array) -> None:
    """Room for the window; what goes far beyond it, such as a burst at the start, is named."""
    d, window = d[np.isfinite(d)], window[np.isfinite(window)]
    typical, size = np.median(np.abs(d)), np.abs(d).max()
    shown = np.abs(window).max() if window.size else size
    if shown > 1e4 * typical > 0:
        _symmetric_log(ax, typical, shown)
        return
    if size < 1e6:
        ax.yaxis.set_major_formatter("{x:,g}")
    if not shown > 0 or size <= 5 * shown:
        return
    limit = 2.5 * shown
    ax.set_ylim(max(1.1 * d.min(), -limit), min(1.1 * d.max(), limit))
    for extreme, word, height in (
        (d.max(), "▲ earlier up", 0.97),
        (d.min(), "▼ earlier down", 0.03),
    ):
        if abs(extreme) > limit:
            align = "top" if height > 0.5 else "bottom"
            text = f"{word} to {extreme:,.3g}"
            ax.text(0.02, height, text, transform=ax.transAxes, color=BLUE, size=8, va=align)


def _symmetric_log(ax: Axes, typical: float, largest: float) -> None:
    """Both signs on a logarithmic axis, linear up to a typical size, with three ticks a side."""
    low, high = math.ceil(math.log10(typical)), math.ceil(math.log10(largest))
    step = math.ceil((high - low) / 3)
    powers = [10.0**power for power in range(high, low, -step)]
    ax.set_yscale("symlog", linthresh=10.0**low)
    ax.set_yticks([*(-p for p in powers), 0, *reversed(powers)])
    ax.yaxis.minorticks_off()
    ax.set_ylim(-(10.0 ** (high + step / 3)), 10.0 ** (high + step / 3))


def _limit_r(ax: Axes, shown: Array) -> None:
    """A logarithmic axis where r and its bands span more than a decade."""
    from matplotlib import ticker

    low, high = shown.min(), shown.max()
    if low > 0 and high > 10 * low:
        ax.set_yscale("log")
        ax.set_ylim(low / 1.3, high * 1.3)
        if high < 300 * low:
            ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter(ticker.NullFormatter())
    else:
        ax.set_ylim(min(0.0, 1.08 * low), 1.08 * high if high > 0 else 1.0)


# -- correlations over the window ----------------------------------------------------------------


def draw_cross_correlation(ax: Axes, d: Array, r: Array) -> None:
    """Cross-correlation of the window's d and r, at lags of both signs."""
    ax.set(title="Cross-correlation of d and r", xlabel="lag k: d at t against r at t + k")
    if why := _answerless(d=d, r=r):
        say(ax, why)
        return
    lags = np.arange(-MAX_LAG, MAX_LAG + 1)
    values = cross_correlation(d, r)
    ax.set_title(f"{ax.get_title(loc='left')}: {values[MAX_LAG]:+.2f} at lag 0")
    ax.vlines(lags, 0, values, color=BLUE, linewidth=1.6)
    ax.plot(lags, values, "o", color=BLUE, markersize=3.5)
    ax.set_xticks(range(-MAX_LAG, MAX_LAG + 1, 5))
    _bounds(ax, d.size, lags.size)
    legend(ax)


def draw_autocorrelation(ax: Axes, d: Array, r: Array) -> None:
    """Autocorrelation of the window's d and r."""
    ax.set(title="Autocorrelation", xlabel="lag")
    if why := _answerless(d=d, r=r):
        say(ax, why)
        return
    lags = np.arange(MAX_LAG + 1)
    uncentred = autocorrelation(d, centered=False)
    ax.plot(lags, autocorrelation(d), "o-", color=BLUE, markersize=3.5, label="d")
    # broad and light, so that it shows where it lies beneath the centred one
    ax.plot(lags, uncentred, color=BLUE, alpha=0.25, linewidth=4, zorder=1, label="d, not centred")
    ax.plot(lags, autocorrelation(r), "s-", color=RED, markersize=3.5, label="r")
    ax.set_xticks(range(0, MAX_LAG + 1, 3))
    _bounds(ax, d.size, MAX_LAG)
    legend(ax)


def _bounds(ax: Axes, n: int, lags: int) -> None:
    """Zero, the bounds of white noise, and the same scale in every figure."""
    ax.axhline(0, color="black", linewidth=0.8)
    for looked_at, dashes, label in (
        (1, (0, (1, 1.5)), "95 % bound, one lag"),
        (lags, (0, (5, 2)), f"95 % bound, {lags} lags"),
    ):
        bound = white_noise_bound(n, looked_at)
        for edge in (bound, -bound):
            ax.axhline(edge, color=GREY, linewidth=0.9, linestyle=dashes, label=label)
            label = "_nolegend_"
    ax.set_ylim(-1.05, 1.05)


def _answerless(**series: Array) -> str:
    """Why there is no correlation of these series, empty if there is one."""
    for name, values in series.items():
        if values.size <= MAX_LAG + 1:
            return f"no correlation: too few updates ({values.size}) for {MAX_LAG} lags"
        if not np.isfinite(values).all():
            return f"no correlation: {name} is not finite"
        if is_constant(values):
            return f"no correlation: {name} is constant"
    return ""
