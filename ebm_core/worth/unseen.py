"""Whether a model takes new data for its own: energies of data that learning has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_core.data import Samples
from ebm_core.mapped import Rows

# Data of each kind whose energies are taken, and how many at once
_MOST, _BLOCK = 2_048, 128


@dataclass(frozen=True)
class HeldOut:
    """Mean energies U = F/T, nats; of data under the noise of learning (5A).

    Differences are in sd of U over the training data, each with its standard error. They are NaN
    where these energies are not finite, and without an error where others are not.

    Attributes:
        unseen: Mean U of held-out data.
        seen: Mean U of training data.
        samples: Mean U of the samples.
        over_seen: Held-out minus training data. 0 where the model does not tell them apart, over
            0 where it knows its training data by heart.
        over_seen_error: Its standard error.
        over_samples: Held-out data minus samples. 0 where data that learning has not seen are as
            likely as what the model makes.
        over_samples_error: Its standard error.
    """

    unseen: float
    seen: float
    samples: float
    over_seen: float
    over_seen_error: float
    over_samples: float
    over_samples_error: float


def held_out(
    energy: Callable[[Tensor], Tensor],
    x: Tensor,
    dataset: Samples,
    epsilon: float,
    data_epsilon: float,
    generator: torch.Generator,
) -> HeldOut | None:
    """Energies of held-out data beside those of training data and of samples.

    Args:
        energy: F, (n, *shape) to (n,).
        x: Samples, shape (n, *shape), independent of each other.
        dataset: The training data, and what is held out.
        epsilon: Langevin noise sd of the training, units of x: the temperature is its square / 2.
        data_epsilon: sd of the noise on the data, units of x.
        generator: Source of the data that are taken and of their noise, on the device of x.

    Returns:
        None where none are held out.
    """
    if dataset.held_out is None:
        return None
    temperature = epsilon**2 / 2

    def nats(states: Tensor) -> Tensor:
        with torch.no_grad():
            found = torch.cat([energy(part) for part in torch.split(states, _BLOCK)])
        return found.double() / temperature

    unseen, seen = (
        nats(_noised(rows, x, data_epsilon, generator)) for rows in (dataset.held_out, dataset.x)
    )
    samples = nats(x)
    over_seen, over_seen_error = _apart(unseen, seen, seen)
    over_samples, over_samples_error = _apart(unseen, samples, seen)
    return HeldOut(
        unseen=float(unseen.mean()),
        seen=float(seen.mean()),
        samples=float(samples.mean()),
        over_seen=over_seen,
        over_seen_error=over_seen_error,
        over_samples=over_samples,
        over_samples_error=over_samples_error,
    )


def _noised(rows: Rows, like: Tensor, data_epsilon: float, generator: torch.Generator) -> Tensor:
    """Some of the rows under the noise of learning, each at most once."""
    order = torch.randperm(len(rows), generator=generator, device=generator.device)
    clean = rows[order[:_MOST].to(rows.device)].to(like)
    noise = torch.empty_like(clean).normal_(generator=generator)
    return noise.mul_(data_epsilon).add_(clean)


def _apart(first: Tensor, second: Tensor, unit: Tensor) -> tuple[float, float]:
    """Difference of the means in sd of the unit, and its standard error.

    Few values that happen to lie close together are taken to vary as the unit does.
    """
    difference = float(first.mean() - second.mean())
    sd = float(unit.std())
    if not math.isfinite(sd):
        return math.nan, math.nan
    if not math.isfinite(difference):
        return difference, math.nan
    if sd == 0:
        return (math.copysign(math.inf, difference), math.nan) if difference else (0.0, 0.0)
    error = math.hypot(*(_mean_error(each, sd) for each in (first, second)))
    return difference / sd, error / sd


def _mean_error(values: Tensor, least: float) -> float:
    own = float(values.std()) if len(values) > 1 else 0.0
    return max(own, least) / math.sqrt(len(values))
