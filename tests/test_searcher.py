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
from study.job import Assignment, Point, Unit
from study.searcher import StudySearcher, TrialEvents
from study.table import CAUSE, Row

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

    def ended(self, units: Sequence[Unit], rows: list[Row]) -> None:
        self.heard.append((self.name, "ended", list(units), rows))


def assigned() -> dict[str, Any]:
    return {"assignment": Assignment(units=tuple(PACK), **OPTIONS).plain()}


def trial(**fields: Any) -> SimpleNamespace:
    given = {"config": assigned(), "last_result": {}, "error_file": None}
    return SimpleNamespace(**{**given, **fields})


def events() -> tuple[TrialEvents, list[tuple[Any, ...]]]:
    heard: list[tuple[Any, ...]] = []
    return TrialEvents([Noting("first", heard), Noting("last", heard)]), heard


def test_suggestions_are_the_packs_of_the_ledger_until_there_are_none() -> None:
    ledger = FakeLedger()
    searcher = StudySearcher(ledger, 3, OPTIONS)  # type: ignore[arg-type]
    assert searcher.suggest("a") == assigned()
    second = Assignment.from_plain(searcher.suggest("b")["assignment"])
    assert second == Assignment(units=(unit(5),), **OPTIONS)
    assert searcher.suggest("c") == Searcher.FINISHED
    assert ledger.asked == [3, 3, 3]


def test_an_assignment_travels_as_plain_values() -> None:
    given = Assignment(units=tuple(PACK), **OPTIONS)
    assert Assignment.from_plain(json.loads(json.dumps(given.plain()))) == given


def test_tune_may_set_its_properties_and_tell_it_of_results() -> None:
    searcher = StudySearcher(FakeLedger(), 1, OPTIONS)  # type: ignore[arg-type]
    assert searcher.set_search_properties("loss", "min", {})
    searcher.on_trial_complete("a", {"rows": []})
    searcher.on_trial_complete("a", error=True)


def test_tunes_snapshots_hold_nothing_and_are_not_gone_on_from(tmp_path: Path) -> None:
    searcher = StudySearcher(FakeLedger(), 1, OPTIONS)  # type: ignore[arg-type]
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


@pytest.mark.parametrize("last", [{}, {"update": 50, "rows": []}], ids=["at_once", "half_way"])
def test_an_interrupted_trial_has_not_ended(last: dict[str, Any]) -> None:
    listening, heard = events()
    listening.on_trial_complete(1, [], trial(last_result=last))
    assert heard == []


def failed(error_file: Path | None) -> list[Row]:
    listening, heard = events()
    listening.on_trial_error(1, [], trial(error_file=error_file and str(error_file)))
    (_, what, units, rows), (*_, same) = heard
    assert what == "ended"
    assert units == PACK
    assert rows == same
    return rows


def test_an_error_fails_every_training_of_the_pack_with_its_cause(tmp_path: Path) -> None:
    file = tmp_path / "error.txt"
    lines = "".join(f"  line {n}\n" for n in range(40))
    file.write_text(
        f"Failure # 1\n{lines}\x1b[36mray::step()\x1b[39m\nRuntimeError: no memory\n\n"
    )
    rows = failed(file)
    assert [(row["trial"], row["seed"]) for row in rows] == [(3, 0), (3, 1), (4, 0)]
    for row in rows:
        assert row["status"] == "failed"
        assert row["verdict"] is None
        assert row["long_run"] == "not_run"
        assert row["epsilon"] == 0.1
        assert row["langevin_steps"] == 30
        cause = str(row[CAUSE]).splitlines()
        assert cause[-2:] == ["ray::step()", "RuntimeError: no memory"]
        assert cause[0] == "  line 27"


@pytest.mark.parametrize("named", [True, False])
def test_an_error_without_a_file_says_that_the_worker_was_lost(
    tmp_path: Path, named: bool
) -> None:
    rows = failed(tmp_path / "missing.txt" if named else None)
    assert {row[CAUSE] for row in rows} == {"the worker was lost"}
