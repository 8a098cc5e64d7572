"""The expensive truth about a trained model: long chains, and in the plane its density."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ebm_core.chains import draw_slots, start_states
from ebm_core.config import TrainConfig
from ebm_core.data import Dataset, Samples, load_data, positive_samples
from ebm_core.density import (
    DensityDivergence,
    DensityGrid,
    SampleDivergence,
    density_divergence,
    density_grid,
    sample_divergence,
)
from ebm_core.departure import Effect, LongRunLimits, effect
from ebm_core.engine import arithmetic, module_gradient
from ebm_core.langevin import Gradient, run_langevin
from ebm_core.long_run import LongRun, decide
from ebm_core.matched import MatchedGradient, matched_gradient
from ebm_core.mixing import Array
from ebm_core.randomness import Stream, generator
from ebm_core.readings import Reader, read_along
from ebm_core.result import RunResult
from ebm_core.worth import Worth, worth

__all__ = [
    "DensityDivergence",
    "DensityGrid",
    "Effect",
    "LongRun",
    "LongRunLimits",
    "MatchedGradient",
    "SampleDivergence",
    "Worth",
    "check",
    "density_divergence",
    "density_grid",
    "long_run",
    "matched_gradient",
    "sample_divergence",
    "samples_worth",
    "short_run_samples",
]

# With fewer samples the mean energy is less certain than that of the chains; more tell little.
_LEAST_REFERENCE, _MOST_REFERENCE = 1_024, 4_096

# Of which it is told what they are worth: no more than a check follows, so that memory holds them
_WORTH_SAMPLES = 256

# Chains from noise only tell whether they arrive: fewer than decide will do.
_NOISE_SHARE = 4


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
    noise: Tensor | None = None,
    adjusted_steps: int = 0,
) -> LongRun:
    """Runs unadjusted chains at the training epsilon, and compares them with where they began.

    Learning has converged where short-run samples follow the model's own steady state: then a long
    chain does not leave them. Chains start at short-run samples (``bank``) and at noised data,
    which decide, and at noise. What is compared, and how, says `ebm_core.long_run.decide`.

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
        noise: Where chains from noise start, shape (k, *shape); none are run without.
        adjusted_steps: Length of Metropolis-adjusted chains from the bank, in float64, for the
            discretization gap; 0 runs none.

    Raises:
        ValueError: If there are not two samples of each kind, or steps is under 1.
    """
    if len(short_run) < 2 or len(data) < 2:
        raise ValueError("a long run needs two samples of each kind, to know their spread")
    reader = Reader.of(short_run, data, epsilon)
    with torch.no_grad():
        reference = reader(short_run, energy(short_run))
    starts = {"bank": short_run[:chains], "data": data[:chains]}
    if noise is not None:
        starts["noise"] = noise[:chains]
    rng = generator(seed, Stream.EVALUATION, 1, short_run.device)
    together = torch.cat(list(starts.values()))
    readings, _ = read_along(energy, gradient, together, epsilon, steps, rng, reader)
    edges = np.cumsum([len(x) for x in starts.values()])[:-1]
    traces = dict(zip(starts, np.split(readings, edges, axis=1), strict=True))
    found = compared(reader, traces, reference, steps, limits)
    if adjusted_steps:
        start = starts["bank"]
        # read over the same steps, so that what both lose on the way is no gap
        after = traces["bank"][0].shape[1] * adjusted_steps / steps
        beside = traces["bank"][0][:, : max(2, round(after))]
        gap = _discretization(
            energy, start, epsilon, adjusted_steps, seed, reader, beside, reference[0]
        )
        found = replace(found, **gap)
    return found


def compared(
    reader: Reader,
    traces: Mapping[str, Array],
    reference: Array,
    steps: int,
    limits: LongRunLimits | None = None,
) -> LongRun:
    """What readings along chains of one model come to, see `ebm_core.long_run.decide`.

    Args:
        reader: That read them.
        traces: Of each start, shape (summaries, chains, readings).
        reference: The summaries of the short-run samples, shape (summaries, n).
        steps: Length of the chains.
        limits: What counts as a departure.
    """
    limits = (limits or LongRunLimits()).in_dimensions(len(reader.centre))
    return decide(traces, reference, steps, limits, reader.names, reader.reach(steps))


def _discretization(
    energy: nn.Module,
    start: Tensor,
    epsilon: float,
    steps: int,
    seed: int,
    reader: Reader,
    unadjusted: Array,
    reference: Array,
) -> dict[str, Any]:
    """How much higher in energy unadjusted chains lie than adjusted ones, over their late halves.

    Both begin in the bank and are read over the same steps.

    In float64: what decides is a difference of energies over T.
    """
    wide = copy.deepcopy(energy).double()
    rng = generator(seed, Stream.EVALUATION, 4, start.device)
    traces, acceptance = read_along(
        wide, module_gradient(wide), start.double(), epsilon, steps, rng, reader, adjusted=True
    )
    low, high = (
        effect("energy", each[:, each.shape[1] // 2 :], reference)
        for each in (traces[0], unadjusted)
    )
    # the reference is common to both, and so is its share of their errors, which is left in
    return {
        "discretization_gap": high.size - low.size,
        "discretization_error": math.hypot(high.error, low.error),
        "acceptance": acceptance,
    }


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
    adjusted_steps: int = 0,
) -> LongRun:
    """The long-run check of a training; `long_run` with all that it needs drawn.

    Args:
        result: The training.
        steps: Length of the chains; 0 runs none.
        chains: Number of chains from the bank and from data each; from noise a quarter of it.
        dataset: The data set, if it is not the configured one.
        seed: Of every draw; that of the training if None.
        adjusted_steps: Length of Metropolis-adjusted chains; 0 runs none.
    """
    if steps == 0:
        return LongRun.not_run("no steps were asked for")
    if result.assessment.censored:
        return LongRun.not_run(f"learning {result.assessment.verdict}")
    config, device = result.config, result.chains.device
    seed = config.seed if seed is None else seed
    dataset = (dataset or load_data(config.data)).to(device)
    # the reference may cost as much as the chains from one start
    most = max(_LEAST_REFERENCE, steps * chains // config.langevin_steps)
    with arithmetic("float32", device):  # whatever the precision of the training was
        short_run = short_run_samples(result, min(_MOST_REFERENCE, most), dataset, seed)
        rng = generator(seed, Stream.EVALUATION, 3, device)
        data = positive_samples(dataset, chains, config.data_epsilon, rng, short_run.dtype)
        n, scale = max(1, chains // _NOISE_SHARE), config.start_scale
        noise = start_states(noise_kind(config), n, dataset, scale, rng, short_run.dtype)
        return long_run(
            result.energy,
            short_run,
            data,
            config.epsilon,
            steps,
            seed,
            module_gradient(result.energy),
            chains=chains,
            noise=noise,
            adjusted_steps=adjusted_steps,
        )


def samples_worth(result: RunResult, dataset: Dataset, seed: int = 0) -> Worth | None:
    """What short-run samples of a training are worth beside the data, see `ebm_core.worth`.

    Args:
        result: The training.
        dataset: Its data set.
        seed: Of every draw.

    Returns:
        None for a law, for a single training sample, and where learning broke down.
    """
    if result.assessment.censored or not isinstance(dataset, Samples):
        return None
    config, device = result.config, result.chains.device
    dataset = dataset.to(device)
    rng = generator(seed, Stream.EVALUATION, 5, device)
    with arithmetic("float32", device):
        x = short_run_samples(result, _WORTH_SAMPLES, dataset, seed)
        return worth(result.energy, x, dataset, config.epsilon, config.data_epsilon, rng)


def noise_kind(config: TrainConfig) -> str:
    """The noise that chains of the training start, or once started, from; uniform if from none."""
    start = config.bank_start if config.chain_start == "persistent" else config.chain_start
    return "uniform" if start == "data" else start
