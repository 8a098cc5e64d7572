"""Collapse and divergence: found early where they happen, and nowhere else."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from ebm_core.assessment import Divergence, Thresholds
from ebm_core.breakdown import collapse_update, first_unreasonable
from ebm_core.correlation import Array

N = 64
LIMIT = 10.0 * N


def noise(n: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=n)


def after(start: int, n: int, fall: Array) -> Array:
    """Noise about 0, and a fall from some update on."""
    d = noise(n)
    d[start:] -= fall[: n - start]
    return d


T = np.arange(20_000.0)
COLLAPSES = {
    "exponential": after(0, 2_000, np.exp(T / 100)),
    "linear": after(0, 4_000, 2 * T),
    "slow and linear": after(0, 20_000, T / 5),
    "like a power": after(0, 2_000, 1e-3 * T**2.5),
    "late": after(5_000, 9_000, 3 * T),
    "behind noise": after(0, 4_000, 2 * T) + 100 * noise(4_000, 1),
    "after a burst": after(3_000, 6_000, T**2) - 130 * N * np.exp(-T[:6_000] / 10),
}


@pytest.mark.parametrize("name", COLLAPSES)
def test_a_collapse_is_found(name: str) -> None:
    d = COLLAPSES[name]
    seen = collapse_update(d, N)
    assert seen is not None
    # it is below the limit by then, and has not just begun
    assert np.median(d[seen - 29 : seen + 1]) < -LIMIT
    assert (seen + 1) % 10 == 0


@pytest.mark.parametrize(("time", "late"), [(5, 50), (10, 80), (60, 200)])
def test_a_fast_collapse_is_found_soon_after_the_limit(time: float, late: int) -> None:
    """The time constant measured on digits is about 6 updates."""
    d = after(1_030, 1_200, np.exp(np.minimum(T / time, 30)))
    if time > 10:
        d = after(1_030, 3_000, np.exp(T / time))
    crossed = int(np.argmax(d < -LIMIT))
    seen = collapse_update(d, N)
    assert seen is not None
    assert crossed < seen < crossed + late


def test_a_slow_collapse_is_found_by_the_time_it_has_doubled_twice() -> None:
    d = COLLAPSES["slow and linear"]
    crossed = int(np.argmax(d < -LIMIT))
    seen = collapse_update(d, N)
    assert seen is not None
    assert crossed < seen < 4 * crossed


HEALTHY = {
    "white": noise(5_000),
    "wide": 0.9 * LIMIT * noise(5_000),
    "bursts of the smallest epsilon": after(0, 2_000, 13_400 * N * np.exp(-((T - 4) ** 2) / 4)),
    "burst of twenty updates": after(300, 2_000, 1_000 * N * (T < 20) * (1 + T)),
    "burst of a few updates": after(0, 2_000, 130 * N * np.exp(-T / 10)),
    "burst of two hundred updates": after(0, 2_000, 40 * N * np.exp(-(((T - 150) / 80) ** 2))),
    "falls and comes back": after(0, 4_000, 3 * T) * (np.arange(4_000) < 400),
    "rises without end": -after(0, 4_000, 2 * T),
    "unbalanced": noise(5_000) - 0.9 * LIMIT,
    "level far below": 20 * noise(5_000) - 3 * LIMIT,
    "comes back slowly": after(0, 5_000, 5 * LIMIT * np.exp(-T / 1_000)),
    "not a number": np.full(2_000, math.nan),
    "empty": np.empty(0),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_no_collapse_where_there_is_none(name: str) -> None:
    assert collapse_update(HEALTHY[name], N) is None


def test_the_limit_grows_with_the_dimension() -> None:
    d = COLLAPSES["linear"]
    seen = [collapse_update(d, n) for n in (1, 64, 256, 100_000)]
    assert seen[:3] == sorted(seen[:3])
    assert seen[3] is None
    lenient = Thresholds(collapse_nats=1e6)
    assert collapse_update(d, N, lenient) is None


@pytest.mark.parametrize("name", COLLAPSES)
def test_a_trainer_that_asks_again_and_again_sees_it_at_once(name: str) -> None:
    """Asking every 100 updates, about the last 100 only, finds what one look at all of d finds."""
    d = COLLAPSES[name]
    asked = range(100, d.size + 1, 100)
    answers = (collapse_update(d[:end], N, since=end - 100) for end in asked)
    first = next(answer for answer in answers if answer is not None)
    assert first == collapse_update(d, N)
    # what follows changes nothing, and before there is nothing to be seen
    assert collapse_update(d[: first + 1], N) == first
    assert collapse_update(d[:first], N) is None
    assert collapse_update(np.append(d[: first + 1], 1e6 * noise(3_000)), N) == first


def test_asking_often_is_cheap() -> None:
    """Two thousand calls in a training of 200,000 updates take well under its first seconds."""
    d = noise(200_000) - 2 * LIMIT

    def seconds() -> float:
        started = time.perf_counter()
        for end in range(200_000 - 10_000, 200_001, 100):
            collapse_update(d[:end], N, since=end - 100)
        return (time.perf_counter() - started) / 101

    assert min(seconds() for _ in range(3)) < 2e-3


# -- what is not finite --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "value", "cause"),
    [
        ("d", math.nan, "d is not finite"),
        ("d", -math.inf, "d is not finite"),
        ("d", -1e31, "d left any reasonable range"),
        ("r", math.inf, "r is not finite"),
        ("r", 1e300, "r left any reasonable range"),
    ],
)
def test_the_first_value_beyond_reason(where: str, value: float, cause: str) -> None:
    series = {"d": noise(50), "r": noise(50, 1)}
    assert first_unreasonable(**series) is None
    series[where][[17, 30]] = value
    series["d"][40] = math.nan
    assert first_unreasonable(**series) == Divergence(17, cause)


def test_nothing_is_unreasonable_in_an_empty_series() -> None:
    assert first_unreasonable(np.empty(0), np.empty(0)) is None
