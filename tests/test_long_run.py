"""Decisions about long chains: readings in, outcome out; no chain is run here."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

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
from ebm_core.long_run import LongRun, decide
from ebm_core.mixing import Array

ENERGY, SPREAD, FIRST, SECOND = range(4)


def readings(seed: int, chains: int = 256, length: int = 40, **shift: float) -> Array:
    """Independent readings in the steady state of a Gaussian, in each summary moved by a shift."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, chains, length))
    x[SPREAD] = rng.chisquare(4, (chains, length)) / 4
    for name, value in shift.items():
        index = {"energy": ENERGY, "spread": SPREAD, "first": FIRST, "second": SECOND}[name]
        x[index] = x[index] * (1 + value) if name == "spread" else x[index] + value
    return x


REFERENCE = readings(99, 4096, 1)[..., 0]


def outcome(**starts: Array) -> LongRun:
    traces = {"bank": readings(0), "data": readings(1), **starts}
    return decide(traces, REFERENCE, 1_000)


@pytest.mark.parametrize(
    ("start", "shift", "departing"),
    [
        ("bank", {}, None),
        ("bank", {"energy": 0.5}, "energy"),
        ("bank", {"energy": -0.5}, "energy"),
        ("data", {"energy": 0.5}, "energy"),
        ("data", {"spread": 0.4}, "spread"),
        ("bank", {"spread": -0.4}, "spread"),
        ("bank", {"first": 1.0}, "first coordinate"),
        ("data", {"second": -1.0}, "second coordinate"),
        # significant, and too small to matter
        ("bank", {"energy": 0.12}, None),
        ("data", {"first": -0.6}, None),
        ("bank", {"spread": 0.15}, None),
        # the energy is told of first, and then what is furthest over its limit
        ("bank", {"energy": 0.5, "spread": 3.0}, "energy"),
        ("bank", {"spread": 0.4, "first": 3.0}, "first coordinate"),
    ],
)
def test_what_departs(start: str, shift: dict[str, float], departing: str | None) -> None:
    found = outcome(**{start: readings(2, **shift)})
    assert found.outcome == ("holds" if departing is None else "departs")
    assert found.summary == (departing or "energy")
    if departing:
        assert found.reason.startswith(f"chains from {start} leave the short-run samples")
        assert f": {departing} " in found.reason
        exact = shift[departing.split()[0]]
        assert found.departure == pytest.approx(exact, abs=5 * found.standard_error)
        assert found.departure == found.effects[start][departing].size
    assert set(found.departures) == {"bank", "data"}
    assert found.departures["bank"] == found.effects["bank"]["energy"].size


def test_a_large_departure_that_may_be_an_accident_holds() -> None:
    few = readings(0, chains=3)
    few[ENERGY] = np.array([-1.2, 0.4, 2.0])[:, None] + 0.1 * few[ENERGY]
    found = outcome(bank=few)
    assert found.outcome == "holds"
    assert found.departure > 0.3
    assert found.detectable > 1
    many = np.repeat(few, 100, axis=1)
    assert outcome(bank=many).outcome == "departs"


def test_noise_is_told_of_and_decides_nothing() -> None:
    there = outcome(noise=readings(3, chains=64))
    assert (there.outcome, there.noise_arrived) == ("holds", True)
    assert abs(there.noise_departure) < 4 * there.noise_error
    away = outcome(noise=readings(3, energy=2.0))
    assert (away.outcome, away.noise_arrived) == ("holds", False)
    assert away.noise_departure == pytest.approx(2, abs=0.1)
    assert set(away.departures) == {"bank", "data"}
    assert away.chains == 512
    none = outcome()
    assert none.noise_arrived is None
    assert math.isnan(none.noise_departure)
    lost = outcome(noise=np.full((4, 8, 40), np.nan))
    assert (lost.outcome, lost.noise_departure, lost.noise_arrived) == ("holds", math.inf, False)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("start", ["bank", "data"])
