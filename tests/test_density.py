"""Densities in the plane, and samples against them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ebm_core.data import Gmm, Rings
from ebm_core.density import density_divergence, density_grid, sample_divergence


class Law(nn.Module):
    """F whose density is that of a plane law with component sd `sd`, exactly."""

    def __init__(self, law: Gmm | Rings, sd: float, epsilon: float) -> None:
        super().__init__()
        self.law, self.sd, self.epsilon = law, sd, epsilon
        self.shift = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.shift - self.epsilon**2 / 2 * self.law.log_density(x, self.sd).to(x.dtype)


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


def drawn(law: Gmm | Rings, n: int, seed: int = 0) -> Tensor:
    return law.draw(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("law", [Gmm(), Rings()], ids=["gmm", "rings"])
def test_samples_of_the_law_are_at_the_floor(law: Gmm | Rings) -> None:
    grid = density_grid(Law(law, 0.15, 0.06), law, 0.06)
    found = [sample_divergence(drawn(law, 4096, s), grid.log_q, grid.extent) for s in range(5)]
    assert all(each.kl == pytest.approx(each.kl_floor, rel=0.2) for each in found)
    assert all(each.tv == pytest.approx(each.tv_floor, rel=0.15) for each in found)


def test_the_floor_falls_with_the_number_of_samples_as_known() -> None:
    law = Gmm()
    grid = density_grid(Law(law, 0.15, 0.06), law, 0.06)
    few, many = (
        sample_divergence(drawn(law, n), grid.log_q, grid.extent) for n in (4_096, 65_536)
    )
    # a mean of (cells - 1) / 2n for n far over the number of cells, sqrt(1/n) for the variation
    assert few.kl_floor / many.kl_floor == pytest.approx(16, rel=0.3)
    assert few.tv_floor / many.tv_floor == pytest.approx(4, rel=0.15)


def test_samples_of_another_law_have_its_divergence() -> None:
    """Two wide Gaussians, of which cells hide little."""
    law = Gmm(modes=1, radius=0.0, sd=0.5)
    grid = density_grid(Law(law, 0.5, 0.1), law, 0.1)
    samples = drawn(Gmm(modes=1, radius=0.0, sd=0.4), 50_000)
    found = sample_divergence(samples, grid.log_q, grid.extent)
    ratio = 0.4**2 / 0.5**2
    assert found.kl - found.kl_floor == pytest.approx(ratio - 1 - math.log(ratio), rel=0.08)
    # |x|^2 / 2 sd^2 is exponential, and the densities cross once
    crossing = math.log(1 / ratio) / (1 / ratio - 1)
    exact = math.exp(-crossing) - math.exp(-crossing / ratio)
    assert found.tv == pytest.approx(exact, rel=0.05)


def test_samples_outside_of_the_grid_count() -> None:
    law = Gmm()
    grid = density_grid(Law(law, 0.15, 0.06), law, 0.06)
    samples = drawn(law, 4096)
    samples[:1024] = 50.0
    found = sample_divergence(samples, grid.log_q, grid.extent)
    assert found.tv > 0.25
    assert 5 < found.kl < math.inf
    samples[0, 0] = math.nan
    lost = sample_divergence(samples, grid.log_q, grid.extent)
    assert (lost.kl, lost.tv) == (math.inf, 1.0)


def test_a_missing_mode_is_seen_in_samples() -> None:
    law = Gmm()
    samples = drawn(law, 8192)
    kept = samples[~((samples[:, 0] > 0.5) & (samples[:, 1].abs() < 0.5))]
    energy = Law(law, 0.15, 0.06)
    found = density_divergence(energy, law, 0.06, short_run=kept)
    assert found.short_run is not None
    assert found.short_run_model is not None
    # an eighth of the data is not there: KL(samples || q) = log(8 / 7), TV = 1 / 8
    assert found.short_run.kl - found.short_run.kl_floor == pytest.approx(math.log(8 / 7), rel=0.1)
    assert found.short_run.tv > 0.125
    assert found.short_run_model.kl == pytest.approx(found.short_run.kl, rel=1e-3)
    assert density_divergence(energy, law, 0.06).short_run is None


def test_samples_are_counted_where_they_are() -> None:
    """A law off the diagonal: rows and columns are not exchanged."""
    law = Gmm(modes=2, radius=1.0)
    grid = density_grid(Law(law, 0.15, 0.06), law, 0.06, points=150)
    samples = drawn(law, 8192)
    there = sample_divergence(samples, grid.log_q, grid.extent)
    turned = sample_divergence(samples.flip(1), grid.log_q, grid.extent)
    assert there.kl < 2 * there.kl_floor
    assert turned.tv > 0.9
