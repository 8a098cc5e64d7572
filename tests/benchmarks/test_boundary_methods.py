"""The comparison of methods, and of maps with the truth, in short; in full by their commands."""

from __future__ import annotations

import optuna
import pytest
from boundary_methods import compare
from map_truth import study


@pytest.fixture(autouse=True)
def _silent() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_the_boundary_takes_fewer_trainings_than_random_points_and_grids() -> None:
    found = compare(dimensions=2, seeds=2)
    # medians of 20 seeds are 2.4 and 7 times as many
    assert 1.5 * found["boundary"] <= found["random"]
    assert 3 * found["boundary"] <= found["nearest"]
    # 0.85 over 20 seeds; points of one field are right or wrong together
    assert 0.5 <= found["calibrated"] <= 1


def test_importances_and_intervals_are_true() -> None:
    found = study(dimensions=2, seeds=8, trainings=32, chosen=False)
    assert found.error <= 0.1
    # of 18 at a rate of 0.9 fewer than 13 come once in 100 times
    assert found.told >= 14
    assert found.held >= 0.72
