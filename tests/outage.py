"""Stores of MLflow that go away and come back, and a study that tells its outbox meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

from tiny_study import outcome, unit

from study.assignment import Unit
from study.outbox import Outbox

NAMES = ("d", "r", "gamma")


class Server:
    """A tracking server on loopback, on a database in a folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, and returns when it answers."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
                *("--host", "127.0.0.1", "--port", str(self.port)),
                *("--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"),
                *("--artifacts-destination", str(self.folder / "files")),
            ],
            env={
                **os.environ,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "PYTHONWARNINGS": "ignore",
            },
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(600):
            try:
                with urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the server did not start within a minute")

    def kill(self) -> None:
        """Kills it and its workers at once."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    @contextmanager
    def running(self) -> Iterator[Server]:
        self.start()
        try:
            yield self
        finally:
            self.kill()


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Keeps all others from reading or writing a database."""
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.rollback()


@dataclass
class Stream(threading.Thread):
    """Trainings that tell an outbox what they do, a point each every so often.

    Attributes:
        outbox: What they tell.
        units: The trainings.
        points: How many each tells in all.
        pause: Seconds between two of one training.
        longest: The longest that a call took, in seconds.
    """

    outbox: Outbox
    units: list[Unit]
    points: int
    pause: float
    longest: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        super().__init__()

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        """Tells everything."""
        for each in self.units:
            self._timed(self.outbox.start, each, f"training {each.trial}")
        for step in range(1, self.points + 1):
            for each in self.units:
                self._timed(self.outbox.curve, each, [point(step)])
            time.sleep(self.pause)
        for each in self.units:
            leave_files(self.outbox.study, each)
            self._timed(self.outbox.finish, each, row_of(each, self.points))

    def _timed(self, call: Any, *args: Any) -> None:
        began = time.perf_counter()
        call(*args)
        self.longest = max(self.longest, time.perf_counter() - began)


def trainings(n: int, updates: int) -> list[Unit]:
    """Trainings of so many updates that each of their points is shown."""
    return [unit(trial, updates=updates) for trial in range(n)]


def point(step: int) -> dict[str, float]:
    return {"update": step, **dict.fromkeys(NAMES, step / 7)}


def row_of(each: Unit, updates: int) -> Any:
    return outcome(each, updates=updates, r=0.25, seconds=1.5)


def leave_files(study: Path, each: Unit) -> None:
    """What a training leaves before it ends."""
    folder = study / each.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("epsilon: 0.1\n")


class Found(NamedTuple):
    """What a store has of the curves of some trainings: points that were told, and what became."""

    runs: int
    unfinished: int
    told: int
    delivered: int
    missing: int
    doubled: int


def found(client: Any, experiment: str, units: list[Unit], points: int) -> Found:
    """Counts, of each name a point each update, what is in a store."""
    identity = client.get_experiment_by_name(experiment).experiment_id
    children = client.search_runs([identity], "tags.role = 'training'", max_results=1000)
    steps: Counter[tuple[str, str, str, int]] = Counter()
    for child in children:
        training = child.data.tags["trial"], child.data.tags["seed"]
        for name in NAMES:
            for metric in client.get_metric_history(child.info.run_id, name):
                steps[(*training, name, metric.step)] += 1
    wanted = {
        (str(each.trial), str(each.seed), name, step)
        for each in units
        for name in NAMES
        for step in range(1, points + 1)
    }
    assert steps.keys() <= wanted
    return Found(
        runs=len(children),
        unfinished=sum(child.info.status != "FINISHED" for child in children),
        told=len(wanted),
        delivered=len(steps),
        missing=len(wanted - steps.keys()),
        doubled=sum(steps.values()) - len(steps),
    )