def test_one_chain_that_leaves_the_finite_departs(start: str, value: float) -> None:
    lost = readings(2)
    lost[:, 5, 30:] = value
    found = outcome(**{start: lost})
    assert (found.outcome, found.departure) == ("departs", math.inf)
    assert found.reason == f"chains from {start} leave the finite within 1,000 steps"
    assert found.blind_spots == ""


@pytest.mark.parametrize(("still", "expected"), [(256, "departs"), (5, "departs"), (2, "holds")])
@pytest.mark.parametrize("start", ["bank", "data"])
def test_chains_that_stand_still_are_found(start: str, still: int, expected: str) -> None:
    frozen = readings(2)
    frozen[:, :still] = frozen[:, :still, :1]
    found = outcome(**{start: frozen})
    assert found.outcome == expected
    assert found.frozen == still / 256
    assert ("stand still" in found.reason) == (expected == "departs")
    # the same values in another order are sound: it is their standing still that departs
    moving = np.random.default_rng(0).permuted(frozen, axis=1)
    assert outcome(**{start: moving}).frozen == 0


def test_chains_that_stop_half_way_are_found() -> None:
    stopped = readings(2)
    stopped[..., 18:] = stopped[..., 17:18]
    assert "stand still" in outcome(bank=stopped).reason


def test_a_flat_energy_departs_only_where_chains_diffuse_away() -> None:
    reference = REFERENCE.copy()
    reference[ENERGY] = 7.0
    flat = {"bank": readings(0), "data": readings(1)}
    for each in flat.values():
        each[ENERGY] = 7.0
    found = decide(flat, reference, 100)
    assert (found.outcome, found.departure, found.frozen) == ("holds", 0.0, 0.0)
    flat["data"][SPREAD] *= np.linspace(1, 4, 40)
    found = decide(flat, reference, 100)
    assert (found.outcome, found.summary) == ("departs", "spread")
    assert math.isfinite(found.departure)


def test_samples_without_spread_are_no_reference() -> None:
    found = decide({"bank": readings(0), "data": readings(1)}, np.zeros((4, 50)), 100)
    assert (found.outcome, found.departure) == ("departs", math.inf)
    assert "all the same in energy" in found.reason


def test_only_the_late_half_is_compared_and_the_whole_path_drifts() -> None:
    early = readings(2)
    early[ENERGY, :, :20] += 3.0
    found = outcome(bank=early)
    assert found.outcome == "holds"
    assert found.drift < -3
    assert found.drift_error < 0.1
    level = outcome()
    assert abs(level.drift) < 4 * level.drift_error


def test_mixing_of_deciding_chains() -> None:
    sound = outcome()
    assert sound.r_hat < 1.05
    assert sound.effective_samples == pytest.approx(512 * 20, rel=0.3)
    assert "do not mix" not in sound.blind_spots
    slow = readings(2)
    slow[SECOND] = 0.05 * slow[SECOND] + np.random.default_rng(0).standard_normal((256, 1))
    found = outcome(bank=slow)
    assert found.r_hat > 1.3
    assert found.slowest == "second coordinate"
    assert "do not mix along the second coordinate" in found.blind_spots


def test_what_is_detectable_is_found_so_often() -> None:
    limits = LongRunLimits()
    z = 2.2
    for error in (0.02, 0.2):
        least = detectable(limits.energy, error, z)
        estimates = least + error * np.random.default_rng(0).standard_normal(20_000)
        share = np.mean([departs("energy", Effect(x, error), limits, z) for x in estimates])
        assert share == pytest.approx(0.95, abs=0.01)


def test_comparisons_that_chance_could_carry_over_share_the_rate() -> None:
    limits = LongRunLimits()
    guarded = {name: Effect(0.0, limits.of(name) / 4) for name in SUMMARIES}
    open_ = {name: Effect(0.0, limits.of(name)) for name in SUMMARIES}

    def rate(*effects: dict[str, Effect]) -> float:
        return 2 * (1 - NormalDist().cdf(errors_asked(effects, limits, 10**6)))

    assert rate(guarded, guarded) == pytest.approx(0.05, rel=1e-4)
    assert rate(open_, open_) == pytest.approx(0.05 / 8, rel=1e-4)
    one = {**guarded, "spread": open_["spread"]}
    assert rate(one, one) == pytest.approx(0.05 / 2, rel=1e-4)
    # Student's t of three degrees of freedom, from a printed table
    assert errors_asked([guarded], limits, 4) == pytest.approx(3.182, abs=1e-3)


