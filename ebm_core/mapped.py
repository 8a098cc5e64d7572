"""Data and banks that are too large to be held in memory: rows of a file, read when needed.

A data set beyond `HELD_BYTES` as float32 stays in its file, as bytes or whatever the file holds,
and only the rows that are asked for become float32. A bank beyond it lies in a temporary file.
"""

from __future__ import annotations

import copy
import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

# Up to so many bytes as float32 a data set is held in memory, and a bank: 81,380 images of
# 32x32x3. Every worker of a study holds its own.
HELD_BYTES = 10**9
# Of a GPU's free memory, the most that a data set from a file may take there.
GPU_SHARE = 0.25
# Numbers that are read at once where all are looked at.
_BLOCK_NUMBERS = 2**20
# Rows that are picked before their pages are let go: the system maps up to megabytes around each.
_PICKED_ROWS = 16

_FLOAT_BYTES = 4


class MappedRows:
    """Rows of an array in a file, indexed like a tensor of shape (n, *shape) along its first axis.

    An index is a slice or a tensor of whole numbers; what comes is float32, the same bit for bit
    as if the whole array had been converted, on `device`. The pages of the file that were read
    stay in the system's cache and are not counted as memory of the process. The file must stay as
    it is while it is used.

    Args:
        stored: As `numpy.load` maps it, of real numbers.
        levels: What each byte stands for, shape (256,), float32; None to take values as they are.
    """

    def __init__(self, stored: np.memmap, levels: Tensor | None = None) -> None:
        self._pages: mmap.mmap | None = getattr(stored, "_mmap", None)
        self._stored = stored[:, None] if stored.ndim == 1 else stored
        self._levels = None if levels is None else levels.numpy()
        self._which: np.ndarray | None = None
        self.device = torch.device("cpu")
        self.shape = torch.Size(self._stored.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        at = rows if isinstance(rows, slice) else rows.cpu().numpy()
        taken = self._taken(at if self._which is None else self._which[at])
        if self._levels is not None:
            found = self._levels[taken]
        else:
            with np.errstate(over="ignore"):  # `Samples` refuses what is too large
                found = np.ascontiguousarray(taken, dtype=np.float32)
                if found.base is not None:  # still the file's
                    found = found.copy()
        self._let_go()
        return torch.from_numpy(found).to(self.device)

    def _taken(self, at: slice | np.ndarray) -> np.ndarray:
        """Rows as the file holds them; those of a slice may be the file's own."""
        if isinstance(at, slice):
            return self._stored[at]
        found = np.empty((*at.shape, *self._stored.shape[1:]), self._stored.dtype)
        flat, rows = at.reshape(-1), found.reshape(-1, *self._stored.shape[1:])
        for start in range(0, len(flat), _PICKED_ROWS):
            picked = slice(start, start + _PICKED_ROWS)
            rows[picked] = self._stored[flat[picked]]
            self._let_go()
        return found

    def _let_go(self) -> None:
        if self._pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)

    def only(self, which: Tensor) -> MappedRows:
        """Some of the rows, by their numbers."""
        fewer = copy.copy(self)
        chosen = which.cpu().numpy()
        fewer._which = chosen if self._which is None else self._which[chosen]
        fewer.shape = torch.Size((len(chosen), *self.shape[1:]))
        return fewer

    def dim(self) -> int:
        """Of the whole array."""
        return len(self.shape)

    def to(self, device: torch.device) -> MappedRows | Tensor:
        """All rows on a GPU if they take no more than `GPU_SHARE` of what is free there.

        Otherwise these stay on the host: rows are picked and converted there, and copied.
        """
        if device == self.device:
            return self
        if device.type == "cuda" and beyond(self.shape, _free_bytes(device)):
            moved = copy.copy(self)
            moved.device = device
            return moved
        whole = torch.empty(self.shape, dtype=torch.float32, device=device)
        for rows in blocks(self):
            whole[rows] = self[rows].to(device)
        return whole


Rows = Tensor | MappedRows


def only(x: Rows, which: Tensor) -> Rows:
    """Some of the rows, by their numbers; those of a file stay there."""
    return x.only(which) if isinstance(x, MappedRows) else x[which]


def beyond(shape: Sequence[int], most: float | None = None) -> bool:
    """Whether an array of this shape takes more bytes as float32 than `HELD_BYTES`, or `most`."""
    return math.prod(shape) * _FLOAT_BYTES > (HELD_BYTES if most is None else most)


def blocks(x: Rows) -> Iterator[slice]:
    """All rows in order, some million numbers at once."""
    count = max(1, _BLOCK_NUMBERS // max(1, math.prod(x.shape[1:])))
    for start in range(0, len(x), count):
        yield slice(start, min(start + count, len(x)))


def all_finite(x: Rows) -> bool:
    """Whether no number is NaN or infinite as float32."""
    return all(bool(torch.isfinite(x[rows]).all()) for rows in blocks(x))


def allocate(
    shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    limit: float | None = None,
) -> Tensor:
    """A tensor that is not yet filled; on a CPU in a temporary file, where it is a large one.

    The file is in the folder of temporary files (``TMPDIR``), which must be on a disk for it to
    spare memory, and has no name any more: it goes with the tensor, however the process ends.

    Args:
        shape: Its shape.
        dtype: Its type.
        device: Where it is.
        limit: Bytes up to which it is in memory; None for `HELD_BYTES`.

    Raises:
        OSError: If the disk has no room for it.
    """
    count, itemsize = math.prod(shape), dtype.itemsize
    small = count * itemsize <= (HELD_BYTES if limit is None else limit)
    if small or torch.device(device).type != "cpu":
        return torch.empty(tuple(shape), dtype=dtype, device=device)
    file, path = tempfile.mkstemp(prefix="ebm_core-")
    try:
        if hasattr(os, "posix_fallocate"):
            # a disk that fills up later would end the process by a signal
            os.posix_fallocate(file, 0, count * itemsize)
        flat = torch.from_file(path, shared=True, size=count, dtype=dtype)
    finally:
        os.close(file)
        os.unlink(path)
    return flat.reshape(tuple(shape))


def stacked(parts: Iterator[Tensor], count: int, limit: float | None = None) -> Tensor:
    """`torch.stack` of `count` tensors of one shape, allocated as by `allocate`.

    Args:
        parts: The tensors; one is held at a time.
        count: How many there are.
        limit: As in `allocate`.
    """
    first = next(parts)
    if count == 1:
        return first.unsqueeze(0)
    whole = allocate((count, *first.shape), first.dtype, first.device, limit)
    whole[0] = first
    del first
    for index, part in enumerate(parts, start=1):
        whole[index] = part
    return whole


def _free_bytes(device: torch.device) -> float:
    free, _ = torch.cuda.mem_get_info(device)
    return GPU_SHARE * free
