"""How a study runs: how many workers, threads of each, and trainings packed together.

A number in the study file, or after ``--workers``, is taken as it is. What is ``auto`` is chosen
for the least predicted time, from what was measured here; where several are as quick, for the
smallest pack, whose results come soonest. A study keeps its choice: results depend on it in their
last bits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from study.samplers import ADAPTIVE
from study.schema.sections import Resources
from study.spec import StudySpec

if TYPE_CHECKING:
    from study.survey import PackCost, Survey

# Where the ledger keeps the choice.
KEY = "plan"
# What is asked for of resources that bears on the choice: not where, nor what becomes of failures.
_CHOSEN_BY = ("cpus_per_trial", "gpus_per_trial", "members_per_trial")
# Doubling pays if it saves this share of the time; choices are as quick that differ by less.
_PAYS = 0.05
# Rounds that an adaptive method is left to learn in.
_ROUNDS = 8


@dataclass(frozen=True)
class Plan:
    """How a study runs.

    Attributes:
        workers: Trials side by side.
        threads: Of each.
        members: Trainings of one pack.
    """

    workers: int
    threads: int
    members: int


@dataclass(frozen=True)
class Room:
    """What there is to run on.

    Attributes:
        cpus: Cores.
        gpus: GPUs.
    """

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Wanted:
    """What a user asks for.

    Attributes:
        resources: Of the study file.
        workers: After ``--workers``; None for what there is room for.
        room: Of a cluster; None for this machine.
    """

    resources: Resources
    workers: int | None = None
    room: Room | None = None

    @property
    def fixed(self) -> bool:
        """Whether nothing is left to choose."""
        return "auto" not in (self.resources.cpus_per_trial, self.resources.members_per_trial)

    def plan(self, trainings: int, threads: int = 1, members: int = 1) -> Plan:
        """With as many workers as there is room for, and packs to train.

        Args:
            trainings: That are to be made.
            threads: Where it is ``auto``.
            members: Where it is ``auto``.
        """
        if self.resources.cpus_per_trial != "auto":
            threads = self.resources.cpus_per_trial
        if self.resources.members_per_trial != "auto":
            members = self.resources.members_per_trial
        packs = math.ceil(trainings / members)
        return Plan(max(1, min(packs, self.side_by_side(threads))), threads, members)

    def settled(self, plan: Plan) -> Wanted:
        """The same with nothing left to choose: threads and members of a plan."""
        numbers = {"cpus_per_trial": plan.threads, "members_per_trial": plan.members}
        return replace(self, resources=self.resources.model_copy(update=numbers))

    def side_by_side(self, threads: int) -> int:
        """How many workers of so many threads there are room for, at least one."""
        if self.workers is not None:
            return self.workers
        room = (self.room.cpus if self.room else cores()) // threads
        gpus = self.resources.gpus_per_trial
        if gpus > 0:
            count = self._gpus()
            # a worker's share lies on one GPU
            room = min(room, count * int(1 / gpus) if gpus < 1 else int(count / gpus))
        return max(1, room)

    def _gpus(self) -> int:
        if self.room is not None:
            return self.room.gpus
        import torch

        return torch.cuda.device_count()

    def plain(self) -> dict[str, Any]:
        """What the choice depends on, kept to see whether the same is asked for again."""
        return _bearing({"resources": self.resources.model_dump(), "workers": self.workers})


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def kept(memory: Mapping[str, Any], wanted: Wanted, trainings: int) -> Plan | None:
    """The plan that a study was begun with; None if it has none, or something else is wanted now.

    Args:
        memory: What the ledger keeps of the study, see `keep`.
        wanted: What is asked for now.
        trainings: That are left.
    """
    found = memory.get(KEY)
    if found is None or _bearing(found["wanted"]) != wanted.plain():
        return None
    return wanted.plan(trainings, found["threads"], found["members"])


def _bearing(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What the choice depends on, of what is asked for or was kept by an earlier version."""
    resources = {key: wanted["resources"][key] for key in _CHOSEN_BY}
    return {"resources": resources, "workers": wanted["workers"]}


def keep(plan: Plan, wanted: Wanted) -> dict[str, Any]:
    """What the ledger is to keep under `KEY`; workers follow from it, here or elsewhere."""
    return {"wanted": wanted.plain(), "threads": plan.threads, "members": plan.members}


