"""All that is random of one member in one update: a function of its seed and of the update."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_core import chains
from ebm_core.compaction import Rows, chosen
from ebm_core.config import TrainConfig
from ebm_core.data import Dataset, positive_samples
from ebm_core.langevin import Noise
from ebm_core.randomness import Stream, generator


class Draw(NamedTuple):
    """What one update of one member starts from.

    Attributes:
        positive: Noised data, shape (n, *shape).
        start: Where the chains start, same shape.
        slots: Which bank states these are, shape (n,); None without a bank.
        noise: Source of the noise of the path.
    """

    positive: Tensor
    start: Tensor
    slots: Tensor | None
    noise: Noise


def initial_states(config: TrainConfig, dataset: Dataset, like: Tensor) -> Tensor:
    """The bank before the first update, or a batch of start states without one.

    Args:
        config: Of the member.
        dataset: The clean data.
        like: Gives device and type.
    """
    persistent = config.chain_start == "persistent"
    kind = config.bank_start if persistent else config.chain_start
    n = config.bank_size if persistent else config.batch_size
    rng = generator(config.seed, Stream.INITIALIZATION, 1, like.device)
    return _fresh(config, kind, n, dataset, rng, like.dtype)


def draw_update(config: TrainConfig, dataset: Dataset, states: Tensor, update: int) -> Draw:
    """Positives, starts and noise of one update.

    Args:
        config: Of the member.
        dataset: The clean data.
        states: The bank of the member, (bank, *shape); unused without a bank, but for its type.
        update: Index of the update.
    """
    device, dtype = states.device, states.dtype
    rng = generator(config.seed, Stream.DATA, update, device)
    positive = positive_samples(dataset, config.batch_size, config.data_epsilon, rng, dtype)
    rng = generator(config.seed, Stream.CHAINS, update, device)

    n, slots = config.batch_size, None
    if config.chain_start == "persistent":
        slots = chains.draw_slots(config.bank_size, n, rng)
        start = states[slots]
        if config.reinit_share:
            anew = _fresh(config, config.bank_start, n, dataset, rng, dtype)
            start = chains.reinitialize(start, anew, config.reinit_share, rng)
    else:
        start = _fresh(config, config.chain_start, n, dataset, rng, dtype)
    # what is left of the chains' random numbers is the noise of their path
    return Draw(positive, start, slots, partial(Tensor.normal_, generator=rng))


def put_back(
    states: Tensor, negative: Tensor, draws: Sequence[Draw], rows: Rows, alive: Tensor | None
) -> Tensor:
    """Banks, or batches without one, after the update that moved what was drawn of them.

    Args:
        states: Of all members, shape (M, n, *shape); a bank is changed in place.
        negative: Chains after their path, shape (K, m, *shape).
        draws: What they started from, one a member.
        rows: The K members.
        alive: Which of these have not been stopped, shape (K,); None where all have not.
    """
    slots = [draw.slots for draw in draws if draw.slots is not None]
    if not slots:
        moved: Tensor = rows.put(states, chosen(alive, negative, rows.of(states)))
        return moved
    at = rows.index[:, None], torch.stack(slots)
    if alive is not None:
        negative = chosen(alive, negative, states[at])
    states[at] = negative
    return states


def _fresh(
    config: TrainConfig,
    kind: str,
    n: int,
    dataset: Dataset,
    rng: torch.Generator,
    dtype: torch.dtype,
) -> Tensor:
    scale, noise = config.start_scale, config.data_epsilon
    return chains.start_states(kind, n, dataset, scale, rng, dtype, data_epsilon=noise)
