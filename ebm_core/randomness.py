"""Random numbers as a function of (seed, stream, update), the same alone and in a pack."""

from __future__ import annotations

from enum import IntEnum

import torch

_MASK_32 = (1 << 32) - 1
_MASK_64 = (1 << 64) - 1


class Stream(IntEnum):
    """What a random number is for; streams of one seed never share numbers."""

    INITIALIZATION = 0
    DATA = 1
    CHAINS = 2
    EVALUATION = 3


def _mix64(value: int) -> int:
    """Bijective 64-bit finalizer of SplitMix64."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK_64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK_64
    return value ^ (value >> 31)


def _mix32(value: int) -> int:
    """Bijective 32-bit finalizer of MurmurHash3."""
    value ^= value >> 16
    value = (value * 0x85EBCA6B) & _MASK_32
    value ^= value >> 13
    value = (value * 0xC2B2AE35) & _MASK_32
    return value ^ (value >> 16)


def stream_seed(seed: int, stream: Stream, update: int) -> int:
    """Seed of the generator for one stream at one update.

    torch's CPU generator looks at the lower 32 bits of its seed only. For every seed they are a
    bijection of the counter (update, stream) here, so that no two updates of one training share
    their noise (up to 2**30 updates). The second half of the key, put in between two rounds of
    mixing, gives every seed a bijection of its own: one training is never another one shifted in
    time. The upper bits serve the CUDA generator, which uses all 64.

    Raises:
        ValueError: If the update is negative.
    """
    if update < 0:
        raise ValueError(f"`update >= 0` must hold, but got update={update!r}")
    key = _mix64(seed)
    counter = update * len(Stream) + stream
    low = _mix32(_mix32((counter + key) & _MASK_32) ^ (key >> 32))
    # the sign bit stays free: torch takes seeds as signed 64-bit integers
    return ((key >> 33) << 32) | low


def generator(
    seed: int, stream: Stream, update: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A fresh generator for one stream at one update.

    Args:
        seed: Seed of the member.
        stream: What the numbers are for.
        update: Index of the parameter update, from 0.
        device: Where the numbers are drawn; CPU and CUDA give different numbers.
    """
    return torch.Generator(device=device).manual_seed(stream_seed(seed, stream, update))
