"""Whether a map's importances and intervals are true, on a field where both are known.

    python tests/benchmarks/map_truth.py [--seeds 40] [--dimensions 2 4] [--trainings 32 64]

For each seed a map is fitted to trainings that the boundary sampler asked for, and to as many
Sobol points. Printed are the largest error of a total index of Sobol of the least margin, and how
often an edge lies in its 90 % interval, along every axis.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import optuna
from boundary_methods import FIELDS, Array, DesignedField, boundary_run
from scipy.stats import qmc, sobol_indices, uniform

from study.region import field as fields
from study.region.coordinates import Coordinates
from study.region.map import ConvergenceMap, Crossing
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


def covered(field: DesignedField, found: ConvergenceMap, name: str) -> Iterator[bool]:
    """For each end of what converges along an axis, whether the truth is within what is said.

    An end that is said to lie beyond the space is right where the truth has none there either.
    """
    crossing: Crossing = found.crossing(name, level=LEVEL)
    values = (np.arange(_ALONG) + 0.5) / _ALONG
    line = np.tile(list(found.reference.values()), (_ALONG, 1))
    line[:, list(field.space).index(name)] = values
    inside = field.inside(line)
    along = found.line(name, resolution=121)
    surest = float(along.values[int(along.probability.argmax())])
    if crossing.side == "nowhere":
        yield not inside.any()
        return
    start = int(np.abs(values - surest).argmin())
    if not inside[start]:
        yield from (False, False)
        return
    below, above = np.flatnonzero(~inside[:start]), np.flatnonzero(~inside[start:])
    lower = values[below[-1]] if len(below) else None
    upper = values[start + above[0]] if len(above) else None
    for truth, edge, opened in (
        (lower, crossing.lower, crossing.lower and crossing.lower.low_open),
        (upper, crossing.upper, crossing.upper and crossing.upper.high_open),
    ):
        if truth is None or edge is None:
            yield bool(opened) if edge else truth is None
        else:
            yield edge.low <= truth <= edge.high


def study(dimensions: int, seeds: int, trainings: int, chosen: bool) -> tuple[float, float, int]:
    """Median of the largest error of an importance, and the share and number of edges covered."""
    field = FIELDS[dimensions]()
    truth = true_importances(field)
    errors: list[float] = []
    hits: list[bool] = []
    for seed in range(seeds):
        run = (boundary_run if chosen else sobol_run)(field, seed, trainings)
        found = mapped(field, *run)
        total = [each.total for each in found.importances().values()]
        errors.append(float(np.abs(np.array(total) - truth).max()))
        for name in field.space:
            hits.extend(covered(field, found, name))
    return float(np.median(errors)), float(np.mean(hits)), len(hits)


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
                error, share, edges = study(dimensions, given.seeds, trainings, chosen)
                print(
                    f"  {trainings} trainings by {'boundary' if chosen else 'sobol':8s}:"
                    f" importances within {error:.2f}; {100 * LEVEL:.0f} % intervals hold"
                    f" {share:.2f} of {edges} edges",
                    flush=True,
                )


if __name__ == "__main__":
    main()
