"""How many trainings it takes to find the edge of a known region, by each method.

    python tests/benchmarks/boundary_methods.py [--seeds 20] [--dimensions 2 4] [--batch 1]
        [--straddle]

An error is the share of the space on the wrong side of P = 1/2, by the same surrogate for all
methods; a grid is also read as grids are, by its nearest point. A method is there once its error
is, and stays, at most a tenth of the smaller class's share. With `--straddle` the sampler asks
where the least margin's mean is nearest to 0 in units of its sd, in place of its own acquisition.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna

sys.path.insert(0, str(Path(__file__).parents[1]))

from designed_field import Array, DesignedField, four, grid, plane

from study.boundary import BoundarySampler
from study.region import acquisition
from study.region import field as fields
from study.region.observations import Observation, margins

FIELDS = {2: plane, 4: four}
# Trainings until which each method is followed; grids by points a side.
ASKED = {2: 56, 4: 112}
DRAWN = {2: 160, 4: 256}
SIDES = {2: range(3, 24), 4: range(2, 7)}
# Errors are taken after every batch, from `OFTEN` trainings on after every `RARELY`.
RARELY, OFTEN = 8, 64
SHARE = 0.1
# Of the points whose P lies here, how many are inside.
CALIBRATED = (0.8, 0.9)


def truth(field: DesignedField) -> tuple[Array, Array]:
    """Points all over the cube, and whether each is inside."""
    from scipy.stats import qmc

    places = qmc.Sobol(field.dimensions, scramble=True, rng=99).random_base2(12)
    return places, field.inside(places)


def surrogate(places: Array, said: list[Observation]) -> fields.Field:
    return fields.fit(places, margins(said))


def boundary_run(
    field: DesignedField, seed: int, count: int, batch: int = 1
) -> tuple[Array, list]:
    """Places and outcomes of trainings that the sampler asks for, a batch at a time."""
    random = np.random.default_rng(1000 + seed)
    said: dict[int, Observation] = {}
    sampler = BoundarySampler(seed=seed, observe=lambda trial: [said[trial.number]])
    study = optuna.create_study(sampler=sampler)
    while len(said) < count:
        for trial in [study.ask(field.space) for _ in range(batch)]:
            place = np.array(list(trial.params.values()))
            said[trial.number] = field.train(place, random)
            study.tell(trial, 0.0)
    places = [list(trial.params.values()) for trial in study.trials]
    return np.array(places)[:count], [said[number] for number in range(count)]


def random_run(field: DesignedField, seed: int, count: int) -> tuple[Array, list]:
    random = np.random.default_rng(1000 + seed)
    places = np.random.default_rng(seed).random((count, field.dimensions))
    return places, [field.train(place, random) for place in places]


def error(field: DesignedField, places: Array, said: list, where: Array, inside: Array) -> float:
    found = surrogate(places, said).probability(where) >= 0.5
    return float((found != inside).mean())


def reached(
    run: tuple[Array, list],
    batch: int,
    field: DesignedField,
    where: Array,
    inside: Array,
    limit: float,
) -> float:
    """The least number of trainings from which on the error stays within the limit."""
    places, said = run
    late = np.inf
    for n in range(len(said), 4, -batch):
        if n <= OFTEN or n % RARELY == 0:
            if error(field, places[:n], said[:n], where, inside) > limit:
                return late
            late = n
    return late


def grid_reached(
    field: DesignedField, seed: int, where: Array, inside: Array, limit: float, nearest: bool
) -> float:
    """Points of the smallest grid within the limit."""
    from scipy.spatial import KDTree

    random = np.random.default_rng(1000 + seed)
    for side in SIDES[field.dimensions]:
        places = grid(field.dimensions, side)
        said = [field.train(place, random) for place in places]
        if nearest:
            good = np.array([each is not None and min(each.values()) >= 0 for each in said])
            wrong = float((good[KDTree(places).query(where)[1]] != inside).mean())
        else:
            wrong = error(field, places, said, where, inside)
        if wrong <= limit:
            return len(places)
    return np.inf


def calibration(
    run: tuple[Array, list], field: DesignedField, where: Array, inside: Array
) -> tuple[int, int]:
    """Of points that are given P within `CALIBRATED`, how many are inside, and how many."""
    found = surrogate(*run).probability(where)
    chosen = (found >= CALIBRATED[0]) & (found <= CALIBRATED[1])
    return int(inside[chosen].sum()), int(chosen.sum())


def compare(
    dimensions: int, seeds: int, batch: int = 1, say: Callable[[str], None] = print
) -> dict[str, float]:
    """Median trainings of each method, and the calibration of the boundary's surrogate.

    Args:
        dimensions: Of the field.
        seeds: How many fields of noise.
        batch: Trainings that the boundary sampler is asked for at a time.
        say: Where to.
    """
    field = FIELDS[dimensions]()
    where, inside = truth(field)
    smaller = float(min(inside.mean(), 1 - inside.mean()))
    limit = SHARE * smaller
    found: dict[str, list[float]] = {n: [] for n in ("boundary", "random", "grid", "nearest")}
    right = total = 0
    for seed in range(seeds):
        asked = boundary_run(field, seed, ASKED[dimensions], batch)
        found["boundary"].append(reached(asked, batch, field, where, inside, limit))
        drawn = random_run(field, seed, DRAWN[dimensions])
        found["random"].append(reached(drawn, 2, field, where, inside, limit))
        found["grid"].append(grid_reached(field, seed, where, inside, limit, nearest=False))
        found["nearest"].append(grid_reached(field, seed, where, inside, limit, nearest=True))
        stop = found["boundary"][-1]
        n = int(stop) if np.isfinite(stop) else ASKED[dimensions]
        k, of = calibration((asked[0][:n], asked[1][:n]), field, where, inside)
        right, total = right + k, total + of
        say(f"  seed {seed}: " + ", ".join(f"{name} {each[-1]:g}" for name, each in found.items()))
    medians = {name: float(np.median(each)) for name, each in found.items()}
    say(
        f"{dimensions} dimensions, inside {inside.mean():.2f}, error at most {limit:.3f}: "
        + ", ".join(f"{name} {n:g}" for name, n in medians.items())
        + f"; P 0.8 to 0.9: {right / max(total, 1):.2f} of {total} inside"
    )
    return {**medians, "calibrated": right / max(total, 1)}


def straddle(field: fields.Field, candidates: Array, nodes: Array) -> Array:
    """The straddle heuristic of Bryan et al. 2005, of the margin with the least mean; negative."""
    mean, deviation = field.at(candidates)
    which = mean.argmin(axis=0), np.arange(len(candidates))
    return np.abs(mean[which]) - 1.96 * deviation[which]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--straddle", action="store_true")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2, 4], choices=[2, 4])
    given = parser.parse_args()
    if given.straddle:
        acquisition.uncertainty_left = straddle
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for dimensions in given.dimensions:
        compare(dimensions, given.seeds, given.batch)


if __name__ == "__main__":
    main()
