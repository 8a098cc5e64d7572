"""Distributions contain what they produce; grids, sequences and probes lie as promised."""

from __future__ import annotations

import math
import re
from collections import Counter
from decimal import Decimal
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_core.errors import ConfigError
from study import space
from study.schema.distributions import Choice, Constant, Range, parse_distribution

FEW = settings(max_examples=100, deadline=None, derandomize=True)
QUANTA = (1e-3, 0.05, 0.1, 0.3, 2, 7, 100)


@st.composite
def ranges(draw: st.DrawFn) -> dict[str, Any]:
    """Plain values of a legal range of any kind."""
    kind = draw(st.sampled_from(["uniform", "loguniform", "quniform", "qloguniform", "randint"]))
    least = 1 if "log" in kind else -50
    if kind.startswith("q"):
        q = draw(st.sampled_from(QUANTA))
        low = draw(st.integers(least, 50))
        high = low + draw(st.integers(1, 40))
        ends = [Decimal(str(q)) * steps for steps in (low, high)]
        cast = int if isinstance(q, int) else float
        return {"distribution": kind, "min": cast(ends[0]), "max": cast(ends[1]), "q": q}
    if kind == "randint":
        low = draw(st.integers(-50, 50))
        return {"distribution": kind, "min": low, "max": low + draw(st.integers(1, 60))}
    start = draw(st.floats(1e-6 if "log" in kind else -100, 100))
    end = draw(st.floats(start, 200, exclude_min=True))
    return {"distribution": kind, "min": start, "max": end}


@st.composite
def distributions(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["range", "choice", "grid", "constant"]))
    if kind == "range":
        return {**draw(ranges()), "points": draw(st.integers(2, 9))}
    scalars = st.one_of(st.integers(-5, 5), st.floats(6, 9), st.sampled_from(["sgd", "adam"]))
    if kind == "constant":
        return {"distribution": kind, "value": draw(scalars)}
    values = draw(st.lists(scalars, min_size=1, max_size=4, unique=True))
    return {"distribution": kind, "values": values}


@FEW
@given(distributions(), st.floats(0, 1, exclude_max=True))
def test_a_distribution_contains_what_it_produces(values: dict[str, Any], u: float) -> None:
    each = parse_distribution(values)
    produced = [each.at(u), each.at(0.0), *each.grid(), *each.probes()]
    assert all(each.contains(value) for value in produced)
    assert [each.snap(value) for value in produced] == produced


@FEW
@given(ranges())
def test_a_range_contains_nothing_outside(values: dict[str, Any]) -> None:
    each = parse_distribution(values)
    assert isinstance(each, Range)
    beyond = each.top + (each.step or (each.top - each.min))
    before = each.min - (each.step or (each.top - each.min))
    for value in (beyond, before, math.nan, "a", True, None):
        assert not each.contains(value)
    if each.step is not None:
        assert not each.contains(each.min + each.step / 2)


@FEW
@given(st.dictionaries(st.sampled_from("abc"), distributions(), min_size=1), st.integers(0, 99))
def test_points_lie_in_their_space(plain: dict[str, Any], seed: int) -> None:
    parameters = {name: parse_distribution(values) for name, values in plain.items()}
    points = [
        *space.random_points(parameters, 3, seed),
        *space.sobol_points(parameters, 3, seed),
        *space.probe_points(parameters),
        *space.grid_points(parameters),
    ]
    for point in points:
        assert list(point) == list(parameters)
        assert space.contains(parameters, point)
        assert space.snap(parameters, point) == point
    assert len(space.grid_points(parameters)) == space.grid_size(parameters)


def make(**plain: Any) -> dict[str, space.Distribution]:
    return {name: parse_distribution(values) for name, values in plain.items()}


EPSILON = {"distribution": "loguniform", "min": 0.01, "max": 0.4}


def test_three_steps_of_a_tenth_are_three_tenths() -> None:
    each = parse_distribution({"distribution": "quniform", "min": 0, "max": 1, "q": 0.1})
    assert [each.at(k / 11 + 0.01) for k in range(11)] == [k / 10 for k in range(11)]


