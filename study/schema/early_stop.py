"""Early stopping: what the section says, what it needs of the others, and when one looks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from ebm_core.config import TrainConfig, make_config
from ebm_core.errors import ConfigError, Problem, did_you_mean
from ebm_core.sections import LARGEST, Section
from study import space
from study.schema.base import SEARCHABLE, values_at
from study.schema.sections import Metric, Resources
from study.space import Parameters, Point
from study.table import EVIDENCE_COLUMNS

# Numbers of the table that d, r and what else a training records tell before it ends. The rest
# are settings, counts and times, or need a check that runs afterwards.
WATCHABLE = (
    "r_band_adherence",
    "r_paper_band_adherence",
    "r_1",
    "r",
    "r_scaled",
    "r_matched",
    "d_balance",
    "acf_min",
    "acf_min_lag",
    "corr_d_r",
    "convergence_score",
    "convergence_margin",
    *EVIDENCE_COLUMNS,
)

# Every look is a row of the storage, and asks the pruner.
_MOST_LOOKS = 1_000
# A training is looked at about this often, where the file does not say.
_USUAL_LOOKS = 20
# What decides how long a training is, and from when on it can be judged.
_LENGTHS = ("anneal_updates", "updates")
_HALVING = ("successive_halving", "hyperband")
_DEFAULTS = {"reduction": 3, "startup_trials": 5}


class EarlyStop(Section, strict=True):
    """Which trainings are stopped before their last update, and from when on.

    Attributes:
        pruner: ``median`` stops what is worse than the median of the finished trainings at the
            same update; ``successive_halving`` keeps the best 1 / `reduction` of those that came
            to update grace, grace · reduction, grace · reduction² ...; ``hyperband`` does so
            with several first updates side by side.
        grace: Updates before which nothing is stopped.
        interval: Updates between looks; by default the larger of `report_interval` and a
            twentieth of the updates of the longest training.
        reduction: Of the halving pruners; 3 if not given.
        startup_trials: Trainings that are finished before the median pruner stops any; 5 if not
            given.
    """

    pruner: Literal["median", "successive_halving", "hyperband"]
    grace: int = Field(ge=1, le=LARGEST)
    interval: int | None = Field(None, ge=1, le=LARGEST)
    reduction: int | None = Field(None, ge=2, le=1_000)
    startup_trials: int | None = Field(None, ge=1, le=1_000_000)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_pruner(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        own = {"median": "startup_trials"} | dict.fromkeys(_HALVING, "reduction")
        name = own.get(str(values.get("pruner")))
        if name is None or values.get(name) is not None:
            return values
        return {**values, name: _DEFAULTS[name]}

    @model_validator(mode="after")
    def _of_this_pruner(self) -> EarlyStop:
        if self.pruner == "median" and self.reduction is not None:
            rule = f"{' and '.join(_HALVING)} take it, median does not"
            raise ConfigError([Problem("reduction", rule, self.reduction)])
        if self.pruner != "median" and self.startup_trials is not None:
            rule = f"median takes it, {self.pruner} does not"
            raise ConfigError([Problem("startup_trials", rule, self.startup_trials)])
        return self

    def looks(self, updates: int) -> tuple[int, ...]:
        """After how many updates a training of so many is looked at, before its end.

        From `grace` on every `interval`; the halving pruners are also asked exactly where they
        decide.

        Raises:
            ValueError: If no interval is given, which a `StudySpec` always has.
        """
        if self.interval is None:
            raise ValueError("the interval is not known yet")
        found = set(range(self.grace, updates, self.interval))
        step = self.grace
        while self.reduction is not None and step < updates:
            found.add(step)
            step *= self.reduction
        return tuple(sorted(found))

    def brackets(self, updates: int) -> tuple[float, ...]:
        """Shares of the trainings that hyperband has in each of its brackets, the first the most.

        Methods that learn from results learn from those of one bracket at a time. As Optuna has
        it, after Li et al. 2018, *Hyperband*, algorithm 1; a single one for the other pruners.
        """
        if self.pruner != "hyperband" or self.reduction is None:
            return (1.0,)
        count = math.floor(math.log(updates / self.grace, self.reduction)) + 1
        budgets = [
            math.ceil(count * self.reduction**rest / (rest + 1))
            for rest in range(count - 1, -1, -1)
        ]
        return tuple(budget / sum(budgets) for budget in budgets)


def update_range(base: Mapping[str, Any], parameters: Parameters) -> tuple[int, int] | None:
    """The fewest and the most updates of a training; None where no configuration is legal."""
    found = [config.updates for _, config in _corners(base, parameters)]
    return (min(found), max(found)) if found else None


def with_interval(stop: EarlyStop, base: Mapping[str, Any], parameters: Parameters) -> EarlyStop:
    """The same with the interval that is used where none is given."""
    if stop.interval is not None:
        return stop
    usual = max(
        max(config.report_interval, math.ceil(config.updates / _USUAL_LOOKS))
        for _, config in _corners(base, parameters)
    )
    return stop.model_copy(update={"interval": usual})


def early_stop_problems(
    early_stop: EarlyStop | None, metric: Sequence[Metric], seeds: int, resources: Resources
) -> Iterator[Problem]:
    """Whether single trainings can be judged by one number while they run."""
    if early_stop is None:
        return
    names = [each.name for each in metric]
    if len(names) > 1:
        yield Problem("metric", "must be a single one with early_stop", names)
    for name in names:
        if name not in WATCHABLE:
            rule = (
                "with early_stop it must be known while training, as are these:"
                f" {', '.join(WATCHABLE)}"
            )
            yield Problem("metric", rule, name, did_you_mean(name, WATCHABLE))
    if seeds > 1:
        rule = "must be 1 with early_stop, which looks at a configuration by one training"
        yield Problem("seeds", rule, seeds)
    if resources.members_per_trial != 1:
        rule = "must be 1 with early_stop: the members of a pack end together"
        yield Problem("resources.members_per_trial", rule, resources.members_per_trial)


def grace_problems(
    early_stop: EarlyStop | None, base: Mapping[str, Any], parameters: Parameters
) -> Iterator[Problem]:
    """Whether the first look comes after annealing and a window, and before the end."""
    if early_stop is None:
        return
    corners = list(_corners(base, parameters))
    if not corners:
        return  # `point_problems` tells why
    needed, where = max(
        ((config.anneal_updates + config.window, point) for point, config in corners),
        key=lambda each: each[0],
    )
    fewest, most = (pick(config.updates for _, config in corners) for pick in (min, max))
    grace = early_stop.grace
    if grace < needed:
        rule = (
            f"`anneal_updates + window <= grace` must hold ({needed}{_at(where)}): before that a"
            " training cannot be judged"
        )
        yield Problem("early_stop.grace", rule, grace)
    if grace >= fewest:
        rule = f"`grace < updates` must hold (updates={fewest}): otherwise nothing is stopped"
        yield Problem("early_stop.grace", rule, grace)
    if early_stop.interval and (most - grace) / early_stop.interval > _MOST_LOOKS:
        rule = f"must leave at most {_MOST_LOOKS:,} looks at a training (updates={most})"
        yield Problem("early_stop.interval", rule, early_stop.interval)


def _corners(
    base: Mapping[str, Any], parameters: Parameters
) -> Iterator[tuple[Point, TrainConfig]]:
    """The legal configurations with every length of training that the space is judged by."""
    known = {name: each for name, each in parameters.items() if name in SEARCHABLE}
    lengths = {name: each for name, each in known.items() if name in _LENGTHS}
    others = {name: each.probes()[0] for name, each in known.items()}
    for point in space.probe_points(lengths):
        try:
            yield point, make_config(values_at(base, {**others, **point}))
        except ConfigError:
            continue  # `point_problems` tells why


def _at(point: Point) -> str:
    return f" at anneal_updates={point['anneal_updates']}" if "anneal_updates" in point else ""
