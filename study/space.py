"""The space of a study: distributions of single parameters, and how points are laid out in it.

The names are those of Ray Tune. Reading a space imports none of numpy, scipy and optuna; the
functions that need one of them load it when called.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ebm_core.config import problems_of
from ebm_core.errors import ConfigError, Problem, did_you_mean

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Scalar = int | float | str
Point = dict[str, Scalar]

# Inside (0, 1) at no simple fraction, where a range shows what it is made of
_INTERIOR = 0.381966


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _scalar(value: Any) -> Any:
    return value if isinstance(value, str) else _number(value)


_Number = Annotated[int | float, BeforeValidator(_number)]
_Scalar = Annotated[int | float | str, BeforeValidator(_scalar)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Range(_Frozen):
    """An interval, uniform in the value or in its logarithm, continuous or in steps.

    Attributes:
        distribution: ``q...`` are rounded to whole multiples of `q`; ``randint`` gives whole numbers.
        min: Lower end, included.
        max: Upper end: included, but for ``randint``, which excludes it as Ray Tune does.
        q: The quantum of the ``q...`` distributions.
        points: How many points a grid takes, both ends included.
    """

    distribution: Literal["uniform", "loguniform", "quniform", "qloguniform", "randint"]
    min: _Number
    max: _Number
    q: _Number | None = None
    points: int | None = Field(None, ge=2)

    @model_validator(mode="after")
    def _consistent(self) -> Range:
        problems = []
        if self.min >= self.max:
            rule = f"`min < max` must hold, got max={self.max!r}"
            problems.append(Problem("min", rule, self.min))
        if self.log and self.min <= 0:
            problems.append(Problem("min", f"must be over 0 for {self.distribution}", self.min))
        if self.distribution == "randint":
            for key in ("min", "max"):
                if not float(getattr(self, key)).is_integer():
                    rule = "must be a whole number for randint"
                    problems.append(Problem(key, rule, getattr(self, key)))
        if self.distribution.startswith("q"):
            if self.q is None or self.q <= 0:
                rule = f"must be given for {self.distribution}, and over 0"
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
        """`points` values, evenly spaced in the value or its logarithm, ends exact."""
        last = (self.points or 2) - 1
        return list(dict.fromkeys(self._between(index / last) for index in range(last + 1)))

    def probes(self) -> list[Scalar]:
        """Both ends and a value between them, which is fractional wherever fractions occur."""
        inside = self._between(_INTERIOR) if self.step is None else self.snap(self.min + self.step)
        return [self.snap(self.min), self.snap(self.top), inside]

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


class Choice(_Frozen):
    """One of several values; ``grid`` is the same, and takes part in a grid only."""

    distribution: Literal["choice", "grid"]
    values: Annotated[tuple[_Scalar, ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _consistent(self) -> Choice:
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

    def contains(self, value: Any) -> bool:
        return not isinstance(value, bool) and value in self.values


class Constant(_Frozen):
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

    def contains(self, value: Any) -> bool:
        return not isinstance(value, bool) and value == self.value


Distribution = Range | Choice | Constant
Parameters = Mapping[str, Distribution]

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
    kind = values.get("distribution")
    if not isinstance(kind, str) or kind not in KINDS:
        rule = f"must be one of {', '.join(KINDS)}{did_you_mean(str(kind), list(KINDS))}"
        raise ConfigError([Problem("distribution", rule, kind)])
    model = KINDS[kind]
    try:
        return model.model_validate(dict(values))
    except ValueError as error:
        raise ConfigError(problems_of(error, model)) from None  # type: ignore[arg-type]


def searched(parameters: Parameters) -> list[str]:
    """The parameters that vary."""
    return [name for name, each in parameters.items() if not isinstance(each, Constant)]


def snap(parameters: Parameters, point: Mapping[str, Any]) -> Point:
    """A full point of the space: constants added, quanta and whole numbers respected.

    Whatever proposes points (a sampler, a file) passes through here before it is trained.
    """
    return {
        name: each.value if isinstance(each, Constant) else each.snap(point[name])
        for name, each in parameters.items()
    }


def contains(parameters: Parameters, point: Mapping[str, Any]) -> bool:
    """Whether a point gives every varying parameter a value inside its distribution."""
    return set(searched(parameters)) <= set(point) <= set(parameters) and all(
        parameters[name].contains(value) for name, value in point.items()
    )


def grid_size(parameters: Parameters) -> int:
    """How many points `grid_points` gives, without building them."""
    return math.prod(len(each.grid()) for each in parameters.values())


def grid_points(parameters: Parameters) -> list[Point]:
    """The full grid, parameters in file order, the last one varying fastest."""
    return list(_product({name: each.grid() for name, each in parameters.items()}))


def probe_points(parameters: Parameters, limit: int = 256) -> Iterator[Point]:
    """The corners of the space, and one point inside it.

    Over `limit` corners these are replaced by a star: all parameters at their first probe or all
    at their last, and one at a time at each of its others.
    """
    probes = {name: each.probes() for name, each in parameters.items()}
    ends = {
        name: probes[name][:2] if isinstance(each, Range) else probes[name]
        for name, each in parameters.items()
    }
    if math.prod(map(len, ends.values())) <= limit:
        yield from _product(ends)
    else:
        for centre in (0, -1):
            middle = {name: values[centre] for name, values in ends.items()}
            yield middle
            for name, values in ends.items():
                yield from ({**middle, name: value} for value in values)
    yield {name: values[-1] for name, values in probes.items()}


def random_points(parameters: Parameters, n: int, seed: int) -> list[Point]:
    """`n` independent points; the first of them do not depend on `n`."""
    import numpy as np

    names = searched(parameters)
    return _placed(parameters, np.random.default_rng(seed).random((n, len(names))).tolist())


def sobol_points(parameters: Parameters, n: int, seed: int) -> list[Point]:
    """`n` points of a scrambled Sobol sequence; the first of them do not depend on `n`."""
    from scipy.stats import qmc

    names = searched(parameters)
    if n == 0 or not names:
        return _placed(parameters, [[]] * n)
    sequence = qmc.Sobol(len(names), scramble=True, rng=seed)
    # Drawn in powers of two, as the sequence is balanced (and scipy silent) only there
    return _placed(parameters, sequence.random_base2((n - 1).bit_length())[:n].tolist())


def to_optuna(parameters: Parameters) -> dict[str, BaseDistribution]:
    """What Optuna is to sample; constants are left out.

    Optuna has no quantum for log-uniform floats, so that `snap` rounds afterwards.
    """
    from optuna import distributions as optuna

    found: dict[str, BaseDistribution] = {}
    for name, each in parameters.items():
        if isinstance(each, Choice):
            found[name] = optuna.CategoricalDistribution(each.values)
        elif isinstance(each, Range) and each.log:
            found[name] = optuna.FloatDistribution(each.min, each.top, log=True)
        elif isinstance(each, Range) and each.whole:
            found[name] = optuna.IntDistribution(
                int(each.min), int(each.top), step=int(each.step or 1)
            )
        elif isinstance(each, Range):
            found[name] = optuna.FloatDistribution(each.min, each.top, step=each.step)
    return found


def _placed(parameters: Parameters, rows: Iterable[Sequence[float]]) -> list[Point]:
    """Points from quantiles, one row a point and one column a varying parameter."""
    names = searched(parameters)
    return [
        snap(parameters, {name: parameters[name].at(u) for name, u in zip(names, row, strict=True)})
        for row in rows
    ]


def _product(values: Mapping[str, Sequence[Scalar]]) -> Iterator[Point]:
    for row in itertools.product(*values.values()):
        yield dict(zip(values, row, strict=True))


def _is_multiple(value: float, quantum: float) -> bool:
    ratio = value / quantum
    return math.isclose(ratio, round(ratio), rel_tol=1e-9, abs_tol=1e-9)
