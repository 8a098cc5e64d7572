"""Files that are either whole or not there."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\..+")


@contextmanager
def replacing(path: str | Path, keep_as: str | Path | None = None) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it at the end; an error leaves what was there.

    What was written is on the disk before it is renamed, so that a power failure leaves no empty
    file under the name either.

    Args:
        path: File to write; its folder is made. The temporary name has the same suffix.
        keep_as: Name in the same folder for what was there, instead of overwriting it: it is moved
            there before the new file is moved to `path`.

    Raises:
        OSError: If the disk is full, the folder is read-only, or the like, with its ``errno``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        yield temporary
        _flush(temporary)
        if keep_as is not None and path.exists():
            path.replace(keep_as)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def leftovers(path: str | Path) -> list[Path]:
    """Temporary files of `replacing` for a path: in use, or left by killed processes."""
    path = Path(path)
    name = re.compile(rf"\.[0-9a-f]{{32}}\.{re.escape(path.name)}")
    if not path.parent.is_dir():
        return []
    return sorted(each for each in path.parent.iterdir() if name.fullmatch(each.name))


def sweep(folder: str | Path) -> None:
    """Removes what killed processes have left of `replacing`, anywhere below a folder."""
    for path in Path(folder).rglob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
