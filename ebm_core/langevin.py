"""Langevin dynamics, unadjusted and Metropolis-adjusted, over arrays of chains.

Array functions only: they know no network, no data set and no configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Gradient = Callable[[Tensor], Tensor]
Energy = Callable[[Tensor], Tensor]
# Fills a tensor of shape (b, n, *shape) with the next standard normal numbers of one member.
Noise = Callable[[Tensor], object]
# As `langevin_steps`.
Advance = Callable[[Gradient, Tensor, Tensor, Tensor, Tensor], Tensor]

# Numbers drawn at a time for one member: few megabytes for a pack on a CPU, where more of them are
# no faster, and few launches on a GPU. That depends on nothing else but the shape of the chains of
# one member, so that the size of a pack does not change the noise.
_NOISE_BLOCK_CPU, _NOISE_BLOCK = 1 << 16, 1 << 20


class PathInfo(NamedTuple):
    """What a short-run path tells about the gradient, a value a chain.

    Attributes:
        gradient_magnitude: Mean over the path of ``|grad F|``, units of x.
        squared_gradient: Mean over the path of ``|grad F|**2``, units of x squared.
    """

    gradient_magnitude: Tensor
    squared_gradient: Tensor


class LangevinInfo(NamedTuple):
    """Diagnostics of `run_langevin`.

    Attributes:
        r: Mean over the path of ``|grad F|`` at the states before each move, shape of the chains.
        acceptance: Share of accepted moves of each chain; 1 for unadjusted chains.
        energies: F of the final states, same shape.
    """

    r: Tensor
    acceptance: Tensor
    energies: Tensor


def noise_steps(shape: Sequence[int], device: torch.device) -> int:
    """For how many steps noise is drawn at a time, b.

    Args:
        shape: Of the chains of one member, (n, *shape).
        device: Where they are.
    """
    numbers = _NOISE_BLOCK_CPU if device.type == "cpu" else _NOISE_BLOCK
    return max(1, numbers // max(1, math.prod(shape)))


def noise_blocks(
    steps: int, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype
) -> Iterator[Tensor]:
    """Standard normal noise for a path, in blocks of shape (b, *shape) that sum to `steps`."""
    block = noise_steps(shape, generator.device)
    for start in range(0, steps, block):
        size = (min(block, steps - start), *shape)
        yield torch.empty(size, dtype=dtype, device=generator.device).normal_(generator=generator)


def pack_noise(
    sources: Sequence[Noise], steps: int, shape: Sequence[int], like: Tensor
) -> Iterator[Tensor]:
    """Standard normal noise for the path of a pack, member by member the same as `noise_blocks`.

    Args:
        sources: One a member.
        steps: L.
        shape: Of the chains of one member, (n, *shape).
        like: Gives device and type.

    Yields:
        Blocks of shape (b, M, n, *shape); each is gone when the next one is asked for.
    """
    block = min(steps, noise_steps(shape, like.device))
    # one member after the other in memory: numbers are drawn in bulk into what is contiguous only
    buffer = like.new_empty(len(sources), block, *shape)
    for start in range(0, steps, block):
        size = min(block, steps - start)
        for source, own in zip(sources, buffer, strict=True):
            source(own[:size])
        yield buffer[:, :size].transpose(0, 1)


def langevin_steps(
    gradient: Gradient, x: Tensor, kicks: Tensor, total: Tensor, squared: Tensor
) -> Tensor:
    """A few steps of a path: the program that is compiled, or captured, as a whole.

    Args:
        gradient: Input gradient of F.
        x: States, shape (M, n, *shape).
        kicks: Noise times epsilon, shape (b, M, n, *shape).
        total: Sum of ``|grad F|`` so far, shape (M, n); added to.
        squared: Sum of its squares so far, shape (M, n); added to.

    Returns:
        New states.
    """
    for kick in kicks:
        slope = gradient(x)
        magnitude = torch.linalg.vector_norm(slope.flatten(2), dim=2)
        total += magnitude
        squared.addcmul_(magnitude, magnitude)
        x = torch.sub(kick, slope).add_(x)
    return x


def langevin_path(
    gradient: Gradient,
    x: Tensor,
    epsilon: Tensor,
    noise: Iterable[Tensor],
    advance: Advance = langevin_steps,
) -> tuple[Tensor, PathInfo]:
    r"""Short-run chains of all members, unadjusted.

    .. math:: x \leftarrow x - \nabla_x F(x) + \varepsilon z, \quad z \sim N(0, I)

    Args:
        gradient: Input gradient of F, (M, n, *shape) to the same shape.
        x: States, shape (M, n, *shape).
        epsilon: Noise sd of each member, shape (M,), units of x.
        noise: Blocks of standard normal numbers, each (b, M, n, *shape); they are overwritten.
            One step is made for each entry, so the blocks set the length L.
        advance: Makes the steps of one block, as `langevin_steps` does.

    Returns:
        New states, and the path means of the gradient magnitude, each of shape (M, n).

    Raises:
        ValueError: If there is no step to make.

    Source: Nijkamp et al. 2020, eq. (2A); r over the L states before each move.
    """
    scale = epsilon.reshape(-1, *[1] * (x.dim() - 1))
    total = torch.zeros(x.shape[:2], dtype=x.dtype, device=x.device)
    squared = torch.zeros_like(total)
    steps = 0
    for block in noise:
        block *= scale
        x = advance(gradient, x, block, total, squared)
        steps += len(block)
    if steps == 0:
        raise ValueError("a Langevin path needs at least one step")
    return x, PathInfo(total / steps, squared / steps)


def autograd_gradient(energy: Energy) -> Gradient:
    """Input gradient of an energy that maps (n, *shape) to (n,), by automatic differentiation."""

    def gradient(x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(energy(leaf).sum(), leaf)
        return slope

    return gradient


def run_langevin(
    energy: Energy,
    x: Tensor,
    epsilon: float,
    steps: int,
    generator: torch.Generator | None = None,
    adjusted: bool = False,
    gradient: Gradient | None = None,
) -> tuple[Tensor, LangevinInfo]:
    r"""Runs chains of one energy, unadjusted or Metropolis-adjusted.

    Both move by ``x - grad F(x) + epsilon z``. The adjusted chain accepts a move with the
    Metropolis-Hastings probability for the target ``exp(-F / T)``, ``T = epsilon**2 / 2``, and so
    has the target as its law; the unadjusted one has the law of its discretization.

    Adjusted chains want energies and states in float64: what decides is a difference of energies
    over T, of which float32 leaves little but rounding where epsilon is small.

    Args:
        energy: F, (n, *shape) to (n,).
        x: Initial states, shape (n, *shape); not changed.
        epsilon: Noise sd, units of x.
        steps: Number of moves.
        generator: Source of the noise, on the device of x; one seeded from torch's global state
            if None, so that two calls never repeat their noise.
        adjusted: Whether to accept or reject moves.
        gradient: Input gradient of F, if the caller has a faster one than autograd.

    Returns:
        Final states, and `LangevinInfo`.

    Raises:
        ValueError: If epsilon is not finite and over 0, or steps is under 1.

    Source: Nijkamp et al. 2020, eq. (2A); Roberts and Tweedie 1996 for the adjustment.
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"`0 < epsilon < inf` must hold, but got epsilon={epsilon!r}")
    if steps < 1:
        raise ValueError(f"`steps >= 1` must hold, but got steps={steps!r}")
    if generator is None:
        seed = int(torch.randint(2**62, ()))
        generator = torch.Generator(device=x.device).manual_seed(seed)
    slope_of = gradient or autograd_gradient(energy)
    move = _adjusted_path if adjusted else _unadjusted_path
    with torch.no_grad():
        x, r, acceptance = move(energy, slope_of, x, epsilon, steps, generator)
        return x, LangevinInfo(r, acceptance, energy(x))


