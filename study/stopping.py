"""A wish to end before all is done: of whoever presses Ctrl-C, or because the disk is full."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from study import permit

# Workers that were asked to stop are waited for this long: what they have not saved is no more
# than they had to do since their last checkpoint.
PATIENCE_SECONDS = 8.0
# And so long until the process ends, if even that does not work.
_GRACE_SECONDS = 7.0
# Whoever sends one of these wants what Ctrl-C wants: a queue that needs the machine back, a
# terminal that is closed.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class OverdueError(RuntimeError):
    """Workers did not stop in time."""


class Stopping:
    """Asks the workers of a study to stop, once there is a reason to.

    Attributes:
        signal: The signal that asked for it, None if none did.
        error: What made it necessary, None if nothing did.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.error: BaseException | None = None
        self._permits: set[Path] = set()
        self._since: float | None = None
        # a signal to the whole group may have ended Ray, too, which this process then waits for
        self._last = threading.Timer(PATIENCE_SECONDS + _GRACE_SECONDS, self._insist)
        self._last.daemon = True

    @property
    def asked(self) -> bool:
        """Whether to stop."""
        return self._since is not None

    def began(self, permitted: Path) -> None:
        """An attempt runs that has this permit."""
        self._permits.add(permitted)
        if self.asked:
            permit.withdraw(permitted)

    def ended(self, permitted: Path) -> None:
        """It does not run any more."""
        self._permits.discard(permitted)

    def ask(self, error: BaseException | None = None) -> None:
        """Has all workers save and stop; the first error is the one that counts."""
        self.error = self.error or error
        self._since = self._since or time.monotonic()
        for permitted in list(self._permits):
            permit.withdraw(permitted)

    def check(self) -> None:
        """Is called now and then.

        Raises:
            OverdueError: If workers were asked to stop and still run.
        """
        if self._since is not None and time.monotonic() - self._since > PATIENCE_SECONDS:
            raise OverdueError("workers did not stop in time")

    def _insist(self) -> None:
        """Ends the process: whatever it waits for, Ray foremost, does not come."""
        sys.stderr.write("Stopped at once; the same command continues.\n")
        sys.stderr.flush()
        os._exit(128 + (self.signal or signal.SIGTERM))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the first signal to end as a wish, and the second as an order."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self._heard) for each in _SIGNALS}
        try:
            yield
        finally:
            self._last.cancel()
            for each, handler in before.items():
                signal.signal(each, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        self._last.start()
        self.ask()
