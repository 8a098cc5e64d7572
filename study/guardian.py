"""Sees that nothing of a study outlives the command that runs it.

Ray ends its processes with those that started them, but some notice it after a minute only. The
guardian remembers the processes that were started below the command, waits for its end, whatever
it ends of, and then ends those that are left. It runs as a script, in a process of its own, and
imports next to nothing. It needs ``/proc``; where there is none, it does nothing.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# After the end of the command, its processes may still end by themselves.
_GRACE_SECONDS = 5.0
_INTERVAL_SECONDS = 0.5
_PROCESSES = Path("/proc")

# A process: its number, which is used again, and when it started.
Process = tuple[int, int]


@contextmanager
def guarded() -> Iterator[None]:
    """Ends what is started within and outlives this process."""
    guardian = subprocess.Popen(  # noqa: S603
        [sys.executable, "-I", "-S", __file__, str(os.getpid())],
        stdin=subprocess.PIPE,
        # Ctrl-C is for the command, and not for who waits for its end
        start_new_session=True,
    )
    try:
        yield
    finally:
        assert guardian.stdin is not None
        guardian.stdin.close()
        guardian.wait()


def descendants(ancestors: set[Process]) -> set[Process]:
    """These processes, as far as they live, and all that were started below them."""
    living = dict(_living())
    found = {each for each in ancestors if each in living}
    # numbers are used again: children of a stranger are no concern of ours
    strangers = {number for number, _ in living.keys() - ancestors}
    numbers = {number for number, _ in ancestors} - strangers
    grown = True
    while grown:
        below = {each for each, parent in living.items() if parent in numbers}
        grown = not below <= found
        found |= below
        numbers = {number for number, _ in found}
    return found


def _living() -> Iterator[tuple[Process, int]]:
    """All processes but zombies, each with the number of its parent."""
    for entry in _PROCESSES.glob("[0-9]*"):
        # it may be gone by now
        with suppress(OSError):
            stat = (entry / "stat").read_text(errors="replace")
            # the name in brackets may hold anything
            state, parent, *rest = stat.rpartition(")")[2].split()
            if state not in "ZX":
                yield (int(entry.name), int(rest[17])), int(parent)


def _main(command: int) -> None:
    own = {each for each, _ in _living() if each[0] in (command, os.getpid())}
    watched: set[Process] = set(own)
    while not select.select([sys.stdin], [], [], _INTERVAL_SECONDS)[0]:
        watched = descendants(watched)
    until = time.monotonic() + _GRACE_SECONDS
    while (left := descendants(watched) - own) and time.monotonic() < until:
        watched |= left
        time.sleep(_INTERVAL_SECONDS / 2)
    for number, _ in left:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(number, signal.SIGKILL)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
