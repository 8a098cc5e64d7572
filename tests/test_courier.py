"""The courier: whatever fails or dies, MLflow has everything once, and nobody waited for it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from outage import (
    NAMES,
    Found,
    Server,
    Stream,
    found,
    leave_files,
    locked,
    point,
    row_of,
    trainings,
)

from study.assignment import Unit
from study.courier import STRIKES, TRIES, Courier
from study.mlflow_store import connect
from study.outbox import FOLDER, Key, Outbox
from study.tracking import Tracker

UPDATES = 40
OUTCOME: dict[str, Any] = {
    "metrics": {},
    "tags": {},
    "artifacts": [],
    "description": "",
    "status": "FINISHED",
}


class Store:
    """What a tracking store keeps, and when it fails."""

    def __init__(self, fails: Callable[[str], str] = lambda what: "") -> None:
        self.fails = fails
        self.told: list[str] = []
        self.points: dict[Key, list[tuple[int, int]]] = {}
        self.rows: dict[Key, Mapping[str, Any]] = {}
        self.closed: list[str] = []


class FakeTracker:
    """Takes everything twice, as the real one does; fails before or after it did what it should.

    What it is asked to do is named after the training, as ``child 0 0``.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.uri, self.run_id = store, "http://store", ""

    def _do(self, what: str, effect: Callable[[], None]) -> None:
        when = self.store.fails(what)
        if when == "before":
            raise ConnectionError("refused")
        self.store.told.append(what)
        effect()
        if when == "after":
            raise TimeoutError("no answer")

    def open(self, params: Mapping[str, Any]) -> str:
        self._do("open", lambda: None)
        self.run_id = "study"
        return self.run_id

    def child(self, trial: int, seed: int, params: Mapping[str, Any], name: str) -> str:
        assert params["updates"] == UPDATES
        self._do(
            f"child {trial} {seed}", lambda: [self.store.points.setdefault((trial, seed), [])]
        )
        return f"{trial} {seed}"

    def log_curve(
        self, run_id: str, points: Sequence[Mapping[str, float]], row: Any = None
    ) -> None:
        there = self.store.points[self._key(run_id)]
        last = there[-1][0] if there else -1
        new = [(int(each["update"]), int(each["time"])) for each in points]
        new = [each for each in new if each[0] > last]
        self._do(f"curve {run_id}", lambda: there.extend(new))

    def finish_child(self, run_id: str, row: Any, artifacts: Path, at: int) -> None:
        assert artifacts.is_absolute()
        self._do(f"finish {run_id}", lambda: self.store.rows.update({self._key(run_id): row}))

    def close(self, *given: Any, at: int) -> None:
        self._do("close", lambda: self.store.closed.append(given[-1]))

    @staticmethod
    def _key(run_id: str) -> Key:
        trial, seed = run_id.split()
        return int(trial), int(seed)


def begin(store: Store, folder: Path, tracker: Any = None) -> tuple[Outbox, Courier]:
    outbox = Outbox(folder)
    return outbox, Courier(tracker or FakeTracker(store), outbox, {}, 0.001, 0.01)


def steps(store: Store) -> dict[Key, list[int]]:
    return {key: [step for step, _ in points] for key, points in store.points.items()}


def tell(outbox: Outbox, each: Unit) -> Iterator[None]:
    """What a training tells, call by call; an interrupted one begins again."""
    yield outbox.start(each, "one")
    for start in range(1, UPDATES, 7):
        upto = min(start + 6, UPDATES)
        yield outbox.curve(each, [point(step) for step in range(1, upto + 1)])
    yield outbox.finish(each, row_of(each, UPDATES))


def whole(units: Sequence[Unit]) -> dict[Key, list[int]]:
    return {each.key: list(range(1, UPDATES + 1)) for each in units}


def test_everything_is_delivered_in_order_and_then_forgotten(tmp_path: Path) -> None:
    store, units = Store(), trainings(3, UPDATES)
    outbox, courier = begin(store, tmp_path)
    with courier:
        for each in units:
            list(tell(outbox, each))
        assert courier.drain(10)
        outbox.close(**OUTCOME)
        assert courier.drain(10)
        assert courier.trouble is None
        assert courier.runs == {each.key: f"{each.trial} 0" for each in units}
    assert steps(store) == whole(units)
    assert {key: row["r"] for key, row in store.rows.items()} == dict.fromkeys(whole(units), 0.25)
    assert store.closed == ["FINISHED"]
    assert store.told[0] == "open"
    assert store.told[-1] == "close"
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_the_last_points_wait_for_what_comes_behind_them(tmp_path: Path) -> None:
    store, (each,) = Store(), trainings(1, UPDATES)
    outbox, courier = begin(store, tmp_path)
    with courier:
        outbox.start(each, "one")
        outbox.curve(each, [point(1), point(2)])
        outbox.curve(each, [point(3)])
        assert courier.drain(10)
        assert steps(store) == {each.key: [1, 2]}
        outbox.finish(each, row_of(each, 3))
        assert courier.drain(10)
    assert steps(store) == {each.key: [1, 2, 3]}
    # nothing comes behind the points of a study that was stopped, and it ends all the same
    outbox, courier = begin(store, tmp_path)
    other = trainings(2, UPDATES)[1]
    outbox.start(other, "other")
    outbox.curve(other, [point(1)])
    outbox.close(**OUTCOME)
    with courier:
        assert courier.drain(10)
    assert store.closed == ["FINISHED"]
    assert steps(store)[other.key] == []
    # points have the time at which they were told, not that of their delivery
    times = [at for _, at in store.points[each.key]]
    assert times[0] == times[1] <= times[2] <= time.time() * 1000


