"""How long studies take, beside what they say beforehand.

    python tests/benchmarks/test_cost_model.py [--workers 2] [NAME ...]

asks for an estimate with ``--dry-run``, runs the study with as many workers in a temporary folder,
and compares the estimate with the wall time of the command from start to end; so, too, the
estimate that the run itself gives. Exits with 1 if one is off by over 30 %. As a test it does so
with one short study and a loose bound, since other tests share the cores, and looks at what that
study costs beyond its trainings, too.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from test_overhead import WORKERS, cost

REPOSITORY = Path(__file__).parents[2]
BOUND = 0.3
_SAID = re.compile(r"\d+ trainings.*?: about ([\d.]+) (s|min|h|days)(?: (\d+) s)?")
_UNIT = {"s": 1.0, "min": 60.0, "h": 3600.0, "days": 86400.0}

# Name: file and options
STUDIES = {
    "digits": ("eps_sweep", "--trials", "12"),
    "digits packed": ("eps_sweep", "--set", "method=sobol", "resources.members_per_trial=auto"),
    "plane": ("gmm_eps_sweep", "--trials", "6"),
    "plane packed": (
        *("gmm_eps_sweep", "--set", "resources.members_per_trial=auto"),
        "resources.cpus_per_trial=auto",
    ),
    "vanilla": (
        *("eps_sweep", "--trials", "4", "--set", "base.network={name: vanilla, width: 8}"),
        *("base.updates=250", "base.anneal_updates=50", "base.window=100"),
        *("base.langevin_steps=10", "long_run.steps=100"),
    ),
}


class Compared(NamedTuple):
    """Seconds: what ``--dry-run`` and the run itself said, and what the run took."""

    dry: float
    said: float
    took: float

    @property
    def off(self) -> float:
        """The larger error, as a share of what the study took."""
        return max(abs(self.dry - self.took), abs(self.said - self.took)) / self.took

    def __str__(self) -> str:
        return (
            f"{self.dry:7.0f} {self.said:7.0f} {self.took:7.1f}"
            f" {self.dry / self.took:6.2f} {self.said / self.took:6.2f}"
        )


def seconds(text: str) -> float:
    """The time that an announcement tells."""
    match = _SAID.search(text)
    assert match is not None, text
    return float(match[1]) * _UNIT[match[2]] + float(match[3] or 0)


def called(folder: Path, *options: str) -> str:
    """All that the command of a study says."""
    file, *others = options
    path = REPOSITORY / "search_spaces" / f"{file}.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "study.run", str(path), *others],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def compare(folder: Path, workers: int, options: Sequence[str]) -> tuple[Compared, str]:
    """Estimates and runs a study in a folder; also what it said it would do."""
    options = [*options, "--workers", str(workers)]
    dry = called(folder, *options, "--dry-run")
    began = time.perf_counter()
    said = called(folder, *options)
    took = time.perf_counter() - began
    (words,) = re.findall(r"\d+ trainings.* threads?.*?(?=:)", said)
    return Compared(seconds(dry), seconds(said), took), words


def main() -> int:
    """Prints a line for each study."""
    parser = argparse.ArgumentParser(description="Compares what studies say with what they take.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(STUDIES))
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    given = parser.parse_args()
    print("study            dry run    said    took   dry/   said/   took; seconds")
    worst = 0.0
    for name in given.names or STUDIES:
        with tempfile.TemporaryDirectory() as scratch:
            found, words = compare(Path(scratch), given.workers, STUDIES[name])
        worst = max(worst, found.off)
        print(f"{name:15s} {found}   {words}", flush=True)
    return int(worst > BOUND)


def test_a_study_takes_about_as_long_as_it_says(tmp_path: Path) -> None:
    short = ("eps_sweep", "--trials", "2", "--set", "base.updates=1300", "base.window=250")
    found, words = compare(tmp_path, WORKERS, short)
    print(found)
    assert words == "2 trainings on 2 workers, 1 thread each"
    assert 0.4 < found.dry / found.took < 2.5
    assert 0.4 < found.said / found.took < 2.5
    beyond = cost(tmp_path, found.took)
    print(beyond)
    assert 0 < beyond.overhead < 2 * beyond.bound
    # a negative control: thirty times the updates would not take that long
    longer = seconds(called(tmp_path, *short, "base.updates=40000", "--dry-run"))
    assert longer / found.took > 2.5


if __name__ == "__main__":
    sys.exit(main())
