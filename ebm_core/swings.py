"""Type of the oscillation of d: whether expansion follows contraction at short lags, r with it.

One rule over two series, with the statistics and bounds that it stands on. Its error rates are in
``docs/oscillation.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

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
    white_noise_bound,
    without_line,
)

OscillationType = Literal["weak", "strong", "undetermined"]


def sign_change_share(values: ArrayLike) -> float:
    """Share of neighbours with different signs; 1/2 for white noise about 0.

    NaN for under two values or non-finite ones.
    """
    x = as_series(values)
    if x.size < 2 or not np.isfinite(x).all():
        return math.nan
    return float(np.mean(np.sign(x[1:]) != np.sign(x[:-1])))


def sign_changes_by_chance(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Share of sign changes expected of the same values in random order, and its bound.

    A d that is not centred on 0 changes sign less often, also where it remembers nothing: what is
    expected follows from how many values are over 0.

    Returns:
        The expected share and the half width of its two-sided bound (runs test); NaN for under
        two values or non-finite ones.

    Source: Wald and Wolfowitz 1940.
    """
    x = as_series(values)
    n = x.size
    if n < 2 or not np.isfinite(x).all():
        return math.nan, math.nan
    over = int(np.count_nonzero(x > 0))
    pairs = 2 * over * (n - over)
    variance = max(0.0, pairs * (pairs - n) / (n**2 * (n - 1)))
    quantile = white_noise_bound(1, 1, confidence)
    return pairs / (n * (n - 1)), quantile * math.sqrt(variance) / (n - 1)


@dataclass(frozen=True)
class Oscillation:
    """Type of oscillation of d about 0, and the statistics behind it; NaN for no answer.

    Attributes:
        type: ``weak``, ``strong`` or ``undetermined``.
        reason: One sentence.
        acf_min: Lowest autocorrelation of d over the lags looked at.
        acf_min_lag: The lag where it is found; 0 if there is none.
        acf_r_at_lag: Autocorrelation of r at that lag. Evidence only: slow noise of r hides an
            oscillation that it shares, and an r that oscillates by itself shows one it does not.
        corr_d_r: Correlation of d and r at lag 0.
        sign_changes: Share of neighbours of d with different signs.
        bound: Two-sided 95 % bound on the autocorrelation at that lag, over all lags looked at.
        n: Updates looked at.
        corr_bound: Two-sided 95 % bound on `corr_d_r` of series that have nothing to do with each
            other and remember as these do.
        cross_peak_lag: Where the correlation of d_t with r_{t+k} is highest over the lags k
            looked at to both sides; 0 where r follows d within the update.
        sign_changes_expected: Share of sign changes of the same d in random order.
        sign_changes_bound: Two-sided 95 % bound on what `sign_changes` deviates by from that.
        slow_acf_min: Lowest autocorrelation of d at the lags from there to n/10: evidence of a
            swing too slow for the rule, and no part of it. NaN if there are no such lags.
        slow_acf_min_lag: The lag where it is found; 0 if there is none.
        slow_bound: Two-sided 95 % bound on the autocorrelation there, over all lags to n/10.
    """

    type: OscillationType
    reason: str
    acf_min: float
    acf_min_lag: int
    acf_r_at_lag: float
    corr_d_r: float
    sign_changes: float
    bound: float
    n: int
    corr_bound: float
    cross_peak_lag: int
    sign_changes_expected: float
    sign_changes_bound: float
    slow_acf_min: float
    slow_acf_min_lag: int
    slow_bound: float


