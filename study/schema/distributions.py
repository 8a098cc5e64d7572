"""Distributions of single parameters, under the names of Ray Tune, read from plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from ebm_core.errors import ConfigError, Problem, did_you_mean
from ebm_core.sections import Section
from ebm_core.validation import problems_of

Scalar = int | float | str

# Inside (0, 1) at no simple fraction, where a range shows what it is made of
_INTERIOR = 0.381966
# Of a range in steps: more of them are not told apart
_MOST_STEPS = 10**9


def _number(value: Any) -> Any:
    # Whole numbers too large for a float are no use in any field, and would overflow later
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise ValueError("must be a finite number")
    return value


def _scalar(value: Any) -> Any:
    return value if isinstance(value, str) else _number(value)


_Number = Annotated[int | float, BeforeValidator(_number)]
_Scalar = Annotated[int | float | str, BeforeValidator(_scalar)]


class Range(Section, strict=True):
    """An interval, uniform in the value or in its logarithm, continuous or in steps.

    Attributes:
        distribution: ``q...`` give whole multiples of `q`, ``randint`` whole numbers.
        min: Lower end, included.
        max: Upper end: included, but for ``randint``, which excludes it as Ray Tune does.
        q: The quantum of the ``q...`` distributions.
        points: How many points a grid takes, both ends included.
    """

    distribution: Literal["uniform", "loguniform", "quniform", "qloguniform", "randint"]
    min: _Number
    max: _Number
    q: _Number | None = None
    points: int | None = Field(None, ge=2, le=1_000)

    @model_validator(mode="after")
    def _consistent(self) -> Range:
        problems = []
        if self.min >= self.max:
            rule = f"`min < max` must hold (max={self.max!r})"
            problems.append(Problem("min", rule, self.min))
        if self.log and self.min <= 0:
            problems.append(Problem("min", f"must be over 0 for {self.distribution}", self.min))
        if self.distribution == "randint":
            for key in ("min", "max"):
                if not float(getattr(self, key)).is_integer():
                    rule = "must be a whole number for randint"
                    problems.append(Problem(key, rule, getattr(self, key)))
        if self.log and 0 < self.min < self.max and math.isinf(self.max / self.min):
            problems.append(Problem("max", f"is too far from min={self.min!r}", self.max))
        if self.distribution == "randint" and self.max - self.min > _MOST_STEPS:
            rule = f"must be at most {_MOST_STEPS:,} over min={self.min!r} for randint"
            problems.append(Problem("max", rule, self.max))
        if self.distribution.startswith("q"):
            if self.q is None:
                problems.append(Problem("q", f"required for {self.distribution}: the quantum"))
            elif self.q <= 0:
                problems.append(Problem("q", "must be over 0", self.q))
            elif max(abs(self.min), abs(self.max)) / self.q > _MOST_STEPS:
                rule = f"must be at least a {_MOST_STEPS:,}th of min and max"
                problems.append(Problem("q", rule, self.q))
            else:
                for key in ("min", "max"):
                    if not _is_multiple(getattr(self, key), self.q):
                        rule = f"must be a whole multiple of q={self.q!r}"
                        problems.append(Problem(key, rule, getattr(self, key)))
        elif self.q is not None:
            rule = f"only the q... distributions take it, not {self.distribution}"
            problems.append(Problem("q", rule, self.q))
        if problems:
            raise ConfigError(problems)
        return self

    @property
    def log(self) -> bool:
        return "log" in self.distribution

    @property
    def step(self) -> int | float | None:
        return 1 if self.distribution == "randint" else self.q

    @property
    def top(self) -> int | float:
        """The largest value that occurs."""
        return self.max - 1 if self.distribution == "randint" else self.max

    @property
    def whole(self) -> bool:
        """Whether only whole numbers occur."""
        return self.step is not None and all(
            float(number).is_integer() for number in (self.min, self.max, self.step)
        )

    def snap(self, value: Any) -> Scalar:
        """The nearest value of this distribution."""
        value = min(max(value, self.min), self.top)
        if self.step is None:
            return float(value)
        # In decimals, so that three steps of 0.1 give 0.3
        exact = Decimal(str(self.step)) * round(value / self.step)
        return int(exact) if self.whole else float(exact)

    def at(self, u: float) -> Scalar:
        """The value at quantile `u` in [0, 1)."""
        if self.step is not None and not self.log:
            # Every step is equally likely, those at the ends too
            count = round((self.top - self.min) / self.step) + 1
            return self.snap(self.min + int(u * count) * self.step)
        return self._between(u)

    def grid(self) -> list[Scalar]:
        """`points` values (2 if not given), even in the value or its logarithm, ends exact."""
        last = (self.points or 2) - 1
        return list(dict.fromkeys(self._between(index / last) for index in range(last + 1)))

    def probes(self) -> list[Scalar]:
        """Both ends and a value between them, which is fractional wherever fractions occur."""
        inside = self._between(_INTERIOR) if self.step is None else self.snap(self.min + self.step)
        return [self.snap(self.min), self.snap(self.top), inside]

    def describe(self) -> str:
        step = "" if self.q is None else f" in steps of {self.q!r}"
        return f"{self.distribution} from {self.min!r} to {self.max!r}{step}"

    def contains(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not self.min <= value <= self.top:
            return False
        return self.step is None or _is_multiple(value, self.step)

    def _between(self, share: float) -> Scalar:
        if share == 0 or share == 1:
            return self.snap(self.top if share else self.min)
        if self.log:
            return self.snap(self.min * (self.top / self.min) ** share)
        return self.snap(self.min + share * (self.top - self.min))


class Choice(Section, strict=True):
    """One of several values; ``grid`` is the same, and takes part in a grid only."""

    distribution: Literal["choice", "grid"]
    values: Annotated[tuple[_Scalar, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _consistent(self) -> Choice:
        if not self.values:
            raise ConfigError([Problem("values", "must hold at least one value", [])])
        if len(set(self.values)) < len(self.values):
            raise ConfigError([Problem("values", "must not repeat a value", list(self.values))])
        return self

    def snap(self, value: Any) -> Scalar:
        return self.values[self.values.index(value)]

    def at(self, u: float) -> Scalar:
        return self.values[int(u * len(self.values))]

    def grid(self) -> list[Scalar]:
        return list(self.values)

    def probes(self) -> list[Scalar]:
        return list(self.values)

    def describe(self) -> str:
        return f"one of {', '.join(map(repr, self.values))}"

    def contains(self, value: Any) -> bool:
        return not isinstance(value, bool) and value in self.values


class Constant(Section, strict=True):
    """Always the same value."""

    distribution: Literal["constant"]
    value: _Scalar

    def snap(self, value: Any) -> Scalar:
        return self.value

    def at(self, u: float) -> Scalar:
        return self.value

    def grid(self) -> list[Scalar]:
        return [self.value]

    def probes(self) -> list[Scalar]:
        return [self.value]

    def describe(self) -> str:
        return f"always {self.value!r}"

    def contains(self, value: Any) -> bool:
        return not isinstance(value, bool) and value == self.value


Distribution = Range | Choice | Constant

KINDS: dict[str, type[Distribution]] = {
    **dict.fromkeys(("uniform", "loguniform", "quniform", "qloguniform", "randint"), Range),
    **dict.fromkeys(("choice", "grid"), Choice),
    "constant": Constant,
}


def parse_distribution(values: Any) -> Distribution:
    """A distribution from plain values such as ``{distribution: uniform, min: 0, max: 1}``.

    Raises:
        ConfigError: With every problem found, keyed from this distribution.
    """
    if isinstance(values, Distribution):
        return values
    if not isinstance(values, Mapping):
        rule = "must be a mapping such as {distribution: uniform, min: 0, max: 1}"
        raise ConfigError([Problem("", rule, values)])
    kind = values.get("distribution", ...)
    if not isinstance(kind, str) or kind not in KINDS:
        rule = f"must be one of {', '.join(KINDS)}"
        hint = did_you_mean(kind, list(KINDS)) if isinstance(kind, str) else ""
        raise ConfigError([Problem("distribution", rule, kind, hint)])
    model = KINDS[kind]
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(problems_of(error, model)) from None


def _is_multiple(value: float, quantum: float) -> bool:
    ratio = value / quantum
    return math.isclose(ratio, round(ratio), rel_tol=1e-9, abs_tol=1e-9)
