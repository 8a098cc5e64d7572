"""The errors of this package, and how several of them are told together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_LONGEST_VALUE = 200


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a configuration.

    Attributes:
        key: Dotted path of the offending key, ``""`` for the whole document.
        rule: What must hold, as a sentence fragment.
        value: What was found there; ``...`` where nothing was given.
        hint: What may have been meant, see `did_you_mean`.
    """

    key: str
    rule: str
    value: Any = ...
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.key}: " if self.key else ""
        found = "" if self.value is ... else f", got {_short(self.value)}"
        return f"{where}{self.rule}{found}{self.hint}"

    def under(self, prefix: str) -> Problem:
        """The same problem, seen from a document that holds this one at `prefix`."""
        key = ".".join(part for part in (prefix, self.key) if part)
        return Problem(key, self.rule, self.value, self.hint)


class ConfigError(ValueError):
    """A configuration breaks one or several rules; `problems` lists them all, one a line."""

    def __init__(self, problems: Iterable[Problem], source: str = "") -> None:
        self.problems = list(problems)
        self.source = source
        prefix = f"{source}: " if source else ""
        super().__init__("\n".join(f"{prefix}{problem}" for problem in self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[Problem], str]]:
        # By default an exception is rebuilt from its message, which is not what this one takes
        return type(self), (self.problems, self.source)


class DataError(ValueError):
    """A data set cannot be read, or does not have the promised shape."""


class EnergyError(ValueError):
    """A network does not fit the data, or cannot be trained by this package."""


class CheckpointError(RuntimeError):
    """A checkpoint is unreadable or belongs to another configuration."""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint such as ``; did you mean `epsilon`?``, empty where nothing comes near."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
