"""The space of a study: one distribution a parameter, and how points are laid out in it.

Reading a space imports none of numpy, scipy and optuna; the functions that need one of them load
it when called.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from study.schema.distributions import Choice as Choice
from study.schema.distributions import Constant as Constant
from study.schema.distributions import Distribution as Distribution
from study.schema.distributions import Range as Range
from study.schema.distributions import Scalar as Scalar
from study.schema.distributions import parse_distribution as parse_distribution

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

Parameters = Mapping[str, Distribution]
Point = dict[str, Scalar]


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


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> None:
    """Has a trial of Optuna propose a value of one of the distributions of `to_optuna`."""
    from optuna import distributions as optuna

    if isinstance(distribution, optuna.CategoricalDistribution):
        trial.suggest_categorical(name, distribution.choices)
    elif isinstance(distribution, optuna.FloatDistribution):
        low, high = distribution.low, distribution.high
        trial.suggest_float(name, low, high, step=distribution.step, log=distribution.log)
    elif isinstance(distribution, optuna.IntDistribution):
        trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step)


def _placed(parameters: Parameters, rows: Iterable[Sequence[float]]) -> list[Point]:
    """Points from quantiles, one row a point and one column a varying parameter."""
    names = searched(parameters)
    return [
        snap(
            parameters, {name: parameters[name].at(u) for name, u in zip(names, row, strict=True)}
        )
        for row in rows
    ]


def _product(values: Mapping[str, Sequence[Scalar]]) -> Iterator[Point]:
    for row in itertools.product(*values.values()):
        yield dict(zip(values, row, strict=True))
