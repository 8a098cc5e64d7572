"""A command whose reader goes away does its work all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ebm_core.document import dump_yaml

SMALL = {
    "preset": "digits",
    "network": {"name": "mlp", "widths": [4]},
    "langevin_steps": 2,
    "updates": 30,
    "window": 20,
    "anneal_updates": 0,
    "device": "cpu",
}


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_without_a_stream_the_work_is_done(tmp_path: Path, closed: str) -> None:
    (tmp_path / "s.py").write_text(
        "import sys\nfrom ebm_core.standard_output import outlive_reader\noutlive_reader()\n"
        "print('a')\nprint('b', file=sys.stderr)\nopen('done', 'w').close()\n"
    )
    done = subprocess.run(
        ["sh", "-c", f"exec '{sys.executable}' s.py {closed}"], cwd=tmp_path, check=False
    )
    assert done.returncode == 0
    assert (tmp_path / "done").exists()


def unread(*words: str, folder: Path, apart: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Runs a command whose standard output is closed at the other end before it says a word."""
    with (folder / "errors").open("w+b") as errors:
        reading, writing = os.pipe()
        os.close(reading)
        # without a file for them errors go the same way
        said = {"stderr": errors} if apart else {"stderr": writing}
        done = subprocess.run(
            [sys.executable, "-m", *words], stdout=writing, **said, cwd=folder, check=False
        )
        os.close(writing)
        errors.seek(0)
        return subprocess.CompletedProcess(words, done.returncode, b"", errors.read())


@pytest.mark.parametrize("apart", [True, False], ids=["output", "output and errors"])
def test_a_training_is_written_that_nobody_is_told_of(tmp_path: Path, apart: bool) -> None:
    (tmp_path / "c.yaml").write_text(dump_yaml(SMALL))
    words = ("ebm_core", "train", "--config", "c.yaml", "--out", "run")
    done = unread(*words, folder=tmp_path, apart=apart)
    assert done.returncode == 0
    assert b"Error" not in done.stderr
    assert {"traces.npz", "checkpoint.pt", "samples.png"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


@pytest.mark.parametrize(
    "words",
    [
        ("ebm_core", "diagnose", "traces.npz", "--epsilon", "0.1", "--dimensions", "64"),
        ("study.run", "s.yaml", "--dry-run"),
        ("study.report", "nothing"),
    ],
    ids=lambda words: words[0],
)
def test_no_command_ends_in_a_traceback(tmp_path: Path, words: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "traces.npz", d=rng.normal(size=900), r=rng.uniform(1, 2, size=900))
    study = {
        "name": "tiny",
        "base": SMALL,
        "parameters": {"epsilon": {"distribution": "grid", "values": [0.1]}},
        "method": "grid",
        "long_run": {"steps": 0},
    }
    (tmp_path / "s.yaml").write_text(dump_yaml(study))
    done = unread(*words, folder=tmp_path)
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr
    assert done.returncode == (2 if words[0] == "study.report" else 0)
