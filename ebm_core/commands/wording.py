"""A verdict and its evidence in a few lines for people."""

from __future__ import annotations

import math

from ebm_core.config import Band
from ebm_core.evaluate import DensityDivergence, LongRun, Worth
from ebm_core.verdict import PAPER_BAND, Assessment


def verdict_lines(assessment: Assessment, band: Band | None) -> list[str]:
    """The verdict, then a line for each kind of evidence; what was not measured is left out.

    Args:
        assessment: The verdict with its evidence.
        band: Where r was expected; None for the default of `verdict.assess`.
    """
    evidence = assessment.evidence
    if band is None:
        band = Band() if evidence["r_star"] > 0 else PAPER_BAND
    lines = [assessment.summary()]
    if math.isfinite(evidence["r"]):
        lines.append(_line("r", _magnitude(evidence, band)))
    if math.isfinite(evidence["r_drift"]):
        decades = evidence["r_decades"]
        span = f", {decades:.1f} decades over the whole run" if math.isfinite(decades) else ""
        change = f"changes by {evidence['r_drift']:+.1%} of its mean over the window"
        lines.append(_line("r level", change + span))
    if math.isfinite(evidence["d_balance"]):
        positive = f"{evidence['d_share_positive']:.0%} of updates contract"
        lines.append(_line("d balance", f"mean {evidence['d_balance']:+.2f} sd of d, {positive}"))
    if math.isfinite(evidence["restlessness"]):
        lines.append(_line("model", _moving(evidence["restlessness"])))
    if math.isfinite(evidence["clipped_share"]):
        lines.append(
            _line("clipped", f"the gradient of {evidence['clipped_share']:.0%} of updates")
        )
    if math.isfinite(evidence["chain_spread"]):
        spread = f"{evidence['chain_spread']:.2f} times the variance of the data"
        lines.append(_line("spread", spread))
    swing = assessment.oscillation
    lines.append(_line("oscillation", f"{swing.type}: {swing.reason}"))
    if assessment.convergence_score is not None:
        score = f"{assessment.convergence_score:.2f}, least margin"
        lines.append(_line("score", f"{score} {assessment.convergence_margin:+.2f}"))
    first, last = assessment.window
    if last > first:
        lines.append(_line("window", f"updates {first:,} to {last - 1:,}"))
    return lines


def _magnitude(evidence: dict[str, float], band: Band) -> str:
    level = {
        "matched": f" = {evidence['r_matched']:.3g} r*",
        "scaled": f" = {evidence['r_scaled']:.3g} ε√N",
        "absolute": "",
    }[band.unit]
    text = f"{evidence['r']:.4g}"
    if math.isfinite(evidence["r_band_adherence"]):
        share = f"inside for {evidence['r_band_adherence']:.0%} of updates"
        text += f"{level} (band {band.low:.3g} to {band.high:.3g}: {share})"
    return f"{text}, printed band: {evidence['r_paper_band_adherence']:.0%}"


def _moving(restlessness: float) -> str:
    return f"redraws {restlessness:.2g} of the variance of U within 25 updates"


def long_run_line(long_run: LongRun) -> str:
    """Outcome of a long-run check, and what its budget can detect."""
    seen = f"; {long_run.blind_spots}" if long_run.blind_spots else ""
    return _line("long run", f"{long_run.outcome.replace('_', ' ')}: {long_run.reason}{seen}")


def density_line(divergence: DensityDivergence) -> str:
    """Fit of the density in the plane, beside what unadjusted chains leave at best."""
    floor = f" (floor {divergence.kl_floor:.3g})" if math.isfinite(divergence.kl_floor) else ""
    return _line("density", f"KL {divergence.kl:.3g} nats{floor}, TV {divergence.tv:.3g}")


def worth_lines(worth: Worth) -> list[str]:
    """How far samples are from the data, how sharp, and how likely data are that were held out."""
    copied, grain, unseen = worth.memorization, worth.sharpness, worth.held_out
    lines = [
        _line(
            "nearest",
            f"{copied.median:.3g} to a training sample in the median (noised data: "
            f"{copied.own:.3g} to their own, {copied.other:.3g} to the nearest other); "
            f"{copied.close:.0%} closer than 5 % of the latter",
        )
    ]
    if grain is not None:
        text = f"{grain.samples:.3g} along the finest directions, in noised data {grain.data:.3g}"
        lines.append(_line("grain", f"{text}: sharpness {grain.ratio:.2f}"))
    if unseen is not None:
        over = (
            f"{_effect(unseen.over_seen, unseen.over_seen_error)} sd over training data, "
            f"{_effect(unseen.over_samples, unseen.over_samples_error)} over samples"
        )
        lines.append(_line("held out", f"U {unseen.unseen:.4g} nats: {over}"))
    return lines


def _effect(size: float, error: float) -> str:
    return f"{size:+.2f} ± {error:.2f}" if abs(size) < 1_000 else f"{size:+.3g}"


def _line(name: str, text: str) -> str:
    return f"  {name:<12} {text}"
