"""Output whose reader may go away, as `head` does once it has seen enough."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO


class _Outliving:
    """A stream that drops what nobody reads any more, in place of ending the command."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        """What is left in the buffer goes nowhere, and so does all that follows."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def outlive_reader() -> None:
    """From now on work is not lost because nobody reads what is said of it."""
    for name in ("stdout", "stderr"):
        # None where there is no such stream at all, which `print` knows
        if (stream := getattr(sys, name)) is not None:
            setattr(sys, name, _Outliving(stream))
