"""Whether samples are copies of the training data: how far they are from the nearest of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_core.data import Samples
from ebm_core.mapped import Rows, blocks

# Noised data that samples are compared with
_COMPARED = 512
# That are held at once
_DISTANCES = 2**24
# Closer than this share of noised data is to any other sample counts as close.
CLOSE = 0.05


@dataclass(frozen=True)
class Memorization:
    """Distances to the nearest training sample: root mean square over coordinates, units of x.

    A model that copies has samples as far from the data as noised data are from their own; one
    that has learned the law, as far as these are from the nearest other.

    Attributes:
        distances: Of each sample, shape (n,).
        own: Median distance of noised data (5A) to the sample that they came from.
        other: Median distance of the same to the nearest other one.
        close: Share of samples that are closer to a training sample than all but 5 % of noised
            data are to another. 0.05 where samples are as new as the data are to each other.
    """

    distances: Tensor
    own: float
    other: float
    close: float

    @property
    def median(self) -> float:
        """Median distance of the samples."""
        return float(self.distances.median())


def memorization(
    x: Tensor, dataset: Samples, data_epsilon: float, generator: torch.Generator
) -> Memorization:
    """How far samples are from the nearest training sample, beside what noise and data give.

    Args:
        x: Samples, shape (n, *shape).
        dataset: The training data, at least two.
        data_epsilon: sd of the noise on the data, units of x.
        generator: Source of the data that are compared and of their noise, on the device of x.

    Raises:
        ValueError: If there is a single training sample.
    """
    total = len(dataset.x)
    if total < 2:
        raise ValueError("one training sample has no other to be compared with")
    order = torch.randperm(total, generator=generator, device=generator.device)
    chosen = order[: min(_COMPARED, total)]
    clean = dataset.x[chosen].to(x.device, torch.float32)
    noise = torch.empty_like(clean).normal_(generator=generator)
    noised = clean + data_epsilon * noise
    scale = math.sqrt(clean[0].numel())
    own = (noised - clean).flatten(1).norm(dim=1) / scale
    # far from 0 the rounding of squares would hide what is between two samples
    centre = clean.mean(0)
    other = _nearest(noised, dataset.x, centre, without=chosen)
    distances = _nearest(x.float(), dataset.x, centre)
    limit = torch.quantile(other, CLOSE)
    return Memorization(
        distances=distances.cpu(),
        own=float(own.median()),
        other=float(other.median()),
        close=float((distances < limit).float().mean()),
    )


def _nearest(x: Tensor, data: Rows, centre: Tensor, without: Tensor | None = None) -> Tensor:
    """Distance of each to the nearest of the data, shape (n,), without one of them if given."""
    flat = (x - centre).flatten(1)
    nearest = torch.full((len(flat),), math.inf, device=flat.device)
    most = max(1, _DISTANCES // len(flat))
    for rows in blocks(data):
        held = data[rows].to(flat.device, torch.float32)
        first = rows.start
        for part in torch.split((held - centre).flatten(1), most):
            apart = torch.cdist(flat, part)
            if without is not None:
                inside = (without >= first) & (without < first + len(part))
                apart[inside, without[inside] - first] = math.inf
            nearest = torch.minimum(nearest, apart.min(1).values)
            first += len(part)
    return nearest / math.sqrt(flat.shape[1])
