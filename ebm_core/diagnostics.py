"""Diagnostics of learning: pure functions of the series d and r.

d is the energy difference between data and chains in nats, r the gradient magnitude of the chains;
both have one value an update. Each function says what it returns where it has no answer; none
depends on the unit of a series, and none overflows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ebm_core.correlation import (
    MAX_LAG,
    RESOLUTION,
    Array,
    as_series,
    autocorrelation,
    bartlett_bound,
    cross_correlation,
    has_answer,
    in_unit,
    is_constant,
    partial_autocorrelation,
    white_noise_bound,
)

__all__ = [
    "MAX_LAG",
    "Array",
    "Oscillation",
    "autocorrelation",
    "balance",
    "band_adherence",
    "bartlett_bound",
    "cross_correlation",
    "is_constant",
    "longest_repeat",
    "oscillation",
    "partial_autocorrelation",
    "relative_drift",
    "sign_change_share",
    "skewness",
    "span_decades",
    "white_noise_bound",
]


def longest_repeat(values: ArrayLike) -> int:
    """Length of the longest run of equal neighbours; 0 for an empty series. NaN equals nothing."""
    x = as_series(values)
    if x.size == 0:
        return 0
    breaks = np.flatnonzero(x[1:] != x[:-1])
    edges = np.concatenate([[-1], breaks, [x.size - 1]])
    return int(np.diff(edges).max())


def sign_change_share(values: ArrayLike) -> float:
    """Share of neighbours with different signs; 1/2 for white noise about 0.

    NaN for under two values or non-finite ones.
    """
    x = as_series(values)
    if x.size < 2 or not np.isfinite(x).all():
        return math.nan
    return float(np.mean(np.sign(x[1:]) != np.sign(x[:-1])))


def balance(d: ArrayLike) -> float:
    """mean d / sd d: how far d is from centred on 0. NaN for constant or non-finite series."""
    x = as_series(d)
    if not has_answer(x, 2):
        return math.nan
    x = in_unit(x)
    return float(x.mean() / x.std(ddof=1))


def skewness(values: ArrayLike) -> float:
    """Third standardised moment. NaN for constant or non-finite series."""
    x = as_series(values)
    if not has_answer(x, 3):
        return math.nan
    x = in_unit(x)
    centred = x - x.mean()
    return float((centred**3).mean() / (centred**2).mean() ** 1.5)


def _rise(x: Array) -> tuple[float, Array]:
    """Rise of the least-squares line from end to end, and what deviates from the line."""
    t = np.linspace(-0.5, 0.5, x.size)
    rise = float((t @ x) / (t @ t))
    return rise, x - x.mean() - rise * t


def relative_drift(r: ArrayLike) -> float:
    """Change of the least-squares line over the series, as a share of the mean.

    Returns:
        0 for a level series, 0.2 if it rises by a fifth of its mean; NaN for under three values,
        non-finite values or a mean of 0.
    """
    x = as_series(r)
    if x.size < 3 or not np.isfinite(x).all():
        return math.nan
    x = in_unit(x)
    mean = float(x.mean())
    return _rise(x)[0] / mean if abs(mean) > 1e-12 else math.nan


def span_decades(r: ArrayLike) -> float:
    """log10 of largest over smallest value; NaN unless all are finite and over 0."""
    x = as_series(r)
    if x.size == 0 or not np.isfinite(x).all() or x.min() <= 0:
        return math.nan
    return float(np.log10(x.max()) - np.log10(x.min()))


def band_adherence(r: ArrayLike, low: float, high: float) -> float:
    """Share of values inside [low, high]; non-finite values are outside. NaN for an empty series.

    Raises:
        ValueError: If low >= high.
    """
    if not low < high:
        raise ValueError(f"`low < high` must hold, but got low={low!r}, high={high!r}")
    x = as_series(r)
    if x.size == 0:
        return math.nan
    return float(np.mean((x >= low) & (x <= high)))


@dataclass(frozen=True)
class Oscillation:
    """Type of oscillation of d about 0, and the statistics behind it; NaN for no answer.

    Attributes:
        type: ``weak``, ``strong`` or ``undetermined``.
        reason: One sentence.
        acf_min: Lowest autocorrelation of d over the lags looked at.
        acf_min_lag: The lag where it is found; 0 if there is none.
        acf_r_at_lag: Autocorrelation of r at that lag.
        corr_d_r: Correlation of d and r at lag 0.
        sign_changes: Share of neighbours of d with different signs.
        bound: Two-sided 95 % bound on the autocorrelation at that lag, over all lags looked at.
        n: Updates looked at.
    """

    type: Literal["weak", "strong", "undetermined"]
    reason: str
    acf_min: float
    acf_min_lag: int
    acf_r_at_lag: float
    corr_d_r: float
    sign_changes: float
    bound: float
    n: int


def _without_line(x: Array) -> Array:
    """A series less its least-squares line: 0 for a straight line, unchanged if not finite."""
    if x.size < 3 or not np.isfinite(x).all():
        return x
    x = in_unit(x)
    rest = _rise(x)[1]
    return rest if np.ptp(rest) > RESOLUTION else np.zeros_like(x)


def oscillation(
    d: ArrayLike,
    r: ArrayLike,
    max_lag: int = MAX_LAG,
    effect: float = 0.25,
    shared: float = 0.3,
    least_updates: int = 100,
) -> Oscillation:
    """Classifies the oscillation of d at short lags.

    =============================  =============  ==============================================
    lowest autocorrelation of d    corr(d, r)     type
    =============================  =============  ==============================================
    over -effect, or inside bound  any            weak: no oscillation, or none that matters
    at or under both               >= shared      strong: expansion follows contraction, with r
    at or under both               under          undetermined: d alternates, r does not follow
    no answer                      any            undetermined
    =============================  =============  ==============================================

    Significance (the bound) and size (the effect) are both asked for. Positive memory is not
    strong: it widens the bound of later lags. Straight lines are taken out of both series first,
    so that a drift neither hides an oscillation nor correlates d with r.

    Args:
        d: Energy differences, nats.
        r: Gradient magnitudes, same length.
        max_lag: Largest lag looked at.
        effect: Size of negative autocorrelation that matters.
        shared: Correlation of d and r at lag 0 that counts as shared.
        least_updates: Fewer values than this have no type.

    Returns:
        ``undetermined`` for short, constant, straight or non-finite series: never ``weak``.

    Raises:
        ValueError: If the series differ in length.

    Source: Nijkamp et al. 2020, appendix D, worded there as a tendency.
    """
    x, y = _without_line(as_series(d)), _without_line(as_series(r))
    n = x.size
    acf, acf_r = autocorrelation(x, max_lag), autocorrelation(y, max_lag)
    corr = float(cross_correlation(x, y, max_lag)[max_lag])
    changes = sign_change_share(d)
    why = _no_answer(acf, acf_r, n, least_updates)
    if why:
        nan = math.nan
        return Oscillation("undetermined", why, nan, 0, nan, corr, changes, nan, n)
    lag = 1 + int(np.argmin(acf[1:]))
    low, bound = float(acf[lag]), bartlett_bound(acf, lag, n)
    statistics = (low, lag, float(acf_r[lag]), corr, changes, bound, n)
    found = f"lowest autocorrelation of d is {low:.2f} at lag {lag}"
    if low > -effect:
        return Oscillation("weak", f"{found}, over -{effect:g}", *statistics)
    if low > -bound:
        return Oscillation("weak", f"{found}, inside the bound of {bound:.2f}", *statistics)
    if corr >= shared:
        why = f"{found}, and r follows d (correlation {corr:.2f})"
        return Oscillation("strong", why, *statistics)
    why = f"{found}, but r does not follow d (correlation {corr:.2f} is under {shared:g})"
    return Oscillation("undetermined", why, *statistics)


def _no_answer(acf: Array, acf_r: Array, n: int, least_updates: int) -> str:
    """Why there is no type of oscillation; empty if there may be one."""
    if n < max(least_updates, len(acf) + 1):
        return f"{n} updates are fewer than {max(least_updates, len(acf) + 1)}"
    for name, values in (("d", acf), ("r", acf_r)):
        if np.isnan(values).any():
            return f"{name} is constant, a straight line or not finite"
    return ""
