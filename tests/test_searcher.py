"""Ray Tune's side of a study, with a ledger and trials that are not real."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher

from ebm_core import preset
from study.assignment import Assignment, PackFiles, Unit
from study.failures import Failure, Kind
from study.job import Point
from study.permit import Standing, standing
from study.searcher import StudySearcher, TrialEvents
from study.stopping import Stopping
from study.table import Row

OPTIONS = {"folder": "/s", "threads": 2, "long_run_steps": 20, "long_run_chains": 8}


def unit(trial: int, seed: int = 0) -> Unit:
    config = preset("digits", epsilon=0.1, seed=seed).model_dump(mode="json")
    return Unit(trial, seed, {"epsilon": 0.1, "langevin_steps": 30}, config)


PACK = [unit(3), unit(3, 1), unit(4)]


class FakeLedger:
    """Has two packs to give."""

    def __init__(self) -> None:
        self.packs = [PACK, [unit(5)]]
        self.asked: list[int] = []

    def stopped_at(self, unit: Unit) -> int | None:
        return 40 if unit.trial == 5 else None

    def next_pack(self, members: int) -> list[Unit]:
        self.asked.append(members)
        return self.packs.pop(0) if self.packs else []


class Noting:
    """A listener that notes what it hears, under its name."""

    def __init__(self, name: str, heard: list[tuple[Any, ...]]) -> None:
        self.name, self.heard = name, heard

    def started(self, units: Sequence[Unit]) -> None:
        self.heard.append((self.name, "started", list(units)))

    def progressed(self, units: Sequence[Unit], update: int, curves: list[list[Point]]) -> None:
        self.heard.append((self.name, "progressed", list(units), update, curves))

    def held_up(self, units: Sequence[Unit], why: str) -> None:
        self.heard.append((self.name, "held_up", list(units), why))

    def ended(self, units: Sequence[Unit], rows: list[Row]) -> None:
        self.heard.append((self.name, "ended", list(units), rows))


def assigned() -> dict[str, Any]:
    return {"assignment": Assignment(units=tuple(PACK), **OPTIONS).plain()}


def trial(**fields: Any) -> SimpleNamespace:
    found = {"config": assigned(), "last_result": {}, "error_file": None}
    # what Tune keeps of every trial
    found["run_metadata"] = SimpleNamespace(metric_analysis={"d": 1.0}, metric_n_steps={"d": [1]})
    found["evaluated_params"] = {"assignment": assigned()}
    return SimpleNamespace(**{**found, **fields})


class FakeRecovery:
    """Decides as it was told to."""

    def __init__(self, rows: Sequence[Row] = (), why: str = "") -> None:
        self.rows, self.why = list(rows), why
        self.asked: list[tuple[Any, ...]] = []

    def failed(
        self, units: Sequence[Unit], failure: Failure, update: int
    ) -> tuple[list[Row], str]:
        self.asked.append((list(units), failure, update))
        return self.rows, self.why


def events(
    recovery: FakeRecovery | None = None, stopping: Stopping | None = None
) -> tuple[TrialEvents, list[tuple[Any, ...]]]:
    heard: list[tuple[Any, ...]] = []
    listeners = [Noting("first", heard), Noting("last", heard)]
    return TrialEvents(listeners, recovery or FakeRecovery(), stopping or Stopping()), heard  # type: ignore[arg-type]


def searcher_of(ledger: FakeLedger, folder: Path, members: int = 3) -> StudySearcher:
    options = {**OPTIONS, "folder": str(folder)}
    return StudySearcher(ledger, members, options, Stopping())  # type: ignore[arg-type]


def given(suggestion: Any) -> Assignment:
    return Assignment.from_plain(suggestion["assignment"])


def test_suggestions_are_the_packs_of_the_ledger_until_there_are_none(tmp_path: Path) -> None:
    ledger = FakeLedger()
    searcher = searcher_of(ledger, tmp_path)
    first, second = given(searcher.suggest("a")), given(searcher.suggest("b"))
    assert (list(first.units), second.units) == (PACK, (unit(5),))
    assert (first.threads, first.long_run_steps) == (2, 20)
    assert (first.stop_at, second.stop_at) == (None, 40)
    # what runs may fail, and be handed out again
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a")
    assert searcher.suggest("c") is None
    ledger.packs = [PACK]
    assert given(searcher.suggest("c")).units == tuple(PACK)
    for name in ("b", "c"):
        searcher.on_trial_complete(name, error=True)
    assert searcher.suggest("d") == Searcher.FINISHED
    assert set(ledger.asked) == {3}


def test_every_attempt_has_a_permit_and_only_the_newest_one_is_valid(tmp_path: Path) -> None:
    ledger = FakeLedger()
    searcher = searcher_of(ledger, tmp_path)
    first = given(searcher.suggest("a"))
    files = PackFiles.of(tmp_path, PACK)
    assert first.token is not None
    assert standing(files.permit, first.token) is Standing.VALID
    searcher.on_trial_complete("a", error=True)
    ledger.packs = [PACK]
    second = given(searcher.suggest("a2"))
    assert second.token is not None
    assert standing(files.permit, first.token) is Standing.SUPERSEDED
    assert standing(files.permit, second.token) is Standing.VALID


def test_a_wish_to_stop_takes_the_permits_and_ends_the_search(tmp_path: Path) -> None:
    stopping = Stopping()
    options = {**OPTIONS, "folder": str(tmp_path)}
    searcher = StudySearcher(FakeLedger(), 3, options, stopping)  # type: ignore[arg-type]
    first = given(searcher.suggest("a"))
    stopping.ask()
    assert first.token is not None
    assert standing(PackFiles.of(tmp_path, PACK).permit, first.token) is Standing.WITHDRAWN
    assert searcher.suggest("b") == Searcher.FINISHED


def test_an_assignment_travels_as_plain_values() -> None:
    sent = Assignment(units=tuple(PACK), **OPTIONS, looks=(10, 20), stop_at=20)
    assert Assignment.from_plain(json.loads(json.dumps(sent.plain()))) == sent


def test_tune_may_set_its_properties_and_tell_it_of_results(tmp_path: Path) -> None:
    searcher = searcher_of(FakeLedger(), tmp_path)
    assert searcher.set_search_properties("loss", "min", {})
    searcher.on_trial_complete("a", {"rows": []})
    searcher.on_trial_complete("a", error=True)


def test_tunes_snapshots_hold_nothing_and_are_not_gone_on_from(tmp_path: Path) -> None:
    searcher = searcher_of(FakeLedger(), tmp_path)
    listening, _ = events()
    for each in (searcher, listening):
        assert vars(pickle.loads(pickle.dumps(each))) == {}
    searcher.save(str(tmp_path / "searcher"))
    with pytest.raises(RuntimeError, match="goes on from its ledger"):
        searcher.restore(str(tmp_path / "searcher"))


def test_events_reach_the_listeners_in_order() -> None:
    listening, heard = events()
    curves: list[list[Point]] = [[{"update": 1, "d": 0.5}], [], []]
    rows: list[Row] = [{"trial": 3}, {"trial": 3}, {"trial": 4}]
    listening.on_trial_start(0, [], trial())
    listening.on_trial_result(1, [], trial(), {"update": 50, "curves": curves, "rows": []})
    listening.on_trial_complete(2, [], trial(last_result={"rows": rows}))
    assert heard == [
        ("first", "started", PACK),
        ("last", "started", PACK),
        ("first", "progressed", PACK, 50, curves),
        ("last", "progressed", PACK, 50, curves),
        ("first", "ended", PACK, rows),
        ("last", "ended", PACK, rows),
    ]


def test_of_what_is_recorded_tune_keeps_little() -> None:
    """It keeps every trial to the end, and studies are long."""
    listening, _ = events()
    done = trial(last_result={"rows": [{"trial": 3}]})
    result = {"update": 50, "curves": [[{"update": 1.0}]], "rows": []}
    listening.on_trial_result(1, [], done, result)
    listening.on_trial_complete(2, [], done)
    assert result["curves"] == done.last_result["rows"] == []
    assert done.run_metadata.metric_analysis == done.run_metadata.metric_n_steps == {}
    assert done.evaluated_params == {}


@pytest.mark.parametrize("last", [{}, {"update": 50, "rows": []}], ids=["at_once", "half_way"])
def test_an_interrupted_trial_has_not_ended(last: dict[str, Any]) -> None:
    listening, heard = events()
    listening.on_trial_complete(1, [], trial(last_result=last))
    assert heard == []


def failed(recovery: FakeRecovery, error: str | None, log: str, tmp_path: Path) -> Failure:
    """What recovery is asked about a failed trial."""
    file = tmp_path / "error.txt"
    if error is not None:
        file.write_text(f"Failure # 1\n{error}\n")
    files = PackFiles.of(tmp_path, PACK)
    files.log.parent.mkdir(parents=True)
    files.log.write_text(log)
    config = assigned()
    config["assignment"]["folder"] = str(tmp_path)
    listening, _ = events(recovery)
    listening.on_trial_error(
        1, [], trial(config=config, error_file=str(file), last_result={"update": 50})
    )
    ((units, failure, update),) = recovery.asked
    assert (units, update) == (PACK, 50)
    return failure


def test_a_failure_is_told_with_the_end_of_what_was_said(tmp_path: Path) -> None:
    lines = "".join(f"  line {n}\n" for n in range(40))
    error = f"{lines}\x1b[36mray::step()\x1b[39m\nRuntimeError: no such layer\n\n"
    failure = failed(FakeRecovery(), error, "", tmp_path)
    assert failure.kind is Kind.ERROR
    assert failure.cause.splitlines()[-2:] == ["ray::step()", "RuntimeError: no such layer"]
    assert failure.headline == "RuntimeError: no such layer"
    assert failure.cause.splitlines()[0] == "  line 27"


@pytest.mark.parametrize("error", [None, "ray.exceptions.ActorDiedError: The actor died"])
def test_a_lost_worker_is_known_by_its_log(tmp_path: Path, error: str | None) -> None:
    failure = failed(FakeRecovery(), error, "Fatal Python error: Segmentation fault\n", tmp_path)
    assert failure.kind is Kind.LOST
    assert failure.cause == "Fatal Python error: Segmentation fault\nthe worker was lost"


def test_listeners_hear_of_rows_or_of_what_follows() -> None:
    rows: list[Row] = [{"trial": 3}]
    for recovery, told in (
        (FakeRecovery(rows), ("ended", PACK, rows)),
        (FakeRecovery(why="once more"), ("held_up", PACK, "once more")),
    ):
        listening, heard = events(recovery)
        listening.on_trial_error(1, [], trial())
        assert heard == [("first", *told), ("last", *told)]
    listening, heard = events(FakeRecovery())  # the study stops
    listening.on_trial_error(1, [], trial())
    assert heard == []


def test_workers_that_are_ended_by_a_stop_have_not_failed() -> None:
    recovery, stopping = FakeRecovery([{"trial": 3}]), Stopping()
    listening, heard = events(recovery, stopping)
    stopping.ask()
    listening.on_trial_error(1, [], trial())
    assert (heard, recovery.asked) == ([], [])


def test_a_listener_that_cannot_record_ends_the_study_and_nobody_hears_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tune would take the error for one of the trial."""
    stopping = Stopping()
    listening, heard = events(stopping=stopping)
    full = OSError(28, "No space left on device")

    def broken(*_: Any) -> None:
        raise full

    monkeypatch.setattr(listening._listeners[0], "ended", broken)
    listening.on_trial_complete(2, [], trial(last_result={"rows": [{"trial": 3}]}))
    listening.on_trial_start(3, [], trial())
    assert heard == []
    assert stopping.asked
    assert stopping.error is full
