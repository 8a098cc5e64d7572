"""How many workers, threads and members a study runs with: what is chosen, and what is kept."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from made_up_probes import MadeUpProbes
from tiny_study import document

from ebm_core.errors import ConfigError
from study.plan import KEY, Plan, Wanted, choose, cores, keep, kept, makespan, most_members
from study.spec import StudySpec, from_resolved
from study.survey import PackCost, Survey


def spec_of(
    trials: int = 16, seeds: int = 1, method: str = "sobol", **resources: Any
) -> StudySpec:
    return from_resolved(document(trials=trials, seeds=seeds, method=method, resources=resources))


def wanted(workers: int | None = None, **resources: Any) -> Wanted:
    return Wanted(spec_of(**resources).resources, workers)


def use_cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    found = set(range(count))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: found, raising=False)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores and two GPUs."""
    use_cores(monkeypatch, 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


# -- workers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trainings", "resources", "workers"),
    [
        (16, {}, 8),
        (3, {}, 3),
        (0, {}, 1),
        (16, {"cpus_per_trial": 3}, 2),
        (16, {"cpus_per_trial": 9}, 1),
        (16, {"gpus_per_trial": 1}, 2),
        (16, {"gpus_per_trial": 0.5}, 4),
        (16, {"gpus_per_trial": 0.4}, 4),  # two on each, and none on both
        (16, {"gpus_per_trial": 0.1}, 8),
        (16, {"gpus_per_trial": 4}, 1),
        (16, {"members_per_trial": 4}, 4),
        (17, {"members_per_trial": 4}, 5),
    ],
)
def test_workers_follow_cores_gpus_and_what_there_is_to_do(
    trainings: int, resources: dict[str, Any], workers: int
) -> None:
    assert wanted(**resources).plan(trainings).workers == workers


def test_a_user_may_ask_for_more_workers_than_cores_but_not_for_idle_ones() -> None:
    assert wanted(12).plan(16).workers == 12
    assert wanted(1).plan(16).workers == 1
    assert wanted(12).plan(3).workers == 3


def test_a_system_that_does_not_know_its_affinity_counts_its_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


# -- what is chosen ------------------------------------------------------------------------------


def chosen(
    spec: StudySpec, probes: MadeUpProbes | None = None, workers: int | None = None
) -> Plan:
    survey = Survey(spec, probes or MadeUpProbes())
    asked = Wanted(spec.resources, workers)
    return choose(spec, asked, survey, spec.trials)[0]


def launches(floor: float) -> MadeUpProbes:
    """Packs of which only members over `floor` add to the time."""
    return MadeUpProbes(law=lambda workers, threads, members: 0.1 * max(members, floor))


AUTO = {"members_per_trial": "auto"}


def test_a_number_is_taken_as_it_is_though_it_is_slow() -> None:
    """A pack of six on one thread costs more than six alone; nobody asked."""
    probes = MadeUpProbes(law=lambda workers, threads, members: members**2 / threads)
    spec = spec_of(48, members_per_trial=6, cpus_per_trial=3)
    assert chosen(spec, probes) == Plan(2, 3, 6)
    assert probes.asked == [(2, 3, 6)]


@pytest.mark.parametrize(("method", "members"), [("random", 8), ("sobol", 8), ("tpe", 4)])
def test_members_fill_up_what_a_step_costs_anyway(method: str, members: int) -> None:
    """Eight members cost what one does, and 64 trainings on 2 workers have room for 32."""
    assert chosen(spec_of(64, method=method, **AUTO), launches(8), workers=2) == Plan(
        2, 1, members
    )


def test_where_packs_do_not_pay_there_are_none_and_the_search_ends_early() -> None:
    probes = MadeUpProbes(law=lambda workers, threads, members: members)
    assert chosen(spec_of(64, **AUTO), probes) == Plan(8, 1, 1)
    assert probes.asked == [(8, 1, 1), (8, 1, 2)]


