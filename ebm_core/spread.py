"""How widely chains are spread beside the data under their noise: a requirement of the verdict."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm_core.data import Dataset

# Samples that tell how widely the data spread: to about 2 % in the plane; fewer do for images.
_SAMPLES, _NUMBERS = 4096, 2**23
_BLOCK = 256


class DataSpread:
    """The spread of a data set, told from some of its samples once.

    Args:
        dataset: The clean data.
        generator: Source of the draw, on the device of the data.
    """

    def __init__(self, dataset: Dataset, generator: torch.Generator) -> None:
        self._dimensions = math.prod(dataset.shape)
        samples = max(64, min(_SAMPLES, _NUMBERS // self._dimensions))
        self._variance = total_variance(dataset.draw(samples, generator))

    def ratio(self, states: Tensor, data_epsilon: float) -> float:
        """Total variance of states over that of the noised data (5A); NaN where that is 0.

        Args:
            states: Shape (n, *shape).
            data_epsilon: sd of the noise on the data, units of x.
        """
        noised = self._variance + self._dimensions * data_epsilon**2
        own = total_variance(states)
        return own / noised if noised > 0 else math.nan


def total_variance(x: Tensor) -> float:
    """Sum of the variances of all coordinates of samples of shape (n, *shape); NaN for one."""
    if len(x) < 2:
        return math.nan
    # copies in float64 live for some coordinates only
    flat = x.flatten(1)
    blocks = [flat[:, i : i + _BLOCK] for i in range(0, flat.shape[1], _BLOCK)]
    return math.fsum(float(block.double().var(0).sum()) for block in blocks)
