"""Checkpoints: whole or not at all, with a digest and the one before; nothing in them is executed.

A file holds a dictionary that ``torch.load(path, weights_only=True)`` reads: the ``format``, the
``digest`` and the ``state``.
"""

from __future__ import annotations

import hashlib
import struct
import warnings
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebm_core.errors import CheckpointError
from ebm_core.files import leftovers, replacing

FORMAT = 2

# Compared by `type`, not `isinstance`: numpy's float64 is a float, and cannot be read back
_NUMBERS_AND_TEXT = (bool, int, float, str, type(None))

# The files that this process wrote last, as told by `_identity`: to read them again before they
# are kept would cost more than to write them.
_written: deque[tuple[int, ...]] = deque(maxlen=64)


class CheckpointWarning(UserWarning):
    """A checkpoint cannot be used, and the one before it is."""


def save(state: dict[str, Any], path: str | Path, keep_previous: bool = False) -> Path:
    """Writes the state of a trainer; an interruption leaves the file that was there before.

    Args:
        state: Tensors, numbers, text, None, and lists, tuples and dictionaries of these.
        path: File to write; its folder is made.
        keep_previous: Keeps what was there as `previous` of the path, if it is whole: once there
            was a whole checkpoint, one of the two names holds one at any moment. A damaged file
            is overwritten, and the one before it stays. For that a file is read which another
            process wrote, or which has changed since.

    Raises:
        TypeError: If there is anything else in the state, which `load` would refuse.
        OSError: If it cannot be written; the disk may be full.
    """
    plain = _plain(state, "state")
    content = {"format": FORMAT, "digest": digest(plain), "state": plain}
    path = Path(path)
    with replacing(path, previous(path) if keep_previous and _is_whole(path) else None) as file:
        _write(content, file)
        _written.append(_identity(file))
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
        CheckpointError: If the file is missing, damaged, changed since it was written, or no
            checkpoint of this package, or lacks one of the keys.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        known = type(found) is int and found == FORMAT
        same = known and content["digest"] == digest(content["state"])
    except Exception as error:  # torch raises many kinds for damaged and for unsafe files
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {reason}") from error
    if not known:
        raise CheckpointError(f"{path}: `format == {FORMAT}` must hold, got {found!r}")
    if not same:
        rule = "damaged or changed since it was written, as its digest tells"
        raise CheckpointError(f"{path}: {rule}")
    state: dict[str, Any] = content["state"]
    missing = [key for key in keys if key not in state]
    if missing:
        raise CheckpointError(f"{path}: no whole checkpoint: it lacks {', '.join(missing)}")
    return state


def load_newest(path: str | Path, keys: Collection[str] = ()) -> tuple[dict[str, Any], Path]:
    """Reads a checkpoint, or the one before it where this one cannot be used.

    Args:
        path: File that `save` wrote.
        keys: What it must hold.

    Returns:
        The state, and the file that it is from.

    Raises:
        CheckpointError: If neither can be used; it tells why of both.

    Warns:
        CheckpointWarning: If it is the one before, and why.
    """
    try:
        return load(path, keys=keys), Path(path)
    except CheckpointError as error:
        before, newest = previous(path), error
        if not before.exists():
            raise
    try:
        state = load(before, keys=keys)
    except CheckpointError as error:
        raise CheckpointError(f"{newest}; nor can the one before be used: {error}") from error
    told = f"{newest}; the one before it is used, {before}"
    warnings.warn(told, CheckpointWarning, stacklevel=2)
    return state, before


def previous(path: str | Path) -> Path:
    """Where `save` keeps the checkpoint before: ``pack-0.previous.pt`` for ``pack-0.pt``."""
    path = Path(path)
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def exists(path: str | Path) -> bool:
    """Whether there is a checkpoint or the one before: a kill amid `save` may leave just that."""
    return Path(path).exists() or previous(path).exists()


def remove(path: str | Path) -> None:
    """Removes a checkpoint, the one before, and what killed processes left unfinished.

    Nobody may be writing it. The newest goes last: it is what is left where this is cut short.
    """
    for each in (*leftovers(path), previous(path), Path(path)):
        each.unlink(missing_ok=True)


def digest(state: Any) -> str:
    """SHA-256 of the keys, types, shapes and bits of a state, hexadecimal.

    It tells damage and changes by accident; who changes a file on purpose can write another one.

    Raises:
        TypeError: If there is something in it that a checkpoint cannot hold.
    """
    found = hashlib.sha256()
    for chunk in _chunks(state, ()):
        found.update(chunk)
    return found.hexdigest()


def _chunks(value: Any, keys: tuple[Any, ...]) -> Iterator[Any]:
    """Bytes from which a tree could be built again, in the order of its keys."""
    kind = type(value)
    if kind is dict or kind is list or kind is tuple:
        yield repr((keys, kind.__name__, len(value))).encode()
        for key, inner in value.items() if kind is dict else enumerate(value):
            yield from _chunks(inner, (*keys, key))
    elif isinstance(value, Tensor):
        head = (keys, str(value.dtype), tuple(value.shape), value.requires_grad)
        yield repr(head).encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    elif kind in _NUMBERS_AND_TEXT:
        # NaN is NaN in every text, but has many bit patterns
        exact = struct.pack("<d", value) if kind is float else value
        yield repr((keys, kind.__name__, exact)).encode()
    else:
        raise TypeError(f"a checkpoint cannot hold a {kind.__name__}")


def _write(content: dict[str, Any], path: Path) -> None:
    try:
        with path.open("xb") as file:
            torch.save(content, file)
    except RuntimeError as error:
        # torch ends its archive after a failed write as well, and complains of that only
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        raise cause or error from None


def _is_whole(path: Path) -> bool:
    if not path.is_file():
        return False
    if _identity(path) in _written:
        return True
    try:
        load(path)
    except CheckpointError:
        return False
    return True


def _identity(path: Path) -> tuple[int, ...]:
    """Tells a file from any other and from its changed self, whatever its name."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _plain(value: Any, place: str) -> Any:
    """The same content, checked; a tensor that is part of a larger one without the rest of it."""
    if type(value) is dict:
        return {key: _plain(inner, f"{place}.{key}") for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(inner, f"{place}.{i}") for i, inner in enumerate(value))
    if isinstance(value, Tensor):
        whole = value.untyped_storage().nbytes() == value.nbytes
        return value.detach() if whole else value.detach().clone()
    if type(value) not in _NUMBERS_AND_TEXT:
        raise TypeError(f"{place}: a checkpoint cannot hold a {type(value).__name__}")
    return value
