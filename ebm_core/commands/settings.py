"""Configurations as the command line names them: a preset, a file or a pack, and changes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebm_core.config import TrainConfig, make_config, override
from ebm_core.document import parse_yaml, read_document
from ebm_core.errors import ConfigError, Problem
from ebm_core.pack import Pack, read_pack
from ebm_core.presets import preset_values


@dataclass(frozen=True)
class Source:
    """What is to be trained.

    Attributes:
        name: What to call it in messages, a file or ``preset NAME``.
        folder: Name of its folder, if the user gives none.
        configs: One configuration a member.
        pack: The record that the configurations come from, if it is one.
    """

    name: str
    folder: str
    configs: tuple[TrainConfig, ...]
    pack: Pack | None = None


def source_of(options: Namespace) -> Source | None:
    """What the options name; None if they name nothing, and a checkpoint has to.

    Raises:
        ConfigError: With every problem of the file and of the changes.
    """
    if options.pack:
        if options.set:
            rule = "does not go with --pack, which repeats what was recorded"
            raise ConfigError([Problem("--set", rule, options.set)])
        if options.engine:
            rule = "does not go with --pack, which repeats how its members were run"
            raise ConfigError([Problem("--engine", rule, options.engine)])
        pack = read_pack(options.pack)
        return Source(str(options.pack), Path(options.pack).stem, pack.members, pack)
    if options.preset:
        values, name, folder = preset_values(options.preset), f"preset {options.preset}", None
    elif options.config:
        name, folder = str(options.config), Path(options.config).stem
        values = read_config(options.config)
    elif options.set or options.engine:
        key, given = ("--set", options.set) if options.set else ("--engine", options.engine)
        rule = "needs --preset or --config: a checkpoint is gone on from as it is"
        raise ConfigError([Problem(key, rule, given)])
    else:
        return None
    config = make_config(_changed(values, options.set, name), source=name)
    return Source(name, folder or options.preset, (config,))


def read_config(path: str | Path) -> dict[str, Any]:
    """Raw values of a configuration file; ``preset: NAME`` in it stands for those of the preset.

    Raises:
        ConfigError: If it is no mapping in YAML, or names no preset.
    """
    try:
        values = read_document(path)
        if "preset" in values:
            values = override(preset_values(str(values.pop("preset"))), values)
    except ConfigError as error:
        raise ConfigError(error.problems, str(path)) from None
    return values


def _changed(values: Mapping[str, Any], settings: Iterable[str], source: str) -> dict[str, Any]:
    """Values with ``key=value`` settings applied; a dotted key changes one part of a section."""
    changes: dict[str, Any] = {}
    problems = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            problems.append(Problem("--set", "must be of the form key=value", setting))
            continue
        first, *way = key.split(".")
        try:
            found = changes.get(first, values.get(first))
            changes[first] = _put(found, way, parse_yaml(text, key), key)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems, source)
    return override(values, changes)


def _put(found: Any, way: list[str], value: Any, key: str) -> Any:
    if not way:
        return value
    # a section may be written as its name alone
    section = {"name": found} if isinstance(found, str) else ({} if found is None else found)
    if not isinstance(section, Mapping):
        above = key.rsplit(".", len(way))[0]
        raise ConfigError([Problem(key, f"`{above}` must be a mapping to set a key in it", found)])
    return {**section, way[0]: _put(section.get(way[0]), way[1:], value, key)}
