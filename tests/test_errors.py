"""How problems are worded, gathered and carried between processes."""

from __future__ import annotations

import pickle

import pytest

from ebm_core.errors import ConfigError, Problem, did_you_mean


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("epsilon", "must be over 0", -1), "epsilon: must be over 0, got -1"),
        (Problem("", "must be a mapping", [1]), "must be a mapping, got [1]"),
        (Problem("data", "required, but not given"), "data: required, but not given"),
        (Problem("data", "must be a word", None), "data: must be a word, got None"),
        (
            Problem("epsilom", "unknown key", 1, "; did you mean `epsilon`?"),
            "epsilom: unknown key, got 1; did you mean `epsilon`?",
        ),
    ],
)
def test_wording(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_a_long_value_is_cut() -> None:
    text = str(Problem("data", "must be a word", list(range(10_000))))
    assert len(text) < 250
    assert text.endswith("...")


def test_under_prefixes_the_key_and_keeps_the_rest() -> None:
    problem = Problem("size", "unknown key", 3, "; did you mean `side`?")
    assert problem.under("data") == Problem("data.size", "unknown key", 3, problem.hint)
    assert Problem("", "is wrong").under("data").key == "data"
    assert problem.under("").key == "size"


def test_all_problems_stand_in_one_message_with_their_source() -> None:
    error = ConfigError([Problem("a", "is wrong", 1), Problem("b", "is wrong", 2)], "study.yaml")
    assert str(error) == "study.yaml: a: is wrong, got 1\nstudy.yaml: b: is wrong, got 2"


def test_a_config_error_survives_the_way_to_another_process() -> None:
    error = ConfigError([Problem("a", "is wrong", 1), Problem("b", "required")], "study.yaml")
    again = pickle.loads(pickle.dumps(error))
    assert again.problems == error.problems
    assert again.source == error.source
    assert str(again) == str(error)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("epsilom", "; did you mean `epsilon`?"),
        ("gama_0", "; did you mean `gamma_0`?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_did_you_mean(word: str, hint: str) -> None:
    assert did_you_mean(word, ["epsilon", "gamma_0"]) == hint