def test_false_alarms_stay_under_the_nominal_rate_where_every_comparison_is_uncertain() -> None:
    """Few chains that hardly move, so that no limit guards: eight comparisons share 5 %."""
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(300):
        starts = {}
        for name in ("bank", "data"):
            x = np.repeat(readings(int(rng.integers(2**31)), 40, 1), 12, axis=2)
            starts[name] = x + 1e-3 * rng.standard_normal(x.shape)
        alarms += decide(starts, REFERENCE, 100).outcome == "departs"
    assert 0 < alarms / 300 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_effect_of_a_spread_is_a_ratio_with_the_error_of_one() -> None:
    rng = np.random.default_rng(0)
    sizes, errors = [], []
    for _ in range(300):
        late = 1.5 * rng.chisquare(2, (50, 10))
        found = effect("spread", late, rng.chisquare(2, 400))
        sizes.append(found.size)
        errors.append(found.error)
    assert np.mean(sizes) == pytest.approx(0.5, abs=0.02)
    assert np.mean(errors) == pytest.approx(np.std(sizes), rel=0.15)


def test_effect_of_an_energy_is_in_sd_of_the_samples() -> None:
    reference = np.array([1.0, 3.0, 5.0, 7.0])
    found = effect("energy", np.array([[6.0], [8.0]]), reference)
    sd = reference.std(ddof=1)
    assert found.size == pytest.approx(3 / sd)
    assert found.error == pytest.approx(math.hypot(1.0, sd / 2) / sd)


def test_drift_is_a_slope_times_the_length() -> None:
    trace = np.array([[0.0, 1, 2, 3], [0.0, 3, 6, 9]])
    assert drift(trace) == Effect(6.0, pytest.approx(3.0))
    assert math.isnan(drift(trace[:, :1]).size)
    assert math.isnan(drift(np.full((2, 5), np.nan)).size)
    assert math.isnan(drift(trace[:1]).error)


def test_what_stands_still() -> None:
    assert frozen_share(np.ones((4, 3, 1))) == 0
    assert frozen_share(np.ones((4, 3, 2))) == 1
    assert frozen_share(np.full((4, 3, 5), np.inf)) == 0
    one = np.ones((2, 4, 3))
    one[1, 0, 2] = 2
    assert frozen_share(one) == 0.75


def test_limits_can_be_set() -> None:
    traces = {"bank": readings(0, energy=0.12), "data": readings(1)}
    found = [
        decide(traces, REFERENCE, 9, LongRunLimits(energy=each)).outcome for each in (0.2, 0.05)
    ]
    assert found == ["holds", "departs"]


def test_one_dimension_has_one_coordinate() -> None:
    traces = {"bank": readings(0)[:3], "data": readings(1)[:3]}
    found = decide(traces, REFERENCE[:3], 9, names=SUMMARIES[:3])
    assert found.outcome == "holds"
    assert list(found.effects["bank"]) == list(SUMMARIES[:3])


def test_a_record_needs_only_what_it_always_had() -> None:
    old: tuple[Any, ...] = ("holds", 0.1, 0.05, {"bank": 0.1}, 20, "because")
    assert LongRun(*old).noise_arrived is None
    assert LongRun(*old) == replace(LongRun(*old))
    assert LongRun.not_run("no steps").blind_spots == ""
    assert LongRun.not_run("no steps").outcome == "not_run"


@pytest.mark.parametrize(("dimensions", "energy"), [(1, 0.0354), (2, 0.05), (8, 0.1), (64, 0.2)])
def test_in_few_dimensions_an_error_of_variance_is_the_limit(
    dimensions: int, energy: float
) -> None:
    limits = LongRunLimits().in_dimensions(dimensions)
    assert limits.energy == pytest.approx(energy, abs=1e-4)
    assert replace(limits, energy=0.2) == LongRunLimits()
