"""The guardian: what outlives the command is ended, and nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study import guardian

REPOSITORY = Path(__file__).parents[1]
# A command with a child that hides: it renames itself, starts a child of its own and lives on
CODE = """
import subprocess, sys, time
from study.guardian import guarded
with guarded():
    child = subprocess.Popen([sys.executable, "-c",
        "import subprocess, sys, time; "
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(90)']).pid, "
        "flush=True); time.sleep(90)"], start_new_session=True)
    print(child.pid, flush=True)
    time.sleep({seconds})
"""


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_until(pids: list[int], seconds: float) -> float:
    """How long until all of these are gone."""
    began = time.monotonic()
    while any(map(alive, pids)) and time.monotonic() - began < seconds:
        time.sleep(0.05)
    assert not any(map(alive, pids))
    return time.monotonic() - began


@pytest.mark.parametrize("end", ["killed", "by itself"])
def test_nothing_outlives_the_command(end: str) -> None:
    seconds = 60 if end == "killed" else 2
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(90)"])
    command = subprocess.Popen(
        [sys.executable, "-c", CODE.format(seconds=seconds)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    below = [int(command.stdout.readline()) for _ in range(2)]
    assert all(map(alive, below))
    time.sleep(1.2)  # it looks twice a second
    if end == "killed":
        command.kill()
    assert wait_until(below, 20) < 12
    command.wait(), command.stdout.close()
    assert alive(stranger.pid)
    stranger.kill(), stranger.wait()


def test_a_number_that_is_used_again_is_another_process() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(90)"])
    living = {number: start for (number, start), _ in guardian._living()}
    own = {(os.getpid(), living[os.getpid()])}
    assert (child.pid, living[child.pid]) in guardian.descendants(own)
    assert guardian.descendants({(child.pid, living[child.pid] - 1)}) == set()
    child.send_signal(signal.SIGKILL)
    time.sleep(0.2)  # a zombie, until it is waited for
    assert not any(number == child.pid for number, _ in guardian.descendants(own))
    child.wait()
