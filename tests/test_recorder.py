"""The recorder: the ledger decides, the outbox tells, and what a crash between the two leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from study_file import load, study_file  # noqa: F401

from ebm_core.config import make_config
from study.assignment import PackFiles, Unit
from study.ledger import Ledger
from study.outbox import Key, Outbox
from study.recorder import Recorder
from study.table import Row, failed_row

pytestmark = pytest.mark.usefixtures("study_file")
FOLDER = Path("studies/sweep")


class Known:
    """Knows MLflow's runs of some trainings."""

    def __init__(self) -> None:
        self.runs: dict[Key, str] = {}


def begin(courier: Known | None = None) -> tuple[Ledger, Outbox, Recorder]:
    """What each process that continues the study begins with."""
    ledger, outbox = Ledger(load(seeds="2", trials="1"), FOLDER), Outbox(FOLDER)
    return ledger, outbox, Recorder(outbox, ledger, FOLDER, courier)


def row_of(unit: Unit) -> Row:
    row = failed_row(make_config(unit.config), unit.trial, unit.seed, "", unit.point)
    return {**row, "status": "finished", "verdict": "convergent", "convergence_score": 0.9}


def records(outbox: Outbox, key: Key) -> list[dict[str, Any]]:
    path = outbox.folder / "{:04d}-{}.jsonl".format(*key)
    return [json.loads(line) for line in path.read_text().splitlines()]


def told(outbox: Outbox, key: Key) -> list[str]:
    return [record["kind"] for record in records(outbox, key)]


def row_told(outbox: Outbox, key: Key) -> Row:
    row: Row = records(outbox, key)[-1]["row"]
    return row


def test_each_training_goes_to_the_ledger_and_from_there_to_the_outbox(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger, outbox, recorder = begin()
    pack = ledger.next_pack(2)
    recorder.started(pack)
    starts = [records(outbox, unit.key)[0] for unit in pack]
    name = f"ε={pack[0].config['epsilon']:.3g} ρ=2 γ0=0.005 anneal=1000 seed="
    assert [start["name"] for start in starts] == [f"{name}0", f"{name}1"]
    recorder.progressed(pack, 20, [[{"update": 1}, {"update": 20}], []])
    assert told(outbox, (0, 0)) == ["start", "curve"]
    assert told(outbox, (0, 1)) == ["start"]
    files = PackFiles.of(FOLDER, pack)
    files.checkpoint.parent.mkdir(parents=True)
    files.checkpoint.touch()
    calls: list[Any] = []
    for owner, method in ((Outbox, "sync"), (Ledger, "record"), (Outbox, "finish")):
        keep = getattr(owner, method)

        def noting(self: Any, unit: Unit, *more: Any, call: Any = keep, as_: str = method) -> None:
            calls.append((as_, unit.seed))
            call(self, unit, *more)

        monkeypatch.setattr(owner, method, noting)
    recorder.ended(pack, [row_of(unit) for unit in pack])
    # what was told before is on the disk before the ledger says that all is done
    order = ["sync", "record", "finish"]
    assert calls == [(name, seed) for seed in (0, 1) for name in order]
    assert ledger.complete
    assert row_told(outbox, (0, 1)) == row_of(pack[1])
    assert not files.checkpoint.exists()


def test_runs_are_entered_when_they_are_known() -> None:
    courier = Known()
    ledger, _, recorder = begin(courier)
    pack = ledger.next_pack(2)
    recorder.started(pack)
    courier.runs = {(0, 0): "run-0"}
    recorder.progressed(pack, 20, [[], []])
    recorder.ended(pack, [row_of(unit) for unit in pack])
    assert [row["mlflow_run_id"] for row in ledger.rows()] == ["run-0", None]
    courier.runs = {(0, 0): "run-0", (0, 1): "run-1"}
    recorder.note_runs()
    assert [row["mlflow_run_id"] for row in ledger.rows()] == ["run-0", "run-1"]


def test_a_training_that_failed_to_run_is_recorded_as_such() -> None:
    ledger, outbox, recorder = begin()
    pack = ledger.next_pack(2)
    recorder.started(pack)
    good, bad = row_of(pack[0]), failed_row(make_config(pack[1].config), 0, 1, "out of memory")
    recorder.ended(pack, [good, bad])
    assert [row["status"] for row in ledger.rows()] == ["finished", "failed"]
    assert row_told(outbox, (0, 1))["cause"] == "out of memory"


def test_what_failed_before_it_started_is_told_with_its_start() -> None:
    """Tune tells of an actor that could not be set up without telling of its start."""
    ledger, outbox, recorder = begin()
    pack = ledger.next_pack(1)
    recorder.ended(pack, [failed_row(make_config(pack[0].config), 0, 0, "no GPU")])
    assert told(outbox, (0, 0)) == ["start", "finish"]


@pytest.mark.parametrize("recorded", [False, True], ids=["before", "after"])
def test_a_crash_at_the_ledger_is_made_good(
    monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    ledger, outbox, recorder = begin()
    pack = ledger.next_pack(2)
    files = PackFiles.of(FOLDER, pack)
    files.checkpoint.parent.mkdir(parents=True)
    files.checkpoint.touch()
    recorder.started(pack)
    keep = Ledger.record

    def record(self: Ledger, unit: Unit, row: Row) -> None:
        if recorded or unit.seed == 0:
            keep(self, unit, row)
        if unit.seed == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "record", record)
        with pytest.raises(KeyboardInterrupt):
            recorder.ended(pack, [row_of(unit) for unit in pack])
    assert files.checkpoint.exists()
    assert told(outbox, (0, 1)) == ["start"]
    # and meanwhile the first was delivered
    outbox.remove((0, 0))

    ledger, outbox, recorder = begin()
    assert ledger.complete is recorded
    assert told(outbox, (0, 1)) == ["start", "finish"][: 1 + recorded]
    if not recorded:
        assert ledger.next_pack(2) == pack
        recorder.started(pack)
        recorder.progressed(pack, 20, [[{"update": 20}], [{"update": 20}]])
        recorder.ended(pack, [{**row_of(unit), "seconds": 99.0} for unit in pack])
        assert not files.checkpoint.exists()
    # what was recorded before the crash stays as it was, and MLflow is told what the ledger has
    second = None if recorded else 99.0
    assert [row["seconds"] for row in ledger.rows()] == [None, second]
    assert row_told(outbox, (0, 1))["seconds"] == second
    assert outbox.ready().keys() == {(0, 1)}


def test_a_study_that_goes_on_takes_back_how_it_ended() -> None:
    outbox = Outbox(FOLDER)
    outbox.close({}, {}, [], "", "KILLED")
    assert outbox.pending
    begin()
    assert not Outbox(FOLDER).pending
