"""How well a score tells one label from another: shares and areas, with intervals. Arrays only.

Labels are True for the positive. A score is the larger the more it speaks for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Labels = NDArray[np.bool_]
Strata = Sequence[NDArray[np.bool_]]

# Of the standard normal, for two-sided intervals of 95 %.
Z = 1.959964
_GRID = np.linspace(0.0, 1.0, 5001)


@dataclass(frozen=True)
class Estimate:
    """A share or an area from 0 to 1, with its interval; NaN throughout where nothing is known."""

    value: float
    low: float
    high: float


UNKNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Confusion:
    """Labels against calls.

    Attributes:
        hits: Positives called positive.
        misses: Positives called negative.
        false_alarms: Negatives called positive.
        rejections: Negatives called negative.
    """

    hits: int
    misses: int
    false_alarms: int
    rejections: int

    @property
    def positives(self) -> int:
        return self.hits + self.misses

    @property
    def negatives(self) -> int:
        return self.false_alarms + self.rejections

    def sensitivity(self, repeats: float = 1.0) -> Estimate:
        """Share of the positives that were called so; `repeats` as in `wilson`."""
        return wilson(self.hits, self.positives, repeats)

    def specificity(self, repeats: float = 1.0) -> Estimate:
        """Share of the negatives that were called so; `repeats` as in `wilson`."""
        return wilson(self.rejections, self.negatives, repeats)


def confusion(calls: Labels, labels: Labels) -> Confusion:
    """Counts what was called positive against what is.

    Args:
        calls: Shape (n,).
        labels: Shape (n,).
    """
    return Confusion(
        hits=int((calls & labels).sum()),
        misses=int((~calls & labels).sum()),
        false_alarms=int((calls & ~labels).sum()),
        rejections=int((~calls & ~labels).sum()),
    )


def wilson(successes: int, n: int, repeats: float = 1.0) -> Estimate:
    r"""A share with the interval of Wilson (1927).

    .. math:: \frac{p + z^2/2n \pm z \sqrt{p(1 - p)/n + z^2/4n^2}}{1 + z^2/n}

    Args:
        successes: How many of `n`.
        n: Of how many; the share is unknown for none.
        repeats: Trainings a configuration, which may all turn out alike: only ``n / repeats`` are
            taken to be independent, so that the interval is rather too wide than too narrow.
    """
    if not n:
        return UNKNOWN
    share, z2 = successes / n, Z**2 * repeats / n
    middle = (share + z2 / 2) / (1 + z2)
    reach = math.sqrt(z2 * share * (1 - share) + z2**2 / 4) / (1 + z2)
    return Estimate(share, max(0.0, middle - reach), min(1.0, middle + reach))


def auroc(
    scores: Scores, labels: Labels, strata: Strata | None = None, repeats: float = 1.0
) -> Estimate:
    r"""Area under the ROC curve: how often a positive scores above a negative, ties one half.

    Stratified, only pairs within the same stratum count, each pair alike. The interval holds every
    area :math:`\theta` that is not refuted, :math:`|\hat\theta - \theta| \le z \sqrt{V(\theta)}`,
    as Wilson's does for shares: unlike DeLong's it has a length where all pairs are in order. With
    m positives and n negatives

    .. math::
        V(\theta) = \frac{\theta(1 - \theta)}{mn} \left[1 + \left(\frac{m + n}{2} - 1\right)
            \left(\frac{1 - \theta}{2 - \theta} + \frac{\theta}{1 + \theta}\right)\right]

    and over strata the mean of these, weighted by their shares of the pairs, squared. Covers 93 %
    to 98 % in simulations with normal scores, 5 to 45 of each label and areas from 0.5 to 0.97;
    down to 90 % where the rarer label varies twice as much as the other.

    Args:
        scores: Shape (n,), finite.
        labels: Shape (n,).
        strata: Masks, shape (n,) each; one that holds everything if None.
        repeats: As in `wilson`.

    Returns:
        Unknown where no positive meets a negative.

    Source: Newcombe, Statistics in Medicine 25 (2006), 559-573, method 5.
    """
    wins = pairs = 0.0
    spread = np.zeros_like(_GRID)
    for mask in [np.ones(labels.size, bool)] if strata is None else strata:
        above, below = scores[mask & labels], np.sort(scores[mask & ~labels])
        if not above.size or not below.size:
            continue
        places = [np.searchsorted(below, above, side) for side in ("left", "right")]
        wins += float(sum(place.sum() for place in places)) / 2
        pairs += above.size * below.size
        spread += (above.size * below.size) ** 2 * _variance(above.size, below.size, repeats)
    if not pairs:
        return UNKNOWN
    area = wins / pairs
    kept = _GRID[(area - _GRID) ** 2 <= Z**2 * spread / pairs**2]
    return Estimate(area, float(min(area, kept.min())), float(max(area, kept.max())))


def _variance(positives: int, negatives: int, repeats: float) -> Scores:
    """V over the grid."""
    m, n = max(1.0, positives / repeats), max(1.0, negatives / repeats)
    slope = (1 - _GRID) / (2 - _GRID) + _GRID / (1 + _GRID)
    return _GRID * (1 - _GRID) * (1 + ((m + n) / 2 - 1) * slope) / (m * n)


def lead(
    first: Scores, second: Scores, labels: Labels, strata: Strata, repeats: float = 1.0
) -> Estimate:
    """How much larger the stratified area of one score is than that of another, from -1 to 1.

    The interval is DeLong's for scores of the same trainings, which are alike in what they get
    wrong; strata add up by their shares of the pairs. A label that a stratum has only once adds
    no variance there.

    Args:
        first: Shape (n,), finite.
        second: Shape (n,), finite.
        labels: Shape (n,).
        strata: Masks, shape (n,) each.
        repeats: As in `wilson`.

    Returns:
        Unknown where no positive meets a negative.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), 837-845.
    """
    total = pairs = variance = 0.0
    for mask in strata:
        above, below = mask & labels, mask & ~labels
        gap = _wins(first[above], first[below]) - _wins(second[above], second[below])
        if not gap.size:
            continue
        total += gap.sum()
        pairs += gap.size
        spread = sum(
            each.var() / max(1, each.size - 1) for each in (gap.mean(axis=0), gap.mean(axis=1))
        )
        variance += gap.size**2 * spread * repeats
    if not pairs:
        return UNKNOWN
    value, reach = float(total / pairs), Z * math.sqrt(variance) / pairs
    return Estimate(value, max(-1.0, value - reach), min(1.0, value + reach))


def _wins(above: Scores, below: Scores) -> Scores:
    """1 for a pair in order, a half for a tie; shape (m, n)."""
    order = np.sign(above[:, None] - below[None, :])
    return np.asarray((order + 1) / 2, np.float64)


def youden_limit(scores: Scores, labels: Labels) -> float:
    """The limit at or above which calls make sensitivity + specificity - 1 largest.

    Args:
        scores: Shape (n,), finite, not all alike, of both labels.
        labels: Shape (n,).

    Returns:
        Half-way between two neighbouring scores; the least of several that do as well.

    Source: Youden, Cancer 3 (1950), 32-35.
    """
    values = np.unique(scores)
    limits = (values[1:] + values[:-1]) / 2
    positives, negatives = np.sort(scores[labels]), np.sort(scores[~labels])
    called = positives.size - np.searchsorted(positives, limits)
    rejected = np.searchsorted(negatives, limits)
    # In whole numbers, so that equals are equal
    return float(limits[np.argmax(called * negatives.size + rejected * positives.size)])
