"""What a study costs beyond its trainings.

    python tests/benchmarks/test_overhead.py [--trials 16]

runs ``search_spaces/eps_sweep.yaml`` in a temporary folder and prints the wall time less the work
of the workers: update loops, long-run checks and pictures, divided by the number of workers. The
bound is 30 s plus 5 % of the work. The test of `test_cost_model` does so with its short study.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd

REPOSITORY = Path(__file__).parents[2]
WORKERS = 2
FIXED_SECONDS, SHARE = 30.0, 0.05


class Cost(NamedTuple):
    """Seconds: of the whole command as a clock shows it, and of the work of one worker."""

    wall: float
    work: float

    @property
    def overhead(self) -> float:
        return self.wall - self.work

    @property
    def bound(self) -> float:
        return FIXED_SECONDS + SHARE * self.work

    def __str__(self) -> str:
        return (
            f"wall {self.wall:.1f} s, work {self.work:.1f} s a worker, "
            f"overhead {self.overhead:.1f} s (bound {self.bound:.1f} s)"
        )


def measure(folder: Path, *options: str) -> Cost:
    """Runs the study in a folder."""
    file = REPOSITORY / "search_spaces" / "eps_sweep.yaml"
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "study.run", str(file), "--workers", str(WORKERS), *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=True,
        capture_output=True,
    )
    return cost(folder, time.perf_counter() - began)


def cost(folder: Path, wall: float) -> Cost:
    """Of the study in a folder, whose command took so many seconds."""
    table = pd.read_csv(folder / "studies" / "eps_sweep" / "results.csv")
    work = float((table["seconds"] + table["conclusion_seconds"]).sum()) / WORKERS
    return Cost(wall, work)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measures what a study costs beyond its work.")
    parser.add_argument("--trials", default="16", metavar="N")
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(Path(scratch), "--trials", parser.parse_args().trials)
    print(found)
    sys.exit(found.overhead > found.bound)
