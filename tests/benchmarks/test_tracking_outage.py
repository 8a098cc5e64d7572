"""What MLflow lacks, and who waited, after its server or its database was away mid-study.

    python tests/benchmarks/test_tracking_outage.py

tells of four trainings while a tracking server is killed for 30 s and started again, and while a
SQLite file is locked for 20 s. It prints how many points of curves were told, how many MLflow
has in the end, how many of them are missing or there twice, the longest that telling took
(milliseconds, with one line a point), and how long after the last of it MLflow had everything.
As a test it does the same with shorter outages.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from outage import Found, Server, Stream, found, locked, trainings

from study.courier import Courier
from study.mlflow_store import connect
from study.outbox import Outbox
from study.tracking import Tracker

TRAININGS, PAUSE = 4, 0.25
HEADER = (
    f"{'away':<18} {'told':>6} {'there':>6} {'missing':>8} {'doubled':>8} "
    f"{'longest call':>13} {'caught up':>10}"
)


def measure(
    uri: str, folder: Path, seconds: float, outage: Callable[[], None]
) -> tuple[Found, float, float]:
    """Tells for some seconds, while an outage comes and goes.

    Returns:
        What MLflow has, the longest call in seconds, and how long it took to catch up.
    """
    points = int(seconds / PAUSE)
    units = trainings(TRAININGS, max(points, 40))
    tracker = Tracker(uri, "outage", "outage", folder)
    tracker.open({})
    outbox = Outbox(folder)
    with Courier(tracker, outbox, {}) as courier:
        stream = Stream(outbox, units, points, PAUSE)
        stream.start()
        outage()
        stream.join()
        outbox.close({}, {}, [], "", "FINISHED")
        began = time.perf_counter()
        assert courier.drain(60), courier.trouble
        caught_up = time.perf_counter() - began
    return found(connect(uri, None), "outage", units, points), stream.longest, caught_up


def server_away(folder: Path, before: float, seconds: float, after: float) -> str:
    """Kills a server; returns a line of the table."""
    with Server(folder).running() as server:

        def outage() -> None:
            time.sleep(before)
            server.kill()
            time.sleep(seconds)
            server.start()

        measured = measure(server.uri, folder / "study", before + seconds + after, outage)
    return line(f"server for {seconds:g} s", *measured)


def database_locked(folder: Path, before: float, seconds: float, after: float) -> str:
    """Locks a database; returns a line of the table."""

    def outage() -> None:
        time.sleep(before)
        with locked(folder / "mlflow.db"):
            time.sleep(seconds)

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    measured = measure(uri, folder / "study", before + seconds + after, outage)
    return line(f"database for {seconds:g} s", *measured)


def line(name: str, there: Found, longest: float, caught_up: float) -> str:
    assert (there.runs, there.unfinished) == (TRAININGS, 0)
    return (
        f"{name:<18} {there.told:>6} {there.delivered:>6} {there.missing:>8} {there.doubled:>8} "
        f"{1000 * longest:>10.1f} ms {caught_up:>8.1f} s"
    )


def test_nothing_is_missing_or_there_twice_after_an_outage(tmp_path: Path) -> None:
    lines = [
        server_away(tmp_path, before=1, seconds=2, after=3),
        database_locked(tmp_path, before=1, seconds=2, after=1),
    ]
    print(HEADER, *lines, sep="\n")
    for each in lines:
        told, there, missing, doubled = each.split(" s", 1)[1].split()[:4]
        assert told == there
        assert (missing, doubled) == ("0", "0")


def main() -> None:
    """Prints the table."""
    print(HEADER)
    for away, seconds in ((server_away, 30), (database_locked, 20)):
        with tempfile.TemporaryDirectory() as folder:
            print(away(Path(folder), before=5, seconds=seconds, after=10), flush=True)


if __name__ == "__main__":
    main()
