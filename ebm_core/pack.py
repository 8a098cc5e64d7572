"""The record of a pack: all that is needed to train it again, bit for bit on the same machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, ValidationError

from ebm_core.config import TrainConfig, make_config, pack_problems
from ebm_core.document import dump_yaml, read_document
from ebm_core.errors import ConfigError, Problem
from ebm_core.files import replacing
from ebm_core.sections import Section
from ebm_core.validation import problems_of


@dataclass(frozen=True)
class Pack:
    """Members that were trained as one program, and how.

    Attributes:
        members: Configurations of all of them, in their order.
        index: Which of them this record lies beside.
        threads: Number of torch's threads; sums differ in their last bits with it.
        engine_path: How the members were run, see `ebm_core.engine`.
    """

    members: tuple[TrainConfig, ...]
    index: int
    threads: int
    engine_path: str


class _Document(Section):
    format: Literal[1]
    index: int = Field(ge=0)
    threads: PositiveInt
    engine_path: str = Field(min_length=1)
    members: list[dict[str, Any]]


def write_pack(pack: Pack, path: str | Path) -> Path:
    """Writes a pack as YAML that `read_pack` reads back equal."""
    values = {
        "format": 1,
        "index": pack.index,
        "threads": pack.threads,
        "engine_path": pack.engine_path,
        "members": [config.model_dump(mode="json") for config in pack.members],
    }
    path = Path(path)
    with replacing(path) as temporary:
        header = f"# python -m ebm_core train --pack {path.name}\n"
        temporary.write_text(header + dump_yaml(values), encoding="utf-8")
    return path


def read_pack(path: str | Path) -> Pack:
    """Reads a pack.

    Raises:
        ConfigError: With every problem found, each with file, key, rule and value.
    """
    try:
        values = read_document(path)
    except ConfigError as error:
        raise ConfigError(error.problems, str(path)) from None
    try:
        document = _Document.model_validate(values)
    except ValidationError as error:
        raise ConfigError(problems_of(error, _Document), str(path)) from None
    members, problems = [], []
    for number, member in enumerate(document.members):
        try:
            members.append(make_config(member))
        except ConfigError as error:
            problems += [problem.under(f"members.{number}") for problem in error.problems]
    if not problems:
        problems = pack_problems(members)
    if document.index >= max(1, len(document.members)):
        rule = f"`index < number of members` must hold ({len(document.members)} members)"
        problems.append(Problem("index", rule, document.index))
    if problems:
        raise ConfigError(problems, str(path))
    return Pack(tuple(members), document.index, document.threads, document.engine_path)
