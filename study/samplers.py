"""How configurations are proposed: fixed points, or an Optuna sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from study import space
from study.space import Point

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from study.region.observations import Observation
    from study.spec import StudySpec
    from study.table import Row

    Rows = Callable[[FrozenTrial], list[Row]]

ADAPTIVE = ("tpe", "gp", "nsga2", "boundary")
# Trials before an adaptive method has enough to learn from.
_STARTUP = 10
# Trials that must have ended before the boundary is looked for, however many are handed out.
_LEAST_TOLD = 4
# Over the number of trials of any study, so that studies with neighbouring seeds share no draws.
_MIX = 1_000_003


def startup_trials(spec: StudySpec) -> int:
    """How many trials an adaptive method spreads over the space before it adapts."""
    return min(_STARTUP, math.ceil(spec.trials / 2))


def fixed_points(spec: StudySpec) -> Callable[[int], Point | None]:
    """The point of a trial, by its number, where that does not depend on results; else None.

    First points come first. A grid, random or Sobol study is fixed altogether; an adaptive one
    begins with a scrambled Sobol sequence, which leaves no part of the space unseen as independent
    draws would.
    """
    first = list(spec.first_points)
    if spec.method == "grid":
        points = space.grid_points(spec.parameters)
    elif spec.method == "random":
        points = space.random_points(spec.parameters, spec.trials, spec.seed)
    elif spec.method == "sobol":
        points = space.sobol_points(spec.parameters, spec.trials, spec.seed)
    else:
        spread = max(0, startup_trials(spec) - len(first))
        points = space.sobol_points(spec.parameters, spread, spec.seed)
    points = [*first, *points]
    return lambda number: points[number] if number < len(points) else None


def make_sampler(spec: StudySpec, number: int, rows: Rows | None = None) -> BaseSampler:
    """The sampler for one trial; its randomness is a function of study seed and trial number.

    Args:
        spec: The study.
        number: Of the trial.
        rows: What there is of the trainings of a trial, for a method that looks at more than the
            value that Optuna is told; without it that value serves.
    """
    import optuna

    if spec.method == "boundary":
        from study.boundary import BoundarySampler

        observe = None if rows is None else partial(_observed, rows)
        return BoundarySampler(observe=observe, seed=spec.seed, startup_trials=_LEAST_TOLD)
    seed = (spec.seed * _MIX + number) % 2**32
    if spec.method == "tpe":
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=startup_trials(spec), multivariate=True, constant_liar=True
        )
    if spec.method == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup_trials(spec))
    if spec.method == "nsga2":
        population = min(50, max(4, spec.trials // 4))
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=population)
    return optuna.samplers.RandomSampler(seed=seed)


def _observed(rows: Rows, trial: FrozenTrial) -> list[Observation]:
    from study.region.observations import is_known, observation

    return [observation(row) for row in rows(trial) if is_known(row)]
