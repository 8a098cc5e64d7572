"""A study of many tiny trainings: what grows with it, and what does not.

    python tests/benchmarks/test_soak.py [--trainings 500]

runs one study of so many trainings on two workers in a temporary folder. Once a second it reads
how much memory the driver and Ray's processes hold, and how much processor time they have used;
when each training was recorded is in the study's own ledger. Then it opens the study in MLflow's
server, as ``python -m study.ui`` starts it, and makes the request of its page of runs.

It prints a table by hundreds of trainings, and the bounds that hold from the first hundred on:

- memory of the driver and of each worker: the line through it rises by under 5 MB a hundred
  trainings. Its error is that of least squares through one value for every ten trainings; memory
  comes in steps, so that it tells no more than the order.
- time a training: the median of the last hundred is at most 1.2 of that of the first hundred that
  count.
- the request of the page: under 5 s.

A training counts with the time from the one recorded so many before it as there are workers, each
divided by their number: what two workers end at the same moment would have no time between. As a
test it runs a short study, and prints the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from survivors import Started

from ebm_core.document import dump_yaml
from study.ledger import FILE
from study.mlflow_store import recorded
from study.tracking import SHOWN

ROOT = Path(__file__).parents[2]
NAME, LOG = "soak", "said.txt"
WORKERS = 2
SECONDS = 1.0
# No study of this size takes longer.
PATIENCE_SECONDS = 7_200.0
# A line is put through one value for so many trainings.
STEP = 10
OTHERS = "Ray's own"
MOST_MB, MOST_RATIO, MOST_PAGE_SECONDS = 5.0, 1.2, 5.0

Floats = NDArray[np.float64]


def study(trainings: int, points: Path) -> dict[str, Any]:
    """Trainings so small that a study costs more around them than in them."""
    return {
        "name": NAME,
        "base": {
            # no law of the plane, whose landscapes would take most of the time
            "data": {"name": "array", "path": str(points)},
            "network": {"name": "toy", "widths": [8]},
            "epsilon": 0.1,
            "eps_data_ratio": 1.0,
            "gamma_0": 0.01,
            "anneal_updates": 0,
            "langevin_steps": 10,
            "batch_size": 50,
            "bank_size": 100,
            "updates": 120,
            "window": 100,
            "report_interval": 10,
            "device": "cpu",
        },
        "parameters": {"epsilon": {"distribution": "loguniform", "min": 0.05, "max": 0.3}},
        "method": "sobol",
        "trials": trainings,
        "long_run": {"steps": 20, "chains": 32},
    }


class Line(NamedTuple):
    """Through memory over trainings: MB a hundred of them, and its standard error."""

    slope: float
    error: float

    def __str__(self) -> str:
        return f"{self.slope:+.2f} ± {self.error:.2f}"


@dataclass
class Process:
    """What one process, or all of Ray's own together, held and used at each look.

    Attributes:
        times: Seconds since 1970.
        megabytes: Resident, 1e6 bytes.
        used: Processor time so far, seconds.
    """

    times: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)

    def note(self, when: float, megabytes: float, used: float) -> None:
        self.times.append(when)
        self.megabytes.append(megabytes)
        self.used.append(used)

    def held(self, done: Floats, first: int, last: int) -> float:
        """The median, MB, while training number `first` to `last` were under way; NaN if none."""
        trainings = np.searchsorted(done, self.times)
        held = np.array(self.megabytes)[(first <= trainings) & (trainings < last)]
        return float(np.median(held)) if len(held) else float("nan")

    def took(self, done: Floats, first: int, last: int) -> float:
        """Processor time, seconds, for each training from number `first` up to `last`."""
        moments = done[[first, last - 1]]
        began, ended = np.interp(moments, self.times, self.used)
        return float(ended - began) / (last - 1 - first)


@dataclass
class Run:
    """A study that was watched.

    Attributes:
        done: When each training was recorded, in order; seconds since 1970.
        driver: The command.
        workers: Each of Ray's workers that trained, by its number.
        ray: All other processes of Ray together.
        table: `results.csv`.
    """

    done: Floats
    driver: Process
    workers: dict[int, Process]
    ray: Process
    table: pd.DataFrame

    def gaps(self, first: int, last: int) -> Floats:
        """Seconds of each training from number `first` up to `last`."""
        gaps: Floats = (self.done[WORKERS:] - self.done[:-WORKERS]) / WORKERS
        return gaps[max(0, first - WORKERS) : last - WORKERS]


def watched(folder: Path, trainings: int) -> Run:
    """Runs the study in a folder, and watches it."""
    points = folder / "points.npy"
    np.save(points, np.random.default_rng(0).normal(size=(1_000, 2)).astype(np.float32))
    (folder / "s.yaml").write_text(dump_yaml(study(trainings, points)))
    command = [sys.executable, "-m", "study.run", "s.yaml", "--no-progress"]
    run = Started(
        [*command, "--workers", str(WORKERS)], folder, folder / LOG, {"PYTHONPATH": str(ROOT)}
    )
    driver, workers, ray = Process(), defaultdict[int, Process](Process), Process()
    began = time.monotonic()
    while (code := run.wait(SECONDS)) is None:
        assert time.monotonic() - began < PATIENCE_SECONDS, "the study does not end"
        when, others = time.time(), []
        for number, title in run.processes().items():
            with suppress(OSError):  # gone by now
                found = resident(number), processor_seconds(number)
                if "study.run" in title:
                    driver.note(when, *found)
                # what else it does for Ray has other titles
                elif number in workers or "Trainable" in title:
                    workers[number].note(when, *found)
                else:
                    others.append(found)
        if others:
            ray.note(when, *map(sum, zip(*others, strict=True)))
    said = (folder / LOG).read_text(errors="replace")
    assert code == 0, f"exit code {code}: {said[-4_000:]}"
    table = pd.read_csv(folder / "studies" / NAME / "results.csv")
    return Run(recorded_at(folder), driver, dict(workers), ray, table)


def resident(number: int) -> float:
    """Memory that a process holds, MB."""
    pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def processor_seconds(number: int) -> float:
    """Processor time that a process has used, seconds."""
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def recorded_at(folder: Path) -> Floats:
    """When each training of a study of one seed was recorded, in order."""
    with closing(sqlite3.connect(folder / "studies" / NAME / FILE)) as database:
        found = database.execute("SELECT datetime_complete FROM trials").fetchall()
    # Optuna keeps the time of the clock on the wall
    return np.sort([datetime.fromisoformat(text).timestamp() for (text,) in found])


def line(process: Process, done: Floats, first: int) -> Line:
    """Through the memory of a process from training number `first` on."""
    starts = np.arange(first, len(done), STEP)
    held = np.array([process.held(done, start, start + STEP) for start in starts])
    known = np.isfinite(held)
    x, y = (starts[known] + STEP / 2) / 100, held[known]
    if len(x) < 3:
        return Line(float("nan"), float("nan"))
    design = np.column_stack([x, np.ones_like(x)])
    solution, *_ = np.linalg.lstsq(design, y, rcond=None)
    spread = np.sum((y - design @ solution) ** 2) / (len(x) - 2)
    return Line(float(solution[0]), float(np.sqrt(spread / np.sum((x - x.mean()) ** 2))))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The server that shows the study, as users start it; the address of its page."""
    command = [sys.executable, "-m", "study.ui", NAME, "--port", "0"]
    server = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        # "MLflow UI: URL (...)", once it answers; the end of the output if it never does
        yield next(text for text in server.stdout if text.startswith("MLflow UI: ")).split()[2]
    finally:
        server.terminate()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


