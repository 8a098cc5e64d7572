"""A command whose reader goes away does its work all the same."""

from __future__ import annotations

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


def unread(*words: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Runs a command whose standard output is closed at the other end before it says a word."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(words, process.returncode, b"", errors)


def test_a_training_is_written_that_nobody_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(dump_yaml(SMALL))
    words = ("ebm_core", "train", "--config", "c.yaml", "--out", "run", "--quiet")
    done = unread(*words, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
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