def test_whole_steps_give_whole_numbers() -> None:
    each = parse_distribution({"distribution": "quniform", "min": 0, "max": 1000, "q": 100})
    assert each.at(0.55) == 600
    assert isinstance(each.at(0.55), int)
    assert isinstance(each.snap(399.9), int)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"distribution": "randint", "min": 2, "max": 6}, [2, 3, 4, 5]),
        ({"distribution": "quniform", "min": 2, "max": 8, "q": 2}, [2, 4, 6, 8]),
        ({"distribution": "choice", "values": ["a", "b", 3, 4.5]}, ["a", "b", 3, 4.5]),
    ],
)
def test_discrete_values_are_equally_likely_the_ends_too(
    values: dict[str, Any], expected: list[Any]
) -> None:
    each = parse_distribution(values)
    counts = Counter(each.at((k + 0.5) / 400) for k in range(400))
    # rounding a uniform number would give the ends half of their share
    assert counts == dict.fromkeys(expected, 100)


def test_quantiles_are_even_in_the_logarithm_or_in_the_value() -> None:
    assert parse_distribution(EPSILON).at(0.5) == pytest.approx(math.sqrt(0.01 * 0.4))
    uniform = parse_distribution({**EPSILON, "distribution": "uniform"})
    assert uniform.at(0.5) == pytest.approx((0.01 + 0.4) / 2)


def test_a_grid_has_exact_ends_and_file_order() -> None:
    parameters = make(
        epsilon={**EPSILON, "points": 3},
        optimizer={"distribution": "choice", "values": ["sgd", "adam"]},
        gamma_0={"distribution": "constant", "value": 0.1},
    )
    points = space.grid_points(parameters)
    assert [point["epsilon"] for point in points] == pytest.approx(
        [0.01, 0.01, math.sqrt(0.004), math.sqrt(0.004), 0.4, 0.4]
    )
    assert (points[0]["epsilon"], points[-1]["epsilon"]) == (0.01, 0.4)
    assert [point["optimizer"] for point in points] == ["sgd", "adam"] * 3
    assert {point["gamma_0"] for point in points} == {0.1}


def test_a_quantised_grid_repeats_no_point() -> None:
    each = parse_distribution({"distribution": "randint", "min": 0, "max": 3, "points": 9})
    assert each.grid() == [0, 1, 2]


@pytest.mark.parametrize("lay_out", [space.random_points, space.sobol_points])
def test_the_first_points_do_not_depend_on_how_many_follow(lay_out: Any) -> None:
    parameters = make(a=EPSILON, b={**EPSILON, "distribution": "uniform"})
    many = lay_out(parameters, 33, 5)
    for n in (0, 1, 2, 7, 32):
        assert lay_out(parameters, n, 5) == many[:n]
    assert lay_out(parameters, 33, 6)[:7] != many[:7]


def test_a_sobol_sequence_is_even_and_random_points_are_not() -> None:
    parameters = make(a={"distribution": "uniform", "min": 0, "max": 1})

    def filled(points: list[space.Point]) -> int:
        return len({int(float(point["a"]) * 64) for point in points})

    assert filled(space.sobol_points(parameters, 64, 0)) == 64
    assert filled(space.random_points(parameters, 64, 0)) < 50


def test_probes_are_all_corners_and_a_fractional_inside() -> None:
    parameters = make(
        a={"distribution": "uniform", "min": 0, "max": 10},
        b={"distribution": "randint", "min": 0, "max": 5},
    )
    *corners, inside = space.probe_points(parameters)
    assert [tuple(point.values()) for point in corners] == [(0, 0), (0, 4), (10, 0), (10, 4)]
    assert inside["b"] == 1
    assert not float(inside["a"]).is_integer()


def test_many_corners_are_probed_as_a_star() -> None:
    parameters = make(
        **{f"p{k}": {"distribution": "randint", "min": 0, "max": 9} for k in range(20)}
    )
    points = list(space.probe_points(parameters))
    assert len(points) < 100
    assert dict.fromkeys(parameters, 0) in points
    assert dict.fromkeys(parameters, 8) in points
    # any two parameters at opposite ends: annealing at its longest, updates at their fewest
    assert any(p["p3"] == 8 and p["p7"] == 0 for p in points)
    assert any(p["p3"] == 0 and p["p7"] == 8 for p in points)


@FEW
@given(st.dictionaries(st.sampled_from("abc"), distributions(), min_size=1))
def test_what_optuna_suggests_lies_in_the_space_once_snapped(plain: dict[str, Any]) -> None:
    parameters = {name: parse_distribution(values) for name, values in plain.items()}
    found = space.to_optuna(parameters)
    assert list(found) == space.searched(parameters)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    suggested = study.ask(found).params
    assert space.contains(parameters, space.snap(parameters, suggested))