@pytest.mark.parametrize("seed", range(30))
def test_whatever_fails_and_whoever_dies_everything_is_there_once(
    tmp_path: Path, seed: int
) -> None:
    """A driver dies between any two records; its last line may be torn; every call may fail."""
    rng = random.Random(seed)
    units = trainings(3, UPDATES)
    rate = rng.choice([0.0, 0.2, 0.4])

    def fails(what: str) -> str:
        return rng.choice(["before", "after"]) if rng.random() < rate else ""

    store, done = Store(fails), set()
    for life in range(20):
        outbox, courier = begin(store, tmp_path)
        for key in done & set(outbox.unfinished()):
            outbox.finish(units[key[0]], row_of(units[key[0]], UPDATES))
        with courier:
            telling = {each.key: tell(outbox, each) for each in units if each.key not in done}
            for _ in range(rng.randrange(8) if life < 19 else 1000):
                if not telling:
                    break
                key = rng.choice(list(telling))
                if next(telling[key], self := object()) is self:
                    done.add(key)
                    del telling[key]
                time.sleep(rng.choice([0, 0, 0.002]))
            if life == 19:
                outbox.close(**OUTCOME)
                assert courier.drain(10)
        for path in (tmp_path / FOLDER).glob("*.jsonl"):
            if rng.random() < 0.3 and not courier._thread.is_alive():
                path.write_bytes(path.read_bytes()[: -rng.randrange(1, 9)])
    assert steps(store) == whole(units)
    assert store.rows.keys() == whole(units).keys()
    assert set(store.closed) == {"FINISHED"}
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_delivery_is_tried_for_as_long_as_it_takes(tmp_path: Path) -> None:
    away = threading.Event()
    away.set()
    store, units = Store(lambda what: "before" if away.is_set() else ""), trainings(2, UPDATES)
    outbox, courier = begin(store, tmp_path)
    with courier:
        for each in units:
            list(tell(outbox, each))
        outbox.close(**OUTCOME)
        assert not courier.drain(0.3)
        assert courier.trouble is not None
        assert courier.trouble.startswith("http://store fails since ")
        assert courier.trouble.endswith("(refused)")
        assert store.told == []
        assert outbox.pending
        away.clear()
        assert courier.drain(10)
        assert courier.trouble is None
    assert steps(store) == whole(units)


@pytest.mark.parametrize("what", ["child 1 0", "curve 1 0", "finish 1 0"])
def test_what_nobody_takes_blocks_nothing_and_is_kept(tmp_path: Path, what: str) -> None:
    tries: list[str] = []

    def fails(asked: str) -> str:
        tries.extend([asked] * (asked == what))
        return "before" if asked == what else ""

    store, units = Store(fails), trainings(3, UPDATES)
    outbox, courier = begin(store, tmp_path)
    with courier:
        telling = [tell(outbox, each) for each in units]
        while [next(each, "over") for each in telling] != ["over"] * 3:
            # the others get through while it does not
            assert courier.drain(0.2) or courier.trouble
        outbox.close(**OUTCOME)
        courier.drain(0.5)
        assert courier.trouble is not None
    assert {0, 2} <= {trial for trial, _ in store.rows} <= {0, 2}
    assert store.closed == ["FINISHED"]
    assert len(tries) >= TRIES
    assert Outbox(tmp_path).ready().keys() == {(1, 0)}
    # with the next start it is tried again
    store.fails = lambda asked: ""
    outbox, courier = begin(store, tmp_path)
    with courier:
        assert courier.drain(10)
    assert steps(store) == whole(units)


def test_what_is_at_fault_itself_is_named_and_not_tried_for_ever(tmp_path: Path) -> None:
    tries: list[str] = []

    def fails(asked: str) -> str:
        tries.extend([asked] * (asked == "child 0 0"))
        return "before" if asked == "child 0 0" else ""

    store, units = Store(fails), trainings(STRIKES + 5, UPDATES)
    outbox, courier = begin(store, tmp_path)
    with courier:
        outbox.start(units[0], "bad")
        for each in units[1:]:
            outbox.start(each, "good")
            # nothing else is waiting, so the bad one is tried
            while len(tries) < min(each.trial, STRIKES):
                time.sleep(0.001)
            while each.key not in courier.runs:
                time.sleep(0.001)
        assert courier.drain(10) is False
        assert courier.trouble == "training 0000-0 cannot be delivered (refused)"
        before = len(tries)
        outbox.start(trainings(STRIKES + 6, UPDATES)[-1], "good")
        courier.drain(10)
        assert len(tries) == before


