"""The recorder: MLflow first, the ledger last, and what a crash between the two leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from study_file import load, study_file  # noqa: F401

from ebm_core.config import make_config
from study.job import Unit, pack_checkpoint
from study.ledger import Ledger
from study.recorder import Recorder
from study.table import Row, failed_row

pytestmark = pytest.mark.usefixtures("study_file")
FOLDER = Path("studies/sweep")


class FakeTracker:
    """Notes what it is told; finds the run of a training again, as the real one does."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls

    def child(self, trial: int, seed: int, params: Mapping[str, Any], name: str) -> str:
        self.calls.append(("child", trial, seed, params["seed"], name))
        return f"run-{trial}-{seed}"

    def log_curve(self, run_id: str, points: Sequence[Mapping[str, float]]) -> None:
        self.calls.append(("curve", run_id, [point["update"] for point in points]))

    def finish_child(
        self, run_id: str, row: Mapping[str, Any], artifacts: Path, failed: bool = False
    ) -> None:
        self.calls.append(("finish", run_id, artifacts, failed))


class NotingLedger(Ledger):
    """A ledger whose records are noted between those of the tracker."""

    calls: list[tuple[Any, ...]]

    def record(self, unit: Unit, row: Row) -> None:
        self.calls.append(("record", unit.trial, unit.seed))
        super().record(unit, row)


def begin(calls: list[tuple[Any, ...]]) -> tuple[NotingLedger, Recorder]:
    ledger = NotingLedger(load(seeds="2", trials="1"), FOLDER)
    ledger.calls = calls
    return ledger, Recorder(FakeTracker(calls), ledger, FOLDER)  # type: ignore[arg-type]


def row_of(unit: Unit) -> Row:
    row = failed_row(make_config(unit.config), unit.trial, unit.seed, "", unit.point)
    return {**row, "status": "finished", "verdict": "convergent", "convergence_score": 0.9}


def test_each_training_goes_to_the_tracker_first_and_to_the_ledger_last() -> None:
    calls: list[tuple[Any, ...]] = []
    ledger, recorder = begin(calls)
    pack = ledger.next_pack(2)
    recorder.started(pack)
    name = f"ε={pack[0].config['epsilon']:.3g} ρ=2 γ0=0.005 anneal=1000 seed="
    assert calls == [("child", 0, 0, 0, f"{name}0"), ("child", 0, 1, 1, f"{name}1")]
    calls.clear()
    recorder.progressed(pack, 20, [[{"update": 1}, {"update": 20}], []])
    assert calls == [("curve", "run-0-0", [1, 20]), ("curve", "run-0-1", [])]
    calls.clear()
    recorder.ended(pack, [row_of(unit) for unit in pack])
    assert calls == [
        ("finish", "run-0-0", FOLDER / "trials/0000/seed-0", False),
        ("record", 0, 0),
        ("finish", "run-0-1", FOLDER / "trials/0000/seed-1", False),
        ("record", 0, 1),
    ]
    assert ledger.complete
    assert [row["mlflow_run_id"] for row in ledger.rows()] == ["run-0-0", "run-0-1"]


def test_a_training_that_failed_to_run_is_recorded_as_such() -> None:
    calls: list[tuple[Any, ...]] = []
    ledger, recorder = begin(calls)
    pack = ledger.next_pack(2)
    recorder.started(pack)
    calls.clear()
    good, bad = row_of(pack[0]), failed_row(make_config(pack[1].config), 0, 1, "out of memory")
    recorder.ended(pack, [good, bad])
    assert [call[-1] for call in calls if call[0] == "finish"] == [False, True]
    assert [row["status"] for row in ledger.rows()] == ["finished", "failed"]
    assert ledger.rows()[1]["cause"] == "out of memory"


def test_what_failed_before_it_started_has_a_run_too() -> None:
    """Tune tells of an actor that could not be set up without telling of its start."""
    calls: list[tuple[Any, ...]] = []
    ledger, recorder = begin(calls)
    pack = ledger.next_pack(1)
    recorder.ended(pack, [failed_row(make_config(pack[0].config), 0, 0, "no GPU")])
    assert [call[0] for call in calls] == ["child", "finish", "record"]
    assert ledger.rows()[0]["mlflow_run_id"] == "run-0-0"


def test_a_crash_between_tracker_and_ledger_is_made_good(monkeypatch) -> None:
    calls: list[tuple[Any, ...]] = []
    ledger, recorder = begin(calls)
    pack = ledger.next_pack(2)
    checkpoint = FOLDER / pack_checkpoint(pack)
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    recorder.started(pack)
    keep = Ledger.record

    def record(self: Ledger, unit: Unit, row: Row) -> None:
        if unit.seed == 1:
            raise KeyboardInterrupt
        keep(self, unit, row)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "record", record)
        with pytest.raises(KeyboardInterrupt):
            recorder.ended(pack, [row_of(unit) for unit in pack])
    assert checkpoint.exists()
    assert ("finish", "run-0-1", FOLDER / "trials/0000/seed-1", False) in calls
    assert not ledger.complete

    calls.clear()
    ledger, recorder = begin(calls)
    assert ledger.next_pack(2) == pack
    assert ledger.next_pack(2) == []
    recorder.started(pack)
    recorder.ended(pack, [{**row_of(unit), "seconds": 99.0} for unit in pack])
    assert [call[1] for call in calls if call[0] == "finish"] == ["run-0-0", "run-0-1"]
    assert ledger.complete
    assert not checkpoint.exists()
    # what was recorded before the crash stays as it was
    assert [row["seconds"] for row in ledger.rows()] == [None, 99.0]
