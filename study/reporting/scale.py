"""Axes of pictures: where values of a parameter, or of a measured column, stand along them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from study.reporting.sentences import number
from study.schema.distributions import Choice, Distribution, Range

Kind = Literal["linear", "log", "signed", "words"]
Array = np.ndarray


@dataclass(frozen=True)
class Scale:
    """An axis.

    Attributes:
        kind: ``signed`` is linear about 0 and logarithmic beyond 1; ``words`` stand in a row, at
            0, 1, 2 …, and so do the numbers of a choice.
        low, high: Its ends.
        words: What stands in a row, in order.
    """

    kind: Kind
    low: float
    high: float
    words: tuple[Any, ...] = ()

    def place(self, values: Iterable[Any]) -> Array:
        """Where values stand: numbers at themselves, words at their ranks; NaN where unknown."""
        if self.kind != "words":
            numbers = pd.to_numeric(pd.Series(list(values), dtype=object), errors="coerce")
            return numbers.to_numpy("float64", na_value=np.nan)
        ranks = {str(word): rank for rank, word in enumerate(self.words)}
        ranks |= {_plain(word): rank for rank, word in enumerate(self.words)}
        return np.array([ranks.get(_plain(value), math.nan) for value in values], "float64")

    def shares(self, values: Iterable[Any]) -> Array:
        """How far along the axis values stand, 0 to 1; NaN where unknown."""
        low, high = self._bent(np.array([self.low, self.high]))
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (self._bent(self.place(values)) - low) / (high - low)
        return np.where(np.isfinite(found), np.clip(found, 0, 1), np.nan)

    def ticks(self) -> list[tuple[float, str]]:
        """A few values along the axis, as what `place` gives, and in writing."""
        if self.kind == "words":
            return [(float(rank), _written(word)) for rank, word in enumerate(self.words)]
        found = [value for value in self._round_values() if self.low <= value <= self.high]
        return [(value, number(value).replace("-", "−")) for value in found]

    def _bent(self, x: Array) -> Array:
        if self.kind == "log":
            return np.log(np.where(x > 0, x, np.nan))
        return np.arcsinh(x) if self.kind == "signed" else x

    def _round_values(self) -> Sequence[float]:
        from matplotlib.ticker import MaxNLocator

        ratio = self.high / self.low if self.kind == "log" else 1.0
        if self.kind == "linear" or (self.kind == "log" and ratio < 8):
            locator = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
            # the -0 of a locator would be written as such
            return [float(value) + 0.0 for value in locator.tick_values(self.low, self.high)]
        top = math.floor(math.log10(max(abs(self.low), abs(self.high))))
        if self.kind == "signed":
            powers = [10.0**power for power in range(top + 1)]
            kept = powers[:: -(-len(powers) // 3)]
            return [*(-power for power in reversed(kept)), 0.0, *kept]
        steps = (1,) if ratio > 300 else (1, 3) if ratio > 60 else (1, 2, 5)
        decades = range(math.floor(math.log10(self.low)), top + 1)
        found = [step * 10.0**power for power in decades for step in steps]
        return found[:: -(-len(found) // 9)]


def of_parameter(distribution: Distribution) -> Scale:
    """The axis of a parameter: its range, as its distribution is; a choice in a row."""
    if isinstance(distribution, Choice):
        numbers = not any(isinstance(value, str) for value in distribution.values)
        words = sorted(distribution.values) if numbers else distribution.values
        return Scale("words", -0.5, len(words) - 0.5, tuple(words))
    if isinstance(distribution, Range):
        low, high = _opened(float(distribution.min), float(distribution.top))
        return Scale("log" if distribution.log and low > 0 else "linear", low, high)
    return Scale("words", -0.5, 0.5, (distribution.value,))


def of_column(values: pd.Series) -> Scale:
    """The axis of a measured column: logarithmic where it spans decades, on either side of 0."""
    known = pd.to_numeric(values, errors="coerce").to_numpy("float64", na_value=np.nan)
    known = known[np.isfinite(known)]
    low, high = _opened(known.min(), known.max()) if known.size else (0.0, 1.0)
    if low > 0:
        return Scale("log" if high > 10 * low else "linear", low, high)
    return Scale("signed" if max(-low, high) > 5 else "linear", low, high)


def _opened(low: float, high: float) -> tuple[float, float]:
    """The ends of an interval, drawn apart where they coincide."""
    if low < high:
        return float(low), float(high)
    half = abs(low) / 2 or 0.5
    return float(low - half), float(high + half)


def _plain(value: Any) -> Any:
    """What a value is known by, whether a file gave it as 2, 2.0 or "2"."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def _written(word: Any) -> str:
    return word if isinstance(word, str) else number(word)
