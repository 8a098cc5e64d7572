"""YAML as plain data: the traps that are closed, and what is written reads back as it was."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_core.document import dump_yaml, parse_yaml, read_document
from ebm_core.errors import ConfigError

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
)
NUMBERLIKE = st.from_regex(r"[-+]?[0-9._]{1,4}([eE][-+]?[0-9]{1,3})?", fullmatch=True)
TREES = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        LEAVES | NUMBERLIKE,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=10,
    ),
    max_size=5,
)


def _same(a: Any, b: Any) -> bool:
    """Equality that tells 1 from 1.0, 0.0 from -0.0, and one order of keys from another."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float):
        return a == b and math.copysign(1, a) == math.copysign(1, b)
    return bool(a == b)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e-4", 1e-4),
        ("1E-4", 1e-4),
        ("-1e4", -1e4),
        ("+2e3", 2e3),
        ("1.e-3", 1e-3),
        ("1.5e3", 1500.0),
        (".5e1", 5.0),
        ("1_000e1", 10_000.0),
        ("0.1", 0.1),
    ],
)
def test_floats(text: str, number: float) -> None:
    assert _same(parse_yaml(text), number)
    assert parse_yaml(f"epsilon: {text}") == {"epsilon": number}


@pytest.mark.parametrize("text", ["'1e-4'", '"1e-4"'])
def test_quoted_numbers_stay_text(text: str) -> None:
    assert parse_yaml(text) == "1e-4"


@pytest.mark.parametrize("text", ["cuda:0", "e4", "1e", "1e-4x", "package.module:Net"])
def test_words_stay_text(text: str) -> None:
    assert parse_yaml(text) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "must be YAML; line 2, column 1: key `a` is given twice, got 'a: 2'"),
        ("a: {b: 1, b: 2}", "key `b` is given twice"),
        ("a: [1, 2", "must be YAML; line 1, column 9: "),
        ("a: b: c", "must be YAML; line 1, column 5: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", "line 2, column 1: but found another document"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: \x00", "must be YAML; unacceptable character"),
        ("a: 2024-13-45", "must be YAML; month must be in 1..12"),
        (b"a: \xff\xfe", "must be YAML; "),
    ],
)
def test_what_is_not_yaml(text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text)
    assert message in str(caught.value)


def test_merge_keys_may_be_overridden() -> None:
    assert parse_yaml("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}")["b"] == {"p": 1, "q": 3}


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_what_is_written_reads_back(tree: dict[str, Any]) -> None:
    assert _same(parse_yaml(dump_yaml(tree)), tree)


@settings(max_examples=300, deadline=None)
@given(st.floats())
def test_floats_are_written_bit_for_bit(number: float) -> None:
    again = parse_yaml(dump_yaml({"x": number}))["x"]
    assert _same(again, number) or (math.isnan(again) and math.isnan(number))


def test_what_is_written_is_plain() -> None:
    widths = [96, 96]
    text = dump_yaml({"z": 1e-7, "a": widths, "b": widths, "c": (1, 2), "word": "1e-4"})
    assert text.splitlines()[0] == "z: 1.0e-07"
    assert "&" not in text
    assert parse_yaml(text) == {"z": 1e-7, "a": widths, "b": widths, "c": [1, 2], "word": "1e-4"}


def test_what_yaml_has_no_word_for_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot be written as YAML"):
        dump_yaml({"x": object()})


def test_read_document_with_overrides(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("name: one\nparameters:\n  epsilon: {min: 1e-2, max: 0.4}\n")
    changes = {"parameters.epsilon.max": "3e-1", "resources.address": "local", "name": "two"}
    assert read_document(file, changes) == {
        "name": "two",
        "parameters": {"epsilon": {"min": 0.01, "max": 0.3}},
        "resources": {"address": "local"},
    }
    assert read_document(file)["name"] == "one"


def test_every_bad_override_is_told(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("name: one\n")
    with pytest.raises(ConfigError) as caught:
        read_document(file, {"name.first": "1", "trials": "[1"})
    assert [problem.key for problem in caught.value.problems] == ["name.first", "trials"]
    assert "`name` must be a mapping to set a key below it, got 'one'" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [("- 1\n", "must be a mapping of keys to values"), ("", "must be a mapping of keys to")],
)
def test_a_document_has_to_be_a_mapping(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_document(file)


def test_a_document_has_to_be_a_readable_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        read_document(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="must be a readable file"):
        read_document(tmp_path)
