"""Checkpoints: written to a temporary name and renamed, read back without executing code."""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from ebm_core.errors import CheckpointError

FORMAT = 1

# Compared by `type`, not `isinstance`: numpy's float64 is a float, and cannot be read back
_NUMBERS_AND_TEXT = (bool, int, float, str, type(None))


def save(state: dict[str, Any], path: str | Path) -> Path:
    """Writes the state of a trainer; an interruption leaves the file that was there before.

    Args:
        state: Tensors, numbers, text, None, and lists, tuples and dictionaries of these.
        path: File to write; its folder is made.

    Raises:
        TypeError: If there is anything else in the state, which `load` would refuse.
    """
    content = {"format": FORMAT, **_plain(state, "state")}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load(
    path: str | Path, device: torch.device | str = "cpu", keys: Collection[str] = ()
) -> dict[str, Any]:
    """Reads a checkpoint; nothing in it is executed.

    Args:
        path: File that `save` wrote.
        device: Where the tensors go.
        keys: What it must hold.

    Raises:
        CheckpointError: If the file is missing, damaged, or no checkpoint of this package, or
            lacks one of the keys.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged and for unsafe files
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(f"{path}: `format == {FORMAT}` must hold, got {found!r}")
    missing = [key for key in keys if key not in state]
    if missing:
        raise CheckpointError(f"{path}: no whole checkpoint: it lacks {', '.join(missing)}")
    return state


def _plain(value: Any, place: str) -> Any:
    """The same content, checked; a tensor that is part of a larger one without the rest of it."""
    if type(value) is dict:
        return {key: _plain(inner, f"{place}.{key}") for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(inner, f"{place}.{i}") for i, inner in enumerate(value))
    if isinstance(value, torch.Tensor):
        whole = value.untyped_storage().nbytes() == value.nbytes
        return value.detach() if whole else value.detach().clone()
    if type(value) not in _NUMBERS_AND_TEXT:
        raise TypeError(f"{place}: a checkpoint cannot hold a {type(value).__name__}")
    return value
