"""The parts of a study file, each read on its own from plain values.

Every reader returns a frozen value or raises a `ConfigError` whose keys start at its section.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from ebm_core.errors import ConfigError, Problem, did_you_mean
from ebm_core.sections import LARGEST, Section, has_control
from ebm_core.validation import problems_of
from study.table import NUMERIC_NAMES

METHODS = ("grid", "random", "sobol", "tpe", "gp", "nsga2", "boundary")
Method = Literal["grid", "random", "sobol", "tpe", "gp", "nsga2", "boundary"]

# How members are run: by the path that suits, or by the plain one that all others are held to.
ENGINES = ("auto", "reference")
Engine = Literal["auto", "reference"]

# More processors or members than any machine has, or takes, at once
_MOST_TOGETHER = 10_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ADDRESS = re.compile(
    r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]):(?P<port>[0-9]{1,5})"
)
# What MLflow keeps its records in: files, databases, servers
_URI = re.compile(r"(sqlite|(postgresql|mysql|mssql)(\+\w+)?|https?|file|databricks)://", re.ASCII)
_CONSTRAINT = re.compile(
    r"(?P<name>[A-Za-z_]\w*)\s*(?P<relation><=|>=|==)\s*"
    r"(?P<limit>[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?)",
    re.ASCII,
)


def _column(name: str) -> str:
    if name not in NUMERIC_NAMES:
        rule = f"must be one of the numbers of the table: {', '.join(NUMERIC_NAMES)}"
        raise ConfigError([Problem("", rule, name, did_you_mean(name, NUMERIC_NAMES))])
    return name


def _count(value: Any) -> Any:
    if value == "auto" or (type(value) is int and 1 <= value <= _MOST_TOGETHER):
        return value
    raise ValueError(f"must be a whole number from 1 to {_MOST_TOGETHER:,}, or auto")


def _gpus(value: float) -> float:
    if value > 1 and not value.is_integer():
        raise ValueError("must be a share of one GPU or a whole number of them")
    return value


def _address(value: str) -> str:
    if value in ("local", "auto"):
        return value
    if value.startswith("ray://"):
        rule = "must be local, auto or HOST:PORT: a study is started on a machine of its cluster"
        raise ValueError(f"{rule}, not from outside it")
    match = _ADDRESS.fullmatch(value)
    if match is None or not 1 <= int(match["port"]) <= 65_535:
        raise ValueError("must be local, auto or HOST:PORT, such as 10.0.0.1:6379")
    return value


def _uri(value: str) -> str:
    if not _URI.match(value) or not value.isprintable():
        raise ValueError("must be a database or a server, such as sqlite:///mlflow.db")
    return value


def _title(value: str) -> str:
    if not value.isprintable() or value != value.strip() or not 1 <= len(value) <= 250:
        raise ValueError("must be a name of 1 to 250 characters that can be printed")
    return value


class Metric(Section, strict=True):
    """A number of the results table to optimize; Optuna is told its mean over seeds."""

    name: Annotated[str, AfterValidator(_column)]
    goal: Literal["maximize", "minimize"]


class LongRunSpec(Section, strict=True):
    """The check after each training: unadjusted chains at its epsilon; 0 steps turn it off.

    Metropolis-adjusted chains beside them measure what the discretization shifts, for
    `adjusted_steps` steps. With `every` the unadjusted chains are run while training goes on, too,
    every so many updates; what they find decides nothing and is told as a curve.
    """

    steps: int = Field(2_000, ge=0, le=LARGEST)
    chains: int = Field(256, ge=2, le=LARGEST)
    adjusted_steps: int = Field(0, ge=0, le=LARGEST)
    every: int | None = Field(None, ge=1, le=LARGEST)

    def before_the_end(self, updates: int) -> int:
        """Checks of a training of so many updates before its last one."""
        return (updates - 1) // self.every if self.every else 0

    @model_validator(mode="after")
    def _beside_the_others(self) -> LongRunSpec:
        if self.every and not self.steps:
            rule = "needs steps over 0: the length of the chains"
            raise ConfigError([Problem("every", rule, self.every)])
        if self.adjusted_steps and not self.steps:
            rule = "needs steps over 0: adjusted chains are compared with the others"
            raise ConfigError([Problem("adjusted_steps", rule, self.adjusted_steps)])
        return self


class Resources(Section, strict=True):
    """What one Tune trial takes, how many configurations it trains as one pack, and where.

    ``auto`` is chosen by measurement before the study starts.

    Attributes:
        cpus_per_trial: Threads of a trial.
        gpus_per_trial: A share of one GPU, or a whole number of them.
        members_per_trial: Configurations and repeats that are trained as one pack.
        address: ``local`` for Ray on this machine alone, ``auto`` for the cluster that this
            machine is part of, or ``HOST:PORT`` of the head of one.
        retries: Failures in a row after which a training is given up.
        seconds_per_trial: Limit of one attempt at a trial, its checks included; None for no limit.
        gigabytes_per_trial: Memory that the process of a trial may use; None for a share of that
            of its machine.
    """

    cpus_per_trial: Annotated[int | Literal["auto"], BeforeValidator(_count)] = 1
    gpus_per_trial: Annotated[float, Field(ge=0, le=1_000), AfterValidator(_gpus)] = 0.0
    members_per_trial: Annotated[int | Literal["auto"], BeforeValidator(_count)] = 1
    address: Annotated[str, AfterValidator(_address)] = "local"
    retries: int = Field(2, ge=0, le=100)
    seconds_per_trial: float | None = Field(None, gt=0, le=1e9)
    gigabytes_per_trial: float | None = Field(None, gt=0, le=1e6)


class Tracking(Section, strict=True):
    """Where MLflow keeps its records; the experiment is called like the study if not named."""

    uri: Annotated[str, AfterValidator(_uri)] = "sqlite:///mlflow.db"
    experiment: Annotated[str, AfterValidator(_title)] | None = None


@dataclass(frozen=True)
class Constraint:
    """What a configuration must satisfy, ``NAME (<= | >= | ==) NUMBER``.

    Attributes:
        name: A number of the results table.
        relation: How it is compared.
        limit: What it is compared with.
        text: As written in the file.
    """

    name: str
    relation: Literal["<=", ">=", "=="]
    limit: float
    text: str

    def violation(self, value: float) -> float:
        """How far `value` is from being allowed; 0 or less where it is. NaN stays NaN."""
        if self.relation == "==":
            return abs(value - self.limit)
        return value - self.limit if self.relation == "<=" else self.limit - value


def read_constraint(raw: Any) -> Constraint:
    """Parses a constraint; the text is never evaluated."""
    match = _CONSTRAINT.fullmatch(raw.strip()) if isinstance(raw, str) else None
    if match is None:
        rule = "must read NAME (<= | >= | ==) NUMBER, such as `diverged == 0`"
        raise ConfigError([Problem("", rule, raw)])
    relation: Any = match["relation"]
    limit = float(match["limit"])
    if not math.isfinite(limit):
        raise ConfigError([Problem("", "must compare with a finite number", raw)])
    return Constraint(_column(match["name"]), relation, limit, raw.strip())


def read_constraints(raw: Any) -> tuple[Constraint, ...]:
    return _each(raw, read_constraint, 100)


def read_metrics(raw: Any) -> tuple[Metric, ...]:
    """One metric, or a list of several."""
    if not isinstance(raw, list):
        return (section(Metric)(raw),)
    metrics = _each(raw, section(Metric), 10)
    names = [metric.name for metric in metrics]
    if not names:
        raise ConfigError([Problem("", "must name at least one metric", raw)])
    if len(set(names)) < len(names):
        raise ConfigError([Problem("", "must not name a metric twice", names)])
    return metrics


def read_first_points(raw: Any) -> tuple[dict[str, Any], ...]:
    return _each(raw, read_mapping, 1_000)


def read_name(raw: Any) -> str:
    """A name that is also the name of a folder, on any system."""
    if not isinstance(raw, str) or not _NAME.fullmatch(raw) or raw.endswith("."):
        rule = (
            "must be a word of letters, digits, `-`, `_` and `.` that starts with a letter or"
            " digit and does not end with `.`: it names a folder"
        )
        raise ConfigError([Problem("", rule, raw)])
    return raw


def read_method(raw: Any) -> Method:
    if raw not in METHODS:
        hint = did_you_mean(raw, METHODS) if isinstance(raw, str) else ""
        raise ConfigError([Problem("", f"must be one of {', '.join(METHODS)}", raw, hint)])
    return raw  # type: ignore[no-any-return]


def read_engine(raw: Any) -> Engine:
    if raw not in ENGINES:
        hint = did_you_mean(raw, ENGINES) if isinstance(raw, str) else ""
        raise ConfigError([Problem("", f"must be one of {', '.join(ENGINES)}", raw, hint)])
    return raw  # type: ignore[no-any-return]


def read_storage(raw: Any) -> str:
    if not isinstance(raw, str) or not raw:
        raise ConfigError([Problem("", "must be a folder", raw)])
    if has_control(raw):
        raise ConfigError([Problem("", "must not hold control characters", raw)])
    if "://" in raw:
        rule = "must be a folder that all machines see, no address; mount an object store as one"
        raise ConfigError([Problem("", rule, raw)])
    return raw


def whole(low: int, high: int) -> Callable[[Any], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(raw: Any) -> int:
        if type(raw) is not int or not low <= raw <= high:
            rule = f"must be a whole number from {low:,} to {high:,}"
            raise ConfigError([Problem("", rule, raw)])
        return raw

    return read


_Model = TypeVar("_Model", bound=BaseModel)


def section(model: type[_Model]) -> Callable[[Any], _Model]:
    """A reader of mappings that follow a model."""

    def read(raw: Any) -> _Model:
        try:
            return model.model_validate(read_mapping(raw))
        except ValidationError as error:
            raise ConfigError(problems_of(error, model)) from None

    return read


_Value = TypeVar("_Value")


def _each(raw: Any, read: Callable[[Any], _Value], most: int) -> tuple[_Value, ...]:
    """Reads a list of up to `most` entry by entry; problems of all entries come together."""
    if not isinstance(raw, list | tuple):
        raise ConfigError([Problem("", "must be a list", raw)])
    if len(raw) > most:
        raise ConfigError([Problem("", f"must not have more than {most:,} entries", len(raw))])
    values, problems = [], []
    for index, item in enumerate(raw):
        try:
            values.append(read(item))
        except ConfigError as error:
            problems += [problem.under(str(index)) for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    return tuple(values)


def read_mapping(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise ConfigError([Problem("", "must be a mapping of keys to values", raw)])
    return {str(key): value for key, value in raw.items()}
