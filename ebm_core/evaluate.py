"""The expensive truth about a trained model: long chains, and in the plane its density."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ebm_core.chains import draw_slots, start_states
from ebm_core.data import Dataset, PlaneLaw, load_data, positive_samples
from ebm_core.engine import module_gradient
from ebm_core.langevin import Gradient, matching_variance, run_langevin
from ebm_core.matched import MatchedGradient, matched_gradient, plane_grid
from ebm_core.randomness import Stream, generator
from ebm_core.result import RunResult

__all__ = [
    "DensityDivergence",
    "LongRun",
    "LongRunLimits",
    "MatchedGradient",
    "check",
    "density_divergence",
    "density_grid",
    "long_run",
    "matched_gradient",
    "short_run_samples",
]

Outcome = Literal["holds", "departs", "not_run"]

# Energies are read this many times along a chain; the last quarter of them is compared.
_READINGS = 20
_REFERENCE_SAMPLES = 1024


@dataclass(frozen=True)
class LongRunLimits:
    """When a long chain has left the short-run samples.

    Attributes:
        effect: Size of a departure that matters, in sd of the energy of short-run samples. A fifth
            is what is conventionally called a small effect.
        errors: Standard errors that a departure must exceed besides, to be no accident.
    """

    effect: float = 0.2
    errors: float = 2.0


@dataclass(frozen=True)
class LongRun:
    """Whether long chains stay where the short-run samples are.

    Attributes:
        outcome: ``holds``, ``departs``, or ``not_run`` where there is no model to run.
        departure: The largest of `departures` by size: (mean U of long chains - mean U of
            short-run samples) / sd U of short-run samples. Infinite if a chain left the finite.
        standard_error: Of that departure, over chains.
        departures: The departure of the chains from each start, ``bank`` and ``data``.
        steps: Length of the chains.
        reason: One sentence.
    """

    outcome: Outcome
    departure: float
    standard_error: float
    departures: dict[str, float]
    steps: int
    reason: str

    @classmethod
    def not_run(cls, reason: str) -> LongRun:
        """The outcome where no chain was run."""
        return cls("not_run", math.nan, math.nan, {}, 0, reason)


def long_run(
    energy: nn.Module,
    short_run: Tensor,
    data: Tensor,
    epsilon: float,
    steps: int,
    seed: int = 0,
    gradient: Gradient | None = None,
    limits: LongRunLimits | None = None,
    chains: int = 256,
) -> LongRun:
    """Runs unadjusted chains at the training epsilon, and compares their energy with the start.

    Learning has converged where short-run samples follow the model's own steady state: then a long
    chain does not leave them. Chains start at short-run samples (``bank``) and at noised data.

    Args:
        energy: F, (n, *shape) to (n,).
        short_run: Samples as learning saw them, shape (n, *shape); the reference.
        data: Positive samples, shape (m, *shape).
        epsilon: Langevin noise sd of the training, units of x.
        steps: Length of the chains.
        seed: Of the chains' noise.
        gradient: Input gradient of F, if the caller has a faster one than autograd.
        limits: What counts as a departure.
        chains: At most this many chains from each start.

    Raises:
        ValueError: If there is no sample or steps is under 1.
    """
    if len(short_run) < 2 or len(data) < 2:
        raise ValueError("a long run needs two samples of each kind, to know their spread")
    limits = limits or LongRunLimits()
    temperature = epsilon**2 / 2
    with torch.no_grad():
        reference = energy(short_run).double() / temperature
    starts = {"bank": short_run[:chains], "data": data[:chains]}
    together = torch.cat(list(starts.values()))
    u = _late_energies(energy, together, epsilon, steps, seed, gradient)
    late = torch.split(u, [len(x) for x in starts.values()])
    found = {name: _departure(v, reference) for name, v in zip(starts, late, strict=True)}
    # a chain that left the finite is the largest departure there is
    name = max(found, key=lambda key: abs(found[key][0]))
    departure, error = found[name]
    small = abs(departure) <= limits.effect or abs(departure) <= limits.errors * error
    departs = not (math.isfinite(departure) and small)
    verb = "leave" if departs else "stay near"
    reason = (
        f"chains from {name} {verb} the short-run samples: energy {departure:+.2f} sd "
        f"(± {error:.2f}) after {steps} steps"
    )
    return LongRun(
        "departs" if departs else "holds",
        departure,
        error,
        {key: value for key, (value, _) in found.items()},
        steps,
        reason,
    )


def _late_energies(
    energy: nn.Module,
    x: Tensor,
    epsilon: float,
    steps: int,
    seed: int,
    gradient: Gradient | None,
) -> Tensor:
    """Mean energy in nats of each chain over the last quarter of its path, shape (n,)."""
    rng = generator(seed, Stream.EVALUATION, 1, x.device)
    readings = []
    edges = torch.linspace(0, steps, min(_READINGS, steps) + 1).round().int().tolist()
    for first, last in pairwise(edges):
        x, info = run_langevin(energy, x, epsilon, last - first, rng, gradient=gradient)
        readings.append(info.energies.double() / (epsilon**2 / 2))
    return torch.stack(readings[-max(1, len(readings) // 4) :]).mean(0)


def _departure(late: Tensor, reference: Tensor) -> tuple[float, float]:
    """Departure of chains from a reference, and its standard error; infinite if not finite."""
    spread = float(reference.std())
    shift = float(late.mean() - reference.mean())
    error = math.sqrt(float(late.var()) / len(late) + spread**2 / len(reference))
    if not math.isfinite(shift) or not spread > 0:
        return math.inf, math.nan
    return shift / spread, error / spread


def short_run_samples(result: RunResult, n: int, dataset: Dataset, seed: int = 0) -> Tensor:
    """Samples as the last update saw them: L steps under the final F, shape (n, *shape).

    Args:
        result: A finished training.
        n: How many; at most the size of the bank where there is one.
        dataset: Its data set, on the device of the chains.
        seed: Of the draw and of the chains' noise.
    """
    config, states = result.config, result.chains
    rng = generator(seed, Stream.EVALUATION, 2, states.device)
    if config.chain_start == "persistent":
        start = states[draw_slots(len(states), min(n, len(states)), rng)]
    else:
        kind, scale = config.chain_start, config.start_scale
        noise = config.data_epsilon
        start = start_states(kind, n, dataset, scale, rng, states.dtype, data_epsilon=noise)
    gradient = module_gradient(result.energy)
    steps = config.langevin_steps
    x, _ = run_langevin(result.energy, start, config.epsilon, steps, rng, gradient=gradient)
    return x


def check(
    result: RunResult,
    steps: int = 2_000,
    chains: int = 256,
    dataset: Dataset | None = None,
    seed: int | None = None,
) -> LongRun:
    """The long-run check of a training; `long_run` with all that it needs drawn.

    Args:
        result: The training.
        steps: Length of the chains; 0 runs none.
        chains: Number of chains from each start.
        dataset: The data set, if it is not the configured one.
        seed: Of every draw; that of the training if None.
    """
    if steps == 0:
        return LongRun.not_run("no steps were asked for")
    if result.assessment.verdict in ("diverged", "collapsed"):
        return LongRun.not_run(f"learning {result.assessment.verdict}")
    config, device = result.config, result.chains.device
    seed = config.seed if seed is None else seed
    dataset = (dataset or load_data(config.data)).to(device)
    short_run = short_run_samples(result, _REFERENCE_SAMPLES, dataset, seed)
    rng = generator(seed, Stream.EVALUATION, 3, device)
    data = positive_samples(dataset, chains, config.data_epsilon, rng, short_run.dtype)
    return long_run(
        result.energy,
        short_run,
        data,
        config.epsilon,
        steps,
        seed,
        module_gradient(result.energy),
        chains=chains,
    )


@dataclass(frozen=True)
class DensityDivergence:
    """How far the model's density is from that of the noised data, in the plane.

    Attributes:
        kl: KL(q || p), nats.
        tv: Total variation, between 0 and 1.
        kl_floor: KL of the model whose *unadjusted* chains have the law of the data: what perfect
            learning leaves. NaN where the data have an sd under epsilon, so that there is none.
        tv_floor: Total variation of the same.
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
    energy: nn.Module, law: PlaneLaw, epsilon: float, data_epsilon: float = 0.0, points: int = 200
) -> DensityDivergence:
    """KL and total variation between the data under (5A) and the model, see `density_grid`."""
    grid = density_grid(energy, law, epsilon, data_epsilon, points)
    cell = (2 * grid.extent / points) ** 2

    def divergence(log_p: Tensor) -> tuple[float, float]:
        q = grid.log_q.exp()
        kl = (q * (grid.log_q - log_p)).sum() * cell
        return float(kl), float((q - log_p.exp()).abs().sum() * cell / 2)

    floor = (math.nan, math.nan) if grid.log_floor is None else divergence(grid.log_floor)
    return DensityDivergence(*divergence(grid.log_p), *floor)