def page_seconds(folder: Path, repeats: int = 5) -> tuple[list[float], int, int]:
    """Asks MLflow's server for the runs of the study as its page does.

    Returns:
        Seconds that each time took, how many runs were told, and how many kilobytes that were.
    """
    record = recorded(folder / "studies" / NAME)
    assert record is not None
    question = {
        "experiment_ids": [record["experiment_id"]],
        "filter": SHOWN["searchFilter"],
        "order_by": [f"{SHOWN['orderByKey']} DESC"],
        "run_view_type": "ACTIVE_ONLY",
        "max_results": 100,
    }
    seconds = []
    with served(folder) as url:
        host = url.partition("/#")[0]
        for _ in range(repeats):
            began = time.perf_counter()
            asked = Request(
                f"{host}/ajax-api/2.0/mlflow/runs/search",
                json.dumps(question).encode(),
                {"Content-Type": "application/json"},
            )
            with urlopen(asked, timeout=60) as answer:
                told = answer.read()
            seconds.append(time.perf_counter() - began)
    return seconds, len(json.loads(told)["runs"]), len(told) // 1000


HEADER = (
    "| trainings | time each, s | of that in a worker, s | processor time each, s: driver"
    " | workers | driver, MB | workers, MB | Ray's own, MB |\n|---|---|---|---|---|---|---|---|"
)


