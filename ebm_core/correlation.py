"""Correlations of series in time, and what white noise would give.

Pure functions of arrays. None depends on the unit of a series, and none overflows.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

MAX_LAG = 15

# What float32 cannot tell from a constant.
RESOLUTION = 1e-6


def as_series(values: ArrayLike) -> Array:
    """A series in float64.

    Raises:
        ValueError: If it has another number of axes than one.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"a series must have one axis, but got shape {array.shape}")
    return array


def in_unit(x: Array) -> Array:
    """A finite series as a share of its largest size: squares neither over- nor underflow."""
    largest = np.abs(x).max()
    return x / largest if largest > 0 else x


def is_constant(values: ArrayLike) -> bool:
    """Whether a series does not vary beyond the rounding of float32.

    False if it has no values, or one that is not finite.
    """
    x = as_series(values)
    if x.size == 0 or not np.isfinite(x).all():
        return False
    return bool(np.ptp(in_unit(x)) <= RESOLUTION)


def has_answer(x: Array, least: int) -> bool:
    """Whether statistics of a series mean anything: enough values, all finite, not constant."""
    return x.size >= least and bool(np.isfinite(x).all()) and not is_constant(x)


def rise(x: Array) -> float:
    """Rise of the least-squares line of a finite series, from end to end."""
    return _line(x)[0]


def _line(x: Array) -> tuple[float, Array]:
    """Rise of the least-squares line of a series, and the line itself about 0."""
    t = np.linspace(-0.5, 0.5, x.size)
    slope = float((t @ x) / (t @ t))
    return slope, slope * t


def _lagged_products(x: Array, y: Array, max_lag: int) -> Array:
    """Sums over t of x[t] y[t + k] for k = -max_lag..max_lag, by Fourier transform."""
    # zeros enough that no end meets the other beginning, up to a power of two
    size = 1 << (x.size + max_lag).bit_length()
    first = np.fft.rfft(x, size)
    second = first if y is x else np.fft.rfft(y, size)
    products: Array = np.fft.irfft(first.conj() * second, size)
    return np.concatenate([products[size - max_lag :], products[: max_lag + 1]])


def without_line(values: ArrayLike) -> Array:
    """A series less its least-squares line, in a unit of its own.

    0 throughout for a straight line; unchanged if it is not finite or has under three values.
    """
    x = as_series(values)
    if x.size < 3 or not np.isfinite(x).all():
        return x
    x = in_unit(x)
    rest = x - x.mean() - _line(x)[1]
    return rest if np.ptp(rest) > RESOLUTION else np.zeros_like(x)


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
    x = as_series(values)
    if not has_answer(x, max_lag + 2):
        return np.full(max_lag + 1, np.nan)
    x = in_unit(x)
    if centered:
        x = x - x.mean()
    products = _lagged_products(x, x, max_lag)[max_lag:]
    return products / float(products[0])


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
    x, y = as_series(first), as_series(second)
    if x.size != y.size:
        raise ValueError(f"series must have equal lengths, but got {x.size} and {y.size}")
    if not (has_answer(x, max_lag + 2) and has_answer(y, max_lag + 2)):
        return np.full(2 * max_lag + 1, np.nan)
    x, y = (z - z.mean() for z in (in_unit(x), in_unit(y)))
    return _lagged_products(x, y, max_lag) / math.sqrt((x @ x) * (y @ y))


def white_noise_bound(n: int, lags: int = 1, confidence: float = 0.95) -> float:
    """Half width of the band that autocorrelations of white noise stay in.

    Args:
        n: Length of the series.
        lags: How many lags are looked at together (Bonferroni): 1.96/sqrt(n) for one,
            2.94/sqrt(n) for fifteen.
        confidence: That none of them leaves the band.

    Returns:
        The bound; NaN for n < 1.

    Raises:
        ValueError: If there is no lag, or the confidence is not inside (0, 1).
    """
    if lags < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"`lags >= 1` and `0 < confidence < 1` must hold, but got {lags!r} and {confidence!r}"
        )
    if n < 1:
        return math.nan
    quantile = NormalDist().inv_cdf(1 - (1 - confidence) / (2 * lags))
    return quantile / math.sqrt(n)


def bartlett_bound(acf: Array, lag: int, n: int, confidence: float = 0.95) -> float:
    r"""Bound on the autocorrelation at a lag of a series that remembers only shorter lags.

    .. math:: q \sqrt{(1 + 2 \sum_{0 < j < k} a_j^2) / n}

    q is the two-sided normal quantile over all lags of `acf` together (Bonferroni). Wider than
    `white_noise_bound` where memory makes far lags of the estimate wander.

    Source: Box, Jenkins, Reinsel, *Time Series Analysis*, section 2.1.6.
    """
    memory = 1 + 2 * float(acf[1:lag] @ acf[1:lag])
    return white_noise_bound(n, len(acf) - 1, confidence) * math.sqrt(memory)


def cross_correlation_bound(
    first_acf: Array, second_acf: Array, n: int, confidence: float = 0.95
) -> float:
    r"""Bound on the correlation at one lag of two series that have nothing to do with each other.

    .. math:: q \sqrt{\left(1 + 2 \sum_{k > 0} a_k b_k\right) / n}

    Two series that both remember drift together by chance: that widens the bound. Where one
    alternates and the other remembers the sum is under 1, and the bound of white noise is kept,
    which is wider.

    Args:
        first_acf: Autocorrelation a of the one series from lag 0, over the lags it remembers.
        second_acf: Autocorrelation b of the other, as many lags.
        n: Length of the series.
        confidence: That the correlation stays inside, two-sided.

    Source: Bartlett 1955; Box, Jenkins, Reinsel, *Time Series Analysis*, section 12.1.3.
    """
    shared_memory = 1 + 2 * float(first_acf[1:] @ second_acf[1:])
    return white_noise_bound(n, 1, confidence) * math.sqrt(max(1.0, shared_memory))
