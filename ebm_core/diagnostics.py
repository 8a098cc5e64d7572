"""Diagnostics of learning: pure functions of the series d and r.

d is the energy difference between data and chains in nats, r the gradient magnitude of the chains;
both have one value an update. Each function says what it returns where it has no answer; none
depends on the unit of a series, and none overflows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ebm_core.correlation import (
    MAX_LAG,
    Array,
    as_series,
    autocorrelation,
    bartlett_bound,
    cross_correlation,
    cross_correlation_bound,
    has_answer,
    in_unit,
    is_constant,
    partial_autocorrelation,
    rise,
    white_noise_bound,
)
from ebm_core.swings import Oscillation, oscillation, sign_change_share, sign_changes_by_chance

__all__ = [
    "MAX_LAG",
    "Array",
    "Oscillation",
    "autocorrelation",
    "balance",
    "band_adherence",
    "band_clearance",
    "bartlett_bound",
    "cross_correlation",
    "cross_correlation_bound",
    "is_constant",
    "longest_repeat",
    "oscillation",
    "partial_autocorrelation",
    "relative_drift",
    "sign_change_share",
    "sign_changes_by_chance",
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
    return rise(x) / mean if abs(mean) > 1e-12 else math.nan


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


def band_clearance(r: ArrayLike, low: float, high: float, share: float) -> float:
    """How far a share of the values lies inside [low, high] at the least, negative outside.

    It is 0 or more exactly where `band_adherence` is `share` or more, and unlike that grows and
    falls with r where all values are on one side. Non-finite values are infinitely far outside;
    NaN for an empty series.

    Args:
        r: Values.
        low, high: Ends of the band.
        share: Of the values, in (0, 1].

    Raises:
        ValueError: If low >= high or the share is out of range.
    """
    if not low < high or not 0 < share <= 1:
        rule = "`low < high` and `0 < share <= 1` must hold"
        raise ValueError(f"{rule}, but got low={low!r}, high={high!r}, share={share!r}")
    x = as_series(r)
    if x.size == 0:
        return math.nan
    inside = np.where(np.isfinite(x), np.minimum(x - low, high - x), -math.inf)
    return float(np.sort(inside)[x.size - math.ceil(share * x.size)])
