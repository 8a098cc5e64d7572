"""pydantic's findings as problems: key, rule, value, and what may have been meant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ValidationError

from ebm_core.errors import ConfigError, Problem, did_you_mean
from ebm_core.sections import DATA_KINDS, NETWORK_KINDS

_KINDS: dict[str, Mapping[str, type[BaseModel]]] = {"data": DATA_KINDS, "network": NETWORK_KINDS}


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """pydantic's findings as `Problem`s, with a did-you-mean for unknown keys and words.

    Args:
        error: What pydantic raised.
        model: The model that was validated, for the names it knows.
    """
    problems: list[Problem] = []
    for item in error.errors(include_url=False):
        # an empty key is shown as one
        loc = [str(part) or "''" for part in item["loc"]]
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):
            key = ".".join(_written(loc))
            problems += [problem.under(key) for problem in cause.problems]
        else:
            problems.append(_problem(item, loc, model))
    return problems


def _problem(item: Any, loc: list[str], model: type[BaseModel]) -> Problem:
    path = _written(loc)
    key = ".".join(path)
    value = item["input"]
    kind = item["type"]
    if kind == "missing":
        return Problem(key, "required, but not given")
    if kind == "extra_forbidden":
        hint = did_you_mean(path[-1], _known_names(model, loc[:-1]))
        return Problem(key, "unknown key", value, hint)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        known = list(_KINDS.get(path[-1], {}))
        name = value.get("name", value) if isinstance(value, Mapping) else value
        return Problem(key, f"must be one of {', '.join(known)}", name, _hint(name, known))
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", item["ctx"]["expected"])
        rule = f"must be one of {', '.join(known)}" if known else _rule(item["msg"])
        return Problem(key, rule, value, _hint(value, known))
    return Problem(key, _rule(item["msg"]), value)


def _hint(word: Any, known: Sequence[str]) -> str:
    return did_you_mean(word, known) if isinstance(word, str) else ""


def _rule(message: str) -> str:
    """``Input should be a valid number, unable to parse ...`` to ``must be a valid number``."""
    if message.startswith("Value error, "):
        return message.removeprefix("Value error, ")
    return re.sub(r"^\w+ should ", "must ", message).partition(", ")[0]


def _is_kind(before: str, part: str) -> bool:
    """Whether pydantic put this part into a path: it adds the kind of a data set or network."""
    return before in _KINDS and (part in _KINDS[before] or part == "custom")


def _written(loc: Sequence[str]) -> list[str]:
    """The path as the user wrote it."""
    return [part for before, part in pairwise(["", *loc]) if not _is_kind(before, part)]


def _known_names(model: type[BaseModel], loc: Sequence[str]) -> list[str]:
    """The keys that are legal at a place, as far as the models tell."""
    found: Any = model
    for before, part in pairwise(["", *loc]):
        if before in _KINDS:
            found = _KINDS[before].get(part)
        else:
            field = getattr(found, "model_fields", {}).get(part)
            found = field.annotation if field else None
    return list(getattr(found, "model_fields", ()))
