"""How well several chains have mixed, from scalar traces of shape (chains, readings).

Pure functions of arrays. None gives an answer for a trace with a value that is not finite.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# Halves of fewer readings have no variance.
_LEAST_READINGS = 4


def as_traces(values: ArrayLike) -> Array:
    """Traces in float64.

    Raises:
        ValueError: If they have another number of axes than two.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"traces must have shape (chains, readings), but got {array.shape}")
    return array


def batch_means_error(values: ArrayLike) -> float:
    r"""Standard error of the mean over all chains and readings.

    Every chain is cut into batches of :math:`b = \lfloor \sqrt n \rfloor` readings. The larger of
    two estimates is given: from the scatter of the batch means about the mean of their own chain,
    and from the scatter of the means of the chains. The first serves where chains are few, the
    second where batches are shorter than the memory of a chain; taking the larger makes the error
    some per cent too large where both are right.

    Args:
        values: Traces, shape (chains, readings). The chains are taken as independent.

    Returns:
        The error; 0 for constant traces; NaN if a value is not finite, or if there are neither two
        chains nor two batches.

    Source: Flegal and Jones 2010, Annals of Statistics 38, for batches of length sqrt n.
    """
    x = as_traces(values)
    chains, readings = x.shape
    if not np.isfinite(x).all():
        return math.nan
    length = max(1, math.isqrt(readings))
    batches = readings // length
    estimates = []
    if batches > 1 and chains:
        means = x[:, readings - batches * length :].reshape(chains, batches, length).mean(2)
        variance = means.var(axis=1, ddof=1).mean()
        estimates.append(math.sqrt(variance / (chains * batches)))
    if chains > 1 and readings:
        estimates.append(math.sqrt(x.mean(axis=1).var(ddof=1) / chains))
    return max(estimates, default=math.nan)


def split_r_hat(values: ArrayLike) -> float:
    r"""Rank-normalised split R-hat, the larger of its bulk and its folded form.

    .. math:: \hat R = \sqrt{\frac{(n - 1) W / n + B / n}{W}}

    over the halves of the chains, B/n the variance of their means and W the mean of their
    variances, of normal scores of the values (bulk: location) and of the distances from the median
    (folded: scale). With many short chains it is well over 1 although all is well: then
    :math:`\hat R^2 - 1` is the variance of the mean of half a chain, in units of the variance
    within one.

    Args:
        values: Traces, shape (chains, readings).

    Returns:
        R-hat; infinite where no chain moves but they differ; NaN for constant traces, for under
        four readings, or if a value is not finite.

    Source: Vehtari, Gelman, Simpson, Carpenter, Bürkner 2021, Bayesian Analysis 16, section 4.
    """
    x = as_traces(values)
    if not _has_answer(x):
        return math.nan
    halves = _split(x)
    folded = np.abs(halves - np.median(halves))
    found = [_r_hat(_normal_scores(y)) for y in (halves, folded)]
    return max((each for each in found if not math.isnan(each)), default=math.nan)


def effective_sample_size(values: ArrayLike) -> float:
    r"""Bulk effective sample size of all chains together.

    .. math:: S / \tau, \quad \tau = -1 + 2 \sum_k (\rho_{2k} + \rho_{2k+1}), \quad
              \rho_t = 1 - \frac{W - c_t}{(n - 1) W / n + B / n}

    over the S rank-normalised values of split chains, c_t their mean autocovariance. The sum over
    pairs stops at the first negative one, and its terms are made to fall (Geyer's initial monotone
    sequence). It knows nothing of where no chain has been.

    Args:
        values: Traces, shape (chains, readings).

    Returns:
        At most ``S log10 S``; NaN where `split_r_hat` is.

    Source: Vehtari et al. 2021, section 3; Geyer 1992 for the sequence.
    """
    x = as_traces(values)
    if not _has_answer(x):
        return math.nan
    scores = _normal_scores(_split(x))
    chains, readings = scores.shape
    covariance = _autocovariance(scores).mean(axis=0)
    within = covariance[0] * readings / (readings - 1)
    total = covariance[0] + (scores.mean(axis=1).var(ddof=1) if chains > 1 else 0.0)
    rho = 1 - (within - covariance) / total
    rho[0] = 1.0
    pairs = rho[: readings // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs < 0)
    kept = np.minimum.accumulate(pairs[: ends[0]] if ends.size else pairs)
    size = scores.size
    tau = max(-1 + 2 * float(kept.sum()), 1 / math.log10(size))
    return size / tau


def _has_answer(x: Array) -> bool:
    chains, readings = x.shape
    enough = chains > 0 and readings >= _LEAST_READINGS
    return enough and bool(np.isfinite(x).all()) and bool(np.ptp(x) > 0)


def _split(x: Array) -> Array:
    """Halves of all chains, (2 chains, readings // 2); the middle of an odd number is left out."""
    half = x.shape[1] // 2
    return np.concatenate([x[:, :half], x[:, -half:]])


def _normal_scores(x: Array) -> Array:
    """Normal quantiles of the ranks of all values together; ties share their mean rank."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    share = (ranks - 3 / 8) / (x.size + 1 / 4)
    scores: Array = torch.special.ndtri(torch.from_numpy(share)).numpy()
    return scores[inverse].reshape(x.shape)


def _r_hat(x: Array) -> float:
    readings = x.shape[1]
    within = float(x.var(axis=1, ddof=1).mean())
    between = float(x.mean(axis=1).var(ddof=1))
    if not within > 0:
        return math.inf if between > 0 else math.nan
    return math.sqrt((readings - 1) / readings + between / within)


def _autocovariance(x: Array) -> Array:
    """Of each row at all lags, divided by the length; shape of x."""
    readings = x.shape[1]
    centred = x - x.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, n=2 * readings, axis=1)
    power = (spectrum * spectrum.conj()).real
    covariance: Array = np.fft.irfft(power, n=2 * readings, axis=1)[:, :readings] / readings
    return covariance
