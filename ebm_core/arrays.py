"""Arrays of real numbers from npy, npz and pt files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebm_core.errors import DataError
from ebm_core.mapped import MappedRows, Rows, beyond


def read_array(path: Path, key: str | None) -> Rows:
    """The array in a file, as the file holds it; one of shape (n,) becomes (n, 1).

    One in an npy file beyond `mapped.HELD_BYTES` as float32 is left there; npz and pt files are
    read whole.

    Args:
        path: An npy, npz or pt file; loading runs no code from it.
        key: Which array, where the file holds several.

    Raises:
        DataError: If there is no such array of real numbers.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        if path.suffix in (".pt", ".pth"):
            content = torch.load(path, weights_only=True, map_location="cpu")
        else:
            content = _read_numpy(path)
    except Exception as error:  # whatever the reader says is for the user, with the file's name
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: cannot be read as an array: {reason}") from error
    array = _pick(content, path, key)
    if not isinstance(array, Tensor | np.ndarray):
        raise DataError(f"{path}: must hold an array, got {type(array).__name__}")
    if isinstance(array, np.ndarray):
        if array.dtype.kind not in "iuf":
            raise DataError(f"{path}: must hold real numbers, got {array.dtype}")
        if isinstance(array, np.memmap) and beyond(array.shape):
            return MappedRows(array)
        with np.errstate(over="ignore"):  # `Samples` refuses what is too large
            array = torch.from_numpy(array.astype(np.float32))
    if array.is_complex() or array.dtype == torch.bool:
        raise DataError(f"{path}: must hold real numbers, got {array.dtype}")
    return array[:, None] if array.dim() == 1 else array


def _read_numpy(path: Path) -> Any:
    # a byte may be a number of its own; copy on write, since torch warns of what it must not write
    large = path.suffix == ".npy" and beyond((path.stat().st_size,))
    mode: Any = "c" if large else None
    content = np.load(path, mmap_mode=mode, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        return {name: content[name] for name in content.files}


def _pick(content: Any, path: Path, key: str | None) -> Any:
    if not isinstance(content, dict):
        if key is not None:
            raise DataError(f"{path}: holds one array without a name, got data.key={key!r}")
        return content
    names = list(content)
    if key is None and len(names) == 1:
        return content[names[0]]
    if key not in names:
        raise DataError(f"{path}: `data.key` must be one of {names}, got {key!r}")
    return content[key]
