"""The sentences and numbers of a study, for tables whose answer is known."""

from __future__ import annotations

import math
from typing import Any, get_args

import pandas as pd
import pytest
from fake_study import digits_frame, frame_of, mixed_frame, row, spec_of

from ebm_core.requirements import REASONS
from ebm_core.verdict import Verdict
from study import table
from study.reporting.advice import ADVICE, next_steps
from study.reporting.answer import Answer, summarize
from study.reporting.outcomes import OUTCOMES, chosen, configurations, reasons_of, tidy
from study.reporting.sentences import number

EPSILON = spec_of().parameters


def outcomes_over(*outcomes: tuple[float, str], **fields: Any) -> pd.DataFrame:
    """One configuration a pair of epsilon and verdict."""
    return frame_of(
        [row(i, verdict, epsilon=value, **fields) for i, (value, verdict) in enumerate(outcomes)]
    )


def answer(*outcomes: tuple[float, str], **fields: Any) -> Answer:
    return summarize(outcomes_over(*outcomes, **fields), EPSILON)


def test_the_sweep_of_epsilon_has_a_threshold() -> None:
    found = summarize(digits_frame(), EPSILON)
    assert found.headline == (
        "Learning converged for epsilon from 0.105 to 0.4 (5 of 5 configurations there);"
        " none of the 7 at or below 0.075 did; no larger value was tried."
    )
    assert found.sharpest_sentence == (
        "Sharpest convergent setting: epsilon 0.105, data_epsilon 0.21 (trial 7, long run holds)."
    )
    assert found.suggestion == "Try next: epsilon between 0.075 and 0.105, where the edge lies."
    assert found.agreement_sentence == (
        "Verdict and long run agree for 12 of 12 trainings that have both:"
        " 5 convergent and holding, 7 nonconvergent and departing."
    )
    assert found.counts_sentence == "12 configurations: 5 convergent, 7 nonconvergent."
    assert list(found.reasons.items()) == [("r_below_band", 7), ("d_unbalanced", 6)]
    assert (found.assessed, found.sharpest, found.details) == (12, 7, ())
    assert found.axes[0].clean


def test_a_window_is_closed_above() -> None:
    found = answer((0.01, "nonconvergent"), (0.1, "convergent"), (0.2, "diverged"))
    assert found.headline == (
        "Learning converged for epsilon 0.1 only (1 of 1 configuration there);"
        " none of the 1 at or below 0.01 did; none of the 1 at or above 0.2 did."
    )
    assert found.suggestion.startswith("Try next: epsilon between 0.01 and 0.1 or between 0.1 and")


def test_mixed_outcomes_are_told_as_they_are() -> None:
    found = summarize(mixed_frame(), EPSILON)
    assert found.headline == (
        "Learning converged for epsilon from 0.09 to 0.4 (6 of 7 configurations there, 1 more"
        " without a verdict); 1 diverged among them at 0.35; none of the 8 at or below 0.08 did;"
        " no larger value was tried."
    )
    assert not found.axes[0].clean
    assert found.suggestion.startswith("Try next: more seeds for epsilon from 0.09 to 0.4")
    assert found.sharpest == 7
    assert found.sharpest_sentence.endswith("long run holds); for 1 sharper it departs.")
    assert found.agreement.indicators_disagree == 1
    assert found.agreement_sentence.endswith(
        "departing; but 1 convergent that departs (indicators_disagree)."
    )
    told = {"convergent": 6, "nonconvergent": 8, "diverged": 1, "unassessed": 1, "failed": 1}
    assert {name: n for name, n in found.configurations.items() if n} == told
    assert found.assessed == 15


def test_where_all_converged_the_search_was_too_narrow() -> None:
    found = answer((0.1, "convergent"), (0.2, "convergent"))
    assert found.headline.endswith("(2 of 2 configurations there); nothing outside was tried.")
    assert found.suggestion.startswith("Try next: epsilon under 0.1;")


