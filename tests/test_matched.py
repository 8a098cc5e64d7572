"""r* and its floor against closed forms."""

from __future__ import annotations

import gc
import math

import pytest
import torch
from torch import Tensor

from ebm_core.data import Gmm, Rings, Samples, load_data
from ebm_core.matched import (
    _geometries,
    gaussian_floor,
    matched_gradient,
    plane_grid,
    spread_correction,
)
from ebm_core.sections import DigitsData

RAYLEIGH = math.sqrt(math.pi / 2)  # mean norm of a standard normal in the plane, 1.2533


def needed(s: float, epsilon: float) -> float:
    """rms gradient of unadjusted chains whose law has sd s along a Gaussian direction."""
    return s - math.sqrt(s**2 - epsilon**2)


@pytest.mark.parametrize("epsilon", [0.01, 0.06, 0.125, 0.15])
@pytest.mark.parametrize("data_epsilon", [0.0, 0.3])
def test_one_gaussian_in_the_plane(epsilon: float, data_epsilon: float) -> None:
    found = matched_gradient(Gmm(modes=1, radius=0.0, sd=0.15), epsilon, data_epsilon)
    exact = needed(math.hypot(0.15, data_epsilon), epsilon)
    assert found.r_star == pytest.approx(RAYLEIGH * exact, rel=1e-4)
    assert found.floor == pytest.approx(math.sqrt(2) * exact, rel=1e-6)
    # leading order alone would be found out
    leading = RAYLEIGH * epsilon**2 / 2 / math.hypot(0.15, data_epsilon)
    assert found.r_star != pytest.approx(leading, rel=1e-4) or epsilon < 0.05


def test_modes_far_apart_demand_what_one_mode_does() -> None:
    apart = matched_gradient(Gmm(modes=4, radius=3.0, sd=0.15), 0.1, 0.0)
    one = matched_gradient(Gmm(modes=1, radius=0.0, sd=0.15), 0.1, 0.0)
    assert apart.r_star == pytest.approx(one.r_star, rel=1e-3)
    close = matched_gradient(Gmm(modes=8, radius=0.3, sd=0.15), 0.1, 0.0)
    assert close.r_star < 0.9 * one.r_star


def test_floor_of_spread_modes_follows_their_covariance() -> None:
    found = matched_gradient(Gmm(modes=8, radius=1.0, sd=0.15), 0.1, 0.0)
    s = math.sqrt(1.0 / 2 + 0.15**2)
    assert found.floor == pytest.approx(math.sqrt(2) * needed(s, 0.1), rel=1e-4)


def test_the_floor_does_not_depend_on_where_the_data_lie() -> None:
    here = matched_gradient(Gmm(modes=1, radius=0.0, sd=0.15), 0.1, 0.0)
    there = matched_gradient(Gmm(modes=1, radius=1.0, sd=0.15), 0.1, 0.0)
    assert there.floor == pytest.approx(here.floor, rel=1e-3)
    assert there.r_star == pytest.approx(here.r_star, rel=1e-3)


@pytest.mark.parametrize("law", [Gmm(), Rings()], ids=["gmm", "rings"])
def test_laws_are_integrated_on_their_own_device(law: Gmm | Rings) -> None:
    # that device has shapes and no numbers: all is done there but to read the answer
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta tensors"):
        matched_gradient(law.to(torch.device("meta")), 0.1, 0.0)


def test_a_thin_ring_pushes_along_its_radius_only() -> None:
    found = matched_gradient(Rings(rings=1, sd=0.05), 0.03, 0.0)
    half_normal = math.sqrt(2 / math.pi)
    assert found.r_star == pytest.approx(half_normal * needed(0.05, 0.03), rel=0.02)


