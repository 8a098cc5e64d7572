r"""Diagnostics of learning: pure functions of the series d and r.

d is the energy difference between data and chains in nats, r the gradient magnitude of the chains;
both have one value an update. Each function says what it returns where it has no answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

MAX_LAG = 15


def _series(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"a series must have one axis, but got shape {array.shape}")
    return array


def is_constant(values: ArrayLike) -> bool:
    """Whether a series does not vary beyond the rounding of float32; False if it has no values."""
    x = _series(values)
    if x.size == 0:
        return False
    return bool(np.ptp(x) <= 1e-6 * np.abs(x).max())


def longest_repeat(values: ArrayLike) -> int:
    """Length of the longest run of equal neighbours; 0 for an empty series."""
    x = _series(values)
    if x.size == 0:
        return 0
    breaks = np.flatnonzero(np.diff(x) != 0)
    edges = np.concatenate([[-1], breaks, [x.size - 1]])
    return int(np.diff(edges).max())


def autocorrelation(values: ArrayLike, max_lag: int = MAX_LAG, centered: bool = True) -> Array:
    r"""Autocorrelation at lags 0..max_lag.

    .. math:: a_k = \sum_t (x_t - \bar x)(x_{t+k} - \bar x) / \sum_t (x_t - \bar x)^2

    Args:
        values: Series of n numbers.
        max_lag: Largest lag.
        centered: Whether to subtract the mean. The source plots d uncentred (unit mean square),
            which hides negative lags behind a mean: use that form for the figure only.

    Returns:
        Shape (max_lag + 1,). NaN throughout if the series is constant, holds a non-finite value or
        has no more than max_lag + 1 values.
    """
    x = _series(values)
    if x.size <= max_lag + 1 or not np.isfinite(x).all() or is_constant(x):
        return np.full(max_lag + 1, np.nan)
    if centered:
        x = x - x.mean()
    products = [x[: x.size - lag] @ x[lag:] for lag in range(max_lag + 1)]
    return np.array(products) / products[0]


def partial_autocorrelation(values: ArrayLike, max_lag: int = MAX_LAG) -> Array:
    """Partial autocorrelation at lags 0..max_lag, by the Durbin-Levinson recursion.

    Returns:
        Shape (max_lag + 1,), 1 at lag 0; NaN throughout where `autocorrelation` has no answer.
    """
    a = autocorrelation(values, max_lag)
    if np.isnan(a).any():
        return np.full(max_lag + 1, np.nan)
    partial = np.ones(max_lag + 1)
    phi = np.empty(0)
    for lag in range(1, max_lag + 1):
        rest = 1 - phi @ a[1:lag]
        last = (a[lag] - phi @ a[lag - 1 : 0 : -1]) / rest if rest > 0 else np.nan
        phi = np.append(phi - last * phi[::-1], last)
        partial[lag] = last
    return partial


def cross_correlation(first: ArrayLike, second: ArrayLike, max_lag: int = MAX_LAG) -> Array:
    """Correlation of ``first[t]`` with ``second[t + k]`` for k = -max_lag..max_lag.

    Both are centred and standardised by their whole series.

    Returns:
        Shape (2 max_lag + 1,). NaN throughout where `autocorrelation` of either has no answer.

    Raises:
        ValueError: If the series differ in length.
    """
    x, y = _series(first), _series(second)
    if x.size != y.size:
        raise ValueError(f"series must have equal lengths, but got {x.size} and {y.size}")
    answerless = [
        z.size <= max_lag + 1 or not np.isfinite(z).all() or is_constant(z) for z in (x, y)
    ]
    if any(answerless):
        return np.full(2 * max_lag + 1, np.nan)
    x, y = x - x.mean(), y - y.mean()
    n = x.size
    products = [
        x[max(0, -lag) : n - max(0, lag)] @ y[max(0, lag) : n - max(0, -lag)]
        for lag in range(-max_lag, max_lag + 1)
    ]
    return np.array(products) / math.sqrt((x @ x) * (y @ y))


def white_noise_bound(n: int, lags: int = 1, confidence: float = 0.95) -> float:
    """Half width of the band that autocorrelations of white noise stay in.

    Args:
        n: Length of the series.
        lags: How many lags are looked at together (Bonferroni): 1.96/sqrt(n) for one,
            2.94/sqrt(n) for fifteen.
        confidence: That none of them leaves the band.

    Returns:
        The bound; NaN for n < 1.
    """
    if n < 1:
        return math.nan
    quantile = NormalDist().inv_cdf(1 - (1 - confidence) / (2 * lags))
    return quantile / math.sqrt(n)


def sign_change_share(values: ArrayLike) -> float:
    """Share of neighbours with different signs; 1/2 for white noise, NaN for under two values."""
    x = _series(values)
    if x.size < 2 or not np.isfinite(x).all():
        return math.nan
    return float(np.mean(np.sign(x[1:]) != np.sign(x[:-1])))


def balance(d: ArrayLike) -> float:
    """mean d / sd d: how far d is from centred on 0. NaN for constant or non-finite series."""
    x = _series(d)
    if x.size < 2 or not np.isfinite(x).all() or is_constant(x):
        return math.nan
    return float(x.mean() / x.std(ddof=1))


def skewness(values: ArrayLike) -> float:
    """Third standardised moment. NaN for constant or non-finite series."""
    x = _series(values)
    if x.size < 3 or not np.isfinite(x).all() or is_constant(x):
        return math.nan
    centred = x - x.mean()
    return float((centred**3).mean() / (centred**2).mean() ** 1.5)


def relative_drift(r: ArrayLike) -> float:
    """Change of the least-squares line over the series, as a share of the mean.

    Returns:
        0 for a level series, 0.2 if it rises by a fifth of its mean; NaN for under three values,
        non-finite values or mean 0.
    """
    x = _series(r)
    if x.size < 3 or not np.isfinite(x).all() or x.mean() == 0:
        return math.nan
    t = np.linspace(-0.5, 0.5, x.size)
    return float((t @ x) / (t @ t) / x.mean())


def span_decades(r: ArrayLike) -> float:
    """log10 of largest over smallest value; NaN unless all are finite and over 0."""
    x = _series(r)
    if x.size == 0 or not np.isfinite(x).all() or x.min() <= 0:
        return math.nan
    return float(np.log10(x.max() / x.min()))


def band_adherence(r: ArrayLike, low: float, high: float) -> float:
    """Share of values inside [low, high]; non-finite values are outside. NaN for an empty series.

    Raises:
        ValueError: If low >= high.
    """
    if not low < high:
        raise ValueError(f"`low < high` must hold, but got low={low!r}, high={high!r}")
    x = _series(r)
    if x.size == 0:
        return math.nan
    return float(np.mean((x >= low) & (x <= high)))


@dataclass(frozen=True)
class Oscillation:
    """Type of oscillation of d about 0, with the statistics behind it.

    Attributes:
        type: ``weak``, ``strong`` or ``undetermined``.
        reason: One sentence.
        acf_min: Lowest centred autocorrelation of d over lags 1..15; NaN if there is none.
        acf_min_lag: The lag where it is found; 0 if there is none.
        acf_r_at_lag: Autocorrelation of r at that lag.
        corr_d_r: Correlation of d and r at lag 0.
        sign_changes: Share of neighbours of d with different signs.
        bound: Two-sided 95 % white-noise bound over all lags looked at.
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


