"""What foretells the long run: found where it is known, and not found where there is nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from agreement_study import FOUR, labelled_frame
from fake_study import digits_frame, frame_of, row, spec_of

from study.reporting import agreement_text
from study.reporting.agreement import Comparison, Row, compare
from study.reporting.discrimination import auroc, confusion
from study.reporting.outcomes import tidy
from study.reporting.parts import choosing_half, thirds
from study.reporting.rules import Rule, choose, fit
from study.space import sobol_points

PARAMETERS = spec_of(FOUR).parameters


def compared(frame: pd.DataFrame, parameters: Any = PARAMETERS) -> Comparison:
    return compare(frame, parameters)


def row_of(found: Comparison, name: str) -> Row:
    return next(each for each in found.rows if each.name == name)


@pytest.fixture(scope="module")
def large() -> Comparison:
    """Enough trainings to know what the areas should be."""
    return compared(labelled_frame(600, seed=1))


def test_every_quantity_has_its_kind_and_what_it_had_to_choose(large: Comparison) -> None:
    found = {each.name: (each.kind, each.chosen) for each in large.rows}
    assert found["convergence_margin"] == ("combination", "nothing")
    assert found["convergence_score"] == ("combination", "limit")
    assert found["margin_d_balanced"] == ("indicator", "nothing")
    assert found["r_matched"] == ("indicator", "limit")
    for name in ("epsilon", "eps_data_ratio", "data_epsilon", "gamma_0", "anneal_updates"):
        assert found[name] == ("hyperparameter", "all")
    # what is the same for all trainings tells nothing
    assert not {"margin_oscillation_weak", "r_band_adherence", "r_over_floor"} & set(found)


def test_the_steady_margin_is_the_least_of_what_speaks_of_the_steady_state() -> None:
    frame = labelled_frame(200, seed=3)
    rng = np.random.default_rng(0)
    departs = frame["long_run"] == "departs"
    # each tells half of those that depart, and together they tell all
    first = departs & (rng.random(len(frame)) < 0.5)
    frame["margin_model_at_rest"] = np.where(first, -1.0, 0.5)
    frame["margin_spread_matched"] = np.where(departs & ~first, -1.0, 0.5)
    found = compared(frame)
    assert row_of(found, "steady_margin").kind == "combination"
    assert row_of(found, "steady_margin").held_out.overall.auroc.value == 1
    for name in ("margin_model_at_rest", "margin_spread_matched"):
        assert row_of(found, name).held_out.overall.auroc.value < 0.85
    # without the margins there is no such row
    assert "steady_margin" not in {each.name for each in compared(labelled_frame(200)).rows}


def test_what_a_long_run_can_find_is_told() -> None:
    frame = labelled_frame(40, long_run_detectable=0.23)
    assert compared(frame).detectable == pytest.approx(0.23)
    assert math.isnan(compared(labelled_frame(40)).detectable)


def test_what_grows_with_epsilon_looks_good_only_over_all_of_it(large: Comparison) -> None:
    epsilon, learning = row_of(large, "epsilon"), row_of(large, "margin_r_in_band")
    assert epsilon.rule.way == "larger"
    assert epsilon.held_out.overall.auroc.value > 0.8
    assert epsilon.held_out.within.value < 0.7
    assert learning.held_out.within.value > 0.95
    assert learning.held_out.within.low > epsilon.held_out.within.high
    noise = row_of(large, "margin_d_balanced").held_out
    assert noise.overall.auroc.low < 0.5 < noise.overall.auroc.high
    assert large.best("indicator") == learning
    assert large.best("hyperparameter") in (epsilon, row_of(large, "data_epsilon"))


def test_the_combination_leads_or_trails_with_an_interval(large: Comparison) -> None:
    leads = {each.name: each for each in large.leads}
    assert set(leads) == {"convergence_margin", "convergence_score"}
    assert leads["convergence_score"].other in ("epsilon", "data_epsilon")
    assert leads["convergence_score"].area.low > 0
    # a combination that knows nothing trails
    rng = np.random.default_rng(0)
    blind = labelled_frame(600, seed=1)
    blind["convergence_score"] = rng.random(len(blind))
    (trails,) = [each for each in compared(blind).leads if each.name == "convergence_score"]
    assert trails.area.high < 0


def test_thirds_add_up_to_the_whole(large: Comparison) -> None:
    for each in large.rows:
        for report in (each.held_out, each.both):
            assert report is not None
            parts = [third.confusion for third in report.thirds]
            for name in ("hits", "misses", "false_alarms", "rejections"):
                whole = getattr(report.overall.confusion, name)
                assert sum(getattr(part, name) for part in parts) == whole
    margin = row_of(large, "convergence_margin")
    assert margin.both is not None
    seen = margin.both.overall.confusion
    assert seen.positives == large.holds
    assert seen.negatives == large.departs
    assert seen.false_alarms + seen.misses == len(large.wrong)


def test_halves_keep_repeats_together_and_are_alike() -> None:
    frame = tidy(labelled_frame(96, seeds=3))
    frame = frame[frame["long_run"] != "not_run"]
    half = choosing_half(frame)
    assert (frame.assign(half=half).groupby("trial")["half"].nunique() == 1).all()
    assert abs(frame["trial"][half].nunique() - frame["trial"][~half].nunique()) <= 1
    assert (choosing_half(frame) == half).all()
    once = tidy(labelled_frame(96))
    once = once[once["long_run"] != "not_run"].reset_index(drop=True)
    half, (third, _) = choosing_half(once), thirds(once)
    for label in ("holds", "departs"):
        for place in range(3):
            inside = ((once["long_run"] == label) & (third == place)).to_numpy()
            assert abs(int((inside & half).sum()) - int((inside & ~half).sum())) <= 2


def test_halves_of_a_sobol_study_span_the_whole_space() -> None:
    points = pd.DataFrame(sobol_points(PARAMETERS, 96, 0))
    trial = np.arange(96)
    # the reason for a coin: one axis is cut in two by the parity of the trial
    even = [points[name].rank()[trial % 2 == 0] for name in points]
    assert max(abs(each.mean() - 48.5) for each in even) > 20
    frame = tidy(frame_of([row(i, **point) for i, point in enumerate(points.to_dict("records"))]))
    half = choosing_half(frame)
    for name in points:
        assert abs(frame[name].rank()[half].mean() - 48.5) < 9


def test_thirds_go_by_rank_and_equal_epsilon_stay_together() -> None:
    epsilons = [0.01, 0.011, 0.012, 0.013, 0.5, 0.9]
    third, edges = thirds(frame_of([row(i, epsilon=e) for i, e in enumerate(epsilons)]))
    assert list(third) == [0, 0, 1, 1, 2, 2]
    assert edges == (0.012, 0.5)
    grid = frame_of([row(i, epsilon=0.1 * (1 + i % 4)) for i in range(40)])
    third, _ = thirds(grid)
    assert grid.assign(third=third).groupby("epsilon")["third"].nunique().max() == 1
    for alike in ([0.1] * 30, [0.1, 0.2] * 15, []):
        third, edges = thirds(
            frame_of([row(i, epsilon=e) for i, e in enumerate(alike)] or [row(0)])
        )
        assert edges == ()
        assert not third.any()


def test_without_thirds_all_is_compared_over_all() -> None:
    frame = labelled_frame(96)
    found = compared(frame.assign(epsilon=0.1, data_epsilon=0.1 * frame["eps_data_ratio"]))
    assert found.edges == ()
    margin = row_of(found, "convergence_margin").held_out
    assert margin.thirds == ()
    assert math.isnan(margin.within.value)
    assert margin.area == margin.overall.auroc
    assert "AUROC over all of them is" in agreement_text.findings(found)
    assert agreement_text.each_third(found) == []


def test_what_is_chosen_on_noise_does_not_look_good_on_the_other_half() -> None:
    rng = np.random.default_rng(5)
    chosen, shown, right = [], [], []
    for _ in range(150):
        values, labels = pd.Series(rng.random(48)), rng.random(48) < 0.5
        half = np.arange(48) < 24
        rule = choose(values[half], labels[half])
        assert rule is not None
        scores = rule.scores(values)
        chosen.append(auroc(scores[half], labels[half]).value)
        shown.append(auroc(scores[~half], labels[~half]).value)
        table = confusion(scores[~half] >= rule.limit, labels[~half])
        right.append(table.sensitivity().value + table.specificity().value - 1)
    assert np.mean(chosen) > 0.57
    assert abs(np.mean(shown) - 0.5) < 0.03
    assert abs(np.mean(right)) < 0.05


def test_the_half_that_is_shown_has_no_say_in_the_rules() -> None:
    frame = tidy(labelled_frame(96))
    judged = frame["long_run"] != "not_run"
    half = choosing_half(frame[judged].reset_index(drop=True))
    labels = (frame["long_run"][judged] == "holds").to_numpy()
    found = row_of(compared(frame), "gamma_0")
    values = frame["gamma_0"][judged]
    assert found.rule == choose(values[half], labels[half])
    scores = found.rule.scores(values)[~half]
    assert found.held_out.overall.auroc == auroc(scores, labels[~half])
    spoilt = frame.assign(gamma_0=frame["gamma_0"].where(frame.index.isin(values.index[half]), 1))
    assert row_of(compared(spoilt), "gamma_0").rule == found.rule
    assert row_of(compared(spoilt), "gamma_0").held_out.overall.auroc.value == 0.5


def test_a_margin_is_judged_by_the_limit_of_the_verdict() -> None:
    frame = labelled_frame(96)
    name = "margin_r_in_band"
    assert str(row_of(compared(frame), name).rule) == "≥ 0"
    shifted = row_of(compared(frame.assign(**{name: frame[name] - 10})), name)
    assert shifted.held_out.overall.sensitivity.value == 0
    assert shifted.held_out.overall.specificity.value == 1
    assert shifted.held_out.within == row_of(compared(frame), name).held_out.within


def test_trainings_without_a_value_are_left_out_of_its_row_only() -> None:
    frame = labelled_frame(96)
    frame.loc[frame.index % 4 == 0, "r_matched"] = np.nan
    found = compared(frame)

    def trainings(name: str) -> int:
        table = row_of(found, name).held_out.overall.confusion
        return table.positives + table.negatives

    assert trainings("r_matched") < trainings("epsilon") == found.shown_on


def test_repeats_do_not_count_as_more_evidence() -> None:
    frame = labelled_frame(96)
    thrice = pd.concat([frame.assign(seed=seed) for seed in range(3)])
    once, found = compared(frame), compared(thrice)
    assert found.holds == 3 * once.holds
    for name in ("convergence_margin", "epsilon"):
        narrow, wide = row_of(found, name).held_out, row_of(once, name).held_out
        assert narrow.overall.auroc == wide.overall.auroc
        assert narrow.overall.sensitivity.low == pytest.approx(wide.overall.sensitivity.low)


def test_what_cannot_be_compared_is_counted_apart() -> None:
    others = [
        row(200, "diverged"),
        row(201, "collapsed"),
        row(202, "unassessed"),
        row(203, "unassessed", long_run="departs"),
        row(204, "", status="failed"),
        row(205, "convergent", long_run="not_run"),
        row(206, "diverged", long_run="departs"),
    ]
    frame = labelled_frame(96)
    frame = frame[frame["verdict"] != "diverged"]
    found = compared(pd.concat([frame, frame_of(others)]))
    assert found.apart == {
        "collapsed": 1,
        "diverged": 1,
        "diverged, long run departs": 1,
        "failed": 1,
        "unassessed": 1,
        "unassessed, long run departs": 1,
        "without a long run": 1,
    }
    alone = compared(frame)
    assert (found.holds, found.departs) == (alone.holds, alone.departs)
    assert [each.held_out for each in found.rows] == [each.held_out for each in alone.rows]
    sentence = agreement_text.counts_sentence(found)
    assert f"{len(frame)} of {len(frame) + 7} trainings are compared" in sentence
    assert "1 collapsed; 1 diverged" in sentence


@pytest.mark.parametrize(("holding", "enough"), [(9, False), (10, True)])
def test_ten_configurations_of_each_label_are_needed(holding: int, enough: bool) -> None:
    frame = labelled_frame(200, seed=2)
    kept = [frame[frame["long_run"] == "departs"], frame[frame["long_run"] == "holds"][:holding]]
    found = compared(pd.concat(kept))
    assert bool(found.rows) is enough
    assert (agreement_text.too_few(found) == "") is enough
    # more seeds of the same configurations do not help
    seeds = pd.concat([pd.concat(kept).assign(seed=seed) for seed in range(4)])
    assert bool(compared(seeds).rows) is enough


def test_a_study_too_small_says_so_and_counts() -> None:
    found = compared(digits_frame())
    lines = agreement_text.lines(found)
    assert lines[1].startswith("12 of 12 trainings are compared: 5 whose long run holds and 7")
    assert lines[2] == (
        "There are too few to tell indicators apart: 5 configurations with a long run that holds"
        " and 7 with one that departs, where 10 of each are needed."
    )
    assert agreement_text.findings(found) == ""
    assert agreement_text.lines(compared(frame_of([row(0, long_run="not_run")]))) == []


def test_verdicts_that_the_long_run_contradicts_are_named_in_order() -> None:
    found = compared(labelled_frame(96))
    wrong = found.wrong
    assert len(wrong) > 4
    assert (
        wrong["long_run"]
        != wrong["outcome"].map({"convergent": "holds", "nonconvergent": "departs"})
    ).all()
    departing = wrong[wrong["long_run"] == "departs"]
    assert list(wrong.index[: len(departing)]) == list(departing.index)
    sizes = departing["long_run_departure"].abs()
    assert (sizes.diff().dropna() <= 0).all()
    lost = labelled_frame(96)
    lost.loc[departing.index[-1], "long_run_departure"] = np.nan
    # chains that were lost have departed furthest
    assert compared(lost).wrong["trial"].iloc[0] == lost["trial"][departing.index[-1]]


def test_the_terminal_shows_every_row() -> None:
    found = compared(labelled_frame(96))
    lines = agreement_text.lines(found)
    shown = {line.split()[0] for line in lines if "/" in line and "[" in line}
    assert shown == {each.name for each in found.rows}
    assert next(line for line in lines if line.startswith("margin_r_in_band")).split()[1:3] == [
        "≥",
        "0",
    ]


@pytest.mark.parametrize(
    ("rule", "called", "text"),
    [
        (Rule("larger", limit=2.0), [False, True, True, True], "≥ 2"),
        (Rule("smaller", limit=-2.0), [True, True, False, False], "≤ 2"),
        (Rule("near", limit=-1.0, centre=2.0), [True, True, True, False], "1 to 3"),
        (
            Rule("near", limit=-math.log(2) - 1e-9, centre=4.0, log=True),
            [False, True, True, True],
            "2 to 8",
        ),
    ],
)
def test_a_rule_calls_what_it_says(rule: Rule, called: list[bool], text: str) -> None:
    assert list(rule.scores(pd.Series([1.0, 2.0, 3.0, 8.0])) >= rule.limit) == called
    assert str(rule) == text
    assert np.isnan(rule.scores(pd.Series([np.nan, np.inf]))).all()


def test_a_rule_is_chosen_for_what_separates() -> None:
    values = pd.Series([1.0, 2, 3, 4, 5, 6, 7, 8, 9])
    inner, upper = values.between(4, 6).to_numpy(), (values > 5).to_numpy()
    assert [choose(values, each).way for each in (upper, ~upper, inner)] == [  # type: ignore[union-attr]
        "larger",
        "smaller",
        "near",
    ]
    near = fit(Rule("near", log=True), values, inner)
    assert near is not None
    assert near.centre == 5
    assert list(near.scores(values) >= near.limit) == list(inner)
    # a logarithm has no place for 0
    assert np.isnan(near.scores(pd.Series([0.0, -1.0]))).all()


def test_words_are_told_by_how_often_they_hold() -> None:
    words = pd.Series(["adam", "sgd", "sgd", "sgd", "adam", "adam"])
    labels = np.array([False, True, True, False, False, True])
    rule = choose(words, labels)
    assert rule is not None
    assert str(rule) == "sgd"
    assert list(rule.scores(words[:2])) == pytest.approx([1 / 3, 2 / 3])
    assert np.isnan(rule.scores(pd.Series(["lion"]))).all()


@pytest.mark.parametrize("way", ["larger", "near"])
def test_there_is_no_rule_where_nothing_varies(way: Any) -> None:
    labels = np.array([True, False, True])
    assert fit(Rule(way), pd.Series([2.0, 2.0, 2.0]), labels) is None
    assert fit(Rule(way), pd.Series([1.0, np.nan, 2.0]), labels) is None
    assert fit(Rule(way), pd.Series([np.nan, 1.0, np.nan]), labels) is None
    assert choose(pd.Series([1.0, 2.0, 3.0]), np.zeros(3, bool)) is None