@pytest.mark.parametrize("ratio", [1.0, 2.0, 4.0])
def test_isolated_samples_in_many_dimensions(ratio: float) -> None:
    rng = torch.Generator().manual_seed(0)
    samples = Samples(torch.randn(40, 200, generator=rng) * 10)
    epsilon = 0.05
    found = matched_gradient(samples, epsilon, ratio * epsilon)
    # the norm of 200 normals has mean sqrt(200) (1 - 1/800)
    exact = epsilon * math.sqrt(200) * (1 - 1 / 800) * (ratio - math.sqrt(ratio**2 - 1))
    assert found.r_star == pytest.approx(exact, rel=4 / math.sqrt(2 * 200 * 1024))


def test_overlapping_samples_of_a_gaussian_demand_what_the_gaussian_does() -> None:
    rng = torch.Generator().manual_seed(0)
    samples = Samples(torch.randn(4000, 2, generator=rng) * 0.5)
    found = matched_gradient(samples, 0.2, 0.4)
    exact = RAYLEIGH * needed(math.hypot(0.5, 0.4), 0.2)
    assert found.r_star == pytest.approx(exact, rel=0.08)
    isolated = RAYLEIGH * needed(0.4, 0.2)
    assert found.r_star < 0.75 * isolated


def test_floor_of_samples_is_that_of_their_principal_axes() -> None:
    rng = torch.Generator().manual_seed(1)
    sds = torch.tensor([0.3, 1.0, 2.0])
    x = torch.randn(5000, 3, generator=rng)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    turned = (x * sds) @ torch.linalg.qr(torch.randn(3, 3, generator=rng))[0]
    found = matched_gradient(Samples(turned), 0.2, 0.1)
    exact = math.sqrt(sum(needed(math.hypot(s, 0.1), 0.2) ** 2 for s in sds.tolist()))
    assert found.floor == pytest.approx(exact, rel=1e-3)


def test_data_narrower_than_the_noise_cannot_be_matched() -> None:
    x = torch.cat([torch.linspace(-1, 1, 50)[:, None], torch.zeros(50, 1)], dim=1)
    assert matched_gradient(Samples(x), 0.2, 0.1).floor == math.inf
    assert math.isfinite(matched_gradient(Samples(x), 0.2, 0.2).floor)
    assert matched_gradient(Gmm(modes=1, radius=0.0, sd=0.15), 0.151, 0.0).floor == math.inf


def test_digits_at_small_noise_are_isolated() -> None:
    found = matched_gradient(load_data(DigitsData()), 0.02, 0.04)
    assert found.r_star / (0.02 * 8) == pytest.approx(2 - math.sqrt(3), rel=0.01)
    # many pixels of the digits never change: the floor is near that of 64 isolated modes at most
    assert 0 < found.floor < found.r_star


def test_blocks_do_not_change_the_answer(monkeypatch) -> None:
    digits = Samples(load_data(DigitsData()).x[:300])
    whole = matched_gradient(digits, 0.3, 0.6)
    monkeypatch.setattr("ebm_core.matched._DATA_BLOCK", 70)
    monkeypatch.setattr("ebm_core.matched._QUERY_BLOCK", 100)
    again = Samples(digits.x.clone())
    assert matched_gradient(again, 0.3, 0.6) == pytest.approx(whole, rel=1e-6)
    monkeypatch.setattr("ebm_core.matched._LARGEST_MATRIX", 40)
    fewer = Samples(digits.x.clone())
    assert matched_gradient(fewer, 0.3, 0.6).floor == pytest.approx(whole.floor, rel=0.1)


@pytest.mark.parametrize("dimensions", [2, 300])
def test_some_of_very_many_samples_stand_for_all(
    monkeypatch: pytest.MonkeyPatch, dimensions: int
) -> None:
    rng = torch.Generator().manual_seed(1)
    # sorted: what comes first is not like what comes last
    x = torch.randn(6_000, dimensions, generator=rng)
    x[:, 0] = x[:, 0].sort().values
    whole = matched_gradient(Samples(x), 0.1, 0.5)
    monkeypatch.setattr("ebm_core.matched._PAIRS", 2**20)
    samples = Samples(x.clone())
    some = matched_gradient(samples, 0.1, 0.5)
    held = _geometries[samples.x]
    assert held.squared.numel() <= 2**20
    assert some.r_star == pytest.approx(whole.r_star, rel=0.05)
    assert some.floor == whole.floor


