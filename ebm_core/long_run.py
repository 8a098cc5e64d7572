"""Whether long chains stay where the short-run samples are: a decision over arrays of readings.

`ebm_core.evaluate.long_run` runs the chains; here is what is made of the readings along them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ebm_core.departure import (
    SUMMARIES,
    Effect,
    LongRunLimits,
    departs,
    detectable,
    drift,
    effect,
    errors_asked,
    frozen_share,
)
from ebm_core.mixing import Array, effective_sample_size, split_r_hat

Outcome = Literal["holds", "departs", "not_run"]

# Chains from these starts decide. Chains from noise may well need more steps than there are, and a
# model may rightly hold regions that learning never visits.
DECIDING = ("bank", "data")

# A chain that does not forget its start a few times over tells of its start.
_FORGETS = 5.0


@dataclass(frozen=True)
class LongRun:
    """Whether long chains stay where the short-run samples are.

    Attributes:
        outcome: ``holds``, ``departs``, or ``not_run`` where there is no model to run.
        departure: Size of the largest departure in energy of chains from the bank and from the
            data, (mean U of long chains - mean U of short-run samples) / sd U of short-run
            samples; where another summary departs and the energy does not, the size of that one,
            see `Effect`. Infinite if a chain left the finite.
        standard_error: Of that departure.
        departures: Departure in energy of the chains from each start that decides.
        steps: Length of the chains.
        reason: One sentence.
        summary: What `departure` is a departure of.
        effects: All effects by start, ``noise`` included, and summary.
        errors_asked: Standard errors that a departure had to exceed besides its limit.
        frozen: Largest share of chains from one deciding start that stand still.
        r_hat: Rank-normalised split R-hat over the late halves of all deciding chains, the largest
            of all summaries. Over many short chains it tells how well *one* chain mixes.
        effective_samples: Bulk effective sample size of the same, the least of all summaries.
        slowest: The summary that has it.
        chains: How many chains these are.
        drift: Change of the energy along the chains from the bank (from the data where there are
            none) from first to last step by their least-squares slope, in sd of the energy of
            short-run samples.
        drift_error: Its standard error over chains.
        detectable: Least departure in energy that this check finds 95 times in 100.
        detectable_spread: Likewise for the spread.
        reach: How far noise alone carries a chain along a direction, epsilon * sqrt(steps), in sd
            of short-run samples and data along their widest direction.
        noise_departure: Departure in energy of the chains from noise; NaN if there were none.
        noise_error: Its standard error.
        noise_arrived: Whether they came to where the short-run samples are, in all summaries.
        discretization_gap: (mean U of unadjusted chains - mean U of Metropolis-adjusted ones) / sd
            U of short-run samples, both from the bank; NaN if none were adjusted.
        discretization_error: Its standard error.
        acceptance: Share of accepted moves of the adjusted chains.
    """

    outcome: Outcome
    departure: float
    standard_error: float
    departures: dict[str, float]
    steps: int
    reason: str
    summary: str = "energy"
    effects: dict[str, dict[str, Effect]] = field(default_factory=dict)
    errors_asked: float = math.nan
    frozen: float = math.nan
    r_hat: float = math.nan
    effective_samples: float = math.nan
    slowest: str = ""
    chains: int = 0
    drift: float = math.nan
    drift_error: float = math.nan
    detectable: float = math.nan
    detectable_spread: float = math.nan
    reach: float = math.nan
    noise_departure: float = math.nan
    noise_error: float = math.nan
    noise_arrived: bool | None = None
    discretization_gap: float = math.nan
    discretization_error: float = math.nan
    acceptance: float = math.nan

    @classmethod
    def not_run(cls, reason: str) -> LongRun:
        """The outcome where no chain was run."""
        return cls("not_run", math.nan, math.nan, {}, 0, reason)

    @property
    def blind_spots(self) -> str:
        """What the budget can detect, and what it cannot; empty where nothing was measured."""
        if not math.isfinite(self.detectable):
            return ""
        text = (
            f"finds departures of {self.detectable:.2f} sd in energy and of "
            f"{self.detectable_spread:.0%} in spread 95 times in 100; cannot see modes where no "
            f"chain began and that are further than noise carries one, {self.reach:.2g} sd of the "
            "samples along their widest direction"
        )
        if self.effective_samples < _FORGETS * self.chains:
            text += (
                f"; single chains do not mix along the {self.slowest} (effective samples "
                f"{self.effective_samples:,.0f} from {self.chains:,} chains), so there the check "
                "tells of the starts more than of the model"
            )
        return text


def decide(
    traces: Mapping[str, Array],
    reference: Array,
    steps: int,
    limits: LongRunLimits | None = None,
    names: Sequence[str] = SUMMARIES,
    reach: float = math.nan,
) -> LongRun:
    """Compares the late halves of long chains with the short-run samples.

    ========================================================  =========
    chains from the bank or from the data                     outcome
    ========================================================  =========
    some reading is not finite                                departs
    more than a share of `LongRunLimits.frozen` stand still   departs
    some effect exceeds its limit *and* `errors_asked` errors  departs
    none of these                                             holds
    ========================================================  =========

    Args:
        traces: Of each start, shape (summaries, chains, readings). One of `DECIDING` has to be
            there; what is not in it is compared all the same, and decides nothing.
        reference: The summaries of the short-run samples, shape (summaries, n).
        steps: Length of the chains, for the record.
        limits: What counts as a departure.
        names: Of the summaries, as in `SUMMARIES`.
        reach: For the record, see `LongRun`.
    """
    limits = limits or LongRunLimits()
    late = {start: each[..., each.shape[-1] // 2 :] for start, each in traces.items()}
    effects = {
        start: {name: effect(name, each[i], reference[i]) for i, name in enumerate(names)}
        for start, each in late.items()
    }
    deciding = {start: effects[start] for start in DECIDING if start in traces}
    fewest = min(late[start].shape[1] for start in deciding)
    z = errors_asked(deciding.values(), limits, fewest)
    start, summary = _worst(deciding, limits, z)
    worst = effects[start][summary]
    away = departs(summary, worst, limits, z)
    still = max(deciding, key=lambda key: frozen_share(late[key]))
    frozen = frozen_share(late[still])
    stuck = frozen > limits.frozen
    lost = [key for key in deciding if not np.isfinite(late[key]).all()]
    if lost:
        reason = f"chains from {' and '.join(lost)} leave the finite within {steps:,} steps"
    elif stuck:
        reason = f"{frozen:.0%} of the chains from {still} stand still, and tell nothing"
    else:
        reason = _sentence(start, summary, worst, away, steps)
    return LongRun(
        outcome="departs" if away or stuck else "holds",
        departure=worst.size,
        standard_error=worst.error,
        departures={key: each["energy"].size for key, each in deciding.items()},
        steps=steps,
        reason=reason,
        summary=summary,
        effects=effects,
        errors_asked=z,
        frozen=frozen,
        reach=reach,
        **_mixing(np.concatenate([late[key] for key in deciding], axis=1), names),
        **_drift(traces[next(iter(deciding))][0], reference[0]),
        **_detectable(deciding, limits, z),
        **_noise(effects.get("noise"), limits, z),
    )


def _worst(
    deciding: Mapping[str, Mapping[str, Effect]], limits: LongRunLimits, z: float
) -> tuple[str, str]:
    """Start and summary of the departure to tell of: in energy unless only others depart."""
    energy = max(deciding, key=lambda start: abs(deciding[start]["energy"].size))
    if departs("energy", deciding[energy]["energy"], limits, z):
        return energy, "energy"
    found = {
        (start, name): abs(each.size) / limits.of(name)
        for start, effects in deciding.items()
        for name, each in effects.items()
        if departs(name, each, limits, z)
    }
    return max(found, key=lambda key: found[key]) if found else (energy, "energy")


def _sentence(start: str, summary: str, worst: Effect, away: bool, steps: int) -> str:
    verb = "leave" if away else "stay near"
    said = f"chains from {start} {verb} the short-run samples"
    if not math.isfinite(worst.size):
        return f"{said}: these are not finite, or all the same in {summary}"
    if summary == "spread":
        return f"{said}: spread {worst.size:+.0%} (± {worst.error:.1%}) after {steps:,} steps"
    return f"{said}: {summary} {worst.size:+.2f} sd (± {worst.error:.2f}) after {steps:,} steps"


def _mixing(late: Array, names: Sequence[str]) -> dict[str, Any]:
    sizes = {name: effective_sample_size(each) for name, each in zip(names, late, strict=True)}
    known = {name: size for name, size in sizes.items() if not math.isnan(size)}
    slowest = min(known, key=lambda name: known[name], default="")
    r_hats = [each for each in map(split_r_hat, late) if not math.isnan(each)]
    return {
        "r_hat": max(r_hats, default=math.nan),
        "effective_samples": known.get(slowest, math.nan),
        "slowest": slowest,
        "chains": late.shape[1],
    }


def _drift(energies: Array, reference: Array) -> dict[str, Any]:
    change = drift(energies)
    unit = float(reference.std(ddof=1)) if np.isfinite(reference).all() else math.nan
    if not unit > 0:
        return {}
    return {"drift": change.size / unit, "drift_error": change.error / unit}


def _detectable(
    deciding: Mapping[str, Mapping[str, Effect]], limits: LongRunLimits, z: float
) -> dict[str, Any]:
    """By the less certain of the starts."""

    def least(name: str) -> float:
        errors = [each[name].error for each in deciding.values()]
        if any(map(math.isnan, errors)):
            return math.nan
        return detectable(limits.of(name), max(errors), z)

    return {"detectable": least("energy"), "detectable_spread": least("spread")}


def _noise(
    effects: Mapping[str, Effect] | None, limits: LongRunLimits, z: float
) -> dict[str, Any]:
    if effects is None:
        return {}
    return {
        "noise_departure": effects["energy"].size,
        "noise_error": effects["energy"].error,
        "noise_arrived": not any(departs(*each, limits, z) for each in effects.items()),
    }
