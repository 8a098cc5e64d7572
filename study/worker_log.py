"""What a worker says while it works at a pack: kept beside the pack's checkpoint.

Whatever is written to standard output and error, by a user's network, by a library or by the
interpreter as it crashes, is in a file that whoever started the study can read, on whichever
machine it was.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# As much of its end as is ever read.
_TAIL_BYTES = 20_000


class WorkerLog:
    """Sends standard output and error to a file, until it is closed.

    Args:
        path: Appended to, so that it tells of earlier attempts too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _flush()
        self._before = [os.dup(1), os.dup(2)]
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)

    def close(self) -> None:
        """Gives both back; a log that says nothing is removed."""
        _flush()
        for stream, before in enumerate(self._before, start=1):
            os.dup2(before, stream)
            os.close(before)
        self._before = []
        if self.path.exists() and not self.path.stat().st_size:
            self.path.unlink()


def tail(path: Path) -> str:
    """The end of a log; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
