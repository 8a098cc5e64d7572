"""What a verdict requires of the evidence: a margin each, and what a failed one is called."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ebm_core.assessment import MARGIN_FLOOR, Thresholds
from ebm_core.config import Band
from ebm_core.diagnostics import Oscillation

# What a failed requirement is called as a reason; r may also be above its band.
REASONS = {
    "r_in_band": "r_below_band",
    "d_balanced": "d_unbalanced",
    "oscillation_weak": "strong_oscillation",
    "r_level": "r_drifting",
    "model_at_rest": "model_restless",
    "spread_matched": "spread_unmatched",
}

# What speaks of whether chains follow the steady state of the last model, as its long run does.
# The others speak of how learning went, and whether the model is where the data want it.
STEADY = ("model_at_rest", "spread_matched")

# Size of a margin whose sign the type of oscillation sets against the lowest autocorrelation.
_NUDGE = 1e-6


def margins_of(
    evidence: Mapping[str, float],
    swing: Oscillation,
    band: Band,
    scale: float,
    limits: Thresholds,
    batch_size: int,
) -> dict[str, float]:
    """Signed distance of each requirement to its limit in units of its tolerance, in [-3, 1].

    ====================  =====================================================================
    requirement           1 - what must not exceed 1
    ====================  =====================================================================
    ``r_in_band``         distance of r from the middle of the band over half of its width; of a
                          mean inside also share of updates outside over what may be outside,
                          beyond which it is the distance of the last that should be inside
    ``d_balanced``        \\|mean d\\| in sd of U over `Thresholds.balance`
    ``oscillation_weak``  lowest autocorrelation of d over `Thresholds.oscillation`, see below
    ``r_level``           \\|drift of r\\| over `Thresholds.drift`
    ``model_at_rest``     restlessness over `Thresholds.restlessness`; only where it is known
    ``spread_matched``    \\|log chain_spread\\| over log `Thresholds.chain_spread`; only where the
                          spread of chains and data is known
    ====================  =====================================================================

    The sign of ``oscillation_weak`` is that of the type: a dip that is large by chance, within the
    bound of a short window, is no failure.

    Args:
        evidence: As in `Assessment`.
        swing: Oscillation of d.
        band: Where r is expected.
        scale: What r is divided by to compare it with the band.
        limits: Of the requirements.
        batch_size: n; sd d is sqrt(2 / n) times the sd of U for independent batches. A d that
            swings has a larger sd, and passes more easily: swings are asked about apart.
    """
    level = evidence["r"] / scale
    half_width = (band.high - band.low) / 2
    # a mean inside the band says nothing of an r that jumps from under it to over it; a share
    # says nothing of how far a steady r is outside
    room = min(level - band.low, band.high - level)
    inside = (evidence["r_band_adherence"] - limits.adherence) / (1 - limits.adherence)
    if room >= 0:
        room = min(room, inside * half_width if inside >= 0 else evidence["r_band_clearance"])
    raw = {
        "r_in_band": room / half_width,
        "d_balanced": 1 - abs(evidence["d_balance"]) * math.sqrt(2 / batch_size) / limits.balance,
        "oscillation_weak": _swing_room(swing, limits),
        "r_level": 1 - abs(evidence["r_drift"]) / limits.drift,
    }
    if not math.isnan(evidence["restlessness"]):
        raw["model_at_rest"] = 1 - evidence["restlessness"] / limits.restlessness
    if not math.isnan(evidence["chain_spread"]):
        raw["spread_matched"] = 1 - _times(evidence["chain_spread"]) / _times(limits.chain_spread)
    return {name: min(1.0, max(MARGIN_FLOOR, value)) for name, value in raw.items()}


def reasons_of(margins: Mapping[str, float], below: bool, swing: Oscillation) -> tuple[str, ...]:
    """What the failed requirements are called as reasons not to be convergent.

    Args:
        margins: Of `margins_of`.
        below: Whether r lies nearer to the low end of its band than to the high one.
        swing: One of undetermined type is missing evidence, and no reason.
    """
    names = REASONS if below else {**REASONS, "r_in_band": "r_above_band"}
    failed = [name for name in names if margins.get(name, 0.0) < 0]
    if swing.type == "undetermined" and "oscillation_weak" in failed:
        failed.remove("oscillation_weak")
    return tuple(names[name] for name in failed)


def score_of(margins: Mapping[str, float]) -> float:
    """Mean over requirements of clip(1/2 + margin/2, 0, 1)."""
    return sum(min(1.0, max(0.0, 0.5 + margin / 2)) for margin in margins.values()) / len(margins)


def _times(ratio: float) -> float:
    """How far a ratio is from 1, either way."""
    return abs(math.log(ratio)) if 0 < ratio < math.inf else math.inf


def _swing_room(swing: Oscillation, limits: Thresholds) -> float:
    room = (swing.acf_min + limits.oscillation) / limits.oscillation
    return max(room, 0.0) if swing.type == "weak" else min(room, -_NUDGE)