@pytest.mark.parametrize(("saved", "members"), [(0.04, 1), (0.08, 2)])
def test_of_plans_as_quick_the_smaller_packs_give_results_sooner(
    saved: float, members: int
) -> None:
    probes = MadeUpProbes(law=lambda w, t, k: 10 * k * (1 - saved if k > 1 else 1))
    assert chosen(spec_of(64, **AUTO), probes).members == members


def test_trainings_are_shared_out_evenly() -> None:
    """20 on 2 workers take two rounds of five as well as of eight, which would leave four."""
    plan = chosen(spec_of(20, **AUTO), MadeUpProbes(law=lambda w, t, k: 1 + 0.5 * k), workers=2)
    assert plan == Plan(2, 1, 10)
    capped = MadeUpProbes(law=lambda w, t, k: 1 + 0.1 * k, most_members=8)
    assert chosen(spec_of(20, **AUTO), capped, workers=2) == Plan(2, 1, 5)


@pytest.mark.parametrize(
    ("method", "trials", "workers", "members"),
    [
        ("tpe", 16, 1, 2),
        ("gp", 16, 2, 1),
        ("nsga2", 15, 1, 1),
        ("tpe", 4, 8, 1),
        ("tpe", 640, 4, 20),
        ("grid", 640, 4, 320),
        ("random", 641, 4, 321),
        ("sobol", 3, 8, 1),
    ],
)
def test_a_pack_leaves_an_adaptive_method_eight_rounds_and_others_one(
    method: str, trials: int, workers: int, members: int
) -> None:
    parameters: dict[str, Any] = {"epsilon": {"distribution": "uniform", "min": 0.1, "max": 0.2}}
    if method == "grid":
        parameters["epsilon"]["points"] = 640
    spec = from_resolved(document(method=method, parameters=parameters, trials=trials, seeds=2))
    assert most_members(spec, workers, 2 * trials) == members


def test_threads_serve_where_there_are_cores_to_spare() -> None:
    """Two trainings on eight cores: four threads each are quicker than one."""
    probes = MadeUpProbes(law=lambda workers, threads, members: 1 / threads)
    assert chosen(spec_of(2, cpus_per_trial="auto"), probes) == Plan(2, 4, 1)


def test_threads_are_not_used_where_workers_serve_better() -> None:
    probes = MadeUpProbes(law=lambda workers, threads, members: 1 / threads**0.5)
    assert chosen(spec_of(64, cpus_per_trial="auto"), probes) == Plan(8, 1, 1)
    assert [threads for _, threads, _ in probes.asked] == [1, 2]


def test_workers_that_are_asked_for_leave_the_rest_of_the_cores_to_their_threads() -> None:
    probes = MadeUpProbes(law=lambda workers, threads, members: 1 / threads)
    assert chosen(spec_of(64, cpus_per_trial="auto"), probes, workers=3) == Plan(3, 2, 1)
    assert [threads for _, threads, _ in probes.asked] == [1, 2]


def test_beside_a_gpu_one_thread_is_enough() -> None:
    probes = MadeUpProbes(law=lambda workers, threads, members: 1 / threads)
    spec = spec_of(64, cpus_per_trial="auto", gpus_per_trial=1)
    assert chosen(spec, probes) == Plan(2, 1, 1)


def test_threads_and_members_are_chosen_together() -> None:
    """One worker of two threads takes packs that two of one thread have no trials for."""

    def law(workers: int, threads: int, members: int) -> float:
        return max(members, 4) / threads**0.9

    def plan(trials: int) -> Plan:
        spec = spec_of(trials, method="tpe", cpus_per_trial="auto", **AUTO)
        return chosen(spec, MadeUpProbes(law=law), workers=None)

    with pytest.MonkeyPatch.context() as patch:
        use_cores(patch, 2)
        assert plan(32) == Plan(1, 2, 4)
        assert plan(64) == Plan(2, 1, 4)


def test_packs_stay_within_the_memory() -> None:
    """Three members would fit, as would two; what has no room for twice as many is not doubled."""
    probes = launches(8)
    probes.member_bytes = 6e8
    assert chosen(spec_of(64, **AUTO), probes, workers=2).members == 2
    probes.member_bytes = 5e9
    assert chosen(spec_of(64, **AUTO), probes, workers=2).members == 1
    full = launches(8)
    full.most_members = 3
    assert chosen(spec_of(64, **AUTO), full, workers=2).members == 2


