"""Long runs and densities against energies whose steady state is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ebm_core import train
from ebm_core.config import make_config
from ebm_core.data import Gmm, Rings
from ebm_core.evaluate import (
    LongRunLimits,
    check,
    density_divergence,
    density_grid,
    long_run,
    short_run_samples,
)
from ebm_core.langevin import stationary_variance

EPSILON = 0.25


class Quadratic(nn.Module):
    """F of a Gaussian of sd `sd` at temperature epsilon**2 / 2."""

    def __init__(self, sd: float, epsilon: float) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(epsilon**2 / (2 * sd**2)))

    def forward(self, x: Tensor) -> Tensor:
        return self.stiffness * x.square().sum(-1) / 2


class Law(nn.Module):
    """F whose density is that of a plane law with component sd `sd`, exactly."""

    def __init__(self, law: Gmm | Rings, sd: float, epsilon: float) -> None:
        super().__init__()
        self.law, self.sd, self.epsilon = law, sd, epsilon
        self.shift = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.shift - self.epsilon**2 / 2 * self.law.log_density(x, self.sd).to(x.dtype)


def normal(n: int, sd: float, seed: int) -> Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)) * sd


def test_chains_that_start_in_the_steady_state_hold() -> None:
    sd = math.sqrt(stationary_variance(1.0, EPSILON))
    found = [
        long_run(
            Quadratic(1.0, EPSILON), normal(1024, sd, s), normal(256, sd, s + 99), EPSILON, 300, s
        )
        for s in range(8)
    ]
    assert [each.outcome for each in found] == ["holds"] * 8
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
    start = normal(1024, 0.95, 0)
    arguments = (Quadratic(1.0, EPSILON), start, normal(256, 0.95, 1), EPSILON, 300)
    size = abs(long_run(*arguments).departure)
    assert long_run(*arguments, limits=LongRunLimits(effect=size * 1.1)).outcome == "holds"
    lax = LongRunLimits(effect=0.0, errors=1e3)
    assert long_run(*arguments, limits=lax).outcome == "holds"
    assert long_run(*arguments, limits=LongRunLimits(effect=0.0, errors=0.0)).outcome == "departs"


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="two samples of each kind"):
        long_run(Quadratic(1.0, 0.1), normal(1, 1, 0), normal(5, 1, 0), 0.1, 10)


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


@pytest.mark.parametrize("start", ["persistent", "uniform", "data"])
def test_short_run_samples_are_made_as_in_training(start: str) -> None:
    result = train(CONFIG.with_(chain_start=start))
    samples = short_run_samples(result, 30, Gmm())
    assert samples.shape == (30, 2)
    assert not torch.equal(samples, short_run_samples(result, 30, Gmm(), seed=1))


@pytest.mark.parametrize("law", [Gmm(), Rings()], ids=["gmm", "rings"])
def test_the_true_energy_has_no_divergence(law: Gmm | Rings) -> None:
    found = density_divergence(Law(law, 0.15, 0.06), law, 0.06)
    assert found.kl == pytest.approx(0, abs=1e-3)
    assert found.tv == pytest.approx(0, abs=0.01)
    wrong = density_divergence(Law(law, 0.3, 0.06), law, 0.06)
    assert wrong.kl > 0.25
    assert wrong.tv > 0.25


def test_the_data_noise_belongs_to_the_data() -> None:
    law = Gmm()
    exact = Law(law, math.hypot(0.15, 0.2), 0.1)
    assert density_divergence(exact, law, 0.1, data_epsilon=0.2).kl == pytest.approx(0, abs=1e-3)
    assert density_divergence(exact, law, 0.1, data_epsilon=0.0).kl > 0.1


def test_the_discretization_floor_of_one_gaussian() -> None:
    law = Gmm(modes=1, radius=0.0, sd=0.15)
    found = density_divergence(Law(law, 0.15, 0.125), law, 0.125, points=400)
    variance = (0.15**2 + math.sqrt(0.15**4 - 0.15**2 * 0.125**2)) / 2
    ratio = 0.15**2 / variance
    assert math.sqrt(variance) == pytest.approx(0.1322, abs=1e-4)
    assert found.kl_floor == pytest.approx(ratio - 1 - math.log(ratio), rel=1e-3)
    assert 0 < found.tv_floor < 0.2


def test_no_floor_where_the_data_are_narrower_than_the_noise() -> None:
    found = density_divergence(Law(Gmm(), 0.15, 0.2), Gmm(), 0.2)
    assert math.isnan(found.kl_floor)
    assert math.isnan(found.tv_floor)
    assert math.isfinite(found.kl)


def test_densities_are_normalised_over_the_grid() -> None:
    grid = density_grid(Law(Rings(), 0.15, 0.06), Rings(), 0.06, points=150)
    cell = (2 * grid.extent / 150) ** 2
    assert float(grid.log_p.exp().sum()) * cell == pytest.approx(1)
    assert float(grid.log_q.exp().sum()) * cell == pytest.approx(1)
    assert grid.log_floor is not None
    assert grid.log_p.shape == (150, 150)
