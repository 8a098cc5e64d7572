"""The outbox: what is written is there after any end of the process, once and in order."""

from __future__ import annotations

import errno
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_study import outcome, unit

from study import outbox as outboxes
from study.outbox import CLOSING, FOLDER, Outbox

ONE, OTHER = unit(3, 1), unit(12, 0)
KEY = (3, 1)
CLOSE: dict[str, Any] = {
    "metrics": {"trainings": 2},
    "tags": {"answer": "ε ≥ 0.1"},
    "description": "# tiny",
    "status": "FINISHED",
}


def points(*updates: int) -> list[dict[str, float]]:
    return [{"update": update, "d": update / 7} for update in updates]


def lines(outbox: Outbox, key: tuple[int, int] = KEY) -> list[dict[str, Any]]:
    """The records of a training, delivered or not."""
    path = outbox.folder / "{:04d}-{}.jsonl".format(*key)
    return [json.loads(line) for line in path.read_text().splitlines()]


def told(outbox: Outbox, key: tuple[int, int] = KEY) -> list[Any]:
    """Kinds of the records of a training, of curves their updates."""
    return [
        [int(point["update"]) for point in record["points"]]
        if record["kind"] == "curve"
        else record["kind"]
        for record in lines(outbox, key)
    ]


def test_records_are_kept_in_order_a_file_a_training(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    assert not (tmp_path / FOLDER).exists()
    appended = itertools.count()
    outbox.on_append = lambda: [next(appended)]
    for each in (ONE, OTHER):
        outbox.start(each, "ε=0.1")
    outbox.curve(ONE, points(1, 20))
    outbox.curve(ONE, points(40))
    outbox.finish(ONE, outcome(ONE))
    assert next(appended) == 5
    assert told(outbox) == ["start", [1, 20], [40], "finish"]
    assert told(outbox, (12, 0)) == ["start"]
    records = outbox.read(KEY)
    assert [record for record, _ in records] == lines(outbox)
    assert records[0][0]["config"] == ONE.config
    assert records[0][0]["name"] == "ε=0.1"
    assert records[3][0]["row"] == outcome(ONE)
    assert records[3][0]["files"] == "trials/0003/seed-1"
    # a reader goes on where it was
    assert outbox.read(KEY, records[1][1]) == records[2:]
    assert outbox.ready()[KEY] == records[3][1]
    assert outbox.unfinished() == [(12, 0)]
    assert outbox.pending


def test_the_last_points_wait_for_what_comes_behind_them(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.start(ONE, "one")
    outbox.curve(ONE, points(1))
    for each in (outbox, Outbox(tmp_path)):
        assert [record["kind"] for record, _ in each.read(KEY)] == ["start"]
        assert each.ready()[KEY] == each.read(KEY)[-1][1]
    outbox.curve(ONE, points(2))
    assert len(outbox.read(KEY)) == 2
    outbox.finish(ONE, outcome(ONE))
    assert len(outbox.read(KEY)) == 4


def test_what_was_told_is_not_told_again(tmp_path: Path) -> None:
    """A training that goes on from its checkpoint tells its curves from their beginning."""
    outbox = Outbox(tmp_path)
    outbox.start(ONE, "one")
    outbox.curve(ONE, points(1, 20))
    for again in (outbox, Outbox(tmp_path)):
        again.start(ONE, "one")
        again.curve(ONE, points(1))
    again.curve(ONE, points(1, 20, 40))
    again.finish(ONE, outcome(ONE))
    for late in (again, Outbox(tmp_path)):
        late.curve(ONE, points(60))
        late.finish(ONE, outcome(ONE, seconds=9.0))
    assert told(late) == ["start", [1, 20], [40], "finish"]


def test_what_is_not_finite_is_kept(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.curve(ONE, [{"update": 1, "d": float("inf"), "r": float("nan")}])
    point = lines(outbox)[0]["points"][0]
    assert point["d"] == float("inf")
    assert point["r"] != point["r"]


def test_time_does_not_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([5.0, 9.0, 7.0, 3.0])
    monkeypatch.setattr(outboxes, "now", lambda: int(next(clock) * 1000))
    outbox = Outbox(tmp_path)
    outbox.start(ONE, "one")
    outbox.curve(ONE, points(1))
    outbox.curve(ONE, points(2))
    outbox = Outbox(tmp_path)
    outbox.finish(ONE, outcome(ONE))
    assert [record["time"] for record in lines(outbox)] == [5000, 9000, 9000, 9000]


def test_what_was_delivered_is_forgotten(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.start(ONE, "one")
    assert not outbox.pending
    outbox.finish(ONE, outcome(ONE))
    outbox.remove(KEY)
    assert outbox.ready() == Outbox(tmp_path).ready() == {}
    assert not outbox.pending
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_an_outcome_takes_the_place_of_another(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "study")
    report = tmp_path / "study" / "report.html"
    outbox.close(artifacts=[report], **{**CLOSE, "status": "KILLED"})
    old = outbox.closing()
    outbox.close(artifacts=[report], **CLOSE)
    assert outbox.pending
    assert old is not None
    outbox.closed(old)
    record = Outbox(tmp_path / "study").closing()
    assert record is not None
    assert record["status"] == "FINISHED"
    assert record["tags"] == CLOSE["tags"]
    # the folder of the study may be moved
    assert record["artifacts"] == ["report.html"]
    outbox.closed(record)
    assert outbox.closing() is None
    outbox.close(artifacts=[], **CLOSE)
    outbox.reopen()
    assert not outbox.pending


def test_a_draft_of_an_outcome_that_nobody_finished_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(tmp_path)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        patch.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            outbox.close(artifacts=[], **CLOSE)
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    assert Outbox(tmp_path).closing() is None
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    for name in ("notes.jsonl", "0001-0.jsonl.bak", "../0001-0.jsonl", "1-0.jsonl"):
        (folder / name).write_text("mine")
    assert Outbox(tmp_path).ready() == {}
    assert (folder / "notes.jsonl").read_text() == "mine"


@pytest.mark.parametrize("short", [True, False], ids=["short write", "no write"])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    """The file is opened as it is, and its `write` is that of a disk with seven bytes left."""
    outbox = Outbox(tmp_path)
    outbox.start(ONE, "one")
    outbox.curve(ONE, points(1))
    before = outbox.ready()
    real = Path.open

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, line: bytes) -> int:
            if not short:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(self.file.write(line[:7]))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *given, **more: Full(real(*given, **more)))
        with pytest.raises(OSError, match="No space left on device"):
            outbox.curve(ONE, points(20))
    assert outbox.ready() == before
    outbox.curve(ONE, points(20))
    assert told(outbox) == told(Outbox(tmp_path)) == ["start", [1], [20]]


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 10_000), zeros=st.integers(0, 9), seed=st.integers(0, 3))
def test_whatever_is_cut_off_is_told_again(
    tmp_path_factory: pytest.TempPathFactory, cut: int, zeros: int, seed: int
) -> None:
    """A file may end anywhere after a power failure, or in zeros where nothing was written yet."""
    folder = tmp_path_factory.mktemp("cut")

    def tell(outbox: Outbox) -> None:
        outbox.start(ONE, "one")
        for start in range(1, 40, 3 + seed):
            outbox.curve(ONE, points(*range(1, start)))
        outbox.finish(ONE, outcome(ONE))

    tell(Outbox(folder))
    path = folder / FOLDER / "0003-1.jsonl"
    whole = told(Outbox(folder))
    path.write_bytes(path.read_bytes()[: cut % path.stat().st_size] + bytes(zeros))
    again = Outbox(folder)
    kept = told(again)
    assert kept == whole[: len(kept)]
    tell(again)
    assert told(again) == whole
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()][-1] == "finish"


def test_the_end_of_a_training_is_on_disk_when_it_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(outboxes, "_sync", lambda path: synced.append(path.name))
    outbox = Outbox(tmp_path)
    outbox.start(ONE, "one")
    outbox.curve(ONE, points(1))
    assert synced == []
    outbox.finish(ONE, outcome(ONE))
    assert synced == ["0003-1.jsonl", FOLDER]
    assert CLOSING not in synced