def test_a_training_that_has_no_room_is_told() -> None:
    rule = r"a worker with 1 training needs over 9\.00 GB, and 4\.00 GB are free for it"
    with pytest.raises(ConfigError, match=rf"^resources: must fit into memory: {rule}"):
        chosen(spec_of(), MadeUpProbes(most_members=0))
    with pytest.raises(ConfigError, match=r"a worker with 5 trainings needs over 9\.00 GB"):
        chosen(spec_of(members_per_trial=5), MadeUpProbes(most_members=4))


def test_no_more_is_tried_out_once_it_took_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Survey, "exhausted", True)
    probes = launches(8)
    spec = spec_of(64, cpus_per_trial="auto", **AUTO)
    assert chosen(spec, probes) == Plan(8, 1, 1)
    assert probes.asked == [(8, 1, 1)]


# -- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trainings", "workers", "members", "packs_in_a_row"),
    [(12, 1, 1, 12), (24, 1, 1, 24), (12, 4, 1, 3), (13, 4, 1, 4), (12, 2, 3, 2), (13, 2, 3, 3)],
)
def test_time_is_that_of_the_busiest_worker(
    trainings: int, workers: int, members: int, packs_in_a_row: int
) -> None:
    cost = PackCost(members, 60.0, 3.0, 1.0, 0.5, 2.0, 0.0, 0.0, 1.0)
    assert cost.seconds == pytest.approx(60.8 + members * 4.0)
    found = makespan(Plan(workers, 1, members), cost, trainings)
    assert found == pytest.approx(packs_in_a_row * cost.seconds + 2.0)


# -- what is kept --------------------------------------------------------------------------------


def test_a_study_goes_on_as_it_began_with_as_many_workers_as_there_is_room_for() -> None:
    asked = wanted(cpus_per_trial="auto", **AUTO)
    memory = {KEY: keep(Plan(4, 2, 3), asked)}
    assert kept(memory, asked, 16) == Plan(4, 2, 3)
    assert kept(memory, asked, 5) == Plan(2, 2, 3)
    with pytest.MonkeyPatch.context() as patch:
        use_cores(patch, 2)
        assert kept(memory, asked, 16) == Plan(1, 2, 3)


@pytest.mark.parametrize(
    "now",
    [
        wanted(2, cpus_per_trial="auto", **AUTO),
        wanted(cpus_per_trial=1, **AUTO),
        wanted(cpus_per_trial="auto", gpus_per_trial=1, **AUTO),
    ],
    ids=["workers", "cpus", "gpus"],
)
def test_what_is_asked_for_anew_is_chosen_anew(now: Wanted) -> None:
    asked = wanted(cpus_per_trial="auto", **AUTO)
    memory = {KEY: keep(Plan(4, 2, 3), asked)}
    assert kept(memory, now, 16) is None
    assert kept({}, asked, 16) is None


def test_a_plan_is_kept_where_only_the_place_changes() -> None:
    asked = wanted(cpus_per_trial="auto", **AUTO)
    memory = {KEY: keep(Plan(4, 2, 3), asked)}
    there = {"address": "10.0.0.1:6379", "retries": 5}
    elsewhere = Wanted(asked.resources.model_copy(update=there))
    assert kept(memory, elsewhere, 16) == Plan(4, 2, 3)
    # as ledgers of earlier versions have it
    memory[KEY]["wanted"]["resources"] = asked.resources.model_dump()
    assert kept(memory, elsewhere, 16) == Plan(4, 2, 3)


def test_a_plan_settles_what_was_left_to_choose() -> None:
    asked = wanted(2, cpus_per_trial="auto", **AUTO)
    assert not asked.fixed
    assert not wanted(**AUTO).fixed
    settled = asked.settled(Plan(2, 4, 3))
    assert settled.fixed
    assert settled.plan(16) == Plan(2, 4, 3)