def test_nobody_waits_for_a_store_that_does_not_answer(tmp_path: Path) -> None:
    silent, asked = threading.Event(), threading.Event()

    def fails(what: str) -> str:
        asked.set()
        silent.wait(30)
        return ""

    store, units = Store(fails), trainings(4, UPDATES)
    outbox, courier = begin(store, tmp_path)
    with courier:
        stream = Stream(outbox, units, points=UPDATES, pause=0)
        outbox.start(units[0], "one")
        assert asked.wait(10)
        stream.run()
        assert store.told == []
        assert stream.longest < 1
        began = time.perf_counter()
        assert not courier.drain(0.05)
        assert time.perf_counter() - began < 1
        silent.set()
        assert courier.drain(10)
    assert steps(store) == whole(units)


def test_an_idle_courier_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox, courier = begin(Store(), tmp_path)
    looks: list[int] = []
    keep = Outbox.ready
    monkeypatch.setattr(Outbox, "ready", lambda self: looks.append(1) or keep(self))
    with courier:
        outbox.start(trainings(1, UPDATES)[0], "one")
        assert courier.drain(10)
        before = len(looks)
        time.sleep(0.2)
        assert len(looks) == before


# -- against MLflow itself -----------------------------------------------------------------------


def mlflow_study(uri: str, folder: Path) -> tuple[Outbox, Courier]:
    tracker = Tracker(uri, "outage", "tiny", folder)
    tracker.open({"method": "sobol"})
    outbox = Outbox(folder)
    return outbox, Courier(tracker, outbox, {"method": "sobol"}, 0.1, 1.0)


def all_there(units: Sequence[Unit], points: int) -> Found:
    told = len(units) * len(NAMES) * points
    return Found(len(units), 0, told, told, missing=0, doubled=0)


def test_a_server_that_is_killed_and_started_again_has_everything_once(tmp_path: Path) -> None:
    units, points = trainings(3, 40), 40
    server = Server(tmp_path)
    with server.running():
        outbox, courier = mlflow_study(server.uri, tmp_path / "study")
        with courier:
            stream = Stream(outbox, units, points, pause=0.1)
            stream.start()
            time.sleep(1)
            server.kill()
            stream.join()
            # the study is over, and its server still away
            outbox.close(**OUTCOME)
            assert not courier.drain(1)
            assert "Connection refused" in str(courier.trouble)
            server.start()
            assert courier.drain(20)
        client = connect(server.uri, None)
        assert found(client, "outage", units, points) == all_there(units, points)
    assert stream.longest < 1


def test_a_database_that_is_locked_has_everything_once(tmp_path: Path) -> None:
    units, points = trainings(3, 40), 40
    path = tmp_path / "mlflow.db"
    outbox, courier = mlflow_study(f"sqlite:///{path}", tmp_path / "study")
    with courier:
        stream = Stream(outbox, units, points, pause=0.05)
        stream.start()
        time.sleep(0.5)
        with locked(path):
            stream.join()
            assert not courier.drain(1)
        outbox.close(**OUTCOME)
        assert courier.drain(20)
    client = connect(f"sqlite:///{path}", None)
    assert found(client, "outage", units, points) == all_there(units, points)
    assert stream.longest < 1
    # what would be there twice would be found
    client.log_metric(next(iter(courier.runs.values())), "d", 9.0, step=1)
    assert found(client, "outage", units, points).doubled == 1


def test_what_a_killed_driver_left_is_delivered_by_the_next(tmp_path: Path) -> None:
    """The courier ends after each record that it delivered, at the worst moment for it."""
    units, points = trainings(2, 40), 40
    path = tmp_path / "mlflow.db"
    uri, folder = f"sqlite:///{path}", tmp_path / "study"
    outbox, _ = mlflow_study(uri, folder)
    for each in units:
        outbox.start(each, "one")
        for step in range(1, points + 1):
            outbox.curve(each, [point(step)])
        leave_files(folder, each)
        outbox.finish(each, row_of(each, points))

    class Killed(BaseException):
        pass

    lives = 0
    while (outbox := Outbox(folder)).ready():
        lives += 1
        tracker = Tracker(uri, "outage", "tiny", folder)
        courier = Courier(tracker, outbox, {"method": "sobol"})
        left = lives

        def note(delivery: Any) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed

        courier._note_success = note  # type: ignore[method-assign]
        try:
            while (delivery := courier._next()) is not None:
                courier._deliver(delivery, delivery.key)  # type: ignore[arg-type]
        except Killed:
            pass
    assert lives > 2
    client = connect(uri, None)
    assert found(client, "outage", units, points) == all_there(units, points)
