"""Where a command writes to, found out before its work, and how it says its warnings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ebm_core.checkpoint import CheckpointWarning
from ebm_core.errors import ConfigError, Problem


def make_folder(folder: Path) -> Path:
    """Makes a folder before any work is done for it.

    Raises:
        ConfigError: If it cannot be written to.
    """
    with _refused("folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    return folder


def check_file(path: Path) -> Path:
    """Finds out whether a file can be written before any work is done for it; it stays as it was.

    Raises:
        ConfigError: If it cannot.
    """
    with _refused("file", path):
        new = not path.exists()
        with path.open("ab"):
            pass
        if new:
            path.unlink()
    return path


@contextmanager
def _refused(kind: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        rule = f"must be a {kind} to write to ({error.strerror})"
        raise ConfigError([Problem("--out", rule, str(path))]) from None


@contextmanager
def warnings_said(say: Callable[[str], None]) -> Iterator[None]:
    """Warnings as lines of their own, without the place in the program that they come from."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CheckpointWarning)
        try:
            yield
        finally:
            for warning in caught:
                say(f"warning: {warning.message}")
