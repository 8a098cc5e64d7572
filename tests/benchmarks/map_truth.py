"""Whether a map's importances and intervals are true, on a field where both are known.

    python tests/benchmarks/map_truth.py [--seeds 40] [--dimensions 2 4] [--trainings 32 64]

For each seed a map is fitted to trainings that the boundary sampler asked for, and to as many
Sobol points. Printed are the largest error of a total index of Sobol of the least margin, how
often the 90 % interval of an edge that is told holds the truth, along every axis, and how many
edges are told of those there are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import optuna
from boundary_methods import FIELDS, Array, DesignedField, boundary_run
from scipy.stats import qmc, sobol_indices, uniform

from study.region import field as fields
from study.region.coordinates import Coordinates
from study.region.map import ConvergenceMap, Crossing, Edge
from study.region.observations import margins
from study.schema.distributions import parse_distribution

LEVEL = 0.9
# Points along a line, for its true edges.
_ALONG = 2_001


def sobol_run(field: DesignedField, seed: int, count: int) -> tuple[Array, list]:
    random = np.random.default_rng(2_000 + seed)
    places = qmc.Sobol(field.dimensions, rng=seed).random(count)
    return places, [field.train(place, random) for place in places]


def mapped(field: DesignedField, places: Array, said: list) -> ConvergenceMap:
    """The map of a field, as of a study whose axes are those of the cube."""
    unit = parse_distribution({"distribution": "uniform", "min": 0.0, "max": 1.0})
    fitted = fields.fit(places, margins(said))
    mean, deviation = fitted.at(places)
    surest = places[(mean - deviation).min(axis=0).argmax()]
    return ConvergenceMap(
        dict.fromkeys(field.space, unit),
        Coordinates(field.space),
        fitted,
        len(places),
        dict(zip(field.space, map(float, surest), strict=True)),
        "the surest",
    )


def true_importances(field: DesignedField) -> Array:
    """Total indices of Sobol of the least margin, which breaking off makes -1."""

    def least(x: Array) -> Array:
        found = np.clip(np.min(list(field.exact(x.T).values()), axis=0), -1, 1)
        return np.where(field.breaks_off(x.T), -1.0, found)

    return sobol_indices(
        func=least, n=4_096, dists=[uniform()] * field.dimensions, rng=0
    ).total_order


def ends(
    field: DesignedField, found: ConvergenceMap, name: str
) -> Iterator[tuple[float | None, Edge | None]]:
    """Either end of what converges along an axis: the truth and what is told; None where none is.

    An axis along which nothing is told to converge has no ends.
    """
    crossing: Crossing = found.crossing(name, level=LEVEL)
    values = (np.arange(_ALONG) + 0.5) / _ALONG
    line = np.tile(list(found.reference.values()), (_ALONG, 1))
    line[:, list(field.space).index(name)] = values
    inside = field.inside(line)
    along = found.line(name, resolution=121)
    surest = float(along.values[int(along.probability.argmax())])
    if crossing.side == "nowhere":
        return
    start = int(np.abs(values - surest).argmin())
    # where the surest value is outside, nothing that is told about it is true
    below, above = np.flatnonzero(~inside[: start + 1]), np.flatnonzero(~inside[start:])
    yield (float(values[below[-1]]) if len(below) else None), crossing.lower
    yield (float(values[start + above[0]]) if len(above) else None), crossing.upper


def holds(truth: float | None, edge: Edge) -> bool:
    """Whether an interval holds the truth; one that is open, an edge beyond the space too."""
    if truth is None:
        return edge.low_open or edge.high_open
    return edge.low <= truth <= edge.high


@dataclass(frozen=True)
class Found:
    """How true the maps of one kind are.

    Attributes:
        error: Median over the maps of the largest error of an importance.
        held: Share of the intervals told that hold the truth.
        told: How many intervals are told.
        there: How many edges there are.
    """

    error: float
    held: float
    told: int
    there: int


def study(dimensions: int, seeds: int, trainings: int, chosen: bool) -> Found:
    """Of maps of as many fields, each of so many trainings, `chosen` by the boundary sampler."""
    field = FIELDS[dimensions]()
    truth = true_importances(field)
    errors: list[float] = []
    hits: list[bool] = []
    there = 0
    for seed in range(seeds):
        run = (boundary_run if chosen else sobol_run)(field, seed, trainings)
        found = mapped(field, *run)
        total = [each.total for each in found.importances().values()]
        errors.append(float(np.abs(np.array(total) - truth).max()))
        for name in field.space:
            for true, edge in ends(field, found, name):
                there += true is not None
                if edge is not None:
                    hits.append(holds(true, edge))
    return Found(float(np.median(errors)), float(np.mean(hits)), len(hits), there)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2, 4], choices=[2, 4])
    parser.add_argument("--trainings", type=int, nargs="+", default=[32, 64])
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for dimensions in given.dimensions:
        print(
            f"{dimensions} dimensions, true importances",
            true_importances(FIELDS[dimensions]()).round(2),
        )
        for trainings in given.trainings:
            for chosen in (False, True):
                found = study(dimensions, given.seeds, trainings, chosen)
                print(
                    f"  {trainings} trainings by {'boundary' if chosen else 'sobol':8s}:"
                    f" importances within {found.error:.2f}; {100 * LEVEL:.0f} % intervals hold"
                    f" {found.held:.2f} of {found.told} edges told, {found.there} there",
                    flush=True,
                )


if __name__ == "__main__":
    main()
