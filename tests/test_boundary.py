"""The sampler: in any Optuna study, deterministic, in batches, and near the edge."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from designed_field import plane
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from study.boundary import BoundarySampler, startup_trials

SPACE = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0.01, 1, log=True)}


@pytest.fixture(autouse=True)
def _silent() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def value(params: dict[str, float]) -> float:
    return 2 * (params["x"] - 0.6)


def study_of(count: int, seed: int = 0, direction: str = "maximize") -> optuna.Study:
    sign = 1 if direction == "maximize" else -1
    study = optuna.create_study(direction=direction, sampler=BoundarySampler(seed=seed))
    for _ in range(count):
        trial = study.ask(SPACE)
        study.tell(trial, sign * value(trial.params))
    return study


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_trials_gather_at_the_level(direction: str) -> None:
    study = study_of(24, direction=direction)
    late = [trial.params["x"] for trial in study.trials[startup_trials(2) :]]
    # evenly spread ones are 0.26 away in the mean
    assert np.abs(np.array(late) - 0.6).mean() < 0.13


def test_proposals_follow_from_seed_and_trials_alone() -> None:
    params = [trial.params for trial in study_of(12).trials]
    assert [trial.params for trial in study_of(12).trials] == params
    assert [trial.params for trial in study_of(12, seed=1).trials] != params
    # a study that goes on in another process has a new sampler
    again = study_of(9)
    again.sampler = BoundarySampler(seed=0)
    for _ in range(3):
        trial = again.ask(SPACE)
        again.tell(trial, value(trial.params))
    assert [trial.params for trial in again.trials] == params


def test_a_batch_is_spread() -> None:
    study = study_of(10)
    batch = np.array([list(study.ask(SPACE).params.values()) for _ in range(4)])
    apart = [np.abs(a - b).max() for i, a in enumerate(batch) for b in batch[:i]]
    assert min(apart) > 0.02


def test_failures_are_passed_over_and_floors_are_not() -> None:
    study = study_of(8)
    trial = study.ask(SPACE)
    study.tell(trial, state=TrialState.FAIL)
    assert study.ask(SPACE).params.keys() == SPACE.keys()
    broken = optuna.create_study(
        sampler=BoundarySampler(observe=lambda trial: [None] * (trial.params["x"] > 0.5) or [])
    )
    for _ in range(9):
        trial = broken.ask(SPACE)
        broken.tell(trial, state=TrialState.FAIL)
    assert broken.ask(SPACE).params.keys() == SPACE.keys()


def test_several_values_are_margins_that_must_all_hold() -> None:
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=BoundarySampler(level=0.5)
    )
    for _ in range(24):
        trial = study.ask({"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)})
        study.tell(trial, [trial.params["x"], trial.params["y"]])
    late = [trial.params for trial in study.trials[startup_trials(2) :]]
    # a corner: one of the two is at its level, and the other does not forbid it
    away = [max(0.5 - p["x"], p["y"] - 0.5) for p in late]
    assert np.abs(away).mean() < 0.15


def test_words_and_fixed_values_are_sampled_too() -> None:
    space = {"word": CategoricalDistribution(["a", "b"]), "one": FloatDistribution(1, 1), **SPACE}
    study = optuna.create_study(direction="maximize", sampler=BoundarySampler())
    for _ in range(14):
        trial = study.ask(space)
        study.tell(trial, value(trial.params) + 0.5 * (trial.params["word"] == "a"))
    assert {trial.params["word"] for trial in study.trials} == {"a", "b"}
    assert {trial.params["one"] for trial in study.trials} == {1}


def test_the_edge_of_a_region_that_breaks_off_is_found() -> None:
    truth, random = plane(), np.random.default_rng(0)
    said = {}
    study = optuna.create_study(sampler=BoundarySampler(observe=lambda t: [said[t.number]]))
    for _ in range(32):
        trial = study.ask(truth.space)
        said[trial.number] = truth.train(np.array(list(trial.params.values())), random)
        study.tell(trial, 0.0)
    places = np.array([list(trial.params.values()) for trial in study.trials])
    inside = truth.inside(places)
    assert 8 < inside.sum() < 24
