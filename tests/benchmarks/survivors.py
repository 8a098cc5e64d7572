"""Commands whose processes can be found, however they came to be, for as long as they live.

Each command carries a mark in its environment, which everything that is started below it inherits:
Ray's processes too, whoever their parent is by then. It needs ``/proc``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MARK = "STARTED_BY"


class Started:
    """A command that runs, and the processes that it has started.

    Args:
        command: With its arguments.
        folder: Where it runs.
        log: What it says is appended here.
        environment: Beside that of this process.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str]
    ) -> None:
        self._mark = uuid.uuid4().hex
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **environment, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def wait(self, seconds: float) -> int | None:
        """Its exit code; None if it still runs after so many seconds."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """SIGKILL to the command alone."""
        self._process.kill()
        self._process.wait()

    def kill_one(self, number: int) -> None:
        """SIGKILL to one of its processes."""
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)

    def kill_all(self) -> None:
        """SIGKILL to the command and everything below it, as when a machine is lost."""
        while left := self.processes():
            for number in left:
                self.kill_one(number)
            # what was being started meanwhile comes next
            time.sleep(0.05)
        self._process.wait()

    def processes(self) -> dict[int, str]:
        """Those that live, the command included: number and title."""
        mark = f"{MARK}={self._mark}".encode()
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            # of someone else, or gone by now; what has ended and is only to be noted has none
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    title = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry.name)] = title.decode(errors="replace").strip()
        return found

    def workers(self) -> dict[int, Path | None]:
        """Ray's workers, and where each now writes what it says: the log of a pack it trains."""
        # agents belong to the node, which does not go on without them
        return {
            number: _output(number)
            for number, title in self.processes().items()
            if title.startswith("ray::") and "Agent" not in title
        }

    def outlived(self, most: float) -> float:
        """Waits until no process is left; returns after how many seconds that is so.

        Raises:
            AssertionError: If there is one after `most` seconds.
        """
        began = time.monotonic()
        while left := self.processes():
            seconds = time.monotonic() - began
            assert seconds < most, f"{seconds:.0f} s after its end there are {left}"
            time.sleep(0.2)
        return time.monotonic() - began


def _output(number: int) -> Path | None:
    """The log of a pack that a process writes to; None if it writes elsewhere, or is gone."""
    with suppress(OSError):
        path = Path(f"/proc/{number}/fd/1").readlink()
        if path.name.startswith("pack-"):
            return path
    return None