def lines(run: Run, block: int) -> Iterator[str]:
    """The table, in Markdown: a line for each `block` trainings."""
    worked = run.table["seconds"] + run.table["conclusion_seconds"]
    for first in range(0, len(run.done), block):
        of = run.done, first, min(first + block, len(run.done))
        held = [worker.held(*of) for worker in run.workers.values()]
        used = sum(worker.took(*of) for worker in run.workers.values())
        yield (
            f"| {first + 1} to {of[2]} | {np.median(run.gaps(*of[1:])):.3f}"
            f" | {worked[first : of[2]].median():.3f} | {run.driver.took(*of):.3f} | {used:.3f}"
            f" | {run.driver.held(*of):.0f} | {' and '.join(f'{each:.0f}' for each in held)}"
            f" | {run.ray.held(*of):.0f} |"
        )


def rises(run: Run, first: int) -> dict[str, Line]:
    """Of the memory of everything that has any, MB a hundred trainings."""
    found = {"driver": line(run.driver, run.done, first)}
    for index, worker in enumerate(run.workers.values(), start=1):
        found[f"worker {index}"] = line(worker, run.done, first)
    return {**found, OTHERS: line(run.ray, run.done, first)}


def slowing(run: Run, block: int) -> float:
    """The median time of the last trainings over that of the second `block` of them."""
    last = len(run.done)
    return float(np.median(run.gaps(last - block, last)) / np.median(run.gaps(block, 2 * block)))


# -- as a test -----------------------------------------------------------------------------------


def test_a_short_study_is_watched_from_end_to_end(tmp_path: Path) -> None:
    run = watched(tmp_path, 30)
    print(HEADER, *lines(run, 10), sep="\n")
    assert len(run.done) == len(run.table) == 30
    assert set(run.table["status"]) == {"finished"}
    # other tests share the cores, and thirty trainings show no more than that nothing runs away
    assert run.driver.held(run.done, 20, 30) - run.driver.held(run.done, 10, 20) < 50
    assert len(run.workers) == WORKERS  # none of them was replaced
    assert slowing(run, 10) < 3
    seconds, runs, _ = page_seconds(tmp_path, repeats=2)
    assert runs == 30
    assert seconds[-1] < MOST_PAGE_SECONDS


@pytest.mark.parametrize("rise", [0.0, 10.0])
def test_a_leak_is_told_from_memory_that_is_level(rise: float) -> None:
    rng = np.random.default_rng(0)
    done = np.cumsum(rng.uniform(0.5, 1.5, size=500))
    process = Process()
    for when in np.arange(0, done[-1], SECONDS):
        trainings = np.searchsorted(done, when)
        # what is loaded first does not count
        held = 600 + min(50.0, trainings) + rise * trainings / 100 + rng.normal(0, 2)
        process.note(when, held, 0.0)
    found = line(process, done, 100)
    assert abs(found.slope - rise) < 4 * found.error < 1.5
    assert (found.slope < MOST_MB) == (rise == 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables; returns 1 if a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trainings", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="keep everything there")
    given = parser.parse_args(argv)
    block = min(100, given.trainings // 5)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run = watched(folder, given.trainings)
        seconds, runs, kilobytes = page_seconds(folder)
    print(HEADER, *lines(run, block), "", sep="\n")
    found, slower = rises(run, block), slowing(run, block)
    for name, rise in found.items():
        print(f"{name}: {rise} MB a hundred trainings")
    print(f"time a training, last {block} over the second {block}: {slower:.2f}")
    print(
        f"page of runs: {runs} runs, {kilobytes} kB, {seconds[0]:.2f} s first,"
        f" {np.median(seconds[1:]):.2f} s after"
    )
    level = all(found[name].slope < MOST_MB for name in found if name != OTHERS)
    return 0 if level and slower <= MOST_RATIO and max(seconds) < MOST_PAGE_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