def test_where_none_converged_the_reasons_lead() -> None:
    found = answer((0.1, "nonconvergent"), (0.2, "diverged"), reasons="r_above_band;d_unbalanced")
    assert found.headline == (
        "Learning converged for none of 2 assessed configurations; most frequent:"
        " r_above_band (1), d_unbalanced (1) and diverged (1)."
    )
    assert found.suggestion == f"Try next, for r_above_band: {ADVICE['r_above_band'].next}"
    assert found.sharpest is None
    assert found.sharpest_sentence == ""


def test_nothing_assessed_is_no_answer() -> None:
    found = answer((0.1, "unassessed"), (0.2, ""))
    assert found.headline == "None of 2 configurations could be assessed."
    assert found.assessed == 0
    assert answer((0.1, "unassessed"), (0.2, "diverged")).assessed == 1


def test_an_empty_table_says_so() -> None:
    found = summarize(table.frame([]), EPSILON)
    assert found.sentences[0] == "No training has ended yet."
    assert sum(found.trainings.values()) == 0


@pytest.mark.parametrize(
    ("long_runs", "sharpest"),
    [
        (("holds", "holds"), 0),
        (("departs", "holds"), 1),
        (("not_run", "holds"), 0),
        (("departs", "departs"), None),
    ],
)
def test_the_sharpest_setting_has_no_long_run_against_it(
    long_runs: tuple[str, str], sharpest: int | None
) -> None:
    rows = [row(i, long_run=each, epsilon=0.1 + i / 10) for i, each in enumerate(long_runs)]
    found = summarize(frame_of(rows), EPSILON)
    assert found.sharpest == sharpest
    if sharpest is None:
        assert found.sharpest_sentence.startswith("The long run departs for every convergent")


def test_sharpest_goes_by_the_noise_on_the_data() -> None:
    rows = [row(0, epsilon=0.1, eps_data_ratio=3.0), row(1, epsilon=0.2, eps_data_ratio=1.0)]
    assert summarize(frame_of(rows), EPSILON).sharpest == 1


def test_equally_sharp_settings_go_by_score() -> None:
    gamma = spec_of({"gamma_0": {"distribution": "uniform", "min": 0.0, "max": 1.0}}).parameters
    rows = [row(i, gamma_0=i / 10, convergence_score=i / 10) for i in range(1, 4)]
    found = summarize(frame_of(rows), gamma)
    assert found.sharpest == 3
    assert found.sharpest_sentence.startswith("Best-scored convergent setting: gamma_0 0.3")


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        (("convergent",) * 3, "convergent"),
        (("convergent", "convergent", "nonconvergent"), "nonconvergent"),
        (("convergent", "nonconvergent", "diverged"), "diverged"),
        (("convergent", "convergent", "unassessed"), "unassessed"),
        (("convergent", "unassessed", ""), "unassessed"),
        (("convergent", "", "convergent"), "failed"),
    ],
)
def test_a_configuration_is_as_good_as_its_worst_seed(
    verdicts: tuple[str, ...], outcome: str
) -> None:
    frame = frame_of([row(0, verdict, seed=seed) for seed, verdict in enumerate(verdicts)])
    assert list(configurations(frame, ["epsilon"])["outcome"]) == [outcome]
    found = summarize(frame, EPSILON)
    assert found.configurations[outcome] == 1
    assert found.trainings["convergent"] == verdicts.count("convergent")
    assert found.counts_sentence.startswith("1 configuration in 3 trainings: 1 ")


def test_one_departing_seed_is_enough() -> None:
    long_runs = ("holds", "departs", "not_run")
    frame = frame_of([row(0, seed=seed, long_run=each) for seed, each in enumerate(long_runs)])
    assert list(configurations(frame, [])["long_run"]) == ["departs"]
    assert summarize(frame, EPSILON).agreement.compared == 2


