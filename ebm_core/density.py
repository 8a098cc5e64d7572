"""Densities in the plane: of the model, of the data, and of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ebm_core.data import PlaneLaw
from ebm_core.langevin import matching_variance
from ebm_core.matched import plane_grid

# Cells of one side of the grid that samples are counted in: 0.7 sd of a mode wide for gmm, 1.6 sd
# for rings. Smaller ones would hold too few of some thousand samples.
_CELLS = 40

# Sets of samples of q that the floor of the estimate is averaged over.
_FLOOR_SETS = 20


@dataclass(frozen=True)
class DensityDivergence:
    """How far the model's density is from that of the noised data, in the plane.

    Attributes:
        kl: KL(q || p), nats.
        tv: Total variation, between 0 and 1.
        kl_floor: KL of the model whose *unadjusted* chains have the law of the data: what perfect
            learning leaves. NaN where the data have an sd under epsilon, so that there is none.
        tv_floor: Total variation of the same.
        short_run: Of short-run samples from q; None if there were no samples.
        short_run_model: Of the same samples from the model p.
    """

    kl: float
    tv: float
    kl_floor: float
    tv_floor: float
    short_run: SampleDivergence | None = None
    short_run_model: SampleDivergence | None = None


@dataclass(frozen=True)
class SampleDivergence:
    """How far samples are from a density, see `sample_divergence`.

    Attributes:
        kl: KL(samples || density), nats.
        tv: Total variation, between 0 and 1.
        kl_floor: What as many independent samples of the density itself give, on average.
        tv_floor: The same of the total variation.
    """

    kl: float
    tv: float
    kl_floor: float
    tv_floor: float


@dataclass(frozen=True)
class DensityGrid:
    """Log densities on a square grid, each of shape (points, points), y first.

    Attributes:
        extent: The grid covers [-extent, extent]^2; both densities are normalised over it.
        log_p: Of the model.
        log_q: Of the noised data.
        log_floor: Of the model whose unadjusted chains follow the data; None where there is none.
    """

    extent: float
    log_p: Tensor
    log_q: Tensor
    log_floor: Tensor | None


def density_grid(
    energy: nn.Module, law: PlaneLaw, epsilon: float, data_epsilon: float = 0.0, points: int = 200
) -> DensityGrid:
    """Model and data density over the plane.

    Args:
        energy: F, (n, 2) to (n,).
        law: Of the clean data.
        epsilon: Langevin noise sd; the model is exp(-F / T), T = epsilon**2 / 2.
        data_epsilon: sd of the noise on the data.
        points: Of one side of the grid.
    """
    sd = math.hypot(law.sd, data_epsilon)
    extent = law.extent + 6 * (sd - law.sd)
    reference = next(energy.parameters())
    x = plane_grid(extent, points, reference.device)
    with torch.no_grad():
        f = torch.cat(
            [energy(block.to(reference.dtype)) for block in torch.split(x, 8_192)]
        ).double()
    area = 2 * math.log(2 * extent / points)

    def normalised(log_density: Tensor) -> Tensor:
        return (log_density - log_density.logsumexp(0) - area).reshape(points, points).cpu()

    variance = matching_variance(sd**2, epsilon)
    floor = None if math.isnan(variance) else normalised(law.log_density(x, math.sqrt(variance)))
    log_p, log_q = normalised(-f / (epsilon**2 / 2)), normalised(law.log_density(x, sd))
    return DensityGrid(extent, log_p, log_q, floor)


def density_divergence(
    energy: nn.Module,
    law: PlaneLaw,
    epsilon: float,
    data_epsilon: float = 0.0,
    points: int = 200,
    short_run: Tensor | None = None,
) -> DensityDivergence:
    """KL and total variation between the data under (5A) and the model, see `density_grid`.

    Args:
        energy: F, (n, 2) to (n,).
        law: Of the clean data.
        epsilon: Langevin noise sd.
        data_epsilon: sd of the noise on the data.
        points: Of one side of the grid.
        short_run: Samples to compare with both densities, shape (n, 2).
    """
    grid = density_grid(energy, law, epsilon, data_epsilon, points)
    cell = (2 * grid.extent / points) ** 2

    def divergence(log_p: Tensor) -> tuple[float, float]:
        q = grid.log_q.exp()
        kl = (q * (grid.log_q - log_p)).sum() * cell
        return float(kl), float((q - log_p.exp()).abs().sum() * cell / 2)

    floor = (math.nan, math.nan) if grid.log_floor is None else divergence(grid.log_floor)
    samples = (
        (None, None)
        if short_run is None
        else tuple(
            sample_divergence(short_run, log, grid.extent) for log in (grid.log_q, grid.log_p)
        )
    )
    return DensityDivergence(*divergence(grid.log_p), *floor, *samples)


def sample_divergence(samples: Tensor, log_density: Tensor, extent: float) -> SampleDivergence:
    r"""KL and total variation of samples from a density, both counted in the same cells.

    .. math:: \sum_k \hat s_k \log (\hat s_k / q_k), \qquad \tfrac12 \sum_k |\hat s_k - q_k|

    over 40 x 40 cells of the grid, and one cell for all that lies outside. This direction of KL
    needs no samples where the density is: it is finite wherever the density is not 0. Cells hide
    what is finer than they are, which lowers both; chance raises both, KL by about (cells with
    samples - 1) / 2n, and so the same of samples of the density itself is given beside them.

    Args:
        samples: Shape (n, 2).
        log_density: Over the grid of `density_grid`, shape (points, points).
        extent: The grid covers [-extent, extent]^2.

    Returns:
        The divergences; infinite, and 1, if a sample is not finite.
    """
    log_mass = _cell_masses(log_density)
    mass = log_mass.exp()
    counts = _counts(samples, extent, len(log_density))
    rng = torch.Generator().manual_seed(0)  # the floor is a property of n and the density
    draws = torch.multinomial(mass, _FLOOR_SETS * len(samples), True, generator=rng)
    sets = [torch.bincount(each, minlength=len(mass)) for each in draws.chunk(_FLOOR_SETS)]
    floors = [_apart(each, log_mass) for each in sets]
    kl_floor, tv_floor = (sum(values) / len(values) for values in zip(*floors, strict=True))
    kl, tv = _apart(counts, log_mass) if counts is not None else (math.inf, 1.0)
    return SampleDivergence(kl, tv, kl_floor, tv_floor)


def _apart(counts: Tensor, log_mass: Tensor) -> tuple[float, float]:
    share = counts.double() / counts.sum()
    filled = share > 0
    kl = (share[filled] * (share[filled].log() - log_mass[filled])).sum()
    return float(kl), float((share - log_mass.exp()).abs().sum() / 2)


def _cell_masses(log_density: Tensor) -> Tensor:
    """Log mass of each cell, and last that of what is outside, shape (cells**2 + 1,).

    The grid's density sums to 1 over it; outside it decays, and is given the least mass that a
    cell has.
    """
    points = len(log_density)
    edges = torch.arange(points) * _CELLS // points
    index = (edges[:, None] * _CELLS + edges).flatten()
    largest = torch.full((_CELLS**2,), -math.inf, dtype=torch.float64)
    flat = log_density.flatten()
    largest.scatter_reduce_(0, index, flat, "amax")
    sums = torch.zeros_like(largest).index_add_(0, index, (flat - largest[index]).exp())
    log_mass = largest + sums.log()
    log_mass = torch.cat([log_mass, log_mass.min()[None]])
    return log_mass - log_mass.logsumexp(0)


def _counts(samples: Tensor, extent: float, points: int) -> Tensor | None:
    """Samples in each of `_cell_masses`, the same shape; None if one is not finite."""
    if not samples.isfinite().all():
        return None
    x = samples.double().cpu()
    inside = (x.abs() < extent).all(1)
    pixel = ((x + extent) / (2 * extent) * points).floor().clamp(0, points - 1).long()
    column, row = (pixel * _CELLS // points).T
    index = torch.where(inside, row * _CELLS + column, _CELLS**2)
    return torch.bincount(index, minlength=_CELLS**2 + 1)
