"""A search space as a cube, for models that measure distances: logarithms taken, steps evened.

Numbers of a choice stand in their order, words at equal distances from each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Array = np.ndarray
Point = dict[str, Any]


class Coordinates:
    """Between points, by name, and places in the unit cube.

    A *quantile* row has one number in [0, 1) a parameter, so that uniform quantiles are the
    measure of the space: uniform in the value or its logarithm, every step and every choice as
    likely as another. A *place* is what a model sees: the same for numbers, one column a word for
    words.

    Args:
        distributions: Of Optuna, by name.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self._axes = {name: _axis(each) for name, each in distributions.items()}

    @property
    def names(self) -> list[str]:
        """The parameters, in order."""
        return list(self._axes)

    @property
    def columns(self) -> list[str]:
        """The parameter that each column of a place belongs to."""
        return [name for name, axis in self._axes.items() for _ in range(axis.width)]

    def place(self, points: Sequence[Mapping[str, Any]]) -> Array:
        """Places of points, shape (n, columns)."""
        rows = [
            np.concatenate([axis.place(point[name]) for name, axis in self._axes.items()])
            for point in points
        ]
        return np.array(rows, dtype=float).reshape(len(points), len(self.columns))

    def points(self, quantiles: Array) -> list[Point]:
        """Points of the space at quantiles, shape (n, parameters)."""
        return [
            {name: axis.value(u) for (name, axis), u in zip(self._axes.items(), row, strict=True)}
            for row in quantiles
        ]

    def sobol(self, count: int, seed: int) -> list[Point]:
        """Points that cover the space evenly, from a scrambled Sobol sequence.

        The first of them do not depend on `count`.
        """
        from scipy.stats import qmc

        sequence = qmc.Sobol(len(self._axes), scramble=True, rng=seed)
        # drawn in powers of two, as the sequence is balanced (and scipy silent) only there
        return self.points(sequence.random_base2(max(count - 1, 0).bit_length())[:count])


class _Numbers:
    """An interval, or the steps of one."""

    width = 1

    def __init__(self, low: float, high: float, step: float | None, log: bool, whole: bool):
        self._log, self._whole, self._step = log, whole, step
        self._least, self._most = low, high
        # half a step on either side, so that those at the ends are as wide as the others
        half = (step or 0) / 2
        self._low, self._high = self._scaled(low - half), self._scaled(high + half)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._log else float(value)

    def place(self, value: Any) -> Array:
        return np.array([(self._scaled(value) - self._low) / (self._high - self._low)])

    def value(self, u: float) -> Any:
        value = self._low + u * (self._high - self._low)
        if self._log:
            value = math.exp(value)
        if self._step is not None:
            value = self._least + round((value - self._least) / self._step) * self._step
        value = min(max(value, self._least), self._most)
        return int(value) if self._whole else float(value)


class _Ordered:
    """One of several numbers."""

    width = 1

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = sorted(values)

    def place(self, value: Any) -> Array:
        return np.array([(self._values.index(value) + 0.5) / len(self._values)])

    def value(self, u: float) -> Any:
        return self._values[min(int(u * len(self._values)), len(self._values) - 1)]


class _Words:
    """One of several things without an order, any two of them at distance 1."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = list(values)
        self.width = len(values)

    def place(self, value: Any) -> Array:
        place = np.zeros(self.width)
        place[self._values.index(value)] = math.sqrt(0.5)
        return place

    def value(self, u: float) -> Any:
        return self._values[min(int(u * self.width), self.width - 1)]


def _axis(distribution: Any) -> _Numbers | _Ordered | _Words:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        values = distribution.choices
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        return _Ordered(values) if numbers else _Words(values)
    whole = isinstance(distribution, IntDistribution)
    return _Numbers(
        distribution.low, distribution.high, distribution.step, distribution.log, whole
    )