def choose(
    spec: StudySpec, wanted: Wanted, survey: Survey, trainings: int
) -> tuple[Plan, PackCost]:
    """The quickest plan and the cost of one of its packs.

    Args:
        spec: The study.
        wanted: What is fixed, and what is to be chosen.
        survey: Measures.
        trainings: That are to be made.

    Raises:
        ConfigError: If memory does not hold the smallest pack.
        ProbeError: If packs cannot be tried out.
    """
    found: dict[Plan, PackCost] = {}
    best = math.inf
    for threads in _thread_counts(wanted):
        here = _with_threads(spec, wanted, survey, trainings, threads)
        found |= here
        quickest = min((makespan(*each, trainings) for each in here.items()), default=math.inf)
        if found and (quickest > (1 - _PAYS) * best or survey.exhausted):
            break
        best = quickest
    if not found:
        from study import memory

        asked = wanted.resources.members_per_trial
        smallest = 1 if asked == "auto" else min(asked, max(1, trainings))
        raise memory.ran_out(f"a worker with {memory.trainings(smallest)}", survey.shortage)
    seconds = {plan: makespan(plan, cost, trainings) for plan, cost in found.items()}
    limit = (1 + _PAYS) * min(seconds.values())
    quick = [plan for plan in found if seconds[plan] <= limit]
    chosen = min(quick, key=lambda plan: (plan.members, plan.threads))
    return chosen, found[chosen]


def makespan(plan: Plan, cost: PackCost, trainings: int) -> float:
    """Seconds that the busiest worker works, if all of its packs are full."""
    return -(-trainings // (plan.members * plan.workers)) * cost.seconds + cost.cold


def most_members(spec: StudySpec, workers: int, trainings: int) -> int:
    """The largest pack that leaves every worker one, and an adaptive method enough rounds."""
    if spec.method in ADAPTIVE:
        return max(1, spec.trials // (_ROUNDS * workers))
    return max(1, math.ceil(trainings / workers))


def _thread_counts(wanted: Wanted) -> Iterator[int]:
    asked, gpus = wanted.resources.cpus_per_trial, wanted.resources.gpus_per_trial
    if asked != "auto":
        yield asked
    elif gpus:
        yield 1  # the work is done elsewhere
    else:
        yield from _doubling(max(1, cores() // (wanted.workers or 1)))


def _doubling(most: int) -> Iterator[int]:
    """1, 2, 4 ... and the largest."""
    count = 1
    while count < most:
        yield count
        count *= 2
    yield most


def _with_threads(
    spec: StudySpec, wanted: Wanted, survey: Survey, trainings: int, threads: int
) -> dict[Plan, PackCost]:
    """Plans with so many threads, for every size of a pack up to the largest that was measured."""
    workers = wanted.plan(trainings, threads).workers
    if wanted.resources.members_per_trial != "auto":
        sizes: Iterator[int] = iter([min(wanted.resources.members_per_trial, max(1, trainings))])
    else:
        sizes = _doubling(most_members(spec, wanted.side_by_side(threads), trainings))
    known = list(_measured(survey, workers, threads, sizes))
    return dict(_every_size(wanted, known, trainings, threads))


def _measured(
    survey: Survey, workers: int, threads: int, sizes: Iterator[int]
) -> Iterator[PackCost]:
    """Larger and larger packs, until there is no more room or it does not pay."""
    before: PackCost | None = None
    for members in sizes:
        if before is not None and (survey.exhausted or not before.fits_twice):
            return
        cost = survey.pack(workers, threads, members)
        if cost is None or (before is not None and not cost.fits):
            return
        yield cost
        if before is not None and not _pays(before, cost):
            return
        before = cost


def _pays(small: PackCost, large: PackCost) -> bool:
    """Whether a member is quicker in the larger pack, per doubling."""
    share = (large.seconds / large.members) / (small.seconds / small.members)
    least: float = (1 - _PAYS) ** math.log2(large.members / small.members)
    return share <= least


def _every_size(
    wanted: Wanted, known: list[PackCost], trainings: int, threads: int
) -> Iterator[tuple[Plan, PackCost]]:
    from study.survey import between

    for low, high in zip(known, [*known[1:], *known[-1:]], strict=True):
        yield wanted.plan(trainings, threads, int(low.members)), low
        for members in range(int(low.members) + 1, int(high.members)):
            yield wanted.plan(trainings, threads, members), between(low, high, members)
