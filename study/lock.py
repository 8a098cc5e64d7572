"""The lock of a study: one process at a time trains it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ebm_core.errors import ConfigError, Problem

FILE = ".lock"


class LockedError(RuntimeError):
    """Another process trains the study."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keeps a study to this process, and frees it at the end; does not wait.

    The kernel frees it when the process dies, whatever it dies of. The file stays: one that is
    removed could be locked by a process that opened it just before, beside its successor's.

    Args:
        folder: Of the study, named after it; made if it is not there.

    Raises:
        LockedError: If another process holds it.
        ConfigError: If the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / FILE).open("a")
    except OSError as error:
        rule = f"{folder} cannot be used ({error.strerror})"
        raise ConfigError([Problem("storage", rule)]) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                f"{folder.name} is being run by another process; wait for its end, or begin anew "
                "with --fresh"
            ) from None
        yield
