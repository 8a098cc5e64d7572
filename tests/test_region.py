"""The model of the margins, what a training would tell of it, and the map: against the truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from designed_field import DesignedField, plane
from fake_study import row
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from scipy.stats import qmc

from study.region import acquisition, field
from study.region.coordinates import Coordinates
from study.region.front import sharpest_front
from study.region.map import LEAST_TRAININGS, ConvergenceMap, TooFew, fit
from study.region.observations import is_known, margins, observation
from study.space import parse_distribution

MIXED: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-3, 1.0, log=True),
    "updates": IntDistribution(0, 1200, step=100),
    "ratio": CategoricalDistribution([4, 1, 2]),
    "word": CategoricalDistribution(["sgd", "adam", "none"]),
}


# -- coordinates ---------------------------------------------------------------------------------


def test_logarithms_steps_and_choices_are_evened() -> None:
    coordinates = Coordinates(MIXED)
    assert coordinates.columns == ["rate", "updates", "ratio", "word", "word", "word"]
    points = [
        {"rate": 1e-3, "updates": 0, "ratio": 1, "word": "sgd"},
        {"rate": 1.0, "updates": 1200, "ratio": 4, "word": "adam"},
        {"rate": 10**-1.5, "updates": 600, "ratio": 2, "word": "sgd"},
    ]
    places = coordinates.place(points)
    assert places[:, 0] == pytest.approx([0, 1, 0.5])
    assert places[:, 1] == pytest.approx([0.5 / 13, 12.5 / 13, 0.5])
    assert places[:, 2] == pytest.approx([1 / 6, 5 / 6, 1 / 2])
    assert np.linalg.norm(places[0, 3:] - places[1, 3:]) == pytest.approx(1)
    assert (places[0, 3:] == places[2, 3:]).all()


def test_points_lie_in_the_space_and_every_step_is_as_likely() -> None:
    points = Coordinates(MIXED).sobol(1300, seed=1)
    assert points[:10] == Coordinates(MIXED).sobol(10, seed=1)
    for name, distribution in MIXED.items():
        internal = [distribution.to_internal_repr(point[name]) for point in points]
        assert all(map(distribution._contains, internal))
    updates, counts = np.unique([point["updates"] for point in points], return_counts=True)
    assert list(updates) == list(range(0, 1300, 100))
    assert counts == pytest.approx([100] * 13, abs=4)


# -- observations --------------------------------------------------------------------------------


def test_breaking_off_is_a_margin_of_its_own() -> None:
    rows = [
        {"verdict": "convergent", "convergence_margin": 0.2, "margin_a": 0.2, "margin_b": None},
        {"verdict": "diverged", "convergence_margin": -3.0, "margin_a": None, "margin_b": None},
    ]
    assert all(map(is_known, rows))
    found = margins([observation(each) for each in rows])
    assert list(found) == ["a", "unbroken"]
    assert found["a"] == pytest.approx([0.2, np.nan], nan_ok=True)
    assert list(found["unbroken"]) == [1.0, -1.0]
    assert list(margins([observation(rows[0])])) == ["a"]
    far = [margins([observation({"margin_a": value})])["a"][0] for value in (-3, -1, -0.1, 0, 1)]
    assert far == [-1, -1, -0.1, 0, 1]
    assert not is_known({"verdict": "unassessed", "convergence_margin": None})
    assert not is_known({"verdict": pd.NA, "convergence_margin": pd.NA})
    alone = margins([observation(rows[1])])
    assert {name: list(each) for name, each in alone.items()} == {"unbroken": [-1.0]}


# -- the field -----------------------------------------------------------------------------------


def trained(truth: DesignedField, count: int, seed: int = 0) -> tuple[np.ndarray, field.Field]:
    places = qmc.Sobol(truth.dimensions, rng=seed).random(count)
    random = np.random.default_rng(seed)
    said = [truth.train(place, random) for place in places]
    return places, field.fit(places, margins(said))


def test_an_edge_between_two_sides_may_be_anywhere_between() -> None:
    places = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0])[:, None]
    found = field.fit(places, {"unbroken": np.where(places[:, 0] < 0.5, 1.0, -1.0)})
    line = np.linspace(0, 1, 101)[:, None]
    outside = found.draws(line, 1_000, seed=0) < 0
    low, high = np.quantile(line[outside.argmax(axis=1), 0], [0.05, 0.95])
    assert 0.1 < low < 0.42
    assert 0.58 < high < 0.9


def test_noise_of_values_that_are_cut_off_is_that_of_the_others() -> None:
    random = np.random.default_rng(0)
    places = np.repeat(random.random((60, 1)), 3, axis=0)
    values = 4 * (places[:, 0] - 0.5) + 0.2 * random.standard_normal(180)
    found = field.fit(places, {"m": np.clip(values, -1, 1)}).margins["m"]
    assert found.noise**0.5 == pytest.approx(0.2, rel=0.2)


def test_noise_is_told_from_the_margin_by_repeats() -> None:
    random = np.random.default_rng(0)
    places = np.repeat(random.random((20, 1)), 4, axis=0)
    values = np.sin(5 * places[:, 0]) + 0.2 * random.standard_normal(80)
    found = field.fit(places, {"m": values}).margins["m"]
    assert found.noise**0.5 == pytest.approx(0.2, rel=0.25)
    mean, sd = found.at(np.linspace(0.1, 0.9, 9)[:, None])
    assert np.abs(mean - np.sin(5 * np.linspace(0.1, 0.9, 9))).max() < 0.3
    assert (sd < 0.2).all()


def test_probability_is_that_of_draws_and_is_sure_where_the_truth_is_far() -> None:
    truth = plane()
    _, found = trained(truth, 64)
    grid = qmc.Sobol(2, rng=9).random(256)
    p = found.probability(grid)
    drawn = found.draws(grid, 4_000, seed=0)
    assert drawn.shape == (4_000, 256)
    # which know of doubts about the kernel, too
    assert np.abs((drawn >= 0).mean(axis=0) - p).mean() < 0.03
    inside = truth.inside(grid)
    assert inside[p > 0.95].mean() > 0.95
    assert inside[p < 0.05].mean() < 0.05


def test_believing_leaves_the_mean_and_takes_uncertainty_away() -> None:
    _, found = trained(plane(), 16)
    place = np.array([[0.5, 0.5]])
    believed = found.believing(place)
    for mine, theirs in zip(found.at(place), believed.at(place), strict=True):
        assert mine.shape == theirs.shape
    assert believed.at(place)[0] == pytest.approx(found.at(place)[0], abs=1e-6)
    assert (believed.at(place)[1] < found.at(place)[1]).all()
    assert found.believing(np.empty((0, 2))) is found


def test_constant_margins_are_no_certainty_of_more_than_was_seen() -> None:
    places = np.linspace(0, 1, 6)[:, None]
    for value, above in ((1.0, True), (-3.0, False)):
        p = field.fit(places, {"m": np.full(6, value)}).probability(places)
        assert ((p > 0.99) if above else (p < 0.01)).all()


def test_a_field_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one margin"):
        field.fit(np.zeros((2, 1)), {"m": np.full(2, np.nan)})


# -- which training tells most -------------------------------------------------------------------


def test_expected_uncertainty_is_what_trainings_leave_in_the_mean() -> None:
    """The closed form against imagined trainings, each of which is conditioned on."""
    _, found = trained(plane(), 16)
    candidates, nodes = np.array([[0.45, 0.3], [0.02, 0.5]]), qmc.Sobol(2, rng=3).random(64)
    expected = acquisition.uncertainty_left(found, candidates, nodes)
    random, count = np.random.default_rng(0), 400
    for candidate, told in zip(candidates, expected, strict=True):
        left = []
        joint = [each.jointly(np.vstack([candidate, nodes])) for each in found.margins.values()]
        for _ in range(count):
            p = np.ones(len(nodes))
            for each in joint:
                variance = each.covariance[0, 0] + each.noise
                gain = each.covariance[1:, 0] / variance
                seen = each.mean[0] + variance**0.5 * random.standard_normal()
                mean = each.mean[1:] + gain * (seen - each.mean[0])
                sd = np.sqrt(np.diag(each.covariance)[1:] - gain * each.covariance[1:, 0])
                p *= field.norm.cdf(mean / sd)
            left.append((p * (1 - p)).mean())
        error = np.std(left) / count**0.5
        assert told == pytest.approx(np.mean(left), abs=5 * error + 1e-6)
    now = found.probability(nodes)
    assert (expected < (now * (1 - now)).mean()).all()
    # near the edge a training tells more than far outside
    assert expected[0] < expected[1]


# -- the map -------------------------------------------------------------------------------------

SPACE = {
    "epsilon": parse_distribution({"distribution": "loguniform", "min": 0.01, "max": 1.0}),
    "eps_data_ratio": parse_distribution({"distribution": "uniform", "min": 1.0, "max": 3.0}),
}
NAMES = list(SPACE)
# Along epsilon alone, from 0.1 on: a margin of one a decade and a noise of a tenth.
EDGE, SLOPE, NOISE = 0.1, 1.5, 0.15


def table(count: int, seed: int) -> pd.DataFrame:
    points = Coordinates(
        {
            "epsilon": FloatDistribution(0.01, 1, log=True),
            "eps_data_ratio": FloatDistribution(1, 3),
        }
    ).sobol(count, seed)
    random = np.random.default_rng(seed)
    rows = []
    for trial, point in enumerate(points):
        exact = SLOPE * np.log10(point["epsilon"] / EDGE)
        margin = float(np.clip(exact + NOISE * random.standard_normal(), -3, 1))
        verdict = "convergent" if margin >= 0 else "nonconvergent"
        rows.append(row(trial, verdict, **point, convergence_margin=margin))
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def mapped() -> ConvergenceMap:
    return fit(table(32, seed=0), SPACE)


def test_the_map_knows_its_region(mapped: ConvergenceMap) -> None:
    assert mapped.axes == tuple(NAMES)
    assert mapped.trained == 32
    assert mapped.share == pytest.approx(0.5, abs=0.06)
    assert 0 < mapped.misclassified < 0.06
    found = mapped.probability([{"epsilon": e, "eps_data_ratio": 2.0} for e in (0.03, EDGE, 0.3)])
    assert found[0] < 0.02
    assert found[2] > 0.98
    pair = mapped.pair("epsilon", "eps_data_ratio", resolution=9)
    assert pair.probability.shape == (9, 9)
    assert pair.x == sorted(pair.x)
    assert (np.diff(pair.probability.mean(axis=0)) > -1e-6).all()
    averaged = mapped.pair("epsilon", "eps_data_ratio", averaged=True, resolution=9)
    assert averaged.at is None
    assert averaged.probability == pytest.approx(pair.probability)
    line = mapped.line("epsilon", resolution=9)
    assert line.probability[0] < 0.02 < 0.98 < line.probability[-1]


def test_the_interval_of_the_edge_covers_the_truth_at_its_rate() -> None:
    covered, fields = 0, 40
    for seed in range(fields):
        crossing = fit(table(32, seed), SPACE).crossing("epsilon", level=0.9)
        assert crossing.side == "above"
        assert crossing.upper is None
        assert crossing.lower.low <= crossing.lower.value <= crossing.lower.high
        covered += crossing.lower.low <= EDGE <= crossing.lower.high
    # of 40 at a rate of 0.9 fewer than 32 come once in 60 times
    assert 32 <= covered <= fields


def test_importances_are_those_of_the_field(mapped: ConvergenceMap) -> None:
    found = mapped.importances()
    assert found["epsilon"].main == pytest.approx(1, abs=0.05)
    assert found["eps_data_ratio"].total == pytest.approx(0, abs=0.05)


def test_what_to_train_next_lies_at_the_edge_and_nowhere_twice(mapped: ConvergenceMap) -> None:
    points = mapped.next_points(5)
    assert len({tuple(point.items()) for point in points}) == 5
    assert all(0.03 < point["epsilon"] < 0.35 for point in points)


def test_too_few_trainings_are_said_to_be() -> None:
    with pytest.raises(TooFew, match=f"needs {LEAST_TRAININGS} trainings .* there are 4"):
        fit(table(4, seed=0), SPACE)


def test_the_front_is_beaten_by_none() -> None:
    frame = pd.DataFrame(
        [
            row(0, epsilon=0.05, convergence_margin=0.2),
            row(1, epsilon=0.05, convergence_margin=0.3),
            row(2, epsilon=0.04, convergence_margin=0.1),
            row(3, epsilon=0.06, convergence_margin=0.25),
            row(4, epsilon=0.01, convergence_margin=0.9, long_run="departs"),
            row(5, "nonconvergent", epsilon=0.01, convergence_margin=-0.1),
            row(6, epsilon=0.02, convergence_margin=0.9),
            row(6, "nonconvergent", seed=1, epsilon=0.02, convergence_margin=-0.1),
        ]
    )
    assert list(sharpest_front(frame)["trial"]) == [2, 1]
