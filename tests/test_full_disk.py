"""A disk that is full, or may no longer be written, in the middle of a study; for real.

The study ends by itself and says why; what it had is whole, and the same command finishes it.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

from same_study import LOG, compared
from survivors import Started
from test_kill_campaign import SAVED, written

from ebm_core import checkpoint
from ebm_core.document import dump_yaml

REPOSITORY = Path(__file__).parents[1]
NAME = "starved"
STUDY: dict[str, Any] = {
    "name": NAME,
    "base": {
        "data": "gmm",
        "network": {"name": "toy", "widths": [8]},
        "epsilon": 0.1,
        "eps_data_ratio": 1.0,
        "gamma_0": 0.02,
        "gamma_start": 0.05,
        "anneal_updates": 20,
        "langevin_steps": 20,
        "batch_size": 50,
        "bank_size": 200,
        "updates": 1500,
        "window": 400,
        "report_interval": 10,
        "checkpoint_interval": 50,
        "device": "cpu",
    },
    "parameters": {"epsilon": {"distribution": "loguniform", "min": 0.05, "max": 0.3}},
    "method": "sobol",
    "trials": 2,
    "long_run": {"steps": 0},
    "resources": {"members_per_trial": 1, "cpus_per_trial": 1},
}
# The most that may pass from the moment when nothing can be written to the end of the command
PATIENCE_SECONDS = 60.0
# Root may write where nobody may, unless it gives that up: PR_CAPBSET_DROP of CAP_DAC_OVERRIDE and
# CAP_DAC_READ_SEARCH
AS_ANYONE = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
# Where no file system may be mounted: Python's files cannot be written while there is a ballast
INJECTED = """
import builtins, errno, io, os

real, folder = io.open, {folder!r}

def limited(file, mode="r", *arguments, **options):
    if set(mode) & set("wax+") and str(file).startswith(folder) and os.path.exists({ballast!r}):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
    return real(file, mode, *arguments, **options)

io.open = builtins.open = limited
"""


class Disk:
    """A small disk of its own for the studies of a folder, which can be filled.

    Args:
        folder: Where the command runs.
        megabytes: Its size.
    """

    def __init__(self, folder: Path, megabytes: int = 8) -> None:
        self.folder = folder / "studies"
        self.folder.mkdir(parents=True)
        size = f"size={megabytes}m"
        mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(self.folder)]
        try:
            self.mounted = not subprocess.run(mount, capture_output=True, check=False).returncode
        except FileNotFoundError:
            self.mounted = False
        # where it is not compared
        self.ballast = (self.folder if self.mounted else folder / "mlartifacts") / "ballast"
        self.path = ""
        if not self.mounted:
            self.path = str(folder / "mlartifacts")
            Path(self.path).mkdir()
            text = INJECTED.format(folder=str(self.folder), ballast=str(self.ballast))
            (folder / "mlartifacts" / "sitecustomize.py").write_text(text)

    def fill(self) -> None:
        """Leaves no byte."""
        with self.ballast.open("wb", buffering=0) as file:
            while self.mounted:
                try:
                    file.write(bytes(4096))
                except OSError:
                    return

    def make_room(self) -> None:
        self.ballast.unlink()

    def remove(self) -> None:
        if self.mounted:
            # the databases that were compared may still be open here
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


def start(folder: Path, *before: str, path: Sequence[str] = ()) -> Started:
    """The command that runs, or continues, the study of a folder."""
    (folder / "s.yaml").write_text(dump_yaml(STUDY))
    command = [*before, "-m", "study.run", "s.yaml", "--workers", "2", "--no-progress"]
    python = os.pathsep.join([*filter(None, path), str(REPOSITORY)])
    return Started([sys.executable, *command], folder, folder / LOG, {"PYTHONPATH": python})


def said(folder: Path) -> str:
    """What the command said since it was asked last."""
    text = (folder / LOG).read_text()
    (folder / LOG).write_text("")
    return text


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path)
    yield found
    found.remove()


def check_stopped(run: Started, folder: Path, *reasons: str) -> None:
    """It ends by itself, says why in two lines, and leaves no process."""
    began = time.monotonic()
    code = run.wait(PATIENCE_SECONDS)
    if code is None:
        run.kill_all()
    seconds, text = time.monotonic() - began, said(folder)
    print(f"ended after {seconds:.1f} s, {run.outlived(30):.1f} s before its last process")
    assert code == 1, text
    assert text.count("\n") == 2, text
    first, second = text.splitlines()
    assert first.startswith(f"studies/{NAME} cannot be written (")
    assert any(reason in first for reason in reasons), first
    assert second == "What is recorded is safe; once there is room, the same command continues."


def check_whole(folder: Path) -> None:
    """Nothing of it is damaged."""
    study = folder / "studies" / NAME
    with closing(sqlite3.connect(study / "optuna.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    saved = list(study.glob("trials/*/pack-*.pt"))
    assert saved
    for path in saved:
        assert checkpoint.load(path)["update"] > 0


def check_finished(run: Started, folder: Path) -> None:
    assert run.wait(300) == 0, said(folder)
    run.outlived(30)


def test_what_cannot_be_written_stops_the_study_and_harms_nothing(
    disk: Disk, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same study meets a disk that fills up, and then a folder that becomes read-only."""
    study = tmp_path / "studies" / NAME
    run = start(tmp_path, path=[disk.path])
    written(run, study, SAVED)
    disk.fill()
    check_stopped(run, tmp_path, "No space left on device", "database or disk is full")
    check_whole(tmp_path)
    disk.make_room()

    run = start(tmp_path, "-c", AS_ANYONE)
    written(run, study, SAVED)
    subprocess.run(["chmod", "-R", "a-w", "studies"], cwd=tmp_path, check=True)
    try:
        sqlite = ("readonly", "unable to open database", "disk I/O error")
        check_stopped(run, tmp_path, "Permission denied", *sqlite)
        check_whole(tmp_path)
    finally:
        subprocess.run(["chmod", "-R", "u+w", "studies"], cwd=tmp_path, check=True)

    check_finished(start(tmp_path), tmp_path)
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    check_finished(start(undisturbed), undisturbed)
    found = compared(undisturbed, tmp_path, NAME)
    assert found.same, found
