"""How far a command has come: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

_LINE_SECONDS = 10.0


class Progress:
    """Counts up to a total on the standard error stream.

    Args:
        total: Where the count ends.
        unit: What is counted.
        done: Where it starts.
        quiet: Shows nothing.
    """

    def __init__(self, total: int, unit: str, done: int = 0, quiet: bool = False) -> None:
        self._total, self._unit, self._done = total, unit, done
        self._bar: Any = None
        self._plain = not quiet and not sys.stderr.isatty()
        self._told = time.monotonic()
        if not quiet and not self._plain:
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit=f" {unit}", dynamic_ncols=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, done: int, detail: str = "") -> None:
        """Shows a new count, and a few words beside it."""
        if self._bar is not None:
            self._bar.set_postfix_str(detail, refresh=False)
            self._bar.update(done - self._done)
        self._done = done
        now = time.monotonic()
        if self._plain and (done >= self._total or now - self._told >= _LINE_SECONDS):
            self._told = now
            share = f"{done:,} of {self._total:,} {self._unit}"
            sys.stderr.write(f"{share}  {detail}".rstrip() + "\n")
            sys.stderr.flush()
