"""A study is planned once: before it begins, or by what it began with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_probes import MadeUpProbes
from tiny_study import document

from ebm_core.document import dump_yaml
from study import estimate, planning
from study.ledger import Ledger
from study.plan import Plan
from study.planning import Planner
from study.probes import ProbeError
from study.spec import StudySpec, load_study


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> MadeUpProbes:
    made_up = MadeUpProbes(law=lambda workers, threads, members: max(4, members))
    monkeypatch.setattr(estimate, "Probes", lambda count, gpus: made_up)
    return made_up


def spec(folder: Path, **resources: Any) -> StudySpec:
    path = folder / "s.yaml"
    sections = {"trials": 16, "resources": resources, "storage": str(folder)}
    path.write_text(dump_yaml(document(**sections)))
    return load_study(path)


def planner(study: StudySpec, shown: bool = True) -> tuple[Planner, list[str]]:
    told: list[str] = []
    return Planner(study, 1, shown, told.append), told


def test_what_was_planned_before_is_not_planned_again(
    tmp_path: Path, probes: MadeUpProbes
) -> None:
    study = spec(tmp_path, members_per_trial="auto")
    made, _ = planner(study)
    made.before(None)
    asked = list(probes.asked)
    assert asked
    ledger = Ledger(study, tmp_path)
    plan, seconds = made.plan(ledger, None)
    assert (plan, probes.asked) == (Plan(1, 1, 4), asked)
    assert seconds is not None
    # another process finds what was chosen, and tries out that alone
    again, _ = planner(study)
    assert again.plan(ledger, None)[0] == plan
    assert probes.asked[len(asked) :] == [(1, 1, 4)]


def test_a_plan_that_leaves_nothing_open_is_measured_for_those_who_look_on(
    tmp_path: Path, probes: MadeUpProbes
) -> None:
    study = spec(tmp_path, members_per_trial=2)
    silent, _ = planner(study, shown=False)
    silent.before(None)
    assert silent.plan(Ledger(study, tmp_path), None) == (Plan(1, 1, 2), None)
    assert probes.asked == []
    seen, _ = planner(study)
    seen.before(None)
    assert probes.asked == [(1, 1, 2)]


def test_a_trial_that_fails_is_told_and_nothing_is_kept(
    tmp_path: Path, probes: MadeUpProbes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ProbeError("it broke")

    monkeypatch.setattr(planning, "prepare", broken)
    study = spec(tmp_path, members_per_trial="auto")
    made, told = planner(study)
    made.before(None)
    ledger = Ledger(study, tmp_path)
    assert made.plan(ledger, None) == (Plan(1, 1, 1), None)
    (line,) = told
    assert line.startswith("warning: how long it takes is not known")
    assert line.endswith("it broke")
    assert "plan" not in ledger.study.user_attrs


def test_whether_a_gpu_holds_a_plan_is_found_out_in_any_case(
    tmp_path: Path, probes: MadeUpProbes
) -> None:
    study = spec(tmp_path, members_per_trial=2, gpus_per_trial=0.5)
    silent, told = planner(study, shown=False)
    silent.before(None)
    assert probes.asked == [(1, 1, 2)]
    assert told == []


@pytest.mark.parametrize("shown", [True, False])
def test_why_it_takes_long_is_told_to_those_who_look_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: bool
) -> None:
    def slow(*arguments: Any) -> Any:
        tell: Callable[[], None] = arguments[-1]
        tell()
        raise ProbeError("too slow")

    monkeypatch.setattr(planning, "prepare", slow)
    made, told = planner(spec(tmp_path, members_per_trial="auto"), shown)
    made.before(None)
    measuring = "tiny: measuring how fast packs are trained here ..."
    assert told[:-1] == ([measuring] if shown else [])
