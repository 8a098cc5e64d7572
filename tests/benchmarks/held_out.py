"""How well the map of a finished study tells trainings that it has not seen.

    python tests/benchmarks/held_out.py studies/convergent_region

Trains 24 further configurations as a study of its own, beside the first: half of them spread over
the space by Sobol, half where the map gives P between 0.2 and 0.8. Balanced accuracy is the mean
of the shares of convergent and of other trainings that are told right. The nearest neighbour is
that of the same trainings, in the same coordinates.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.spatial import KDTree

from study import space
from study.region.map import ConvergenceMap, fit
from study.region.observations import is_known
from study.space import Parameters, Point
from study.spec import from_resolved

HALF = 12
# Where a map is unsure.
UNSURE = (0.2, 0.8)
# Of all points that the halves are chosen from, and the seed of their sequences; not the study's.
OPTIONS, SEED = 4_096, 2_718


@dataclass(frozen=True)
class Told:
    """How one way of telling did on some trainings.

    Attributes:
        name: Which.
        balanced: Mean of the shares told right among convergent trainings, and among others.
        right: Share of all that is told right.
    """

    name: str
    balanced: float
    right: float


def held_out_points(found: ConvergenceMap, parameters: Parameters) -> list[Point]:
    """Half by Sobol, then half where the map is unsure, or least sure if few are."""
    first = space.sobol_points(parameters, HALF, SEED)
    options = space.sobol_points(parameters, OPTIONS, SEED + 1)
    p = found.probability(options)
    between = (p >= UNSURE[0]) & (p <= UNSURE[1])
    unsure = [options[index] for index in np.flatnonzero(between)]
    if len(unsure) < HALF:
        unsure = [options[index] for index in np.abs(p - 0.5).argsort()[:HALF]]
    return [*first, *unsure[:HALF]]


def train(folder: Path, points: list[Point]) -> pd.DataFrame:
    """Trains the points in a study beside the first, and returns its table in their order."""
    document = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    name = f"{folder.name}_held_out"
    document.update(name=name, method="random", trials=len(points), first_points=points)
    document["tracking"]["experiment"] = name
    document["storage"] = str(folder.parent)
    path = folder.parent / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "study.run", str(path), "--no-progress"]
    subprocess.run(command, check=True)
    return pd.read_csv(folder.parent / name / "results.csv").sort_values("trial")


def told(name: str, said: np.ndarray, truth: np.ndarray) -> Told:
    shares = [float((said == truth)[truth == each].mean()) for each in (True, False)]
    return Told(name, float(np.nanmean(shares)), float((said == truth).mean()))


def compare(
    found: ConvergenceMap, trained: pd.DataFrame, held: pd.DataFrame
) -> dict[str, list[Told]]:
    """The map, the nearest neighbour and the majority, on all, the first and the second half."""
    known, held = assessed(trained), assessed(held)
    points = held[list(found.axes)].to_dict("records")
    tree = KDTree(found.coordinates.place(known[list(found.axes)].to_dict("records")))
    good = (known["verdict"] == "convergent").to_numpy()
    truth = (held["verdict"] == "convergent").to_numpy()
    said = {
        "map": found.probability(points) >= 0.5,
        "nearest neighbour": good[tree.query(found.coordinates.place(points))[1]],
        "majority": np.full(len(held), good.mean() >= 0.5),
    }
    first = (held["trial"] < HALF).to_numpy()
    halves = {"all": first | True, "Sobol": first, "unsure": ~first}
    return {
        half: [told(name, each[rows], truth[rows]) for name, each in said.items()]
        for half, rows in halves.items()
    }


def assessed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[[is_known(row) for row in frame.to_dict("records")]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of a finished study")
    folder = parser.parse_args().folder
    spec = from_resolved(json.loads((folder / "study.json").read_text(encoding="utf-8")))
    trained = pd.read_csv(folder / "results.csv")
    found = fit(trained, spec.parameters)
    held = train(folder, held_out_points(found, spec.parameters))
    print(f"held out: {len(held)}, with a verdict on learning: {len(assessed(held))}")
    for half, results in compare(found, trained, held).items():
        print(f"{half}:")
        for each in results:
            print(f"  {each.name:18s} balanced {each.balanced:.2f}, right {each.right:.2f}")


if __name__ == "__main__":
    main()