def oscillation(
    d: ArrayLike,
    r: ArrayLike,
    max_lag: int = MAX_LAG,
    effect: float = 0.25,
    shared: float = 0.3,
    least_updates: int = 100,
) -> Oscillation:
    """Classifies the oscillation of d.

    ======================  ===================  ===========================================
    lowest autocorrelation  r shares it          type
    ======================  ===================  ===========================================
    above -effect, or       any                  weak: d does not depend much on its past
    not significant
    at or under -effect     corr(d, r) >= shared strong: expansion follows contraction, and r
                                                 with it
    at or under -effect     no                   undetermined: d alternates, r does not follow
    no answer               any                  undetermined
    ======================  ===================  ===========================================

    Args:
        d: Energy differences, nats.
        r: Gradient magnitudes, same length.
        max_lag: Largest lag looked at.
        effect: Size of negative autocorrelation that matters.
        shared: Correlation of d and r at lag 0 that counts as shared.
        least_updates: Fewer values than this have no type.

    Returns:
        ``undetermined`` for short, constant or non-finite series: never ``weak``.

    Source: Nijkamp et al. 2020, appendix D, worded there as a tendency.
    """
    x, y = _series(d), _series(r)
    n = x.size
    bound = white_noise_bound(n, max_lag)
    acf = autocorrelation(x, max_lag)
    acf_r = autocorrelation(y, max_lag)
    corr = float(cross_correlation(x, y, max_lag)[max_lag])
    changes = sign_change_share(x)
    if n < least_updates or np.isnan(acf).any() or np.isnan(acf_r).any():
        why = f"{n} updates are fewer than {least_updates}"
        if n >= least_updates:
            which = "d" if np.isnan(acf).any() else "r"
            why = f"{which} is constant or not finite"
        return Oscillation("undetermined", why, math.nan, 0, math.nan, corr, changes, bound, n)
    lag = 1 + int(np.argmin(acf[1:]))
    low = float(acf[lag])
    statistics = (low, lag, float(acf_r[lag]), corr, changes, bound, n)
    found = f"lowest autocorrelation of d is {low:.2f} at lag {lag}"
    if low > -effect or low > -bound:
        limit = f"over -{effect:g}" if low > -effect else f"inside the bound of {bound:.2f}"
        return Oscillation("weak", f"{found}, {limit}", *statistics)
    if corr >= shared:
        why = f"{found}, and r follows d (correlation {corr:.2f})"
        return Oscillation("strong", why, *statistics)
    why = f"{found}, but r does not follow d (correlation {corr:.2f} is under {shared:g})"
    return Oscillation("undetermined", why, *statistics)
