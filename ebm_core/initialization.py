"""Networks before the first update: built under their seed, F scaled to where r is expected."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ebm_core.config import TrainConfig
from ebm_core.data import Dataset
from ebm_core.draws import draw_update
from ebm_core.energies import build_energy, check_energy, scale_output
from ebm_core.engine import make_engine, module_with, stack_parameters
from ebm_core.errors import EnergyError
from ebm_core.randomness import Stream, generator
from ebm_core.verdict import band_scale

EnergySource = nn.Module | Callable[[], nn.Module]

# F is measured at this many factors at most, each a factor 2**20 from the last at most.
_TRIES = 12
_LARGEST_STEP = 20


def initial_module(
    config: TrainConfig, energy: EnergySource | None, shape: tuple[int, ...], like: Tensor
) -> nn.Module:
    """The network of a member under its seed, not yet scaled.

    Args:
        config: Of the member.
        energy: The user's own network, see `Trainer`; None for the configured one.
        shape: Of one sample.
        like: Gives device and type.

    Raises:
        EnergyError: If the network cannot serve as an energy.
    """
    device = like.device
    if isinstance(energy, nn.Module):
        module = module_with(energy, stack_parameters([energy]), 0)
    else:
        # seeding reaches the generators of GPUs, too
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(generator(config.seed, Stream.INITIALIZATION, 0).initial_seed())
            module = energy() if energy else build_energy(config.network, shape)
    module = module.to(device, like.dtype)
    check_energy(module, shape, like.dtype)
    return module


def initial_factor(
    module: nn.Module, config: TrainConfig, dataset: Dataset, states: Tensor, r_star: float
) -> float:
    """The factor on F at initialization that a configuration asks for.

    ``auto`` stands for the factor by which r of the first update comes to lie between a tenth of
    the low end of the band and its high end; 1 where it does already. It is measured on the very
    draws of that update, at scaled copies of the network.

    Args:
        module: The network, not yet scaled.
        config: Of the member.
        dataset: The clean data.
        states: The bank of the member, (bank, *shape).
        r_star: Gradient magnitude that the data demand, for a band in its units.

    Raises:
        EnergyError: If no factor does that, or F has no layer to be scaled by.

    Source: Nijkamp et al. 2020, appendix A.
    """
    if config.init_scale != "auto":
        return config.init_scale
    band = config.band
    dimensions = math.prod(dataset.shape)
    unit = band_scale(band.unit, config.epsilon, dimensions, r_star)
    if not unit > 0:
        raise EnergyError(
            "init_scale=auto: the band counts in r*, which is not known; give it another unit"
        )

    def magnitude(factor: float) -> float:
        scaled = copy.deepcopy(module)
        scale_output(scaled, factor)
        return first_magnitude(scaled, config, dataset, states)

    return find_factor(magnitude, band.low / 10 * unit, band.high * unit)


def first_magnitude(
    module: nn.Module, config: TrainConfig, dataset: Dataset, states: Tensor
) -> float:
    """r_1, the mean gradient magnitude over the paths of the first update, units of x.

    Args:
        module: The network at initialization.
        config: Of the member.
        dataset: The clean data.
        states: The bank of the member, (bank, *shape).
    """
    draw = draw_update(config, dataset, states, 0)
    epsilon = torch.tensor([config.epsilon], dtype=states.dtype, device=states.device)
    engine = make_engine(module, 1, precision=config.precision)
    start, steps = draw.start.unsqueeze(0), config.langevin_steps
    _, path = engine.short_run(stack_parameters([module]), start, epsilon, [draw.noise], steps)
    return float(path.gradient_magnitude.mean())


def find_factor(magnitude: Callable[[float], float], low: float, high: float) -> float:
    """A power of two that brings a magnitude into a range; 1 if it lies there already.

    The range spans more than a factor of two. A power of two scales floating-point numbers
    exactly, and does not follow the last bits of r, which differ with the number of threads. r is
    linear in the factor to leading order only, since chains move differently: steps are repeated,
    and halved between a factor that is too low and one that is too high.

    Args:
        magnitude: r_1 as a function of the factor.
        low: Least value wanted.
        high: Largest value wanted, at least ten times `low`.

    Raises:
        EnergyError: If r_1 is 0 or never finite, or no factor was found.
    """
    target = math.sqrt(low * high) or high / 4
    exponent, below, above = 0, -math.inf, math.inf
    for _ in range(_TRIES):
        r = magnitude(2.0**exponent)
        if low <= r <= high:
            return 2.0**exponent
        if r == 0:
            raise EnergyError(
                "init_scale=auto: F is flat where the chains start (r_1 is 0), "
                "so that no factor helps; use another network or start"
            )
        if r < low:
            below = exponent
        else:  # written so that NaN counts as too high
            above = exponent
        wanted = math.log2(target / r) if 0 < r < math.inf else -_LARGEST_STEP
        exponent += max(-_LARGEST_STEP, min(_LARGEST_STEP, round(wanted)))
        if not below < exponent < above:
            exponent = math.floor((below + above) / 2)
    raise EnergyError(
        f"init_scale=auto: no factor on F was found that brings r_1 between {low:.3g} and "
        f"{high:.3g}; it is {r:.3g} at a factor of {2.0**exponent:.3g}"
    )
