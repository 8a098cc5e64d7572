"""Long runs against energies whose steady state is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ebm_core import train
from ebm_core.config import make_config
from ebm_core.data import Gmm
from ebm_core.evaluate import (
    LongRunLimits,
    check,
    long_run,
    short_run_samples,
)
from ebm_core.langevin import stationary_variance

EPSILON = 0.25
GAP = ("discretization_gap", "discretization_error", "acceptance")


class Quadratic(nn.Module):
    """F of a Gaussian of sd `sd` at temperature epsilon**2 / 2."""

    def __init__(self, sd: float, epsilon: float) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(epsilon**2 / (2 * sd**2)))

    def forward(self, x: Tensor) -> Tensor:
        return self.stiffness * x.square().sum(-1) / 2


def normal(n: int, sd: float, seed: int) -> Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)) * sd


def test_chains_that_start_in_the_steady_state_hold() -> None:
    sd = math.sqrt(stationary_variance(1.0, EPSILON))
    found = [
        long_run(
            Quadratic(1.0, EPSILON), normal(1024, sd, s), normal(256, sd, s + 99), EPSILON, 300, s
        )
        for s in range(5)
    ]
    assert [each.outcome for each in found] == ["holds"] * 5
    assert all(abs(each.departure) < 4 * each.standard_error for each in found)
    assert all(set(each.departures) == {"bank", "data"} for each in found)


@pytest.mark.parametrize(("factor", "sign"), [(0.6, 1), (1.5, -1)])
def test_samples_that_are_not_the_models_own_depart(factor: float, sign: int) -> None:
    start = normal(1024, factor, 0)
    found = long_run(Quadratic(1.0, EPSILON), start, normal(256, factor, 1), EPSILON, 300)
    assert found.outcome == "departs"
    assert math.copysign(1, found.departure) == sign
    # energies of a 4-dimensional Gaussian: mean 2 v, sd sqrt(2) v for variance v
    exact = 2 * (1 / factor**2 - 1) / math.sqrt(2)
    assert found.departure == pytest.approx(exact, rel=0.2)


def test_data_that_the_model_does_not_hold_are_found_beside_samples_that_do() -> None:
    sd = math.sqrt(stationary_variance(1.0, EPSILON))
    far = normal(256, sd, 3) + 4
    short = long_run(Quadratic(1.0, EPSILON), normal(1024, sd, 2), far, EPSILON, 4)
    assert short.outcome == "departs"
    assert abs(short.departures["bank"]) < 0.2 < short.departures["data"]
    assert short.reason.startswith("chains from data leave the short-run samples")
    long = long_run(Quadratic(1.0, EPSILON), normal(1024, sd, 2), far, EPSILON, 400)
    assert long.outcome == "holds"


def test_a_chain_that_leaves_the_finite_departs() -> None:
    # at sd under epsilon / 2 unadjusted chains explode
    found = long_run(Quadratic(0.1, EPSILON), normal(64, 1, 0), normal(64, 1, 1), EPSILON, 300)
    assert found.outcome == "departs"
    assert found.departure == math.inf


def test_samples_without_spread_are_no_reference() -> None:
    found = long_run(Quadratic(1.0, EPSILON), torch.ones(64, 4), normal(64, 1, 0), EPSILON, 10)
    assert found.outcome == "departs"


def test_significance_and_size_are_both_asked_for() -> None:
    start = normal(1024, 0.9, 0)
    arguments = (Quadratic(1.0, EPSILON), start, normal(256, 0.9, 1), EPSILON, 300)
    found = long_run(*arguments)
    assert found.outcome == "departs"
    lax = LongRunLimits(energy=abs(found.departure) * 1.5, variance=9.0, spread=0.5)
    assert long_run(*arguments, limits=lax).outcome == "holds"
    sure = LongRunLimits(false_alarms=1e-15)
    few = long_run(*arguments, limits=sure, chains=4)
    assert few.outcome == "holds"
    assert abs(few.departure) > sure.energy


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="two samples of each kind"):
        long_run(Quadratic(1.0, 0.1), normal(1, 1, 0), normal(5, 1, 0), 0.1, 10)


class TwoModes(nn.Module):
    """F of two Gaussians of sd 1 at -apart and +apart along the first axis."""

    def __init__(self, apart: float) -> None:
        super().__init__()
        self.apart = nn.Parameter(torch.tensor(apart))

    def forward(self, x: Tensor) -> Tensor:
        squares = [
            x[:, 1:].square().sum(1) + (x[:, 0] + sign * self.apart).square() for sign in (-1, 1)
        ]
        return -(EPSILON**2 / 2) * torch.logsumexp(-torch.stack(squares) / 2, dim=0)


def in_modes(share: float, n: int, seed: int, apart: float) -> Tensor:
    """Steady state of unadjusted chains in two separate modes, a share of them in the right."""
    x = normal(n, math.sqrt(stationary_variance(1.0, EPSILON)), seed)
    x[:, 0] += torch.where(torch.arange(n) % 100 < 100 * share, apart, -apart)
    return x


@pytest.mark.parametrize(
    ("bank", "data", "expected"),
    [
        (0.0, 0.0, "holds"),  # nothing tells of the other mode: what the check cannot see
        (0.5, 0.5, "holds"),
        (0.0, 0.5, "departs"),
        (0.0, 1.0, "departs"),
        (0.5, 1.0, "departs"),
        (0.5, 0.8, "holds"),  # weights of modes may wander, and are reported
    ],
)
def test_chains_in_the_wrong_one_of_two_modes_are_found(
    bank: float, data: float, expected: str
) -> None:
    starts = (in_modes(bank, 1024, 0, 6.0), in_modes(data, 256, 1, 6.0))
    found = long_run(TwoModes(6.0), *starts, EPSILON, 400)
    assert found.outcome == expected
    assert abs(found.departure) < 0.2 or found.summary != "energy"
    if expected == "departs":
        assert found.reason.startswith("chains from data leave")


def test_modes_that_chains_cross_between_are_no_wrong_ones() -> None:
    near = (in_modes(0.5, 1024, 0, 0.5), in_modes(1.0, 256, 1, 0.5))
    found = long_run(TwoModes(0.5), *near, EPSILON, 400, limits=LongRunLimits(spread=0.2))
    assert found.outcome == "holds"


def test_the_right_mode_alone_has_not_mixed_with_the_other() -> None:
    starts = (in_modes(0.5, 1024, 0, 6.0), in_modes(0.5, 256, 1, 6.0))
    found = long_run(TwoModes(6.0), *starts, EPSILON, 400)
    assert found.r_hat > 1.5
    assert found.slowest in ("spread", "first coordinate")
    assert "do not mix along" in found.blind_spots


def test_states_that_rounding_holds_fast_are_frozen() -> None:
    """At 1e8 a float32 takes no step of a quarter."""

    class Far(Quadratic):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x - 1e8)

    def at(centre: float) -> tuple[Tensor, Tensor]:
        return normal(512, 16, 0) + centre, normal(256, 16, 1) + centre

    still = long_run(Far(16.0, EPSILON), *at(1e8), EPSILON, 40)
    assert still.outcome == "departs"
    assert "stand still" in still.reason
    assert still.frozen > 0.99
    moving = long_run(Quadratic(16.0, EPSILON), *at(0.0), EPSILON, 40)
    assert (moving.outcome, moving.frozen) == ("holds", 0.0)


def test_chains_diffuse_away_on_a_flat_energy() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.level = nn.Parameter(torch.tensor(2.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.level + 0 * x.sum(1)

    found = long_run(Flat(), normal(1024, 1, 0), normal(256, 1, 1), EPSILON, 200)
    assert (found.outcome, found.summary) == ("departs", "spread")
    # by epsilon**2 a step and direction, over the late half on average three quarters of them
    exact = EPSILON**2 * 200 * 0.75
    assert found.effects["bank"]["spread"].size == pytest.approx(exact, rel=0.1)
    assert found.departures == {"bank": 0.0, "data": 0.0}


def test_noise_arrives_where_steps_suffice() -> None:
    sd = math.sqrt(stationary_variance(1.0, EPSILON))
    starts = (normal(1024, sd, 0), normal(256, sd, 1))
    far = normal(64, 1, 2) + 9
    short, long = (
        long_run(Quadratic(1.0, EPSILON), *starts, EPSILON, steps, noise=far)
        for steps in (10, 600)
    )
    assert (short.outcome, short.noise_arrived) == ("holds", False)
    assert (long.outcome, long.noise_arrived) == ("holds", True)
    assert short.noise_departure > 10 > abs(long.noise_departure)
    assert short.departures.keys() == {"bank", "data"}


def test_the_budget_says_how_far_a_chain_reaches() -> None:
    samples = normal(1024, 1, 0)
    found = long_run(Quadratic(1.0, EPSILON), samples, samples[:256], EPSILON, 400)
    assert found.reach == pytest.approx(EPSILON * 20 / 1.0, rel=0.1)
    assert f"{found.reach:.2g} sd of the samples" in found.blind_spots


def test_the_discretization_gap_of_a_gaussian_is_known() -> None:
    epsilon, sd = 1.0, 1.0
    law = stationary_variance(sd**2, epsilon)
    starts = (normal(2048, math.sqrt(law), 0), normal(256, math.sqrt(law), 1))
    found = long_run(Quadratic(sd, epsilon), *starts, epsilon, 200, chains=256, adjusted_steps=200)
    # U has mean N v / 2 and sd sqrt(N / 2) v for variance v, and the samples have v = law
    exact = 4 * (law - sd**2) / 2 / (math.sqrt(2) * law)
    assert found.discretization_gap == pytest.approx(exact, abs=4 * found.discretization_error)
    assert found.discretization_gap > 4 * found.discretization_error
    assert 0.5 < found.acceptance < 1
    none = long_run(Quadratic(sd, epsilon), *starts, epsilon, 20)
    assert math.isnan(none.discretization_gap)
    fine = long_run(Quadratic(1.0, 0.05), *starts, 0.05, 20, adjusted_steps=20)
    assert fine.acceptance > 0.99


def test_samples_that_are_not_finite_depart() -> None:
    lost = normal(64, 1, 0)
    lost[3] = math.inf
    found = long_run(Quadratic(1.0, EPSILON), lost, normal(64, 1, 1), EPSILON, 10)
    assert (found.outcome, found.departure) == ("departs", math.inf)


CONFIG = make_config(
    {
        "data": "gmm",
        "network": {"name": "toy", "widths": [16]},
        "epsilon": 0.1,
        "eps_data_ratio": 1.0,
        "gamma_0": 0.02,
        "langevin_steps": 5,
        "batch_size": 20,
        "bank_size": 40,
        "updates": 60,
        "window": 20,
        "device": "cpu",
    }
)


def test_a_training_is_checked_and_its_model_left_alone() -> None:
    result = train(CONFIG)
    before = [p.detach().clone() for p in result.energy.parameters()]
    found = check(result, steps=20, chains=16)
    assert found.outcome in ("holds", "departs")
    assert found.steps == 20
    assert check(result, steps=20, chains=16) == found
    seeded = CONFIG.with_(seed=5)
    assert check(replace(result, config=seeded), 20, 16) == check(result, 20, 16, seed=5) != found
    assert all(torch.equal(a, b) for a, b in zip(before, result.energy.parameters(), strict=True))


def test_there_is_nothing_to_check_without_steps_or_after_divergence() -> None:
    assert check(train(CONFIG), steps=0).outcome == "not_run"
    lost = train(CONFIG.with_(gamma_0=1e4))
    assert check(lost, steps=10).reason == "learning diverged"


@pytest.mark.parametrize(
    ("changes", "low", "high"),
    [
        ({"bank_start": "uniform", "start_scale": 0.5}, 0.2, 0.5),
        ({"bank_start": "gaussian", "start_scale": 2.0}, 1.0, 9.0),
        ({"chain_start": "uniform", "start_scale": 3.0}, 2.0, 3.0),
        ({"bank_start": "data"}, 0.5, 1.0),
    ],
)
def test_noise_starts_as_in_training(
    changes: dict[str, object], low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}
    result = train(CONFIG.with_(**changes))
    monkeypatch.setattr("ebm_core.evaluate.long_run", lambda *a, **options: seen.update(options))
    check(result, steps=20, chains=256)
    assert seen["noise"].shape == (64, 2)
    assert low < float(seen["noise"].abs().max()) <= high


def test_a_check_adjusts_chains_where_asked_to() -> None:
    result = train(CONFIG)
    found = check(result, steps=20, chains=16, adjusted_steps=20)
    assert 0 < found.acceptance <= 1
    assert math.isfinite(found.discretization_gap)
    assert replace(found, **dict.fromkeys(GAP, math.nan)) == check(result, steps=20, chains=16)


def test_the_reference_costs_no_more_than_the_chains_from_one_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []
    monkeypatch.setattr("ebm_core.evaluate.long_run", lambda _, x, *a, **o: sizes.append(len(x)))
    result = train(CONFIG.with_(chain_start="uniform"))  # 5 Langevin steps
    for steps in (20, 100, 2_000):
        check(result, steps=steps, chains=100)
    assert sizes == [1024, 2000, 4096]


@pytest.mark.parametrize("start", ["persistent", "uniform", "data"])
def test_short_run_samples_are_made_as_in_training(start: str) -> None:
    result = train(CONFIG.with_(chain_start=start))
    samples = short_run_samples(result, 30, Gmm())
    assert samples.shape == (30, 2)
    assert not torch.equal(samples, short_run_samples(result, 30, Gmm(), seed=1))
