"""The log of a worker: all that is said while it works, and nothing after."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from study.worker_log import tail

REPOSITORY = Path(__file__).parents[1]


def said(code: str, path: Path) -> str:
    """What reaches standard output of a process whose log is at `path`."""
    whole = "import os, sys\nfrom study.worker_log import WorkerLog\nfrom pathlib import Path\n"
    whole += f"log = WorkerLog(Path({str(path)!r}))\n{code}\n"
    done = subprocess.run(
        [sys.executable, "-c", whole], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr


def test_it_holds_what_is_said_by_whomever_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "trials" / "pack.log"
    code = (
        "print('python'); os.write(1, b'library\\n'); print('error', file=sys.stderr)\n"
        "os.system('echo child')\nlog.close(); print('after')"
    )
    assert said(code, path) == "after\n"
    assert sorted(path.read_text().split()) == ["child", "error", "library", "python"]
    said("print('second attempt'); log.close()", path)
    assert tail(path).endswith("second attempt\n")


def test_a_crash_leaves_its_last_words(tmp_path: Path) -> None:
    path = tmp_path / "pack.log"
    said("import faulthandler; faulthandler.enable(); os.kill(os.getpid(), 11)", path)
    assert "Segmentation fault" in tail(path)


def test_a_log_that_says_nothing_is_not_left(tmp_path: Path) -> None:
    path = tmp_path / "pack.log"
    said("log.close()", path)
    assert not path.exists()
    assert tail(path) == ""


def test_of_a_long_log_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pack.log"
    path.write_bytes(b"x" * 10**6 + b"\xff the end")
    assert tail(path).endswith("� the end")
    assert len(tail(path)) < 30_000
    os.truncate(path, 0)
    assert tail(path) == ""
