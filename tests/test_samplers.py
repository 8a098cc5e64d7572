"""How configurations are proposed: fixed points, the spread of the start, and who draws what."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from study_file import load, study_file  # noqa: F401

from study import space
from study.samplers import ADAPTIVE, fixed_points, make_sampler, startup_trials
from study.space import Point
from study.spec import StudySpec

pytestmark = pytest.mark.usefixtures("study_file")
SAMPLED = ("random", *ADAPTIVE)
SCORES = (0.1, 0.7, 0.3, 0.9, 0.5, 0.2)


def fixed(spec: StudySpec) -> list[Point]:
    """All the points of a study that do not depend on results."""
    at, points = fixed_points(spec), []
    while (point := at(len(points))) is not None:
        points.append(point)
    return points


def asked(spec: StudySpec, number: int) -> float:
    """What is asked for after the same six results."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = space.to_optuna(spec.parameters)
    study = optuna.create_study(direction="maximize", sampler=make_sampler(spec, number))
    points = space.sobol_points(spec.parameters, len(SCORES), 0)
    for point, score in zip(points, SCORES, strict=True):
        study.add_trial(
            optuna.trial.create_trial(params=point, distributions=distributions, value=score)
        )
    return study.ask(distributions).params["epsilon"]


@pytest.mark.parametrize("method", SAMPLED)
def test_draws_depend_on_study_seed_and_trial_number_alone(method: str) -> None:
    spec, other = load(method=method, trials="8"), load(method=method, trials="8", seed="1")
    first = asked(spec, 6)
    assert 0.01 <= first <= 0.4
    assert asked(spec, 6) == first
    if method != "gp":  # which knows the best next point, and draws only to find it
        assert asked(other, 6) != first
    if method not in ("gp", "boundary"):  # which takes the number from the trial itself
        assert asked(spec, 7) != first


def test_neighbouring_studies_share_no_draws() -> None:
    """Not even shifted by a trial, as seed + number would have it."""
    specs = [load(method="random", seed=str(seed)) for seed in range(3)]
    assert len({asked(spec, number) for spec in specs for number in range(6)}) == 18


@pytest.mark.parametrize("method", ["random", "sobol", *ADAPTIVE])
def test_studies_of_another_seed_begin_elsewhere(method: str) -> None:
    mine, again, theirs = (load(method=method, trials="8", seed=seed) for seed in "001")
    assert fixed(mine) == fixed(again)
    assert not {p["epsilon"] for p in fixed(mine)} & {p["epsilon"] for p in fixed(theirs)}


@pytest.mark.parametrize(
    ("method", "count"), [("random", 6), ("sobol", 6), ("tpe", 3), ("gp", 3), ("boundary", 3)]
)
def test_first_points_come_first(method: str, count: int) -> None:
    spec = load(method=method, trials="6", first_points="[{epsilon: 0.08}, {epsilon: 0.3}]")
    points = fixed(spec)
    assert points[:2] == [{"epsilon": 0.08}, {"epsilon": 0.3}]
    plain = fixed(load(method=method, trials="6"))
    assert points[2:count] == plain[: count - 2]
    if method in ADAPTIVE:
        assert len(points) == len(plain) == count


def test_a_grid_is_fixed_altogether() -> None:
    values = "{distribution: grid, values: [0.3, 0.1, 0.2]}"
    grid = load(method="grid", parameters__epsilon=values, trials="null")
    assert [point["epsilon"] for point in fixed(grid)] == [0.3, 0.1, 0.2]


@pytest.mark.parametrize("method", ["random", "sobol", *ADAPTIVE])
def test_more_trials_leave_the_first_ones_as_they_are(method: str) -> None:
    few, many = fixed(load(method=method, trials="6")), fixed(load(method=method, trials="20"))
    assert few == many[: len(few)]


@pytest.mark.parametrize(("trials", "count"), [(1, 1), (4, 2), (5, 3), (16, 8), (500, 10)])
def test_an_adaptive_method_adapts_in_half_of_its_trials_at_least(trials: int, count: int) -> None:
    spec = load(trials=str(trials))
    assert startup_trials(spec) == count
    assert len(fixed(spec)) == count


def eighths(points: list[Point]) -> list[int]:
    """Into which eighth of the range, on its log scale, each point falls."""
    share = [math.log(float(p["epsilon"]) / 0.01) / math.log(40) for p in points]
    return sorted(np.floor(8 * np.array(share)).astype(int).tolist())


@pytest.mark.parametrize("seed", ["0", "1", "7"])
def test_the_start_leaves_no_part_of_the_space_unseen(seed: str) -> None:
    assert eighths(fixed(load(trials="16", seed=seed))) == list(range(8))
    # which independent draws do not
    assert eighths(fixed(load(method="random", trials="8", seed=seed))) != list(range(8))
