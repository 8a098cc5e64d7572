"""YAML files as plain data: the one module that touches PyYAML.

Two traps of YAML 1.1 are closed: ``1e-4`` is a number here, not text, and a key that is given
twice is an error instead of a silent overwrite. What is written here reads back as it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ebm_core.errors import ConfigError, Problem


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # While composing, and not while constructing: merge keys (<<) may legally repeat a key
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key `{key.value}` is given twice", key.start_mark
                    )
                seen.add(key.value)
        return node


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True  # a value that appears twice is written twice


# The writer has to know what the reader takes for a number, so that it quotes such text
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def parse_yaml(text: str | bytes, key: str = "") -> Any:
    """Plain data from YAML.

    Args:
        text: One YAML document, or a scalar or flow value such as ``{min: 1e-4}``.
        key: What to call the text in the message, where it is part of something larger.

    Raises:
        ConfigError: If this is not YAML, with line and column where they are known.
    """
    try:
        # The loader derives from SafeLoader: it builds plain data only
        return yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        lines = (text if isinstance(text, str) else text.decode(errors="replace")).splitlines()
        found = lines[mark.line].strip() if mark and mark.line < len(lines) else ""
        rule = f"must be YAML; {place}{error.problem}"
        raise ConfigError([Problem(key, rule, found)]) from None
    except (yaml.YAMLError, ValueError) as error:
        # An undecodable byte, or a date such as 2024-13-45
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


def read_document(path: str | Path, overrides: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The mapping in a YAML file, with some keys replaced.

    Args:
        path: The file.
        overrides: Dotted keys to YAML text, for example ``{"parameters.epsilon.max": "0.3"}``.

    Raises:
        ConfigError: If the file is missing, unreadable or not a mapping, or an override does not
            fit into it. The errors carry no source; the caller knows what to call the file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        rule = f"must be a readable file ({error.strerror})"
        raise ConfigError([Problem("", rule, str(path))]) from None
    document = parse_yaml(content)
    if not isinstance(document, dict):
        raise ConfigError([Problem("", "must be a mapping of keys to values", document)])
    problems = []
    for key, text in (overrides or {}).items():
        try:
            _put(document, key, parse_yaml(text, key))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return document


def _put(tree: dict[Any, Any], key: str, value: Any) -> None:
    """Set a dotted key, building the mappings on its way that are not there yet."""
    *way, last = key.split(".")
    for depth, part in enumerate(way, start=1):
        if tree.get(part) is None:
            tree[part] = {}
        if not isinstance(tree[part], dict):
            rule = f"`{'.'.join(way[:depth])}` must be a mapping to set a key below it"
            raise ConfigError([Problem(key, rule, tree[part])])
        tree = tree[part]
    tree[last] = value
