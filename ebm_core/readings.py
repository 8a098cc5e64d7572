"""What is read of long chains on their way: a few numbers a state, every so many steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from ebm_core.departure import SUMMARIES
from ebm_core.langevin import Gradient, run_langevin
from ebm_core.mixing import Array

# A reading costs a third of a step or less, so this spacing keeps all of them under a tenth.
_READINGS = 200
_SPACING = 5

# Samples of each kind that the principal directions are taken from.
_PRINCIPAL_SAMPLES = 512


def reading_steps(steps: int, longest: int | None = None) -> list[int]:
    """After which steps chains are read: 0 first, which is not read, and `steps` last.

    Args:
        steps: Length of the chains.
        longest: Most steps from one reading to the next; None for any.
    """
    readings = min(_READINGS, max(1, steps // _SPACING))
    if longest is not None:
        readings = max(readings, math.ceil(steps / longest))
    edges: list[int] = np.linspace(0, steps, readings + 1).round().astype(int).tolist()
    return edges


@dataclass(frozen=True)
class Reader:
    """Reads the summaries of states, shape (summaries, n).

    Attributes:
        centre: Mean of the short-run samples, shape (N,).
        directions: Principal directions of short-run samples and data, shape (N, 1 or 2).
        widest: sd along the first of them, units of x.
        epsilon: Langevin noise sd of the training, units of x.
    """

    centre: Tensor
    directions: Tensor
    widest: float
    epsilon: float

    @classmethod
    def of(cls, short_run: Tensor, data: Tensor, epsilon: float) -> Reader:
        """For chains of one model; shapes (n, *shape) and (m, *shape), epsilon in units of x."""
        pooled = torch.cat([short_run[:_PRINCIPAL_SAMPLES], data[:_PRINCIPAL_SAMPLES]])
        flat = pooled.flatten(1).double()
        flat = flat[flat.isfinite().all(1)]  # the decomposition has no answer for others
        flat = flat - flat.mean(0)
        _, sizes, rows = torch.linalg.svd(flat, full_matrices=False)
        widest = float(sizes[0]) / math.sqrt(len(flat)) if len(sizes) else 0.0
        centre = short_run.flatten(1).double().mean(0)
        return cls(centre, rows[:2].T, widest, epsilon)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the summaries."""
        return SUMMARIES[: 2 + self.directions.shape[1]]

    def reach(self, steps: int) -> float:
        """How far noise alone carries a chain, in units of `widest`; see `long_run.LongRun`."""
        return self.epsilon * math.sqrt(steps) / self.widest if self.widest > 0 else math.inf

    def __call__(self, x: Tensor, f: Tensor) -> Array:
        """Of states (n, *shape) with energies F of shape (n,)."""
        apart = x.flatten(1).double() - self.centre
        summaries = [
            f.double() / (self.epsilon**2 / 2),
            apart.square().sum(1),
            *(apart @ self.directions).T,
        ]
        values: Array = torch.stack(summaries).cpu().numpy()
        return values


def read_along(
    energy: nn.Module,
    gradient: Gradient | None,
    x: Tensor,
    epsilon: float,
    steps: int,
    rng: torch.Generator,
    reader: Reader,
    adjusted: bool = False,
) -> tuple[Array, float]:
    """Readings along chains, shape (summaries, chains, readings), and the share of moves made."""
    found, accepted = [], 0.0
    for first, last in pairwise(reading_steps(steps)):
        length = last - first
        x, info = run_langevin(energy, x, epsilon, length, rng, adjusted, gradient)
        found.append(reader(x, info.energies))
        accepted += length * float(info.acceptance.double().mean())
    return np.stack(found, axis=-1), accepted / steps
