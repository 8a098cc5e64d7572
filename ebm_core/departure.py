"""How far long chains are from the short-run samples, and when that is far.

Pure functions of arrays: the readings along the chains, and the same of the samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ebm_core.mixing import Array, batch_means_error

# What is read along every chain, in this order; in one dimension there is no second coordinate.
SUMMARIES = ("energy", "spread", "first coordinate", "second coordinate")

POWER = 0.95


@dataclass(frozen=True)
class LongRunLimits:
    """When a long chain has left the short-run samples: size and significance are both asked for.

    Attributes:
        energy: Difference of mean energies that matters, in sd of the energy of short-run samples.
            A fifth of an sd is what is conventionally called a small effect.
        variance: Relative error in the variance of a Gaussian that matters as well: half of the
            10 % that is to be found. In N dimensions it moves the mean energy by
            ``variance * sqrt(N / 2)`` sd, in the plane by 0.05, and where that is less than
            `energy` it is the limit, also where `energy` is set; see `in_dimensions`.
        spread: Relative change that matters of the mean squared distance from the centre of the
            short-run samples. A quarter: the weights of the modes of a model that learns wander,
            and with them the spread changes by up to 0.18 at rates whose energies hold.
        coordinate: Difference of the means that matters along the principal directions of
            short-run samples and data, in sd of the short-run samples along them. What is
            conventionally called a large effect, for the same reason: such means wander by 0.2
            to 0.7.
        false_alarms: Probability that chains which are in the steady state are said to depart. It
            is shared evenly (Bonferroni) among the comparisons that chance could carry over their
            limit; see `guard`.
        guard: A limit of at least so many standard errors is not reached by chance, and such a
            comparison takes no part of `false_alarms`: 3 are passed once in 370.
        frozen: Share of chains that may stand still. A sound unadjusted chain never repeats a
            state; one in a hundred keeps a single odd chain from deciding.
    """

    energy: float = 0.2
    variance: float = 0.05
    spread: float = 0.25
    coordinate: float = 0.8
    false_alarms: float = 0.05
    guard: float = 3.0
    frozen: float = 0.01

    def in_dimensions(self, dimensions: int) -> LongRunLimits:
        """The same limits for states of so many numbers: see `variance`."""
        return replace(self, energy=min(self.energy, self.variance * math.sqrt(dimensions / 2)))

    def of(self, summary: str) -> float:
        """The limit on the size of an effect."""
        return {"energy": self.energy, "spread": self.spread}.get(summary, self.coordinate)


class Effect(NamedTuple):
    """How far long chains are from the short-run samples in one summary.

    Attributes:
        size: Of the energy and the coordinates the difference of means, in sd of the short-run
            samples; of the spread the relative change. Infinite if a chain left the finite, or if
            the short-run samples have no spread that could be changed.
        error: Its standard error; NaN where the size is infinite.
    """

    size: float
    error: float


def effect(summary: str, late: Array, reference: Array) -> Effect:
    r"""Effect in one summary.

    .. math:: (\bar x - \bar y) / \mathrm{sd}(y), \qquad \text{spread: } \bar x / \bar y - 1

    x the readings and y the samples. The error is that of the mean of the chains by
    `mixing.batch_means_error` and that of the samples, taken as independent. Samples that chains
    started from are in both: then the true error is no larger.

    Args:
        summary: Its name; ``spread`` is compared as a ratio.
        late: Readings of the chains, shape (chains, readings).
        reference: Values of the short-run samples, shape (n,), n at least 2.

    Returns:
        No effect, without error, where all values are the same: a flat energy has not changed.
    """
    if not (np.isfinite(late).all() and np.isfinite(reference).all()):
        return Effect(math.inf, math.nan)
    mean = float(reference.mean())
    shift = float(late.mean()) - mean
    unit = mean if summary == "spread" else float(reference.std(ddof=1))
    if not unit > 0:
        return Effect(math.inf, math.nan) if shift else Effect(0.0, 0.0)
    ratio = float(late.mean()) / mean if summary == "spread" else 1.0
    own = ratio * float(reference.std(ddof=1)) / math.sqrt(reference.size)
    return Effect(shift / unit, math.hypot(batch_means_error(late), own) / unit)


def errors_asked(
    effects: Iterable[Mapping[str, Effect]], limits: LongRunLimits, chains: int
) -> float:
    """Standard errors that departures must exceed, such that sound chains rarely depart.

    By Student's t, since few chains know little of their own scatter.

    Args:
        effects: Of each start that decides, by summary.
        limits: Gives the rate, and which comparisons share it.
        chains: From the start that has the fewest.
    """
    from scipy.special import stdtrit

    pairs = [pair for each in effects for pair in each.items()]
    shares = sum(limits.of(name) < limits.guard * found.error for name, found in pairs)
    quantile = 1 - limits.false_alarms / (2 * max(1, shares))
    return float(stdtrit(max(1, chains - 1), quantile))


def departs(summary: str, found: Effect, limits: LongRunLimits, errors: float) -> bool:
    """Whether an effect is both large and no accident; an infinite one always is."""
    if not math.isfinite(found.size):
        return True
    return abs(found.size) > max(limits.of(summary), errors * found.error)


def detectable(limit: float, error: float, errors: float) -> float:
    """Least effect that departs with probability `POWER`: NaN where the error is."""
    if math.isnan(error):
        return math.nan
    return max(limit, errors * error) + NormalDist().inv_cdf(POWER) * error


def frozen_share(late: Array) -> float:
    """Share of chains whose readings are the same all along, in every summary.

    Args:
        late: Shape (summaries, chains, readings).

    Returns:
        0 for fewer than two readings; readings that are not finite do not stand still.
    """
    if late.shape[-1] < 2:
        return 0.0
    still = (late == late[..., :1]) & np.isfinite(late)
    return float(still.all(axis=(0, 2)).mean())


def drift(trace: Array) -> Effect:
    """Change along the chains by their least-squares slopes, and its standard error over chains.

    Args:
        trace: Shape (chains, readings), evenly spaced.

    Returns:
        From the first to the last reading, in the unit of the trace; NaN for fewer than two
        readings, or if one is not finite. The error is NaN for a single chain.
    """
    chains, readings = trace.shape
    if readings < 2 or not np.isfinite(trace).all():
        return Effect(math.nan, math.nan)
    time = np.linspace(-0.5, 0.5, readings)
    change = trace @ time / (time @ time)
    error = float(change.std(ddof=1)) / math.sqrt(chains) if chains > 1 else math.nan
    return Effect(float(change.mean()), error)
