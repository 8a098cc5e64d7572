"""YAML files as plain data: the one module that touches PyYAML.

Two traps of YAML 1.1 are closed: ``1e-4`` is a number here, not text, and a key that is given
twice is an error instead of a silent overwrite. What is written here reads back as it was.

Whatever a file holds, reading it takes bounded time and memory: its size, its depth and its
values, an alias counting as all that it repeats, are limited, and nothing in it is executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ebm_core.errors import ConfigError, Problem

MOST_BYTES = 4_000_000
MOST_VALUES = 100_000
_DEEPEST = 50
# No float is larger, and Python itself refuses to print whole numbers of more than 4,300 digits.
_MOST_DIGITS = 300


class _Loader(yaml.SafeLoader):
    """Plain data only, and not too much of it.

    Args:
        text: One YAML document.
        most_values: Keys, entries, mappings and lists, at the most.
    """

    def __init__(self, text: str | bytes, most_values: int) -> None:
        super().__init__(text)
        self._left = most_values
        self._open: list[Any] = []  # anchors, None where there is none
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        anchor, mark = event.anchor, event.start_mark
        if isinstance(event, yaml.AliasEvent):
            if anchor in self._open:
                raise _refused(f"`{anchor}` contains itself", mark)
            self._take(self._sizes.get(anchor, 1), mark)
            return super().compose_node(parent, index)
        if len(self._open) == _DEEPEST:
            raise _too_deep(mark)
        before = self._left
        self._take(1, mark)
        self._open.append(anchor)
        node = super().compose_node(parent, index)
        self._open.pop()
        if anchor is not None:
            self._sizes[anchor] = before - self._left
        return node

    def _take(self, count: int, mark: Any) -> None:
        self._left -= count
        if self._left < 0:
            raise _refused("holds too many values, an alias counting as all it repeats", mark)

    def fetch_flow_collection_start(self, token: Any) -> None:
        # The scanner looks far ahead of the composer, and the longer the more brackets are open
        if self.flow_level >= _DEEPEST:
            raise _too_deep(self.get_mark())
        super().fetch_flow_collection_start(token)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # While composing, and not while constructing: merge keys (<<) may legally repeat a key
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _refused(f"key `{key.value}` is given twice", key.start_mark)
                seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        # What PyYAML raises of itself at `!!bool maybe`, `!!int ""` or 2024-13-45
        except (LookupError, AttributeError, ArithmeticError, ValueError) as error:
            kind = str(node.tag).rpartition(":")[2]
            reason = f" ({error})" if isinstance(error, ValueError) else ""
            raise _refused(f"not a value of type {kind}{reason}", node.start_mark) from None
        if type(value) is int and abs(value) >= 10**_MOST_DIGITS:
            rule = f"must not have more than {_MOST_DIGITS} digits"
            raise _refused(rule, node.start_mark)
        return value


def _too_deep(mark: Any) -> yaml.MarkedYAMLError:
    return _refused(f"must not be nested more than {_DEEPEST} deep", mark)


def _refused(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True  # a value that appears twice is written twice


# The writer has to know what the reader takes for a number, so that it quotes such text
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        # matched in one pass: with `\d[\d_]*\.?[\d_]*` a long row of digits took half a minute
        re.compile(r"[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)[eE][-+]?\d+$", re.ASCII),
        list("-+.0123456789"),
    )


def parse_yaml(text: str | bytes, key: str = "", most_values: int = MOST_VALUES) -> Any:
    """Plain data from YAML.

    Args:
        text: One YAML document, or a scalar or flow value such as ``{min: 1e-4}``.
        key: What to call the text in the message, where it is part of something larger.
        most_values: How many values it may hold.

    Raises:
        ConfigError: If this is not YAML, with line and column where they are known.
    """
    try:
        loader = _Loader(text, most_values)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        lines = (text if isinstance(text, str) else text.decode(errors="replace")).splitlines()
        found = lines[mark.line].strip() if mark and mark.line < len(lines) else ""
        rule = f"must be YAML; {place}{error.problem}"
        raise ConfigError([Problem(key, rule, found)]) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # An undecodable byte, or an escape for a character that there is not
        rule = f"must be YAML; {' '.join(str(error).split())}"
        raise ConfigError([Problem(key, rule, text[:40])]) from None


def dump_yaml(values: Any) -> str:
    """YAML that `parse_yaml` reads back unchanged: floats bit for bit, keys in their order.

    Args:
        values: Mappings with text as keys, lists, text, numbers, true and false, None.

    Raises:
        TypeError: If there is anything else inside.
    """
    try:
        # Plain ASCII: PyYAML does not read all of the line breaks that allow_unicode writes
        text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, width=float("inf"))
        return text
    except yaml.representer.RepresenterError as error:
        raise TypeError(f"cannot be written as YAML: {error}") from None


def read_document(
    path: str | Path,
    overrides: Mapping[str, str] | None = None,
    most_bytes: int = MOST_BYTES,
    most_values: int = MOST_VALUES,
) -> dict[str, Any]:
    """The mapping in a YAML file, with some keys replaced.

    Args:
        path: The file.
        overrides: Dotted keys to YAML text, for example ``{"parameters.epsilon.max": "0.3"}``.
        most_bytes: How large the file may be.
        most_values: How many values it may hold.

    Raises:
        ConfigError: If the file is missing, unreadable, too large or not a mapping, or an override
            does not fit into it. The errors carry no source; the caller knows what to call the
            file.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        # A name with a NUL in it is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            [Problem("", f"must be a readable file ({reason})", str(path))]
        ) from None
    if len(content) > most_bytes:
        raise ConfigError(
            [Problem("", f"must not be larger than {most_bytes:,} bytes", str(path))]
        )
    document = parse_yaml(content, most_values=most_values)
    if not isinstance(document, dict):
        raise ConfigError([Problem("", "must be a mapping of keys to values", document)])
    problems = []
    for key, text in (overrides or {}).items():
        try:
            _put(document, key, parse_yaml(text, key, most_values))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return document


def _put(tree: dict[Any, Any], key: str, value: Any) -> None:
    """Set a dotted key, building the mappings on its way that are not there yet."""
    *way, last = key.split(".")
    if len(way) > _DEEPEST:
        raise ConfigError([Problem(key, f"must not be nested more than {_DEEPEST} deep")])
    for depth, part in enumerate(way, start=1):
        if tree.get(part) is None:
            tree[part] = {}
        if not isinstance(tree[part], dict):
            rule = f"`{'.'.join(way[:depth])}` must be a mapping to set a key below it"
            raise ConfigError([Problem(key, rule, tree[part])])
        # a copy: where an alias repeats this mapping, it keeps what it has
        tree[part] = tree = dict(tree[part])
    tree[last] = value
