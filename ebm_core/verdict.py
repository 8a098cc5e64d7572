"""The verdict on one training: from d, r and constants, and what else is known of its chains."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from ebm_core import diagnostics
from ebm_core.assessment import MARGIN_FLOOR, Assessment, Divergence, Thresholds, Verdict
from ebm_core.breakdown import collapse_update, first_unreasonable
from ebm_core.config import Band
from ebm_core.correlation import Array
from ebm_core.diagnostics import Oscillation
from ebm_core.requirements import margins_of, reasons_of, score_of

__all__ = [
    "MARGIN_FLOOR",
    "PAPER_BAND",
    "Assessment",
    "Divergence",
    "Thresholds",
    "Verdict",
    "assess",
    "band_scale",
    "collapse_update",
]

# The printed band [0.08, 0.15] belongs to epsilon = 0.015 on 32x32x3 images; free of both as
# r / (epsilon sqrt(N)) it is:
PAPER_BAND = Band(
    low=0.08 / (0.015 * math.sqrt(3072)), high=0.15 / (0.015 * math.sqrt(3072)), unit="scaled"
)


def band_scale(unit: str, epsilon: float, dimensions: int, r_star: float | None) -> float:
    """What r is divided by to be compared with a band of this unit; NaN if that is not known."""
    if unit == "absolute":
        return 1.0
    if unit == "scaled":
        return epsilon * math.sqrt(dimensions)
    return r_star if r_star is not None and 0 < r_star < math.inf else math.nan


def assess(
    d: ArrayLike,
    r: ArrayLike,
    *,
    epsilon: float,
    dimensions: int,
    eps_data_ratio: float | None = None,
    r_star: float | None = None,
    r_floor: float | None = None,
    r_rms: ArrayLike | None = None,
    restlessness: ArrayLike | None = None,
    chain_spread: float | None = None,
    clipped: ArrayLike | None = None,
    band: Band | None = None,
    window: int | None = None,
    thresholds: Thresholds | None = None,
    constant_from: int = 0,
    burn_in_updates: int = 0,
    divergence: Divergence | None = None,
    batch_size: int = 100,
) -> Assessment:
    """Judges one training.

    =================  ========================================================================
    verdict            when
    =================  ========================================================================
    ``diverged``       d or r is not finite somewhere, or beyond 1e30, or `divergence` is given
    ``collapsed``      d runs to minus infinity, see `collapse_update`
    ``unassessed``     evidence is missing: ``missing`` says which
    ``nonconvergent``  assessed, and a requirement fails: ``reasons`` says which
    ``convergent``     r in band and level, d balanced about 0, oscillation weak; where they are
                       known, the model at rest and the spread of the chains that of the data
    =================  ========================================================================

    Rows are tried in this order. The band compares the mean of r over the window. An oscillation
    of undetermined type is missing evidence, unless another requirement fails and decides. Of a
    training that diverged, the evidence is what was measured before.

    Args:
        d: Energy differences in nats, one an update, from the first update on.
        r: Gradient magnitudes in units of x, same length.
        epsilon: Langevin noise sd, units of x.
        dimensions: N, numbers of one sample.
        eps_data_ratio: Noise on the data in units of epsilon; gives r* for isolated modes,
            ``epsilon sqrt(N) (rho - sqrt(rho^2 - 1))``, where `r_star` is not given.
        r_star: Gradient magnitude that the score of the data demands, units of x.
        r_floor: Least root-mean-square gradient of any energy that fits, for the evidence.
        r_rms: Root-mean-square gradient magnitudes, units of x, like r; for the evidence.
        restlessness: Of the model, like r, NaN where it was not looked at. Without any nothing is
            required of it.
        chain_spread: Total variance of the chains over that of the noised data. Without it nothing
            is required of it.
        clipped: Whether the gradient of each update was clipped, like r; for the evidence.
        band: Where r is expected; the default of `Band` if None, and the printed band in its
            scaled form if there is no r* either.
        window: Updates at the end that are judged; None for the last 2,000 or what there is after
            `constant_from` and `burn_in_updates`, if less.
        thresholds: Limits of the requirements.
        constant_from: First update at the final learning rate.
        burn_in_updates: Updates until the bank has forgotten its start.
        divergence: What the trainer saw that d and r do not show.
        batch_size: Samples that d is a mean over, as many data as chains; the default is what the
            source uses throughout.

    Raises:
        ValueError: If the series differ in length, or a constant is out of range.
    """
    x, y = np.asarray(d, dtype=np.float64), np.asarray(r, dtype=np.float64)
    for name, series in (("r_rms", r_rms), ("restlessness", restlessness), ("clipped", clipped)):
        if np.size([] if series is None else series) not in (0, x.size):
            raise ValueError(f"{name} must have one value an update, as d has, or none")
    _check(x, y, epsilon, dimensions, window, batch_size)
    limits = thresholds or Thresholds()
    seen = first_unreasonable(x, y)
    divergence = divergence or seen
    end = min([x.size, *(event.update for event in (divergence, seen) if event)])
    x, y = x[:end], y[:end]

    if r_star is None:
        r_star = _isolated_r_star(epsilon, dimensions, eps_data_ratio)
    if band is None:
        band = PAPER_BAND if r_star is None else Band()
    scale = band_scale(band.unit, epsilon, dimensions, r_star)
    settled = max(constant_from, burn_in_updates)
    if window is None:
        window = max(0, min(2_000, end - settled))
    first = max(0, end - window)
    wd, wr = x[first:], y[first:]
    found = Assessment(
        "unassessed",
        oscillation=_swing(wd, wr, limits),
        evidence={
            **_r_evidence(y, wr, band_scale("scaled", epsilon, dimensions, None), r_star),
            "r_band_adherence": _adherence(wr, band, scale),
            "r_band_clearance": _clearance(wr, band, scale, limits),
            **_rms_evidence(r_rms, first, end, r_floor),
            "restlessness": _level(restlessness, first, end),
            "chain_spread": math.nan if chain_spread is None else chain_spread,
            "clipped_share": _level(clipped, first, end),
            **_d_evidence(wd),
        },
        window=(first, end),
    )
    if divergence is not None:
        cause = f"{divergence.cause} at update {divergence.update}"
        if divergence.verdict == "unassessed":
            return replace(found, missing=(cause,))
        return _broken(found, divergence.verdict, cause)
    collapsed = collapse_update(x, dimensions, limits)
    if collapsed is not None:
        return _broken(found, "collapsed", f"d runs to minus infinity, seen at update {collapsed}")
    missing = _too_few(wd.size, max(window, limits.least_updates))
    missing = missing or _unsettled(first, constant_from, burn_in_updates)
    missing += [*_dead("d", wd, limits), *_dead("r", wr, limits)]
    if math.isnan(scale):
        missing.append("r* is not known, which the band needs")
    missing = missing or _unsteady(wd, limits)
    return _judged(found, missing, band, scale, limits, batch_size)


def _check(
    d: Array, r: Array, epsilon: float, dimensions: int, window: int | None, batch_size: int
) -> None:
    if d.shape != r.shape or d.ndim != 1:
        raise ValueError(f"d and r must be series of one length, but got {d.shape} and {r.shape}")
    if not 0 < epsilon < math.inf or dimensions < 1:
        raise ValueError(
            "`0 < epsilon < inf` and `dimensions >= 1` must hold, "
            f"but got epsilon={epsilon!r}, dimensions={dimensions!r}"
        )
    if batch_size < 1:
        raise ValueError(f"`batch_size >= 1` must hold, but got batch_size={batch_size!r}")
    if window is not None and window < 1:
        raise ValueError(f"`window >= 1` must hold, but got window={window!r}")


def _isolated_r_star(epsilon: float, dimensions: int, ratio: float | None) -> float | None:
    """r* of isotropic modes as wide as the noise on the data; none for a ratio under 1."""
    if ratio is None or not 1 <= ratio < math.inf:
        return None
    return epsilon * math.sqrt(dimensions) * (ratio - math.sqrt(ratio**2 - 1))


def _swing(d: Array, r: Array, limits: Thresholds) -> Oscillation:
    return diagnostics.oscillation(
        d,
        r,
        effect=limits.oscillation,
        shared=limits.shared,
        least_updates=limits.least_updates,
    )


def _adherence(r: Array, band: Band, scale: float) -> float:
    if math.isnan(scale):
        return math.nan
    # what overflows is outside
    with np.errstate(over="ignore"):
        return diagnostics.band_adherence(r / scale, band.low, band.high)


def _clearance(r: Array, band: Band, scale: float, limits: Thresholds) -> float:
    if math.isnan(scale):
        return math.nan
    with np.errstate(over="ignore"):
        return diagnostics.band_clearance(r / scale, band.low, band.high, limits.adherence)


def _r_evidence(
    whole: Array, window: Array, scaled: float, r_star: float | None
) -> dict[str, float]:
    level = float(window.mean()) if window.size else math.nan
    matched = band_scale("matched", math.nan, 1, r_star)
    return {
        "r": level,
        "r_scaled": level / scaled,
        "r_matched": level / matched,
        "r_star": matched,
        "r_1": float(whole[0]) if whole.size else math.nan,
        "r_decades": diagnostics.span_decades(whole),
        "r_drift": diagnostics.relative_drift(window),
        "r_paper_band_adherence": _adherence(window, PAPER_BAND, scaled),
    }


def _rms_evidence(
    r_rms: ArrayLike | None, first: int, end: int, floor: float | None
) -> dict[str, float]:
    floor = math.nan if floor is None else floor
    window = np.asarray([] if r_rms is None else r_rms, dtype=np.float64)[first:end]
    level = float(window.mean()) if window.size else math.nan
    return {
        "r_floor": floor,
        "r_rms": level,
        "r_over_floor": level / floor if floor > 0 else math.nan,
    }


def _level(series: ArrayLike | None, first: int, end: int) -> float:
    """Mean over the window of what is known there."""
    looks = np.asarray([] if series is None else series, dtype=np.float64)[first:end]
    looks = looks[~np.isnan(looks)]
    return float(looks.mean()) if looks.size else math.nan


def _d_evidence(window: Array) -> dict[str, float]:
    return {
        "d_mean": float(window.mean()) if window.size else math.nan,
        "d_balance": diagnostics.balance(window),
        "d_share_positive": float((window > 0).mean()) if window.size else math.nan,
        "d_skew": diagnostics.skewness(window),
    }


def _broken(found: Assessment, verdict: Verdict, cause: str) -> Assessment:
    return replace(
        found,
        verdict=verdict,
        missing=(cause,),
        convergence_margin=MARGIN_FLOOR,
        convergence_score=0.0,
        censored=True,
    )


def _too_few(updates: int, needed: int) -> list[str]:
    return [f"too few updates: {updates} of the {needed} to be judged"] * (updates < needed)


def _unsettled(first: int, constant_from: int, burn_in_updates: int) -> list[str]:
    """What still changes at the start of the window."""
    start = f"window starts at update {first}, but"
    missing = []
    if first < constant_from:
        missing.append(f"{start} the learning rate falls until {constant_from}")
    if first < burn_in_updates:
        missing.append(f"{start} the bank burns in until {burn_in_updates}")
    return missing


def _dead(name: str, series: Array, limits: Thresholds) -> list[str]:
    """Why a series does not look like one of a living training; empty if it does."""
    if series.size > 1 and diagnostics.is_constant(series):
        return [f"{name} is constant"]
    if diagnostics.longest_repeat(series) > max(10, limits.frozen_share * series.size):
        return [f"{name} is frozen for part of the window"]
    if name == "r" and (series <= 0).any():
        return ["r is not above 0 throughout"]
    return []


def _unsteady(d: Array, limits: Thresholds) -> list[str]:
    """Whether d is of one kind throughout the window, as its statistics suppose."""
    if d.size < 4:
        return []
    before, after = (float(half.std()) for half in np.array_split(d, 2))
    if max(before, after) > limits.spread * min(before, after):
        return [f"the spread of d changes from sd {before:.3g} to {after:.3g} within the window"]
    return []


def _judged(
    found: Assessment,
    missing: list[str],
    band: Band,
    scale: float,
    limits: Thresholds,
    batch_size: int,
) -> Assessment:
    """The verdict on a training that neither diverged nor collapsed."""
    swing = found.oscillation
    undetermined = f"oscillation is undetermined: {swing.reason}"
    if not missing and math.isnan(swing.acf_min):
        missing = [undetermined]
    if missing:
        return replace(found, missing=tuple(missing))
    margins = margins_of(found.evidence, swing, band, scale, limits, batch_size)
    below = 2 * found.evidence["r"] / scale < band.low + band.high
    reasons = reasons_of(margins, below, swing)
    if not reasons and swing.type == "undetermined":
        return replace(found, missing=(undetermined,))
    return replace(
        found,
        verdict="nonconvergent" if reasons else "convergent",
        reasons=reasons,
        margins=margins,
        convergence_margin=min(margins.values()),
        convergence_score=score_of(margins),
    )
