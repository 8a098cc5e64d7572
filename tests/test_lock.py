"""One process at a time holds a study, and a dead one holds none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ebm_core.errors import ConfigError
from study.lock import LockedError, hold

REPOSITORY = Path(__file__).parents[1]
HOLD = """
import sys, time
from pathlib import Path
from study.lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_it_is_held_once_and_free_again(tmp_path: Path) -> None:
    folder = tmp_path / "studies" / "mine"
    for _ in range(2):
        with hold(folder), pytest.raises(LockedError, match="mine is being run"), hold(folder):
            pass
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_another_study_is_another_lock(tmp_path: Path) -> None:
    with hold(tmp_path / "one"), hold(tmp_path / "two"):
        pass


def test_an_error_frees_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="lost"), hold(tmp_path):
        raise KeyError("lost")
    with hold(tmp_path):
        pass


def test_a_process_that_is_killed_frees_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env={"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with pytest.raises(LockedError, match="another process"), hold(tmp_path):
                pass
        finally:
            other.kill()
    with hold(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_a_problem_of_storage(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = pytest.raises(ConfigError, match=r"^storage: .*/file/mine cannot be used \(Not a dir")
    with told, hold(tmp_path / "file" / "mine"):
        pass
