"""What packs of a study cost, from what probes answer."""

from __future__ import annotations

from typing import Any

import pytest
from made_up_probes import IDLE, ROOM, MadeUpProbes
from tiny_study import IMAGES, PLANE, document

from ebm_core.errors import ConfigError
from study import survey as module
from study.spec import StudySpec, from_resolved
from study.survey import PackCost, Survey, between, kinds


def spec_of(base: dict[str, Any] = PLANE, **sections: Any) -> StudySpec:
    return from_resolved(document(base=base, **sections))


def pack(spec: StudySpec, probes: MadeUpProbes | None = None, members: int = 1) -> PackCost:
    found = Survey(spec, probes or MadeUpProbes()).pack(2, 1, members)
    assert found is not None
    return found


def test_a_pack_costs_its_updates_and_what_follows_for_each_member() -> None:
    cost = pack(spec_of(long_run={"steps": 2000}), members=3)
    assert cost.training == pytest.approx(60 * 0.03)
    assert (cost.check, cost.pictures) == (2.0, 0.5)
    assert cost.seconds == pytest.approx(60 * 0.03 + 3 * 2.5 + 0.2 + module._TURN_SECONDS)
    assert (cost.size, cost.room) == (IDLE + 3e6, ROOM)


def test_each_pack_is_measured_once_and_what_follows_once_for_all() -> None:
    probes = MadeUpProbes()
    survey = Survey(spec_of(), probes)
    assert survey.pack(2, 1, 4) is survey.pack(2, 1, 4)
    survey.pack(2, 1, 8)
    assert probes.asked == [(2, 1, 4), (2, 1, 8)]
    assert probes.conclusions == 1
    survey.pack(1, 2, 4)
    assert probes.conclusions == 2


def test_memory_is_that_of_the_pack_or_of_what_follows() -> None:
    class Heavy(MadeUpProbes):
        def _conclude(self, count: int, **arguments: Any) -> dict[str, float]:
            return {**super()._conclude(count, **arguments), "bytes": IDLE + 5e6}

    assert pack(spec_of(), Heavy()).size == IDLE + 5e6
    assert pack(spec_of(), Heavy(), members=8).size == IDLE + 8e6


def test_a_worker_is_cold_once_whatever_pack_it_begins_with() -> None:
    class Warming(MadeUpProbes):
        def _prepare(self, count: int, **arguments: Any) -> dict[str, float] | None:
            found = super()._prepare(count, **arguments)
            return found and {**found, "cold": 3.0 if len(self.asked) == 1 else 0.0}

    survey = Survey(spec_of(), Warming())
    costs = [survey.pack(2, 1, members) for members in (1, 2)]
    assert [cost.cold for cost in costs if cost is not None] == [3.0, 3.0]


def test_every_kind_is_tried_out_and_counts_by_its_share() -> None:
    values = ["digits@4", "digits@6"]
    spec = spec_of(IMAGES, parameters={"data": {"distribution": "choice", "values": values}})
    sizes = []

    class Sized(MadeUpProbes):
        def _measure(self, count: int) -> dict[str, float]:
            side = self.configs[-1]["data"]["size"]
            sizes.append(side)
            return {"seconds": float(side), "bytes": IDLE + side}

    cost = pack(spec, Sized())
    assert sorted(sizes) == [4, 6]
    a_update = cost.training / IMAGES["updates"]
    shares = {kind.config.data.size: kind.share for kind in Survey(spec, MadeUpProbes())._kinds}
    assert sum(shares.values()) == 1
    assert a_update == pytest.approx(4 * shares[4] + 6 * shares[6])
    assert cost.size == IDLE + 6


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("updates", [60, 100], 80.0),
        ("langevin_steps", [2, 6], None),
        ("batch_size", [12, 24], None),
    ],
)
def test_time_follows_the_mean_work_where_it_is_searched(
    name: str, values: list[int], expected: float | None
) -> None:
    lengths = {name: {"distribution": "choice", "values": values}}
    points = [spec_of(parameters=lengths).config({name: value}) for value in values]
    (kind,) = kinds(points)
    assert kind.share == 1
    if expected is not None:
        assert kind.updates == expected
    else:
        # the larger stands for both, and the smaller makes up the rest
        assert getattr(kind.config, name) == values[1]
        assert kind.updates == pytest.approx(60 * (values[0] / values[1] + 1) / 2)


@pytest.mark.parametrize(("engine", "path"), [("auto", None), ("reference", "reference")])
def test_members_are_run_as_the_study_will_run_them(engine: str, path: str | None) -> None:
    probes = MadeUpProbes()
    pack(spec_of(engine=engine), probes)
    assert probes.engine_paths == [path]


def test_what_has_no_room_has_no_cost() -> None:
    survey = Survey(spec_of(), MadeUpProbes(most_members=2))
    assert survey.pack(1, 1, 3) is None
    assert survey.pack(1, 1, 2) is not None


@pytest.mark.parametrize(
    ("member_bytes", "fits", "fits_twice"),
    [(1e8, True, True), (9e8, True, False), (2e9, False, False)],
)
def test_memory_is_judged_with_what_the_worker_takes_anyway(
    member_bytes: float, fits: bool, fits_twice: bool
) -> None:
    cost = pack(spec_of(), MadeUpProbes(member_bytes=member_bytes))
    assert (cost.fits, cost.fits_twice) == (fits, fits_twice)


def test_a_check_without_room_is_told() -> None:
    class Full(MadeUpProbes):
        def ask(self, count: int, command: str, **arguments: Any) -> dict[str, float] | None:
            return None if command == "conclude" else super().ask(count, command, **arguments)

    rule = r"the long-run check of a training needs over 9\.00 GB, and 4\.00 GB are free"
    with pytest.raises(ConfigError, match=rf"^resources: must fit into memory: {rule}"):
        Survey(spec_of(), Full()).pack(1, 1, 1)


@pytest.mark.parametrize(("start", "told"), [(1.0, 0), (10.0, 1)])
def test_people_are_told_once_if_it_takes_longer(start: float, told: int) -> None:
    calls = []
    probes = MadeUpProbes()
    probes.start_seconds = start
    survey = Survey(spec_of(), probes, lambda: calls.append(1))
    survey.pack(1, 1, 1)
    survey.pack(1, 1, 2)
    assert len(calls) == told
    assert survey.seconds >= start
    assert not survey.exhausted


def test_between_two_sizes_cost_is_in_proportion() -> None:
    low = PackCost(4, 40.0, 3.0, 1.0, 0.5, 2.0, 4e8, 3e8, 2e9)
    high = PackCost(8, 60.0, 3.0, 1.0, 0.7, 2.0, 5e8, 3e8, 1e9)
    middle = between(low, high, 5)
    assert (middle.members, middle.training) == (5, 45.0)
    assert middle.build == pytest.approx(0.55)
    # memory is that of the larger, the room that of the lesser
    assert (middle.size, middle.room) == (5e8, 1e9)
    assert between(low, low, 4) is low
