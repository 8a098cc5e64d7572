"""`BoundarySampler`: an Optuna sampler that looks for the edge of a region, not for a best point.

It asks for the configuration whose training would tell most about where every margin is 0 or more,
see `study.region.acquisition`. It serves any Optuna study:

    study = optuna.create_study(direction="maximize", sampler=BoundarySampler(level=0.5, seed=0))
    study.optimize(objective, n_trials=60)    # where is objective >= 0.5?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from study.region import acquisition, field
from study.region.coordinates import Coordinates
from study.region.observations import Observation, margins

# What each of the trainings of a trial says; nothing if nothing is known.
Observed = Sequence[Observation]
Observe = Callable[[FrozenTrial], Observed]

_UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


class BoundarySampler(BaseSampler):
    """Asks where the edge of a region is least certain.

    The first trials are a scrambled Sobol sequence. Then Gaussian processes are fitted to the
    margins, trials that still run are taken to come out as expected, and of a fresh set of Sobol
    points the one is taken after which the least uncertainty is expected. A proposal follows from
    the seed, the number of the trial and the trials before it, and from nothing else.

    A trial that failed, or whose value is NaN, tells nothing and is passed over, unless `observe`
    says None of it: then it broke off, which is a margin of its own.

    Args:
        level: A trial is inside where its value is at least this, or at most if the direction is
            to minimize. Of several values each is a margin, and all must be inside.
        observe: What a trial says in place of its values: margins of each of its trainings by
            name, 0 or more inside, or None for one that broke off.
        seed: Of all draws.
        startup_trials: Sobol points before the first fit; None for 3 + 2 a parameter.
        candidates: Of which one is asked for.
        nodes: Points at which the region is to become known.
    """

    def __init__(
        self,
        level: float = 0.0,
        observe: Observe | None = None,
        seed: int = 0,
        startup_trials: int | None = None,
        candidates: int = 256,
        nodes: int = 512,
    ) -> None:
        self._level, self._observe, self._seed = level, observe, seed
        self._startup, self._candidates, self._nodes = startup_trials, candidates, nodes
        self._independent = RandomSampler(seed=seed)
        self._space = IntersectionSearchSpace(include_pruned=True)

    def reseed_rng(self) -> None:
        self._independent.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        found = self._space.calculate(study)
        return {name: each for name, each in found.items() if not each.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        coordinates = Coordinates(search_space)
        others = [
            each
            for each in study.get_trials(deepcopy=False)
            if each.number != trial.number and search_space.keys() <= each.params.keys()
        ]
        told = [(each, self._observed(study, each)) for each in others]
        told = [(each, said) for each, said in told if said]
        if len(told) < startup_trials(len(search_space), self._startup):
            return coordinates.sobol(trial.number + 1, self._seed)[-1]
        running = [each.params for each in others if each.state in _UNFINISHED]
        found = _fitted(coordinates, told).believing(coordinates.place(running))
        options = coordinates.sobol(self._candidates, _mixed(self._seed, trial.number))
        nodes = coordinates.sobol(self._nodes, self._seed)
        left = acquisition.uncertainty_left(
            found, coordinates.place(options), coordinates.place(nodes)
        )
        return options[int(left.argmin())]

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _observed(self, study: Study, trial: FrozenTrial) -> Observed:
        if trial.state in _UNFINISHED:
            return ()
        if self._observe is not None:
            return self._observe(trial)
        if trial.state != TrialState.COMPLETE:
            return ()
        return [
            {
                str(index): self._level - value
                if direction == StudyDirection.MINIMIZE
                else value - self._level
                for index, (value, direction) in enumerate(
                    zip(trial.values, study.directions, strict=True)
                )
            }
        ]


def startup_trials(parameters: int, wanted: int | None = None) -> int:
    """How many trials are spread over the space before the first fit."""
    return wanted if wanted is not None else 3 + 2 * parameters


def _mixed(seed: int, number: int) -> int:
    """A seed of a trial's own; over the number of trials of any study."""
    return (seed * 1_000_003 + number + 1) % 2**32


def _fitted(coordinates: Coordinates, told: Sequence[tuple[FrozenTrial, Observed]]) -> field.Field:
    places = coordinates.place([trial.params for trial, said in told for _ in said])
    found = margins([each for _, said in told for each in said])
    values = np.array(list(found.values()))
    return _fit(places.tobytes(), values.tobytes(), len(values[0]), tuple(found))


# A batch for several workers is asked for one by one, of the same results.
@lru_cache(maxsize=2)
def _fit(places: bytes, values: bytes, trainings: int, names: tuple[str, ...]) -> field.Field:
    x = np.frombuffer(places).reshape(trainings, -1)
    y = np.frombuffer(values).reshape(len(names), trainings)
    return field.fit(x, dict(zip(names, y, strict=True)))
