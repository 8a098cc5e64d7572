"""Plans a study that is about to run; a new one before it begins: a refusal leaves no trace.

What it goes by is measured, see `study.estimate.prepare`. A plan that was begun with is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from study import plan as plans
from study.estimate import prepare
from study.ledger import Ledger
from study.plan import Plan, Room, Wanted
from study.probes import ProbeError
from study.spec import StudySpec


class Planned(NamedTuple):
    """How a study runs.

    Attributes:
        plan: Workers, threads and packs.
        seconds: What it will take; None if that is not known.
        measured: Whether packs were tried out for it.
    """

    plan: Plan
    seconds: float | None
    measured: bool


class Planner:
    """Plans what is left of a study, once.

    Args:
        spec: The study.
        workers: After ``--workers``; None for what there is room for.
        shown: Whether somebody looks on, and is to know how long it takes.
        tell: Is given warnings, and with `shown` why nothing is seen to happen yet.
    """

    def __init__(
        self, spec: StudySpec, workers: int | None, shown: bool, tell: Callable[[str], None]
    ) -> None:
        self._spec, self._workers, self._shown, self._tell = spec, workers, shown, tell
        self._planned: Planned | None = None

    def before(self, room: Room | None) -> None:
        """Plans a study that has not begun.

        Args:
            room: What the cluster has room for; None for this machine.

        Raises:
            ConfigError: If the memory does not hold it.
        """
        trainings = self._spec.trials * self._spec.seeds
        self._planned = self._made(self._asked(room), trainings)

    def plan(self, ledger: Ledger, room: Room | None) -> tuple[Plan, float | None]:
        """How the rest of the study runs, and how long it will take if that is known.

        Args:
            ledger: Of the study, which keeps what was chosen.
            room: As in `before`.

        Raises:
            ConfigError: If the memory does not hold it.
        """
        asked, left = self._asked(room), ledger.trainings - ledger.recorded
        planned = self._planned
        if planned is None:
            begun_with = plans.kept(ledger.study.user_attrs, asked, left)
            planned = self._made(asked.settled(begun_with) if begun_with else asked, left)
        if planned.measured and not asked.fixed:
            ledger.study.set_user_attr(plans.KEY, plans.keep(planned.plan, asked))
        return planned.plan, planned.seconds

    def _asked(self, room: Room | None) -> Wanted:
        return Wanted(self._spec.resources, self._workers, room)

    def _made(self, wanted: Wanted, trainings: int) -> Planned:
        # the time is for those who look on; what is to be chosen is needed by all, and so is
        # whether a GPU holds it, where there is no more memory to be had than there is
        needed = self._shown or not wanted.fixed or wanted.resources.gpus_per_trial > 0
        if not needed:
            return Planned(wanted.plan(trainings), None, measured=False)
        try:
            plan, cost = prepare(self._spec, wanted, trainings, self._say_measuring)
        except ProbeError as error:
            self._tell(f"warning: {unknown(error)}")
            return Planned(wanted.plan(trainings), None, measured=False)
        return Planned(plan, cost.study_seconds, measured=True)

    def _say_measuring(self) -> None:
        if self._shown:
            self._tell(f"{self._spec.name}: measuring how fast packs are trained here ...")


def unknown(error: ProbeError) -> str:
    """That no time can be told, and why."""
    return f"how long it takes is not known, since a trial of it failed: {error}"
