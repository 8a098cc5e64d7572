"""The ledger of a study, its Optuna storage: which trainings there are, and what became of them.

With `samplers`, and `space` for distributions, all that touches Optuna. Everything that a study
must not forget is an attribute of its Optuna trials, so that it goes on from this one file.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ebm_core.fingerprint import difference
from study import space, table
from study.assignment import Unit
from study.differences import differences
from study.failures import Kind, Next
from study.packs import Packs
from study.pruners import make_pruner
from study.samplers import fixed_points, make_sampler
from study.spec import StudySpec
from study.table import Row

FILE = "optuna.db"
# Seconds that a writer waits for another, such as a dashboard.
_BUSY_SECONDS = 60


class LedgerError(RuntimeError):
    """The stored study is not the one that is asked for."""


class Ledger:
    """Hands out trainings and keeps their results.

    A configuration is one Optuna trial; its number names it. A unit is one (configuration, seed);
    a pack is the units that are trained together.

    Args:
        spec: The study.
        folder: Where its storage lies, or will.

    Raises:
        LedgerError: If another study is stored there.
    """

    def __init__(self, spec: StudySpec, folder: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        folder.mkdir(parents=True, exist_ok=True)
        self.spec = spec
        self.storage = optuna.storages.get_storage(
            optuna.storages.RDBStorage(
                f"sqlite:///{folder.absolute() / FILE}",
                engine_kwargs={"connect_args": {"timeout": _BUSY_SECONDS}},
            )
        )
        self.study = optuna.create_study(
            study_name=spec.name,
            storage=self.storage,
            directions=[metric.goal for metric in spec.metrics],
            load_if_exists=True,
            pruner=make_pruner(spec),
        )
        self._check_spec()
        self._distributions = space.to_optuna(spec.parameters)
        self._fixed = fixed_points(spec)
        self._complete_proposals()
        self._tell_recorded()
        self._packs = Packs(self.study.user_attrs, self.study.set_user_attr)
        self._runs = dict(self.study.user_attrs)
        self._again = deque(self._interrupted())
        self._waiting = deque(self._never_issued())

    def _check_spec(self) -> None:
        resolved = self.spec.resolved()
        stored = self.study.user_attrs.get("study")
        if stored is not None and (found := differences(stored, resolved)):
            raise LedgerError(
                f"{self.spec.name} was begun with another study file:\n"
                + "\n".join(f"  {line}" for line in found)
            )
        self.study.set_user_attr("study", resolved)

    def check_data(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        """Keeps the fingerprints of the data, and refuses to go on with other data.

        Args:
            found: Of each data set, by its settings.

        Raises:
            LedgerError: If one has changed since the study was begun.
        """
        kept = self.study.user_attrs.get("data", {})
        changed = {
            name: words
            for name, print_ in found.items()
            if name in kept and (words := difference(kept[name], print_))
        }
        if changed:
            lines = "\n".join(f"  {name}: {words}" for name, words in changed.items())
            raise LedgerError(f"{self.spec.name} was begun with other data:\n{lines}")
        if found.keys() - kept.keys():
            self.study.set_user_attr("data", {**kept, **found})

    # -- what is there ---------------------------------------------------------------------------

    def trials(self) -> list[FrozenTrial]:
        """All configurations handed out so far, by number."""
        return list(self.study.get_trials(deepcopy=False))

    def rows(self) -> list[Row]:
        """The row of every training that came to an end."""
        runs = self.study.user_attrs
        return [
            {**json.loads(text), "mlflow_run_id": runs.get(_run_key(trial.number, seed))}
            for trial in self.trials()
            for seed in range(self.spec.seeds)
            if (text := trial.user_attrs.get(f"row.{seed}"))
        ]

    @property
    def recorded(self) -> int:
        """How many trainings came to an end."""
        return sum(
            f"row.{seed}" in trial.user_attrs
            for trial in self.trials()
            for seed in range(self.spec.seeds)
        )

    @property
    def trainings(self) -> int:
        """How many trainings the study has in all."""
        return self.spec.trials * self.spec.seeds

    @property
    def complete(self) -> bool:
        """Whether every training came to an end."""
        return self.recorded >= self.trainings

    # -- handing out -----------------------------------------------------------------------------

    def next_pack(self, members: int) -> list[Unit]:
        """The next units to train together, at most `members`; none if all are handed out.

        Interrupted packs come first, and as they were: their checkpoint holds all their members.
        """
        if self._again:
            return self._again.popleft()
        while len(self._waiting) < members and self._asked < self.spec.trials:
            self._waiting.extend(self._units(self._ask()))
        pack = [self._waiting.popleft() for _ in range(min(members, len(self._waiting)))]
        if pack:
            self._packs.add([unit.key for unit in pack])
        return pack

    def packs_left(self, members: int) -> int:
        """How many packs `next_pack` has still to give, if none fails."""
        unasked = max(0, self.spec.trials - self._asked) * self.spec.seeds
        return len(self._again) - (-(len(self._waiting) + unasked) // members)

    def stopped_at(self, unit: Unit) -> int | None:
        """The update after which a training was stopped early, None if it was not."""
        found: int | None = self._trial(unit).user_attrs.get("stopped_at")
        return found

    @property
    def _asked(self) -> int:
        return sum(trial.state != TrialState.WAITING for trial in self.trials())

    def _ask(self) -> FrozenTrial:
        number = self._asked
        point = self._fixed(number)
        # an interruption may have left a trial that is enqueued and not asked for
        if point is not None and number == len(self.trials()):
            varying = {name: point[name] for name in self._distributions}
            self.study.enqueue_trial(varying)
        # a fresh one each time: its draws depend on the study's seed and the number alone, so that
        # a study that goes on asks for what it would have asked for
        self.study.sampler = make_sampler(self.spec, number, self._rows_of)
        trial = self.study.ask(self._distributions)
        self._set(trial.number, "point", space.snap(self.spec.parameters, trial.params))
        return self.trials()[trial.number]

    def _complete_proposals(self) -> None:
        """Finishes what an interruption cut off while it was asked for.

        Optuna stores a proposal value by value. What is missing is what would have come: fixed
        values are stored with the trial, and a sampler's draws follow from its seed and number.
        """
        for trial in self.trials():
            if trial.state != TrialState.RUNNING or "point" in trial.user_attrs:
                continue
            self.study.sampler = make_sampler(self.spec, trial.number, self._rows_of)
            proposal = optuna.trial.Trial(self.study, self._id(trial.number))
            for name, distribution in self._distributions.items():
                space.suggest(proposal, name, distribution)
            self._set(trial.number, "point", space.snap(self.spec.parameters, proposal.params))

    def _units(self, trial: FrozenTrial) -> list[Unit]:
        return [self._unit(trial, seed) for seed in range(self.spec.seeds)]

    def _unit(self, trial: FrozenTrial, seed: int) -> Unit:
        point = trial.user_attrs["point"]
        config = self.spec.config(point, seed).model_dump(mode="json")
        return Unit(trial.number, seed, point, config)

    def _interrupted(self) -> Iterable[list[Unit]]:
        trials = self.trials()
        for pack in self._packs.all():
            if not all(f"row.{seed}" in trials[number].user_attrs for number, seed in pack.units):
                yield [self._unit(trials[number], seed) for number, seed in pack.units]

    def _never_issued(self) -> Iterable[Unit]:
        for trial in self.trials():
            if trial.state == TrialState.RUNNING:
                units = self._units(trial)
                yield from (unit for unit in units if unit.key not in self._packs)

    # -- taking back -----------------------------------------------------------------------------

    def set_run(self, unit: Unit, run_id: str) -> None:
        """Keeps the MLflow run of a training; it may be known only after its end."""
        key = _run_key(unit.trial, unit.seed)
        # to read them all each time would take longer the more there are
        if self._runs.get(key) != run_id:
            self.study.set_user_attr(key, run_id)
            self._runs[key] = run_id

    def look(self, unit: Unit, update: int, value: float) -> bool:
        """Keeps the metric of a training so far; whether it is to be stopped early.

        Args:
            unit: The training.
            update: How many updates it has made.
            value: Of the metric of the study.
        """
        trial = optuna.trial.Trial(self.study, self._id(unit.trial))
        if update not in self._trial(unit).intermediate_values:
            trial.report(value, update)
        if not trial.should_prune():
            return False
        self._set(unit.trial, "stopped_at", update)
        self._again.append([unit])
        return True

    def failed(self, units: Sequence[Unit], kind: Kind, update: int) -> Next:
        """Counts a failure of a pack, and says what becomes of it.

        Args:
            units: Of the pack.
            kind: Of failure.
            update: How far the attempt came.

        Returns:
            What was decided: `next_pack` gives the pack again, or `split` is to be called, or its
            trainings are to be recorded as failed.
        """
        retries = self.spec.resources.retries
        found = self._packs.failed([unit.key for unit in units], kind, update, retries)
        if found is Next.RETRY:
            self._again.append(list(units))
        return found

    def split(self, units: Sequence[Unit]) -> None:
        """Makes two packs of one, which `next_pack` gives."""
        for half in self._packs.split([unit.key for unit in units]):
            self._again.append([unit for unit in units if unit.key in half.units])

    def record(self, unit: Unit, row: Row) -> None:
        """Keeps the row of a training, and tells Optuna once a configuration has all its seeds.

        A row that is there already stays: a pack that was interrupted while it was recorded comes
        to the same again.
        """
        trial = self._trial(unit)
        if trial.state.is_finished() or f"row.{unit.seed}" in trial.user_attrs:
            return
        self._set(unit.trial, f"row.{unit.seed}", json.dumps(row, allow_nan=False))
        rows = self._rows_of(self._trial(unit))
        if len(rows) == self.spec.seeds:
            self._tell(unit.trial, rows)

    def _tell_recorded(self) -> None:
        """Tells Optuna of configurations whose last row came in just before an interruption."""
        for trial in self.trials():
            rows = self._rows_of(trial)
            if not trial.state.is_finished() and len(rows) == self.spec.seeds:
                self._tell(trial.number, rows)

    def _rows_of(self, trial: FrozenTrial) -> list[Row]:
        seeds = range(self.spec.seeds)
        return [json.loads(t) for s in seeds if (t := trial.user_attrs.get(f"row.{s}"))]

    def _tell(self, number: int, rows: list[Row]) -> None:
        for name in ("status", "verdict", "oscillation", "long_run", "reasons", "cause"):
            self._set(number, name, "; ".join(str(row[name]) for row in rows if row.get(name)))
        for constraint in self.spec.constraints:
            mean = mean_of(rows, constraint.name)
            # what is not known does not satisfy a constraint
            violation = 1.0 if mean is None else constraint.violation(mean)
            # an interruption may have come behind the first of several
            if constraint.text not in self.trials()[number].constraints:
                trial = optuna.trial.Trial(self.study, self._id(number))
                trial.set_constraint(constraint.text, violation)
        means = [mean_of(rows, metric.name) for metric in self.spec.metrics]
        values = [mean for mean in means if mean is not None]
        if "stopped_at" in self.trials()[number].user_attrs:
            # with the last value that was reported
            self.study.tell(number, state=TrialState.PRUNED)
        elif len(values) == len(means):
            self.study.tell(number, values)
        else:
            # Optuna has no state for a trial without a value, but that it failed
            self.study.tell(number, state=TrialState.FAIL)

    def _trial(self, unit: Unit) -> FrozenTrial:
        return self.trials()[unit.trial]

    def _set(self, number: int, key: str, value: Any) -> None:
        self.storage.set_trial_user_attr(self._id(number), key, value)

    def _id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(self.spec.name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)


def _run_key(trial: int, seed: int) -> str:
    return f"mlflow_run.{trial}.{seed}"


def mean_of(rows: Iterable[Mapping[str, Any]], name: str) -> float | None:
    """Mean of a number over the seeds that have it; a diverged one counts 0 in the score."""
    values = [value for row in rows if (value := table.number(row, name)) is not None]
    return fmean(values) if values else None