def oscillation(
    d: ArrayLike,
    r: ArrayLike,
    max_lag: int = MAX_LAG,
    effect: float = 0.25,
    shared: float = 0.3,
    least_updates: int = 100,
) -> Oscillation:
    """Classifies the oscillation of d at short lags.

    =============================  ==========================  ===================================
    lowest autocorrelation of d    correlation of d and r      type
    =============================  ==========================  ===================================
    over -effect, or inside bound  any                         weak: no oscillation that matters
    at or under both               at or over `shared` and     strong: expansion follows
                                   its bound, highest at       contraction, with r
                                   lag 0
    at or under both               otherwise                   undetermined: d alternates, r does
                                                               not follow
    no answer                      any                         undetermined
    =============================  ==========================  ===================================

    Significance (the bounds) and size (the effects) are both asked for, of the dip as of the
    correlation. Positive memory is not strong: it widens the bounds. Straight lines are taken out
    of both series first, so that a drift neither hides an oscillation nor correlates d with r.
    Sign changes and slow swings are evidence beside the rule.

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
    x, y = without_line(d), without_line(r)
    n = x.size
    cross = cross_correlation(x, y, max_lag)
    # memory beyond the lags of the rule counts for the bound on the correlation, and shows swings
    reach = max(max_lag, min(n - 2, max(2 * max_lag, n // 10)))
    acf, acf_r = autocorrelation(x, reach), autocorrelation(y, reach)
    why = _no_answer(acf, acf_r, n, max(least_updates, max_lag + 2))
    expected, changes_bound = sign_changes_by_chance(d)
    dip = _lowest(acf, 1, max_lag, n, known=not why)
    slow = _lowest(acf, max_lag + 1, n // 10, n, known=not why)
    found = Oscillation(
        type="undetermined",
        reason=why,
        acf_min=dip.value,
        acf_min_lag=dip.lag,
        acf_r_at_lag=math.nan if why else float(acf_r[dip.lag]),
        corr_d_r=float(cross[max_lag]),
        sign_changes=sign_change_share(d),
        bound=dip.bound,
        n=n,
        corr_bound=math.nan if why else cross_correlation_bound(acf, acf_r, n),
        cross_peak_lag=0 if why else int(np.argmax(cross)) - max_lag,
        sign_changes_expected=expected,
        sign_changes_bound=changes_bound,
        slow_acf_min=slow.value,
        slow_acf_min_lag=slow.lag,
        slow_bound=slow.bound,
    )
    if why:
        return found
    kind, reason = _decide(found, effect, shared)
    return replace(found, type=kind, reason=reason)


class _Dip(NamedTuple):
    value: float
    lag: int
    bound: float


def _lowest(acf: Array, first: int, last: int, n: int, known: bool) -> _Dip:
    """Lowest autocorrelation at lags first..last, with its bound over all lags to the last."""
    if not known or last < first:
        return _Dip(math.nan, 0, math.nan)
    lag = first + int(np.argmin(acf[first : last + 1]))
    return _Dip(float(acf[lag]), lag, bartlett_bound(acf[: last + 1], lag, n))


def _no_answer(acf: Array, acf_r: Array, n: int, least: int) -> str:
    """Why there is no type of oscillation; empty if there may be one."""
    if n < least:
        return f"{n} updates are fewer than {least}"
    for name, values in (("d", acf), ("r", acf_r)):
        if np.isnan(values).any():
            return f"{name} is constant, a straight line or not finite"
    return ""


def _decide(found: Oscillation, effect: float, shared: float) -> tuple[OscillationType, str]:
    """The rows of the table of `oscillation`, with the reason in words."""
    dip = f"lowest autocorrelation of d is {found.acf_min:.2f} at lag {found.acf_min_lag}"
    if found.acf_min > -effect:
        return "weak", f"{dip}, over -{effect:g}{_slow_swing(found, effect)}"
    if found.acf_min > -found.bound:
        return "weak", f"{dip}, inside the bound of {found.bound:.2f}{_slow_swing(found, effect)}"
    correlation = f"correlation {found.corr_d_r:.2f}"
    apart = f"{dip}, but r does not follow d ({correlation} is"
    if found.corr_d_r < shared:
        return "undetermined", f"{apart} under {shared:g})"
    if found.corr_d_r < found.corr_bound:
        return "undetermined", f"{apart} inside the bound of {found.corr_bound:.2f})"
    if found.cross_peak_lag:
        return "undetermined", f"{apart} higher at lag {found.cross_peak_lag} than at 0)"
    return "strong", f"{dip}, and r follows d ({correlation})"


def _slow_swing(found: Oscillation, effect: float) -> str:
    """That d swings more slowly than the rule looks, as the end of a sentence; mostly empty."""
    if not found.slow_acf_min <= -max(effect, found.slow_bound):
        return ""
    swing = f"{found.slow_acf_min:.2f} at lag {found.slow_acf_min_lag}"
    return f"; a slower swing ({swing}) is not judged"
