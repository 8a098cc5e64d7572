"""The verdict on one training, from d, r and constants alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ebm_core import diagnostics
from ebm_core.config import Band
from ebm_core.diagnostics import Array, Oscillation

Verdict = Literal["diverged", "collapsed", "unassessed", "nonconvergent", "convergent"]

# The printed band [0.08, 0.15] belongs to epsilon = 0.015 on 32x32x3 images; free of both as
# r / (epsilon sqrt(N)) it is:
PAPER_BAND = Band(
    low=0.08 / (0.015 * math.sqrt(3072)), high=0.15 / (0.015 * math.sqrt(3072)), unit="scaled"
)
MARGIN_FLOOR = -3.0


@dataclass(frozen=True)
class Thresholds:
    """Limits of the requirements.

    Attributes:
        oscillation: Lowest autocorrelation of d that counts as strong, as a size. Well outside the
            95 % bound of the shortest window that is assessed, between what annealed SGD shows
            (0 to -0.12) and what visibly oscillating runs show (-0.4 to -0.8).
        shared: Correlation of d and r at lag 0 that makes an oscillation shared.
        balance: Largest |mean d| / sd d.
        drift: Largest change of r over the window, as a share of its mean.
        least_updates: Fewer updates after annealing and burn-in than this have no verdict.
        frozen_share: Longest run of equal values, as a share of the window, that is still alive.
        collapse_nats: d below minus this many nats a dimension, and falling, is a collapse: states
            of equal law differ by about sqrt(N / 2) nats in all.
    """

    oscillation: float = 0.25
    shared: float = 0.3
    balance: float = 0.5
    drift: float = 0.2
    least_updates: int = 100
    frozen_share: float = 0.05
    collapse_nats: float = 10.0


@dataclass(frozen=True)
class Divergence:
    """That a training left the finite or the reasonable.

    Attributes:
        update: Index of the update where it was seen.
        cause: One sentence.
    """

    update: int
    cause: str


@dataclass(frozen=True)
class Assessment:
    """Verdict and evidence. Numbers that could not be measured are NaN.

    Attributes:
        verdict: See the table of `assess`.
        reasons: Which requirements fail, for ``nonconvergent``.
        missing: Which evidence is missing, for ``unassessed``; the cause, for ``diverged``.
        oscillation: Type and statistics of the oscillation of d.
        margins: Signed distance of each requirement to its limit in units of its tolerance,
            within [-3, 1].
        convergence_margin: Least of the margins; None without a verdict.
        convergence_score: Mean over requirements of clip(1/2 + margin/2, 0, 1); None likewise.
        censored: Whether margin and score stand for a training that broke off.
        evidence: Everything measured: ``r``, ``r_scaled``, ``r_matched``, ``r_star``, ``r_floor``,
            ``r_1``, ``r_decades``, ``r_drift``, ``r_band_adherence``, ``r_paper_band_adherence``,
            ``d_mean``, ``d_balance``, ``d_share_positive``, ``d_skew``.
        window: First and one past the last update that were assessed.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    missing: tuple[str, ...]
    oscillation: Oscillation
    margins: dict[str, float]
    convergence_margin: float | None
    convergence_score: float | None
    censored: bool
    evidence: dict[str, float] = field(repr=False)
    window: tuple[int, int] = (0, 0)

    def summary(self) -> str:
        """One line for people."""
        detail = ", ".join(self.reasons or self.missing)
        return f"{self.verdict}: {detail}" if detail else self.verdict


def band_scale(
    unit: str, epsilon: float, dimensions: int, r_star: float | None
) -> float:
    """What r is divided by to be compared with a band of this unit; NaN if r* is needed, not known."""
    if unit == "absolute":
        return 1.0
    if unit == "scaled":
        return epsilon * math.sqrt(dimensions)
    return math.nan if r_star is None or not r_star > 0 else r_star


