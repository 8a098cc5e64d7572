"""How long a worker trains before it reports, listens and saves: by the clock, not by updates.

Results do not depend on it; how soon a wish to stop is heard, and how much an interruption costs,
do.
"""

from __future__ import annotations

import math
import time

# A wish to stop is heard this soon, or after the update that is under way.
_SLICE_SECONDS = 0.5
# A report is due after this long at the latest.
_CHUNK_SECONDS = 2.0
# A checkpoint is due after this long at the latest, or so that saving takes a 20th of the time.
_SAVE_SECONDS = 60.0
_SAVE_SHARE = 0.05


class Pace:
    """Clocks of one worker.

    Args:
        update: How many updates are made already.
    """

    def __init__(self, update: int) -> None:
        self._update = update
        self._began = self._mark = self._saved_at = time.perf_counter()
        # until it is known, one at a time
        self._seconds_an_update = math.inf
        self._save_every = _SAVE_SECONDS

    def begin_chunk(self) -> None:
        """A chunk of updates begins."""
        self._began = self._mark = time.perf_counter()

    @property
    def chunk_over(self) -> bool:
        """Whether it is time to report."""
        return time.perf_counter() - self._began > _CHUNK_SECONDS

    @property
    def save_due(self) -> bool:
        """Whether a checkpoint is due by the clock."""
        return time.perf_counter() - self._saved_at > self._save_every

    def slice_end(self, update: int) -> int:
        """The update after which to listen."""
        return update + max(1, int(_SLICE_SECONDS / max(self._seconds_an_update, 1e-9)))

    def made(self, update: int) -> None:
        """Updates were made since this was called last, or the chunk began."""
        now = time.perf_counter()
        if update > self._update:
            self._seconds_an_update = (now - self._mark) / (update - self._update)
        self._update, self._mark = update, now

    def saved(self, seconds: float) -> None:
        """A checkpoint was saved, which took so long."""
        self._saved_at = time.perf_counter()
        self._save_every = max(_SAVE_SECONDS, seconds / _SAVE_SHARE)
