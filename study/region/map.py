"""`ConvergenceMap`: where learning converges over a search space, how sure that is, what is next.

Of a finished study, from its table of results alone:

    found = fit(frame, spec.parameters)
    found.probability([{"epsilon": 0.1, "eps_data_ratio": 2.0}])
    found.crossing("epsilon").lower    # the smallest epsilon that converges, with its interval
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from study import space
from study.region import acquisition, field
from study.region.coordinates import Coordinates
from study.region.observations import is_known, margins, observation
from study.space import Parameters, Point

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray

# Assessed trainings without which there is no map.
LEAST_TRAININGS = 5
# Of more trainings as many are taken, evenly; a study of a thousand is mapped in seconds.
MOST_TRAININGS = 400
_SEED = 0
# Points over which shares of the space are measured, others averaged, and next ones sought.
_SHARES, _OTHERS, _OPTIONS, _NODES = 2_048, 16, 512, 512
# Draws from the posterior behind an interval; values along a line where edges are sought.
_DRAWS, _ALONG = 1_000, 121
# Base points of the indices of Sobol, a power of 2.
_INDICES = 1_024


class TooFew(ValueError):  # noqa: N818  # says what there is, not that it is wrong
    """There is too little to fit a map to; the message is a sentence."""


@dataclass(frozen=True)
class Pair:
    """P(convergent) over two axes.

    Attributes:
        first, second: The axes, across and up.
        x, y: Their values at the centres of the cells.
        probability: Shape (len(y), len(x)).
        at: What the other axes are held at; None where they are averaged over.
    """

    first: str
    second: str
    x: list[Any]
    y: list[Any]
    probability: Array
    at: Point | None


@dataclass(frozen=True)
class Line:
    """P(convergent) along one axis.

    Attributes:
        name: The axis.
        values: Along it.
        probability: Shape (len(values),).
        at: What the other axes are held at.
    """

    name: str
    values: list[Any]
    probability: Array
    at: Point | None


@dataclass(frozen=True)
class Edge:
    """An end of what converges along an axis, with its credible interval.

    Attributes:
        value: Median of the posterior.
        low, high: Ends of the interval.
        low_open, high_open: Whether the interval runs to that end of the space, and so may lie
            beyond.
    """

    value: float
    low: float
    high: float
    low_open: bool
    high_open: bool


@dataclass(frozen=True)
class Crossing:
    """What converges along one axis about the value that is surest to.

    Attributes:
        name: The axis.
        side: ``above`` the lower edge, ``below`` the upper one, ``between`` both,
            ``everywhere`` or ``nowhere``.
        lower, upper: The edges; None where there is none.
        level: Of the intervals.
        at: What the other axes are held at.
    """

    name: str
    side: str
    lower: Edge | None
    upper: Edge | None
    level: float
    at: Point


@dataclass(frozen=True)
class Importance:
    """Share of the variance of the least margin over the space that an axis accounts for.

    Attributes:
        main: Alone (first-order index of Sobol).
        total: With all its interactions (total index).
    """

    main: float
    total: float


class ConvergenceMap:
    """Where learning converges; made by `fit`.

    Attributes:
        axes: The parameters that vary, in the order of the study file.
        parameters: All of them.
        coordinates: Between points and the cube that the models see.
        trained: Trainings that it is fitted to.
        reference: Where slices are taken unless said otherwise.
        reference_is: What that is, in words.
    """

    def __init__(
        self,
        parameters: Parameters,
        coordinates: Coordinates,
        fitted: field.Field,
        trained: int,
        reference: Point,
        reference_is: str,
    ) -> None:
        self.axes = tuple(coordinates.names)
        self.parameters = parameters
        self.trained = trained
        self.reference, self.reference_is = reference, reference_is
        self.coordinates, self._field = coordinates, fitted

    def probability(self, points: Sequence[Mapping[str, Any]]) -> Array:
        """P that learning converges at points of the space, shape (n,).

        It is the probability that the margins there are 0 or more, without the noise of a single
        training: near the edge a training may turn out either way.
        """
        return self._field.probability(self.coordinates.place(points))

    @cached_property
    def _everywhere(self) -> Array:
        return self.probability(self.coordinates.sobol(_SHARES, _SEED))

    @property
    def share(self) -> float:
        """Expected share of the space that converges, in its own measure."""
        return float(self._everywhere.mean())

    @property
    def misclassified(self) -> float:
        """Expected share of the space on the wrong side of P = 1/2."""
        return float(np.minimum(self._everywhere, 1 - self._everywhere).mean())

    def pair(
        self, first: str, second: str, averaged: bool = False, resolution: int | None = None
    ) -> Pair:
        """P over two axes, the others at `reference`, or averaged over.

        Args:
            first: Across.
            second: Up.
            averaged: Whether to take the mean over the other axes.
            resolution: Cells along an axis, at most; fewer where it has fewer values.
        """
        cells = resolution or (25 if averaged else 41)
        x, y = self._values(first, cells), self._values(second, cells)
        others = self.coordinates.sobol(_OTHERS, _SEED) if averaged else [self.reference]
        points = [
            {**other, first: across, second: up} for other in others for up in y for across in x
        ]
        found = self.probability(points).reshape(len(others), len(y), len(x)).mean(axis=0)
        return Pair(first, second, x, y, found, None if averaged else self.reference)

    def line(self, name: str, at: Point | None = None, resolution: int = 81) -> Line:
        """P along one axis, the others held at a point."""
        at = at or self.reference
        values = self._values(name, resolution)
        found = self.probability([{**at, name: value} for value in values])
        return Line(name, values, found, at)

    def crossing(self, name: str, at: Point | None = None, level: float = 0.9) -> Crossing:
        """From where to where learning converges along an axis of numbers.

        Edges are sought on either side of the value where convergence is surest, in draws of all
        margins from their joint posterior; the interval holds `level` of them.

        Args:
            name: The axis.
            at: What the others are held at; `reference` if not given.
            level: Of the interval.
        """
        at = at or self.reference
        values = self._values(name, _ALONG)
        places = self.coordinates.place([{**at, name: value} for value in values])
        surest = int(self._field.probability(places).argmax())
        inside = self._field.draws(places, _DRAWS, _SEED) >= 0
        if inside[:, surest].mean() < 0.5:
            return Crossing(name, "nowhere", None, None, level, at)
        lower = _edge(inside[:, surest::-1], values[surest::-1], level)
        upper = _edge(inside[:, surest:], values[surest:], level)
        side = {
            (False, False): "everywhere",
            (True, False): "above",
            (False, True): "below",
            (True, True): "between",
        }[lower is not None, upper is not None]
        return Crossing(name, side, lower, upper, level, at)

    def next_points(self, count: int = 3) -> list[Point]:
        """The points whose training would tell most about the region, all of them together.

        They differ from each other; a space of few points may have fewer.
        """
        drawn = self.coordinates.sobol(_OPTIONS, _SEED + 1)
        snapped = [space.snap(self.parameters, point) for point in drawn]
        options = list({tuple(point.items()): point for point in snapped}.values())
        places = self.coordinates.place(options)
        nodes = self.coordinates.place(self.coordinates.sobol(_NODES, _SEED))
        fitted, left = self._field, np.arange(len(options))
        found = []
        for _ in range(min(count, len(options))):
            best = acquisition.uncertainty_left(fitted, places[left], nodes).argmin()
            chosen = left[best]
            found.append(options[chosen])
            fitted = fitted.believing(places[chosen : chosen + 1])
            left = np.delete(left, best)
        return found

    def importances(self) -> dict[str, Importance]:
        """How much each axis matters for the least margin, by functional analysis of variance."""
        from scipy.stats import sobol_indices, uniform

        def least(quantiles: Array) -> Array:
            points = self.coordinates.points(quantiles.T)
            return np.asarray(self._field.at(self.coordinates.place(points))[0].min(axis=0))

        axes = [uniform()] * len(self.axes)
        # of a constant the shares are 0 / 0
        with np.errstate(invalid="ignore", divide="ignore"):
            found = sobol_indices(func=least, n=_INDICES, dists=axes, rng=_SEED)
        shares = zip(self.axes, found.first_order, found.total_order, strict=True)
        return {name: Importance(_share(main), _share(total)) for name, main, total in shares}

    def _values(self, name: str, most: int) -> list[Any]:
        """Values along an axis, evenly in its measure and in their order, each once."""
        index = self.axes.index(name)
        quantiles = np.full((most, len(self.axes)), 0.5)
        quantiles[:, index] = (np.arange(most) + 0.5) / most
        points = self.coordinates.points(quantiles)
        return list(dict.fromkeys(self.parameters[name].snap(point[name]) for point in points))


def fit(frame: pd.DataFrame, parameters: Parameters) -> ConvergenceMap:
    """Fits a map to a table of results.

    Args:
        frame: One row a training, columns of `study.table`.
        parameters: Of the study.

    Raises:
        TooFew: If fewer trainings than `LEAST_TRAININGS` have a verdict on learning.
    """
    records: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    known = [row for row in records if is_known(row)]
    rows = [known[index] for index in field.spread(len(known), MOST_TRAININGS)]
    axes = space.searched(parameters)
    if len(rows) < LEAST_TRAININGS:
        raise TooFew(
            f"A map needs {LEAST_TRAININGS} trainings with a verdict on learning, and there are"
            f" {len(rows)}."
        )
    coordinates = Coordinates(space.to_optuna({name: parameters[name] for name in axes}))
    points = [{name: parameters[name].snap(row[name]) for name in axes} for row in rows]
    places = coordinates.place(points)
    fitted = field.fit(places, margins([observation(row) for row in rows]))
    mean, deviation = fitted.at(places)
    surest = int((mean - deviation).min(axis=0).argmax())
    words = f"the setting tried that is surest to converge (trial {rows[surest]['trial']})"
    return ConvergenceMap(parameters, coordinates, fitted, len(rows), points[surest], words)


def _edge(inside: Array, values: Sequence[Any], level: float) -> Edge | None:
    """Where draws leave the region, going away from its surest value; None if most never do.

    Args:
        inside: Whether each draw is inside, shape (draws, n), from the surest value outwards.
        values: Along the axis, n.
        level: Of the interval.
    """
    n = inside.shape[1]
    outside = ~inside
    # how many steps outwards each draw stays inside; n where it never leaves
    first = np.where(outside.any(axis=1), outside.argmax(axis=1), n)
    steps = np.quantile(first, [(1 - level) / 2, 0.5, (1 + level) / 2], method="nearest")
    near, middle, far = (int(step) for step in steps)
    if middle == n:
        return None
    inner, value, outer = (_between(values, step) for step in (near, middle, far))
    opened = far == n
    if values[0] <= values[-1]:
        return Edge(value, low=inner, high=outer, low_open=False, high_open=opened)
    return Edge(value, low=outer, high=inner, low_open=opened, high_open=False)


def _between(values: Sequence[Any], step: int) -> float:
    """The value in the middle of the last that is inside and the first that is not."""
    inner, outer = values[max(step - 1, 0)], values[min(step, len(values) - 1)]
    return float(inner + outer) / 2


def _share(value: float) -> float:
    return float(np.clip(np.nan_to_num(value), 0, 1))
