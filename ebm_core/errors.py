"""The errors of this package, and how several of them are told together."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

# So that no message fills the screen, whatever a file holds.
_LONGEST_VALUE = 200
_LONGEST_RULE = 2_000
_MOST_PROBLEMS = 50


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
        where = f"{_printable(self.key, _LONGEST_VALUE)}: " if self.key else ""
        found = "" if self.value is ... else f", got {_cut(repr(self.value), _LONGEST_VALUE)}"
        return f"{where}{_printable(self.rule, _LONGEST_RULE)}{found}{self.hint}"

    def under(self, prefix: str) -> Problem:
        """The same problem, seen from a document that holds this one at `prefix`."""
        key = ".".join(part for part in (prefix, self.key) if part)
        return Problem(key, self.rule, self.value, self.hint)


class ConfigError(ValueError):
    """A configuration breaks one or several rules: `problems` lists them all, one a line.

    The message tells the first fifty of them, control characters escaped.
    """

    def __init__(self, problems: Iterable[Problem], source: str = "") -> None:
        self.problems = list(problems)
        self.source = source
        prefix = f"{_printable(source, _LONGEST_RULE)}: " if source else ""
        lines = [f"{prefix}{problem}" for problem in self.problems[:_MOST_PROBLEMS]]
        if (left := len(self.problems) - len(lines)) > 0:
            lines.append(f"{prefix}and {left:,} more")
        super().__init__("\n".join(lines))

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
    return _nearest(str(word), tuple(known))


# A space is looked at in many points, of which each may have the same thing wrong.
@functools.lru_cache(maxsize=4096)
def _nearest(word: str, known: tuple[str, ...]) -> str:
    if len(word) > 2 * max(map(len, known), default=0):
        return ""  # which is nothing like any of them, and slow to compare
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else ""


def _printable(text: str, longest: int) -> str:
    """Text of a file as it may be sent to a terminal: what does not print is escaped."""
    text = _cut(text, longest)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
