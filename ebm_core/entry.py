"""How a command begins and ends: without a wait, and whoever reads what it says."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import NoReturn

from ebm_core.standard_output import outlive_reader

# Libraries make a million objects that stay: to look through them while they are made costs more
# than a second.
_NEW_OBJECTS = 10_000


def run_command(main: Callable[[], int]) -> NoReturn:
    """Runs the main function of a command, and ends the process with its exit code."""
    gc.set_threshold(_NEW_OBJECTS)
    outlive_reader()
    code = main()
    gc.freeze()  # nor is anything to be looked through once more at the end
    sys.exit(code)
