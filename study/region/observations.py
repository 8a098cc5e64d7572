"""Trainings as a field sees them: the margins of each, and whether it broke off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray

# Margins of one training by requirement, NaN where one is not known; None if it broke off, and
# left no series to measure margins on.
Observation = Mapping[str, float] | None

# Columns of the table of results.
_PREFIX = "margin_"
_LEAST = "convergence_margin"
# The requirement that a training does not break off.
UNBROKEN = "unbroken"
# Further than this outside, margins count alike, as verdicts have them count inside.
_FAR = -1.0
# Verdicts on trainings that broke off.
CENSORED = ("diverged", "collapsed")


def is_known(row: Mapping[str, Any]) -> bool:
    """Whether a training tells anything of where learning converges."""
    return _is_censored(row) or not math.isnan(_number(row.get(_LEAST)))


def observation(row: Mapping[str, Any]) -> Observation:
    """What a row of the table of results says; one that `is_known`.

    A margin is cut off at -1, as verdicts cut it off at 1: how far a training is from its limit
    tells nothing of where the edge lies, and would cost the process its smoothness. Of 192
    trainings of digits, a map of 64 tells the others with a balanced accuracy of 0.86 then, and of
    0.84 by margins down to -3; the nearest neighbour has 0.80.
    """
    if _is_censored(row):
        return None
    found = {
        name.removeprefix(_PREFIX): max(value, _FAR)
        for name in map(str, row)
        if name.startswith(_PREFIX) and not math.isnan(value := _number(row[name]))
    }
    return found or {"least": max(_number(row[_LEAST]), _FAR)}


def margins(trainings: Sequence[Observation]) -> dict[str, Array]:
    """The margins of n trainings by requirement, shape (n,) each; NaN where one is not known.

    Where any broke off, that is a requirement of its own, at 1 where it is met and at -1 where
    not, so that its edge lies halfway between one that breaks off and one that does not (at -3 the
    balanced accuracy of `observation` falls from 0.84 to 0.75). In the other margins a floor would
    be a cliff that no smooth model follows (0.64).
    """
    names = dict.fromkeys(name for each in trainings if each for name in each)
    found = {
        name: np.array([(each or {}).get(name, np.nan) for each in trainings], dtype=float)
        for name in names
    }
    whole = np.array([each is not None for each in trainings])
    return found if whole.all() else {**found, UNBROKEN: np.where(whole, 1.0, -1.0)}


def _is_censored(row: Mapping[str, Any]) -> bool:
    # as text, since pandas' NA compares with nothing
    return str(row.get("verdict")) in CENSORED


def _number(value: Any) -> float:
    try:
        return math.nan if value is None else float(value)
    except TypeError:  # pandas' NA
        return math.nan