def _unadjusted_path(
    energy: Energy, gradient: Gradient, x: Tensor, epsilon: float, steps: int, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    noise = (block.unsqueeze(1) for block in noise_blocks(steps, tuple(x.shape), rng, x.dtype))
    scale = torch.full((1,), epsilon, dtype=x.dtype, device=x.device)
    y, info = langevin_path(lambda y: gradient(y[0]).unsqueeze(0), x.unsqueeze(0), scale, noise)
    r = info.gradient_magnitude[0]
    return y[0], r, torch.ones_like(r)


def _adjusted_path(
    energy: Energy, gradient: Gradient, x: Tensor, epsilon: float, steps: int, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    temperature = epsilon**2 / 2
    wide = (-1, *[1] * (x.dim() - 1))
    value, slope = energy(x), gradient(x)
    total = torch.zeros_like(value)
    accepted = torch.zeros_like(value)
    for block in noise_blocks(steps, tuple(x.shape), rng, x.dtype):
        for kick in block:
            total += torch.linalg.vector_norm(slope.flatten(1), dim=1)
            proposal = x - slope + epsilon * kick
            new_value, new_slope = energy(proposal), gradient(proposal)
            # log q(x | y) - log q(y | x), both Gaussian of sd epsilon about the drifted state
            back = (x - proposal + new_slope).flatten(1).square().sum(1) / epsilon**2
            there = kick.flatten(1).square().sum(1)
            log_ratio = (value - new_value) / temperature + (there - back) / 2
            uniform = torch.rand(value.shape, generator=rng, dtype=x.dtype, device=x.device)
            accept = uniform.log() < log_ratio
            pick = accept.reshape(wide)
            x = torch.where(pick, proposal, x)
            slope = torch.where(pick, new_slope, slope)
            value = torch.where(accept, new_value, value)
            accepted += accept
    return x, total / steps, accepted / steps


def stationary_variance(variance: float, epsilon: float) -> float:
    r"""Variance that unadjusted chains settle at on a Gaussian of a given variance.

    .. math:: \sigma^2 / (1 - \varepsilon^2 / (4 \sigma^2))

    Infinite where ``sigma <= epsilon / 2``; its least value over all sigma is ``epsilon**2``.
    """
    if 4 * variance <= epsilon**2:
        return math.inf
    return variance / (1 - epsilon**2 / (4 * variance))


def variance_after(steps: int, variance: float, epsilon: float, initial: float) -> float:
    r"""Variance after some unadjusted steps on a Gaussian energy, exactly.

    .. math:: a^{2K} v_0 + \varepsilon^2 \frac{1 - a^{2K}}{1 - a^2},
              \quad a = 1 - \frac{\varepsilon^2}{2 \sigma^2}

    Args:
        steps: K.
        variance: sigma^2 of the target.
        epsilon: Noise sd.
        initial: v_0, variance of the initial states (mean 0).

    Returns:
        The variance; infinite where it grows beyond all numbers.
    """
    a_squared = (1 - epsilon**2 / (2 * variance)) ** 2
    if a_squared == 1:
        return initial + steps * epsilon**2
    try:
        power = a_squared**steps
    except OverflowError:
        return math.inf
    return power * initial + epsilon**2 * (1 - power) / (1 - a_squared)


def matching_variance(law: float, epsilon: float) -> float:
    r"""Target variance whose unadjusted law has a given one: inverts `stationary_variance`.

    .. math:: \sigma^2 = (s^2 + \sqrt{s^4 - s^2 \varepsilon^2}) / 2

    Returns:
        The larger of the two solutions, which tends to the law itself as epsilon goes to 0; NaN
        where ``law < epsilon**2``: no Gaussian direction has such a law.
    """
    if law < epsilon**2:
        return math.nan
    return (law + math.sqrt(law * (law - epsilon**2))) / 2