def test_several_axes_are_told_one_by_one() -> None:
    parameters = spec_of(
        {
            "epsilon": {"distribution": "loguniform", "min": 0.01, "max": 0.4},
            "optimizer": {"distribution": "choice", "values": ["sgd", "adam"]},
            "gamma_0": {"distribution": "constant", "value": 0.005},
        }
    ).parameters
    frame = frame_of(
        [
            row(0, "nonconvergent", epsilon=0.02),
            row(1, epsilon=0.1),
            row(2, epsilon=0.3),
            row(3, "nonconvergent", epsilon=0.2, optimizer="adam"),
        ]
    )
    found = summarize(frame, parameters)
    assert found.headline == (
        "Learning converged for 2 of 4 assessed configurations, within epsilon 0.1 to 0.3."
    )
    assert found.details == (
        "Learning converged for epsilon from 0.1 to 0.3 (2 of 3 configurations there);"
        " 1 nonconvergent among them at 0.2; none of the 1 at or below 0.02 did;"
        " no larger value was tried.",
        "Learning converged by optimizer: adam in 0 of 1, sgd in 2 of 3.",
    )
    assert "optimizer sgd" in found.sharpest_sentence


def test_disagreement_of_both_kinds_is_counted() -> None:
    frame = frame_of(
        [
            row(0, long_run="departs"),
            row(1, "nonconvergent", long_run="holds"),
            row(2, "nonconvergent"),
            row(3, long_run="not_run"),
            row(4, "diverged", long_run="departs"),
        ]
    )
    agreement = summarize(frame, EPSILON).agreement
    assert (agreement.agree, agreement.compared) == (1, 3)
    assert (agreement.convergent_departs, agreement.nonconvergent_holds) == (1, 1)
    unchecked = frame.assign(long_run="not_run")
    assert summarize(unchecked, EPSILON).agreement_sentence.startswith("No verdict has been")


def test_a_table_from_a_file_means_the_same(tmp_path: Any) -> None:
    table.write(mixed_frame().to_dict("records"), tmp_path)
    for read in (
        pd.read_csv(tmp_path / "results.csv"),
        pd.read_parquet(tmp_path / "results.parquet"),
    ):
        assert summarize(read, EPSILON) == summarize(mixed_frame(), EPSILON)


def test_a_training_that_failed_is_not_merely_unassessed() -> None:
    frame = frame_of([row(0, "unassessed", status="failed"), row(1, "diverged", status="failed")])
    assert list(tidy(frame)["outcome"]) == ["failed", "diverged"]


@pytest.mark.parametrize("text", ["r_below_band;d_unbalanced", "r_below_band, d_unbalanced"])
def test_reasons_are_read_however_they_are_joined(text: str) -> None:
    assert reasons_of(text) == ["r_below_band", "d_unbalanced"]
    assert reasons_of("too few updates: 80 of the 200") == []


def test_one_training_of_each_kind_is_chosen() -> None:
    found = chosen(mixed_frame())
    # sharpest that holds, the one that disagrees, nearest miss, oscillation, diverged, unassessed
    assert list(found["trial"]) == [7, 12, 6, 13, 14, 15]
    assert list(chosen(mixed_frame(), limit=2)["trial"]) == [7, 12]
    swings = [row(i, "nonconvergent", reasons="strong_oscillation", acf_min=-i) for i in range(3)]
    assert list(chosen(frame_of(swings))["trial"]) == [2]


def test_every_verdict_and_reason_has_advice() -> None:
    reasons = {"r_above_band", *REASONS.values()}
    explained = {*get_args(Verdict), "failed", "indicators_disagree", *reasons} - {"nonconvergent"}
    assert set(ADVICE) == explained
    assert set(OUTCOMES) == {*get_args(Verdict), "failed"}
    assert all(each.meaning.endswith(".") and each.next.endswith(".") for each in ADVICE.values())


def test_next_steps_keep_the_order_of_the_table() -> None:
    assert list(next_steps(["diverged", "r_below_band"])) == ["r_below_band", "diverged"]
    with pytest.raises(ValueError, match="got r_sideways"):
        next_steps(["r_sideways", "diverged"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (0.10512, "0.105"),
        (2.0, "2"),
        (1797, "1,797"),
        (12345.6, "12,346"),
        (1e-05, "1e-05"),
        (math.nan, "–"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text
