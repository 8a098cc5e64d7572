"""Which values of a training MLflow is to show, and which of them it has not been told yet."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

# A page with some hundred denser curves becomes slow to look at
MAX_POINTS = 200
# Curves over updates that are columns of the table too
ASSESSED = ("r", "r_scaled", "r_matched", "r_band_adherence")


class Values(NamedTuple):
    """Values at one step, and when they were taken, in milliseconds since 1970."""

    step: int
    time: int
    values: Mapping[str, float]


@dataclass
class Curve:
    """How far the curves of a training are.

    Attributes:
        updates: Planned.
        last: The last update of which there are values, or -1.
        names: Of those values.
    """

    updates: int
    last: int
    names: set[str]

    def advance(self, update: int, names: Iterable[str]) -> set[str]:
        """Which of the values at an update are to be added; from now on they count as there.

        At most `MAX_POINTS` points are added to a curve, and none before its last.
        """
        if update < self.last or (
            update > self.last and self._slot(update) == self._slot(self.last)
        ):
            return set()
        # a folder takes values one by one: an interruption may have come between them
        there = self.names if update == self.last else set()
        new = set(names) - there
        self.last, self.names = update, new | there
        return new

    def _slot(self, update: int) -> int:
        """Which of `MAX_POINTS` points an update falls to; the last is the end of training."""
        return update * (MAX_POINTS - 1) // self.updates


def new_values(
    curve: Curve, point: Mapping[str, float], row: Mapping[str, Any] | None
) -> Values | None:
    """What is to be added to the curves of a training.

    Args:
        curve: How far they are; is moved on.
        point: An `update`, the `time` at which it was taken (now if there is none), and values by
            name. NaN and infinity are left out: a gap in the curve.
        row: Of the table, once the training is over. Where it has the last value of a curve, the
            last update is left to it, so that no update has two.

    Returns:
        None if nothing is to be added.
    """
    update = int(point["update"])
    left_out = {"update", "time"}
    if row is not None and row["status"] != "failed" and update >= row["updates"]:
        left_out |= {name for name in ASSESSED if finite(row.get(name))}
    names = {name for name, value in point.items() if finite(value)}
    new = curve.advance(update, names - left_out)
    values = {name: point[name] for name in sorted(new)}
    return Values(update, int(point.get("time", now())), values) if values else None


def final_values(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row; a training that failed to run keeps its curves as they are."""
    hidden = ASSESSED if row.get("status") == "failed" else ()
    return {name: value for name, value in row.items() if finite(value) and name not in hidden}


def finite(value: Any) -> bool:
    """Whether it is a number that MLflow can show."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
