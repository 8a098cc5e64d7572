"""Trainings as a field sees them: the margins of each, and whether it broke off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ebm_core.assessment import MARGIN_FLOOR

Array = np.ndarray

# Margins of one training by requirement, NaN where one is not known; None if it broke off, and
# left no series to measure margins on.
Observation = Mapping[str, float] | None

# Columns of the table of results.
_PREFIX = "margin_"
_LEAST = "convergence_margin"
# The requirement that a training does not break off, and its margin where it does not.
UNBROKEN, MET = "unbroken", 1.0
# Verdicts on trainings that broke off.
CENSORED = ("diverged", "collapsed")


def is_known(row: Mapping[str, Any]) -> bool:
    """Whether a training tells anything of where learning converges."""
    return _is_censored(row) or not math.isnan(_number(row.get(_LEAST)))


def observation(row: Mapping[str, Any]) -> Observation:
    """What a row of the table of results says; one that `is_known`."""
    if _is_censored(row):
        return None
    found = {
        name.removeprefix(_PREFIX): value
        for name in map(str, row)
        if name.startswith(_PREFIX) and not math.isnan(value := _number(row[name]))
    }
    return found or {"least": _number(row[_LEAST])}


def margins(trainings: Sequence[Observation]) -> dict[str, Array]:
    """The margins of n trainings by requirement, shape (n,) each; NaN where one is not known.

    Where any broke off, that is a requirement of its own: met in full by the others, and at the
    floor by these. In the other margins a floor would be a cliff that no smooth model follows; on
    192 trainings of digits the map tells held-out ones with a balanced accuracy of 0.80, against
    0.64 with the floor in every margin.
    """
    names = dict.fromkeys(name for each in trainings if each for name in each)
    found = {
        name: np.array([(each or {}).get(name, np.nan) for each in trainings], dtype=float)
        for name in names
    }
    whole = np.array([each is not None for each in trainings])
    return found if whole.all() else {**found, UNBROKEN: np.where(whole, MET, MARGIN_FLOOR)}


def _is_censored(row: Mapping[str, Any]) -> bool:
    # as text, since pandas' NA compares with nothing
    return str(row.get("verdict")) in CENSORED


def _number(value: Any) -> float:
    try:
        return math.nan if value is None else float(value)
    except TypeError:  # pandas' NA
        return math.nan
