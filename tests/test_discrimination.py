"""Shares and areas against closed forms and other libraries, and how often intervals hold them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from study.reporting.discrimination import (
    Confusion,
    auroc,
    confusion,
    lead,
    wilson,
    youden_limit,
)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 14), (8, 10), (41, 42), (42, 42)])
def test_wilson_is_that_of_scipy(hits: int, n: int) -> None:
    oracle = binomtest(hits, n).proportion_ci(method="wilson")
    found = wilson(hits, n)
    assert found.value == hits / n
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=1e-6)


def test_wilson_counts_repeats_once() -> None:
    once, thrice, naive = wilson(8, 10), wilson(24, 30, repeats=3), wilson(24, 30)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert naive.high - naive.low < once.high - once.low


def test_a_confusion_table_counts_each_kind() -> None:
    calls = np.array([True, True, True, False, False, True, False])
    labels = np.array([True, True, False, False, False, True, True])
    found = confusion(calls, labels)
    assert found == Confusion(hits=3, misses=1, false_alarms=1, rejections=2)
    assert found.sensitivity().value == 3 / 4
    assert found.specificity().value == 2 / 3


def test_nothing_is_known_of_nothing() -> None:
    none = np.zeros(0)
    for found in (
        wilson(0, 0),
        auroc(none, none.astype(bool)),
        auroc(np.arange(3.0), np.ones(3, bool)),
        auroc(np.arange(3.0), np.array([True, False, True]), strata=[]),
    ):
        assert math.isnan(found.value)
        assert math.isnan(found.low)
        assert math.isnan(found.high)


@pytest.mark.parametrize("levels", [3, 1000])
def test_the_area_is_that_of_scikit_learn_with_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    labels = rng.random(60) < 0.4
    scores = np.floor(levels * rng.random(60)) + labels * levels / 4
    assert auroc(scores, labels).value == pytest.approx(roc_auc_score(labels, scores))


def test_a_stratified_area_compares_within_strata_only() -> None:
    labels = np.array([True, False, True, False])
    scores = np.array([2.0, 1.0, 10.0, 11.0])
    strata = [np.array([True, True, False, False]), np.array([False, False, True, True])]
    assert auroc(scores, labels).value == 0.75 - 0.25
    assert auroc(scores, labels, strata[:1]).value == 1.0
    assert auroc(scores, labels, strata).value == 0.5
    # each pair counts alike, whatever stratum it is in
    rng = np.random.default_rng(1)
    many, large = rng.random(80) < 0.5, np.arange(80) < 60
    values = rng.normal(many * 1.0)
    each = [auroc(values[mask], many[mask]).value for mask in (large, ~large)]
    pairs = [many[mask].sum() * (~many[mask]).sum() for mask in (large, ~large)]
    expected = np.average(each, weights=pairs)
    assert auroc(values, many, [large, ~large]).value == pytest.approx(expected)


def test_an_interval_holds_the_area_and_mirrors_with_the_labels() -> None:
    rng = np.random.default_rng(2)
    labels = rng.random(40) < 0.3
    scores = rng.normal(labels * 1.0)
    found, mirrored = auroc(scores, labels), auroc(scores, ~labels)
    assert 0 < found.low < found.value < found.high < 1
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low))
    repeated = auroc(np.tile(scores, 3), np.tile(labels, 3), repeats=3)
    assert (repeated.low, repeated.high) == pytest.approx((found.low, found.high))


def test_all_in_order_is_not_taken_for_certain() -> None:
    labels = np.arange(20) >= 10
    few, many = auroc(np.arange(20.0), labels), auroc(np.arange(200.0), np.arange(200) >= 100)
    assert few.value == few.high == 1
    assert 0.7 < few.low < 0.9 < many.low < 1


def test_an_interval_solves_its_equation() -> None:
    # Newcombe's method 5 written out for m = 12, n = 20
    m, n = 12, 20
    labels = np.arange(m + n) < m
    scores = np.random.default_rng(3).normal(labels * 1.0)
    found = auroc(scores, labels)
    for end in (found.low, found.high):
        slope = (1 - end) / (2 - end) + end / (1 + end)
        variance = end * (1 - end) * (1 + ((m + n) / 2 - 1) * slope) / (m * n)
        assert abs(found.value - end) / math.sqrt(variance) == pytest.approx(1.96, abs=0.005)


def covered(
    m: int,
    n: int,
    area: float,
    spread: float,
    strata: int = 1,
    repeats: int = 1,
    declared: int = 1,
) -> float:
    """How often the interval holds the area, over 800 tables of normal scores."""
    rng = np.random.default_rng([m, n, int(100 * area), int(10 * spread), strata])
    shift = norm.ppf(area) * math.hypot(1, spread)
    labels = np.tile(np.repeat([True, False], (m, n)), strata)
    place = np.repeat(np.arange(strata), m + n)
    masks = [np.tile(place == each, repeats) for each in range(strata)]
    held = 0
    for _ in range(800):
        # strata lie far apart, as thirds of epsilon do
        scores = rng.standard_normal(labels.size) * np.where(labels, spread, 1.0)
        scores += labels * shift + 10 * place
        found = auroc(np.tile(scores, repeats), np.tile(labels, repeats), masks, float(declared))
        held += found.low <= area <= found.high
    return held / 800


@pytest.mark.parametrize("area", [0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize(("m", "n"), [(10, 10), (15, 25), (40, 45)])
def test_intervals_cover_the_area(m: int, n: int, area: float) -> None:
    assert 0.93 <= covered(m, n, area, 1.0) <= 0.99


def test_intervals_cover_where_labels_vary_unlike() -> None:
    assert covered(15, 25, 0.9, 0.5) >= 0.93
    assert covered(15, 25, 0.7, 2.0) >= 0.90
    # the least, as the docstring says
    assert covered(5, 15, 0.7, 2.0) >= 0.87


@pytest.mark.parametrize("area", [0.5, 0.8, 0.95])
def test_intervals_cover_over_strata(area: float) -> None:
    assert 0.93 <= covered(5, 9, area, 1.0, strata=3) <= 0.995


def test_repeats_that_turn_out_alike_need_to_be_told() -> None:
    assert covered(12, 20, 0.8, 1.0, repeats=3, declared=1) < 0.85
    assert covered(12, 20, 0.8, 1.0, repeats=3, declared=3) >= 0.93


def test_the_limit_makes_right_calls_most_frequent() -> None:
    labels = np.array([False, False, True, False, True, True])
    scores = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 6.0])
    assert youden_limit(scores, labels) == 1.5
    rng = np.random.default_rng(4)
    many = rng.random(200) < 0.3
    values = np.round(rng.normal(many * 1.5), 1)
    limit = youden_limit(values, many)

    def right(at: float) -> float:
        table = confusion(values >= at, many)
        return table.sensitivity().value + table.specificity().value

    assert right(limit) == pytest.approx(max(right(at) for at in np.linspace(-4, 6, 2001)))
    assert right(limit) > right(limit + 1)


def test_a_lead_is_the_difference_of_two_areas() -> None:
    rng = np.random.default_rng(6)
    labels = rng.random(90) < 0.4
    first, second = rng.normal(labels * 1.0), np.round(rng.normal(labels * 0.3))
    strata = [np.arange(90) % 3 == place for place in range(3)]
    found = lead(first, second, labels, strata)
    areas = [auroc(each, labels, strata).value for each in (first, second)]
    assert found.value == pytest.approx(areas[0] - areas[1])
    assert found.low < found.value < found.high
    behind = lead(second, first, labels, strata)
    assert (behind.low, behind.high) == pytest.approx((-found.high, -found.low))
    assert lead(first, 2 * first + 1, labels, strata).high == 0
    thrice = lead(
        *(np.tile(each, 3) for each in (first, second, labels)),
        [np.tile(mask, 3) for mask in strata],
        repeats=3,
    )
    assert thrice.value == pytest.approx(found.value)
    assert thrice.high == pytest.approx(found.high, rel=0.05)
    assert math.isnan(lead(first, second, labels, []).value)


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_leads_are_covered_over_strata(shared: float) -> None:
    rng = np.random.default_rng(7)
    labels = np.tile(np.repeat([True, False], (10, 18)), 3)
    strata = [np.repeat(np.arange(3), 28) == place for place in range(3)]
    areas = 0.85, 0.7
    shifts = [norm.ppf(area) * math.sqrt(2) for area in areas]
    held = zero = 0
    for _ in range(800):
        common = rng.standard_normal(labels.size)
        first, second = (
            labels * shift
            + math.sqrt(shared) * common
            + math.sqrt(1 - shared) * rng.standard_normal(labels.size)
            for shift in shifts
        )
        found = lead(first, second, labels, strata)
        held += found.low <= areas[0] - areas[1] <= found.high
        zero += found.low <= 0
    assert 0.92 <= held / 800 <= 0.98
    # a lead that is there is found, sooner where both err alike
    assert zero / 800 < (0.25 if shared else 0.6)