def mixture(x: Tensor, epsilon: float, sd: float) -> float:
    """Leading order of r* over the same draws, by autograd and all at once."""
    rng = torch.Generator().manual_seed(0)
    which = torch.randint(len(x), (1024,), generator=rng)
    noise = torch.randn(1024, x.shape[1], generator=rng, dtype=torch.float64)
    y = (x[which].double() + sd * noise).requires_grad_()
    log_q = torch.logsumexp(-torch.cdist(y, x.double()).square() / (2 * sd**2), dim=1)
    (score,) = torch.autograd.grad(log_q.sum(), y)
    return float(score.norm(dim=1).mean()) * epsilon**2 / 2


@pytest.mark.parametrize("sd", [0.05, 0.5, 3.0])
def test_the_score_of_samples_is_that_of_their_mixture(sd: float) -> None:
    """At a small epsilon nothing is left but the score; near, overlapping and blurred samples."""
    digits = load_data(DigitsData()).x.flatten(1)[:400]
    epsilon = sd / 1000
    found = matched_gradient(Samples(digits), epsilon, sd).r_star
    assert found == pytest.approx(mixture(digits, epsilon, sd), rel=1e-5)


def test_one_set_is_looked_at_once(monkeypatch) -> None:
    samples = Samples(torch.randn(50, 300, generator=torch.Generator().manual_seed(2)))
    alone = [matched_gradient(Samples(samples.x.clone()), e, 2 * e) for e in (0.1, 0.2)]
    assert matched_gradient(samples, 0.1, 0.2) == alone[0]
    monkeypatch.delattr("ebm_core.matched._geometry")
    assert matched_gradient(samples, 0.2, 0.4) == alone[1]
    with pytest.raises(NameError, match="_geometry"):
        matched_gradient(Samples(samples.x + 1), 0.2, 0.4)


def test_what_is_kept_of_a_set_goes_with_it() -> None:
    before = len(_geometries)
    samples = Samples(torch.randn(50, 3, generator=torch.Generator().manual_seed(3)))
    matched_gradient(samples, 0.1, 0.2)
    assert len(_geometries) == before + 1
    del samples
    gc.collect()
    assert len(_geometries) == before


def test_a_fine_grid_in_the_plane_is_integrated_in_blocks(monkeypatch) -> None:
    whole = matched_gradient(Rings(), 0.1, 0.1)
    monkeypatch.setattr("ebm_core.matched._GRID_BLOCK", 999)
    assert matched_gradient(Rings(), 0.1, 0.1) == pytest.approx(whole, rel=1e-12)


def test_the_correction_is_exact_and_smooth() -> None:
    y = torch.tensor([-3.0, 1e-12, 0.5, 1.0, 7.0], dtype=torch.float64)
    found = spread_correction(y)
    assert found[0] == pytest.approx(2 / 3)
    assert found[1] == pytest.approx(1)
    assert found[2] == pytest.approx(4 * (1 - math.sqrt(0.5)))
    assert found[3] == found[4] == 2


def test_floor_of_variances() -> None:
    assert gaussian_floor(torch.tensor([1.0, 1.0]), 1.0) == pytest.approx(math.sqrt(2))
    assert gaussian_floor(torch.tensor([0.99, 5.0]), 1.0) == math.inf


def test_plane_grid_covers_the_square_evenly() -> None:
    grid = plane_grid(1.0, 4)
    assert grid.shape == (16, 2)
    assert grid[0].tolist() == [-0.75, -0.75]
    assert grid[1].tolist() == [-0.25, -0.75]
    assert torch.equal(grid.sum(0), torch.zeros(2, dtype=torch.float64))


def test_what_has_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`epsilon > 0` must hold, but got epsilon=0"):
        matched_gradient(Gmm(), 0.0, 0.1)
    with pytest.raises(ValueError, match=r"`data_epsilon > 0` must hold for a finite data set"):
        matched_gradient(Samples(torch.zeros(3, 2)), 0.1, 0.0)