def test_optuna_is_told_of_whole_numbers_steps_and_logarithms() -> None:
    parameters = make(
        a=EPSILON,
        b={"distribution": "randint", "min": 1, "max": 5},
        c={"distribution": "quniform", "min": 0.1, "max": 0.5, "q": 0.1},
        d={"distribution": "choice", "values": ["x", 2]},
    )
    assert space.to_optuna(parameters) == {
        "a": optuna.distributions.FloatDistribution(0.01, 0.4, log=True),
        "b": optuna.distributions.IntDistribution(1, 4),
        "c": optuna.distributions.FloatDistribution(0.1, 0.5, step=0.1),
        "d": optuna.distributions.CategoricalDistribution(("x", 2)),
    }


def test_constants_join_a_point_and_are_not_searched() -> None:
    parameters = make(a=EPSILON, b={"distribution": "constant", "value": 7})
    assert space.searched(parameters) == ["a"]
    assert space.snap(parameters, {"a": 0.9}) == {"a": 0.4, "b": 7}
    assert space.contains(parameters, {"a": 0.1})
    assert not space.contains(parameters, {"a": 0.1, "b": 8})
    assert not space.contains(parameters, {"b": 7})
    assert not space.contains(parameters, {"a": 0.1, "c": 1})


def test_a_choice_keeps_words_numbers_and_their_order() -> None:
    each = Choice(distribution="choice", values=("sgd", 2, 3.5))
    assert each.grid() == ["sgd", 2, 3.5]
    assert not each.contains("adam")
    assert not Constant(distribution="constant", value=1).contains(True)


WRONG = [
    ({**EPSILON, "max": 0.001}, "min: `min < max` must hold (max=0.001), got 0.01"),
    ({**EPSILON, "min": 0.4}, "min: `min < max` must hold (max=0.4), got 0.4"),
    ({**EPSILON, "min": 0}, "min: must be over 0 for loguniform, got 0"),
    ({**EPSILON, "min": "a"}, "min: must be a finite number, got 'a'"),
    ({**EPSILON, "max": math.inf}, "max: must be a finite number, got inf"),
    ({**EPSILON, "max": True}, "max: must not be true or false, got True"),
    ({**EPSILON, "max": 10**400}, "max: must be a finite number"),
    ({**EPSILON, "mx": 1}, "mx: unknown key, got 1; did you mean `max`?"),
    ({**EPSILON, "q": 0.1}, "q: only the q... distributions take it, not loguniform, got 0.1"),
    ({**EPSILON, "points": 1}, "points: must be greater than or equal to 2, got 1"),
    ({"distribution": "loguniform", "min": 0.1}, "max: required, but not given"),
    ({"distribution": "quniform", "min": 0, "max": 1}, "q: required for quniform: the quantum"),
    (
        {"distribution": "quniform", "min": 0, "max": 1, "q": 0.3},
        "max: must be a whole multiple of q=0.3, got 1",
    ),
    ({"distribution": "quniform", "min": 0, "max": 1, "q": 0}, "q: must be over 0, got 0"),
    (
        {"distribution": "randint", "min": 0.5, "max": 3},
        "min: must be a whole number for randint, got 0.5",
    ),
    ({"distribution": "choice", "values": []}, "values: must hold at least one value, got []"),
    ({"distribution": "choice", "values": [1, 1.0]}, "values: must not repeat a value"),
    ({"distribution": "choice", "values": [[1]]}, "values.0: must be a finite number, got [1]"),
    ({"distribution": "constant"}, "value: required, but not given"),
    ({"min": 0, "max": 1}, "distribution: must be one of uniform, loguniform"),
    (
        {**EPSILON, "distribution": "lognormal"},
        "distribution: must be one of uniform, loguniform, quniform, qloguniform, randint, choice,"
        " grid, constant, got 'lognormal'; did you mean `loguniform`?",
    ),
    (0.1, "must be a mapping such as {distribution: uniform, min: 0, max: 1}, got 0.1"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_a_wrong_distribution_is_told_with_key_rule_and_value(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        parse_distribution(values)


def test_all_problems_of_a_distribution_come_together() -> None:
    with pytest.raises(ConfigError, match="min < max") as caught:
        parse_distribution({"distribution": "qloguniform", "min": 0, "max": -1, "q": 0})
    assert [problem.key for problem in caught.value.problems] == ["min", "min", "q"]


def test_numpy_is_not_what_points_are_made_of() -> None:
    (point,) = space.random_points(make(a=EPSILON), 1, 0)
    assert type(point["a"]) is float
    assert not isinstance(point["a"], np.floating)
