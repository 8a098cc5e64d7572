"""What tells one data set from another, from few numbers: for who goes on with a training.

Not a digest: data that are computed, scaled images for one, differ in their last bits between
machines, and are the same data all the same. So numbers are kept, and compared with a tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ebm_core.data import Dataset, Samples
from ebm_core.mapped import Rows, blocks
from ebm_core.randomness import Stream, generator

# Of a finite set, at most this many numbers are looked at: 0.1 s.
NUMBERS = 2**24
# A law is known by its draws.
_DRAWS, _DRAWN_NUMBERS = 4096, 2**20
# One sum of all would hide a single number among the rounding of so many.
_BLOCKS = 64
# Rounding moves a sum by up to 1e-6 of its length.
_TOLERANCE = 1e-5


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """Count and shape of the samples, and sums of their numbers; the same on every device.

    At most `NUMBERS` numbers are looked at, evenly spread over the data: a change in the others
    goes unseen, and so does one in a single number that is under 1e-5 of the length of its block
    of numbers, as a vector. A law is known by samples that it draws on the CPU from a fixed seed;
    it must draw the same from the same seed.

    Returns:
        ``samples``, None for a law; ``shape``; ``sums`` of the numbers with random signs, one a
        block; and its ``lengths``, roots of the sums of their squares.
    """
    signs = generator(1, Stream.EVALUATION, 0)
    sums, lengths = [], []
    for block in _numbers(dataset).tensor_split(_BLOCKS):
        x = block.double()
        sign = torch.randint(0, 2, x.shape, generator=signs, dtype=torch.int8) * 2 - 1
        sums.append(float(x @ sign.double()))
        lengths.append(float(x.norm()))
    return {
        "samples": len(dataset.x) if isinstance(dataset, Samples) else None,
        "shape": list(dataset.shape),
        "sums": sums,
        "lengths": lengths,
    }


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What tells two data sets apart, in words; empty if nothing does.

    Args:
        there: A `fingerprint`.
        here: Another one.
    """
    if any(there[key] != here[key] for key in ("samples", "shape")):
        return f"{_words(there)} there, {_words(here)} here"
    for name in ("sums", "lengths"):
        values = zip(there[name], here[name], there["lengths"], strict=True)
        # written so that NaN is a difference
        if not all(abs(a - b) <= _TOLERANCE * length for a, b, length in values):
            return f"{_words(there)} there and here, but other ones"
    return ""


def _numbers(dataset: Dataset) -> Tensor:
    """Some numbers of the data or drawn from them, shape (n,), on the CPU."""
    if type(dataset) is Samples:  # what is derived from it may draw what it does not hold
        dimensions = math.prod(dataset.shape)
        return _spread(dataset.x, dimensions, _stride(len(dataset.x) * dimensions, dimensions))
    draws = max(1, min(_DRAWS, _DRAWN_NUMBERS // math.prod(dataset.shape)))
    cpu = torch.device("cpu")
    return dataset.to(cpu).draw(draws, generator(0, Stream.EVALUATION, 0, cpu)).reshape(-1)


def _spread(x: Rows, dimensions: int, stride: int) -> Tensor:
    """Every `stride`-th number of the rows in order, on the CPU; read in pieces."""
    parts = []
    for rows in blocks(x):
        first = -rows.start * dimensions % stride  # of those that lie in this piece
        parts.append(x[rows].reshape(-1)[first::stride].contiguous())  # lets go of the rest
    return torch.cat(parts).cpu()


def _stride(numbers: int, dimensions: int) -> int:
    """Step from one number to the next; one that comes by every coordinate in turn."""
    stride = math.ceil(numbers / NUMBERS)
    while math.gcd(stride, dimensions) > 1:
        stride += 1
    return stride


def _words(found: Mapping[str, Any]) -> str:
    count = "samples of a law" if found["samples"] is None else f"{found['samples']:,} samples"
    return f"{count}, of shape {tuple(found['shape'])}"
