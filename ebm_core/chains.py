"""Where the chains of one member start, and the bank that keeps them between updates."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm_core.data import Dataset, positive_samples
from ebm_core.mapped import allocate


def start_states(
    kind: str,
    n: int,
    dataset: Dataset,
    scale: float,
    generator: torch.Generator,
    dtype: torch.dtype,
    data_epsilon: float = 0.0,
) -> Tensor:
    """Fresh states for chains.

    Args:
        kind: ``data``, ``uniform`` on [-scale, scale], or ``gaussian`` of sd `scale`.
        n: How many.
        dataset: Gives the shape, and the samples for ``data``.
        scale: Units of x; unused for ``data``.
        generator: Source of the numbers.
        dtype: Of the result.
        data_epsilon: sd of the noise on states that start at ``data``, units of x: chains that
            start at q start at data with the noise of (5A).

    Returns:
        Shape (n, *shape).

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind == "data":
        return positive_samples(dataset, n, data_epsilon, generator, dtype)
    x = allocate((n, *dataset.shape), dtype, generator.device)
    if kind == "uniform":
        return x.uniform_(-scale, scale, generator=generator)
    if kind == "gaussian":
        return x.normal_(std=scale, generator=generator)
    raise ValueError(f"`kind` must be data, uniform or gaussian, but got {kind!r}")


def draw_slots(bank_size: int, n: int, generator: torch.Generator) -> Tensor:
    """Indices of n different bank states, shape (n,).

    Without replacement: two copies of one state in a batch would write back over each other.

    Raises:
        ValueError: If the bank holds fewer.
    """
    if n > bank_size:
        raise ValueError(f"`n <= bank_size` must hold, but got n={n}, bank_size={bank_size}")
    return torch.randperm(bank_size, generator=generator, device=generator.device)[:n]


def reinitialize(
    states: Tensor, fresh: Tensor, share: float, generator: torch.Generator
) -> Tensor:
    """Replaces each state by a fresh one with probability `share`.

    Args:
        states: Shape (n, *shape).
        fresh: Same shape.
        share: Between 0 and 1.
        generator: Source of the choice.
    """
    uniform = torch.rand(
        len(states), generator=generator, dtype=torch.float32, device=states.device
    )
    anew = (uniform < share).reshape(-1, *[1] * (states.dim() - 1))
    return torch.where(anew, fresh, states)
