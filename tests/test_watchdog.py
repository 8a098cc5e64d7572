"""The watchdog: it ends a worker that takes too long or too much, and nobody else."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.failures import Kind, told
from study.watchdog import STATUS, Watchdog, resident_bytes

REPOSITORY = Path(__file__).parents[1]
LEAK = "held = []\nwhile True:\n    held.append(bytearray(10**7)); time.sleep(0.01)"
HANG = "def hang():\n    while True:\n        time.sleep(0.01)\nhang()"


@pytest.mark.parametrize(
    ("limits", "work", "kind", "said"),
    [
        ("0.5, None", HANG, Kind.TIMEOUT, "not done after 0.5 s"),
        ("60, 0.2", LEAK, Kind.MEMORY, "GB, over its 0.2 GB"),
    ],
)
def test_what_hangs_or_leaks_is_ended_and_says_why(
    limits: str, work: str, kind: Kind, said: str
) -> None:
    code = f"import time\nfrom study.watchdog import Watchdog\nWatchdog({limits}).start()\n{work}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == STATUS
    failure = told("ActorDiedError: the actor died", done.stderr)
    assert failure.kind is kind
    assert said in failure.headline
    if kind is Kind.TIMEOUT:
        assert "in hang" in failure.cause  # where it was


def test_who_keeps_to_its_limits_goes_on() -> None:
    with Watchdog(30.0, 50.0):
        time.sleep(0.6)
    with Watchdog(None, None) as free:
        assert free._thread is None


def test_it_does_not_bite_after_the_end() -> None:
    watchdog = Watchdog(0.3, None)
    watchdog.start()
    watchdog.stop()
    time.sleep(0.8)  # it would have ended this process
    assert watchdog._thread is not None
    assert not watchdog._thread.is_alive()


def test_memory_is_what_is_held_now() -> None:
    before = resident_bytes()
    held = bytearray(2 * 10**8)
    held[::4096] = b"x" * len(held[::4096])
    assert resident_bytes() > before + 1.5e8
    del held
    assert resident_bytes() < before + 1e8
