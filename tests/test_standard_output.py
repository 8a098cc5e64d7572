"""A command whose reader goes away does its work all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
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


def unread(words: Sequence[str], folder: Path, apart: bool = True) -> subprocess.Popen[bytes]:
    """Begins a command whose standard output is closed at the other end before it says a word.

    Args:
        words: After ``python -m``.
        folder: Where it runs.
        apart: False sends errors the same way; they are in the file ``errors`` else.
    """
    reading, writing = os.pipe()
    os.close(reading)
    with (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdout=writing,
            stderr=errors if apart else writing,
            cwd=folder,
        )
    os.close(writing)
    return process


COMMANDS: dict[str, tuple[tuple[str, ...], bool, int]] = {
    "train": (("ebm_core", "train", "--config", "c.yaml", "--out", "run"), True, 0),
    "train and errors": (("ebm_core", "train", "--config", "c.yaml", "--out", "run"), False, 0),
    "diagnose": (
        ("ebm_core", "diagnose", "traces.npz", "--epsilon", "0.1", "--dimensions", "64"),
        True,
        0,
    ),
    "dry run": (("study.run", "s.yaml", "--dry-run"), True, 0),
    "report": (("study.report", "nothing"), True, 2),
}


def test_no_command_loses_its_work_or_ends_in_a_traceback(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    study = {
        "name": "tiny",
        "base": SMALL,
        "parameters": {"epsilon": {"distribution": "grid", "values": [0.1]}},
        "method": "grid",
        "long_run": {"steps": 0},
    }
    begun = {}
    for name, (words, apart, _) in COMMANDS.items():
        folder = tmp_path / name
        folder.mkdir()
        np.savez(folder / "traces.npz", d=rng.normal(size=900), r=rng.uniform(1, 2, size=900))
        (folder / "c.yaml").write_text(dump_yaml(SMALL))
        (folder / "s.yaml").write_text(dump_yaml(study))
        begun[name] = unread(words, folder, apart)
    try:
        codes = {name: process.wait(timeout=240) for name, process in begun.items()}
    finally:
        for process in begun.values():
            process.kill()
    assert codes == {name: code for name, (_, _, code) in COMMANDS.items()}
    for name in COMMANDS:
        said = (tmp_path / name / "errors").read_text()
        assert "Traceback" not in said
        assert "BrokenPipe" not in said
    for name in ("train", "train and errors"):
        written = {path.name for path in (tmp_path / name / "run").iterdir()}
        assert {"traces.npz", "checkpoint.pt", "samples.png"} <= written
