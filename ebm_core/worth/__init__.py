"""What samples of a model are worth: new or copied, sharp or soft, and new data as likely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_core.data import Dataset, Samples
from ebm_core.worth.copies import Memorization, memorization
from ebm_core.worth.grain import Sharpness, sharpness
from ebm_core.worth.unseen import HeldOut, held_out

__all__ = [
    "HeldOut",
    "Memorization",
    "Sharpness",
    "Worth",
    "held_out",
    "memorization",
    "sharpness",
    "worth",
]


@dataclass(frozen=True)
class Worth:
    """All that is measured of samples.

    Attributes:
        memorization: Whether they are copies of the training data.
        sharpness: How much noise they carry; None where the data tell too little of it.
        held_out: Energies of data that learning has not seen; None where none are held out.
    """

    memorization: Memorization
    sharpness: Sharpness | None
    held_out: HeldOut | None


def worth(
    energy: Callable[[Tensor], Tensor],
    x: Tensor,
    dataset: Dataset,
    epsilon: float,
    data_epsilon: float,
    generator: torch.Generator,
) -> Worth | None:
    """Measures samples of a model.

    Args:
        energy: F of the model, (n, *shape) to (n,).
        x: Samples, shape (n, *shape).
        dataset: The training data.
        epsilon: Langevin noise sd of the training, units of x.
        data_epsilon: sd of the noise on the data, units of x.
        generator: Source of the data that are compared and of their noise, on the device of x.

    Returns:
        None for a law, whose samples cannot be copied, and for a single training sample.
    """
    if not isinstance(dataset, Samples) or len(dataset.x) < 2:
        return None
    return Worth(
        memorization=memorization(x, dataset, data_epsilon, generator),
        sharpness=sharpness(x, dataset, data_epsilon),
        held_out=held_out(energy, x, dataset, epsilon, data_epsilon, generator),
    )
