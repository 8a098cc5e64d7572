"""How sharp samples are: the noise that they carry where the data hold least of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_core.data import Samples

# Images are looked at by patches of so many pixels a side: all images have the same directions,
# and there are far more patches than numbers in one.
_PATCH = 8
# Samples whose patches give the directions
_MOST = 2_048
# Share of the directions that count as the finest
_FINEST = 0.1
# Rows for each number in one of them: with fewer the least variances are those of chance.
_ROWS = 10


@dataclass(frozen=True)
class Sharpness:
    """Grain: sd along the tenth of directions in which clean data vary least, units of x.

    Attributes:
        data: Of noised data (5A), little more than data_epsilon where clean data are smooth.
        samples: Of samples, about the mean of the data; NaN where some are not finite.
    """

    data: float
    samples: float

    @property
    def ratio(self) -> float:
        """1 where samples are as sharp as the noised data that learning sees.

        Less is softer; more has lost the noise, as copies of one state have.
        """
        return math.inf if self.samples == 0 else self.data / self.samples


def sharpness(x: Tensor, dataset: Samples, data_epsilon: float) -> Sharpness | None:
    """The grain of samples beside that of noised data.

    Args:
        x: Samples, shape (n, *shape).
        dataset: The training data.
        data_epsilon: sd of the noise on the data, units of x.

    Returns:
        None where there are under ten data, or patches of images, for every number in one: of
        2,048 data at most, so that those which are no images must have under 205 numbers.
    """
    count = min(_MOST, len(dataset.x))
    chosen = torch.arange(count) * len(dataset.x) // count
    # variances that were found to be the least are less by chance: other data tell what they are
    choosing, measuring = (
        _pieces(dataset.x[part.to(dataset.x.device)].to(x.device).double())
        for part in (chosen[::2], chosen[1::2])
    )
    numbers = choosing.shape[1]
    if len(choosing) + len(measuring) < _ROWS * numbers:
        return None
    mean = choosing.mean(0)
    _, directions = torch.linalg.eigh(torch.cov(choosing.T).reshape(numbers, numbers))
    finest = directions[:, : math.ceil(_FINEST * numbers)]
    own, grain = (
        float(((pieces - mean) @ finest).square().mean())
        for pieces in (measuring, _pieces(x.detach().double()))
    )
    return Sharpness(data=math.sqrt(own + data_epsilon**2), samples=math.sqrt(grain))


def _pieces(x: Tensor) -> Tensor:
    """Patches that cover images, or else whole samples; shape (count, numbers)."""
    if x.dim() != 4 or min(x.shape[-2:]) < _PATCH:
        return x.flatten(1)
    patches = [
        x[..., top : top + _PATCH, left : left + _PATCH].flatten(1)
        for top in _edges(x.shape[-2])
        for left in _edges(x.shape[-1])
    ]
    return torch.cat(patches)


def _edges(side: int) -> list[int]:
    """Where patches begin along one side; the last two overlap where the side is no multiple."""
    return sorted({*range(0, side - _PATCH + 1, _PATCH), side - _PATCH})
