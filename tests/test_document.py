"""YAML as plain data: the traps that are closed, and what is written reads back as it was."""

from __future__ import annotations

import math
import time
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
        (
            "a: 2024-13-45",
            "must be YAML; line 1, column 4: not a value of type timestamp (month must be in",
        ),
        (b"a: \xff\xfe", "must be YAML; "),
        # what PyYAML itself has no words for
        ("a: !!bool maybe", "line 1, column 4: not a value of type bool, got 'a: !!bool maybe'"),
        ("a: !!int ''", "line 1, column 4: not a value of type int, got"),
        ("a: !!timestamp x", "line 1, column 4: not a value of type timestamp, got"),
        (f"a: 1:{'59:' * 200}59.5", "line 1, column 4: not a value of type float, got"),
        ('a: "\\UFFFFFFFF"', "must be YAML; Python int too large to convert to C int, got"),
        ("a: " + "1" * 5_000, "line 1, column 4: not a value of type int (Exceeds the limit"),
        ("a: 0x" + "f" * 5_000, "line 1, column 4: must not have more than 300 digits"),
        # what grows while it is read
        ("a: &x [*x]", "line 1, column 8: `x` contains itself, got 'a: &x [*x]'"),
        ("&x {a: {b: *x}}", "line 1, column 12: `x` contains itself"),
        ("a: &x {<<: *x}", "line 1, column 12: `x` contains itself"),
        ("[" * 10_000, "line 1, column 51: must not be nested more than 50 deep, got '[[["),
        ("{a: " * 10_000, "must not be nested more than 50 deep"),
        ("- " * 10_000, "line 1, column 101: must not be nested more than 50 deep"),
        ("? " * 10_000, "must not be nested more than 50 deep"),
    ],
)
def test_what_is_not_yaml(text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text)
    assert message in str(caught.value)


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 10)}]}}\n" for k in range(1, 12)
)


@pytest.mark.parametrize("text", [BOMB, MERGES])
def test_an_alias_counts_as_all_it_repeats(text: str) -> None:
    """A billion laughs in twelve lines: without the count, the merges would take for ever."""
    with pytest.raises(ConfigError, match=r"line 6, column \d+: holds too many values, an alias"):
        parse_yaml(text)
    assert len(parse_yaml("\n".join(text.splitlines()[:4]))) == 4


def test_as_many_values_as_are_allowed() -> None:
    # the list, the mapping in it, its key and its value
    assert parse_yaml("[{a: 1}]", most_values=4) == [{"a": 1}]
    with pytest.raises(ConfigError, match="holds too many values"):
        parse_yaml("[{a: 1}]", most_values=3)
    assert parse_yaml("[&x [1, 2], *x]", most_values=7) == [[1, 2], [1, 2]]
    with pytest.raises(ConfigError, match="column 13: holds too many values"):
        parse_yaml("[&x [1, 2], *x]", most_values=6)


@pytest.mark.parametrize("text", ["[" * 50 + "]" * 50, "- " * 49 + "x"])
def test_fifty_levels_are_read(text: str) -> None:
    value = parse_yaml(text)
    for _ in range(49):
        (value,) = value
    assert value in ([], "x")


@pytest.mark.parametrize("row", ["1" * 60_000 + "x", "1_" * 30_000 + "x", "1e" + "1" * 60_000])
def test_a_long_row_of_digits_is_read_at_once(row: str) -> None:
    """The pattern of a number tried every way to split it: half a minute for such a row."""
    began = time.process_time()
    value = parse_yaml(f"a: {row}")["a"]
    assert time.process_time() - began < 2
    assert value in (row, math.inf)


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


def test_an_override_leaves_what_an_alias_shares(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("a: &x {max: {n: 1}}\nb: *x\n")
    assert read_document(file, {"a.max.n": "2"}) == {
        "a": {"max": {"n": 2}},
        "b": {"max": {"n": 1}},
    }


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("a: 1\n")
    assert read_document(file, most_bytes=5) == {"a": 1}
    with pytest.raises(ConfigError, match="must not be larger than 4 bytes"):
        read_document(file, most_bytes=4)


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
