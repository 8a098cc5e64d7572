"""Ends a worker that takes too long or holds too much memory; a thread of that worker.

It ends the process: what hangs or leaks does not listen, and a new process has its memory back.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
import traceback
from types import TracebackType

from study.failures import Kind, marked

# How often it looks.
_INTERVAL_SECONDS = 0.25
# The exit status of a process that it ends.
STATUS = 70


class Watchdog:
    """Watches its own process while it is entered.

    Args:
        seconds: The most that it may take; None for any.
        gigabytes: The most memory that it may hold; None for any.
    """

    def __init__(self, seconds: float | None, gigabytes: float | None) -> None:
        self._seconds, self._gigabytes = seconds, gigabytes
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to watch; does nothing where nothing is limited."""
        if self._seconds is not None or self._gigabytes is not None:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends watching."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Watchdog:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _watch(self) -> None:
        began = time.monotonic()
        while not self._over.wait(_INTERVAL_SECONDS):
            if self._seconds is not None and time.monotonic() - began > self._seconds:
                # where it hangs is what one wants to know
                os.write(2, "".join(_working()).encode())
                _end(Kind.TIMEOUT, f"not done after {self._seconds:g} s")
            if self._gigabytes is not None and resident_bytes() > self._gigabytes * 1e9:
                limit = f"{resident_bytes() / 1e9:.2f} GB, over its {self._gigabytes:g} GB"
                _end(Kind.MEMORY, f"out of memory: the worker holds {limit}")


def _working() -> list[str]:
    """Where the work is, its innermost line last."""
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    return traceback.format_stack(main) if main is not None else []


def _end(kind: Kind, message: str) -> None:
    os.write(2, f"{marked(kind, message)}\n".encode())
    os._exit(STATUS)


def resident_bytes() -> int:
    """Memory that this process holds now, where the system tells; else the most it has held."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