def collapse_update(
    d: ArrayLike, dimensions: int, thresholds: Thresholds | None = None, chunk: int = 100
) -> int | None:
    """First update at which d is known to run to minus infinity, or None.

    Chunk medians of d must lie below ``-collapse_nats * N`` and fall by a tenth each, three chunks
    in a row. A burst at the start of training, when chains come in from noise, does not do that.

    Args:
        d: Energy differences, nats.
        dimensions: N.
        thresholds: Limits.
        chunk: Updates of a chunk.
    """
    limit = -(thresholds or Thresholds()).collapse_nats * dimensions
    x = np.asarray(d, dtype=np.float64)
    medians = np.median(x[: x.size // chunk * chunk].reshape(-1, chunk), axis=1)
    for end in range(4, len(medians) + 1):
        recent = medians[end - 4 : end]
        if (recent[1:] < limit).all() and (recent[1:] < 1.1 * recent[:-1]).all():
            return end * chunk - 1
    return None


def assess(
    d: ArrayLike,
    r: ArrayLike,
    *,
    epsilon: float,
    dimensions: int,
    eps_data_ratio: float | None = None,
    r_star: float | None = None,
    r_floor: float | None = None,
    band: Band | None = None,
    window: int | None = None,
    thresholds: Thresholds | None = None,
    constant_from: int = 0,
    burn_in_updates: int = 0,
    divergence: Divergence | None = None,
) -> Assessment:
    """Judges one training.

    =================  ========================================================================
    verdict            when
    =================  ========================================================================
    ``diverged``       d or r is not finite somewhere, or `divergence` is given
    ``collapsed``      d runs to minus infinity
    ``unassessed``     evidence is missing: ``missing`` says which
    ``nonconvergent``  assessed, and a requirement fails: ``reasons`` says which
    ``convergent``     r in band, d balanced about 0, oscillation weak, r level
    =================  ========================================================================

    Rows are tried in this order. The band compares the mean of r over the window.

    Args:
        d: Energy differences in nats, one an update, from the first update on.
        r: Gradient magnitudes in units of x, same length.
        epsilon: Langevin noise sd, units of x.
        dimensions: N, numbers of one sample.
        eps_data_ratio: Noise on the data in units of epsilon; gives r* for isolated modes,
            ``epsilon sqrt(N) (rho - sqrt(rho^2 - 1))``, where `r_star` is not given.
        r_star: Gradient magnitude that the score of the data demands, units of x.
        r_floor: Least root-mean-square gradient of any energy that fits, for the evidence.
        band: Where r is expected; r / r* in [0.75, 1.4] if None, and the printed band in its scaled
            form if there is no r* either.
        window: Updates at the end that are judged; None for the last 2,000 or what there is after
            `constant_from` and `burn_in_updates`, if less.
        thresholds: Limits of the requirements.
        constant_from: First update at the final learning rate.
        burn_in_updates: Updates until the bank has forgotten its start.
        divergence: What the trainer saw that d and r do not show.

    Raises:
        ValueError: If the series differ in length, or a constant is out of range.
    """
    x, y = np.asarray(d, dtype=np.float64), np.asarray(r, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"d and r must be series of one length, got {x.shape} and {y.shape}")
    if not epsilon > 0 or dimensions < 1:
        raise ValueError(
            f"`epsilon > 0` and `dimensions >= 1` must hold, got {epsilon!r} and {dimensions!r}"
        )
    limits = thresholds or Thresholds()
    if r_star is None and eps_data_ratio is not None and eps_data_ratio >= 1:
        spread = eps_data_ratio - math.sqrt(eps_data_ratio**2 - 1)
        r_star = epsilon * math.sqrt(dimensions) * spread
    if band is None:
        band = PAPER_BAND if r_star is None else Band()
    settled = max(constant_from, burn_in_updates)
    if window is None:
        window = max(0, min(2_000, x.size - settled))
    first = max(0, x.size - window)
    wd, wr = x[first:], y[first:]
    scale = band_scale(band.unit, epsilon, dimensions, r_star)
    swing = diagnostics.oscillation(
        wd, wr, effect=limits.oscillation, shared=limits.shared, least_updates=limits.least_updates
    )
    evidence = _evidence(x, y, wd, wr, epsilon, dimensions, r_star, r_floor, band, scale)

    def result(verdict: Verdict, **fields: Any) -> Assessment:
        values: dict[str, Any] = {
            "reasons": (),
            "missing": (),
            "margins": {},
            "convergence_margin": None,
            "convergence_score": None,
            "censored": False,
            **fields,
        }
        return Assessment(
            verdict, oscillation=swing, evidence=evidence, window=(first, x.size), **values
        )

    floor = {"convergence_margin": MARGIN_FLOOR, "convergence_score": 0.0, "censored": True}
    finite = np.isfinite(x) & np.isfinite(y)
    if divergence is None and not finite.all():
        divergence = Divergence(int(np.argmin(finite)), "d or r is not finite")
    if divergence is not None:
        cause = f"{divergence.cause} at update {divergence.update}"
        return result("diverged", missing=(cause,), **floor)
    collapsed = collapse_update(x, dimensions, limits)
    if collapsed is not None:
        cause = f"d runs to minus infinity, seen at update {collapsed}"
        return result("collapsed", missing=(cause,), **floor)
    missing = _missing(wd, wr, first, settled, constant_from, window, scale, swing, limits)
    if missing:
        return result("unassessed", missing=tuple(missing))
    margins, reasons = _requirements(evidence, swing, band, scale, limits)
    scores = [min(1.0, max(0.0, 0.5 + margin / 2)) for margin in margins.values()]
    return result(
        "nonconvergent" if reasons else "convergent",
        reasons=tuple(reasons),
        margins=margins,
        convergence_margin=min(margins.values()),
        convergence_score=sum(scores) / len(scores),
    )


def _evidence(
    d: Array,
    r: Array,
    wd: Array,
    wr: Array,
    epsilon: float,
    dimensions: int,
    r_star: float | None,
    r_floor: float | None,
    band: Band,
    scale: float,
) -> dict[str, float]:
    mean_r = float(wr.mean()) if wr.size else math.nan
    scaled = band_scale("scaled", epsilon, dimensions, None)
    matched = band_scale("matched", epsilon, dimensions, r_star)
    adherence = diagnostics.band_adherence
    return {
        "r": mean_r,
        "r_scaled": mean_r / scaled,
        "r_matched": mean_r / matched,
        "r_star": matched,
        "r_floor": math.nan if r_floor is None else r_floor,
        "r_1": float(r[0]) if r.size else math.nan,
        "r_decades": diagnostics.span_decades(r),
        "r_drift": diagnostics.relative_drift(wr),
        "r_band_adherence": math.nan
        if math.isnan(scale)
        else adherence(wr / scale, band.low, band.high),
        "r_paper_band_adherence": adherence(wr / scaled, PAPER_BAND.low, PAPER_BAND.high),
        "d_mean": float(wd.mean()) if wd.size else math.nan,
        "d_balance": diagnostics.balance(wd),
        "d_share_positive": float((wd > 0).mean()) if wd.size else math.nan,
        "d_skew": diagnostics.skewness(wd),
    }


def _missing(
    wd: Array,
    wr: Array,
    first: int,
    settled: int,
    constant_from: int,
    window: int,
    scale: float,
    swing: Oscillation,
    limits: Thresholds,
) -> list[str]:
    missing = []
    if wd.size < max(window, limits.least_updates):
        needed = max(window, limits.least_updates)
        missing.append(f"too few updates: {wd.size} of the {needed} to be judged")
    elif first < settled:
        why = "the learning rate still falls" if first < constant_from else "the bank burns in"
        missing.append(f"window starts at update {first}, but {why} until {settled}")
    for name, series in (("d", wd), ("r", wr)):
        if diagnostics.is_constant(series):
            missing.append(f"{name} is constant")
        elif diagnostics.longest_repeat(series) > max(5, limits.frozen_share * series.size):
            missing.append(f"{name} is frozen for part of the window")
    if math.isnan(scale):
        missing.append("r* is not known, which the band needs")
    if not missing and swing.type == "undetermined":
        missing.append(f"oscillation is undetermined: {swing.reason}")
    return missing


def _requirements(
    evidence: dict[str, float],
    swing: Oscillation,
    band: Band,
    scale: float,
    limits: Thresholds,
) -> tuple[dict[str, float], list[str]]:
    """Margins of the four requirements, and the names of those that fail."""
    level = evidence["r"] / scale
    half_width = (band.high - band.low) / 2
    low, high = (level - band.low) / half_width, (band.high - level) / half_width
    swing_room = (swing.acf_min + limits.oscillation) / limits.oscillation
    if swing.type == "weak":
        # a dip that is large by chance, within the bound of a short window, is no failure
        swing_room = max(swing_room, 1e-6)
    raw = {
        "r_in_band": min(low, high),
        "d_balanced": 1 - abs(evidence["d_balance"]) / limits.balance,
        "oscillation_weak": swing_room,
        "r_level": 1 - abs(evidence["r_drift"]) / limits.drift,
    }
    margins = {name: min(1.0, max(MARGIN_FLOOR, value)) for name, value in raw.items()}
    reason = {
        "r_in_band": "r_below_band" if low < high else "r_above_band",
        "d_balanced": "d_unbalanced",
        "oscillation_weak": "strong_oscillation",
        "r_level": "r_drifting",
    }
    return margins, [reason[name] for name, value in margins.items() if value < 0]
