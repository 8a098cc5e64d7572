"""A study by the engine and by the plain reference path: what it takes, and what it says.

    python tests/benchmarks/test_engines.py [--members 1] [--trials 16] [--repeats 4]

runs ``search_spaces/eps_sweep.yaml`` with ``--set engine=reference`` in a temporary folder, then
the very same configurations by the engine in packs of so many members, and prints the sums of the
column ``seconds``, how many trainings came out bit for bit the same, and every verdict that
differs. Where products are rounded otherwise trainings are chaotic, and evidence differs as it
does between any two runs of one configuration: where a verdict differs, the configuration is
trained again from other seeds, and the margin that changed sides must lie within one standard
deviation of such repeats of its limit. Exits with 1 where it does not, or where the engine takes
more than half. The tests run a short form; theirs is the time of the processor, since other tests
share its cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ebm_core import preset, train, train_members
from ebm_core.pack import read_pack

REPOSITORY = Path(__file__).parents[2]
STUDY = REPOSITORY / "search_spaces" / "eps_sweep.yaml"
MOST = 0.5
MARGINS = "margin_"


class Flip(NamedTuple):
    """A requirement that one path meets and the other does not; margins in units of tolerance."""

    epsilon: float
    requirement: str
    reference: float
    engine: float
    standard_error: float

    @property
    def within(self) -> bool:
        """Whether the limit, 0, lies within a standard error of the nearer of the two."""
        return min(abs(self.reference), abs(self.engine)) <= self.standard_error

    def __str__(self) -> str:
        return (
            f"epsilon {self.epsilon:.4g}: margin of {self.requirement} {self.reference:+.2f} by "
            f"the reference, {self.engine:+.2f} by the engine, one standard error "
            f"{self.standard_error:.2f}: {'within' if self.within else 'NOT within'}"
        )


def run(folder: Path, *options: str) -> pd.DataFrame:
    """Runs the study in a folder; its table."""
    subprocess.run(
        [sys.executable, "-m", "study.run", str(STUDY), *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=True,
        capture_output=True,
    )
    return pd.read_csv(folder / "studies" / "eps_sweep" / "results.csv").set_index("trial")


def side_by_side(
    folder: Path, *options: str, members: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of the reference path and of the engine, over the same configurations."""
    for name in ("reference", "engine"):
        (folder / name).mkdir()
    reference = run(folder / "reference", "--set", "engine=reference", *options)
    points = json.dumps([{"epsilon": epsilon} for epsilon in reference["epsilon"]])
    packs = f"resources.members_per_trial={members}"
    engine = run(folder / "engine", "--set", f"first_points={points}", packs, *options)
    return reference, engine


def repeated_margins(epsilon: float, repeats: int) -> list[Mapping[str, float]]:
    """Margins of the same configuration from other seeds."""
    config = preset("digits", epsilon=epsilon)
    seeds = range(1, 1 + repeats)
    return [train(config.with_(seed=seed)).assessment.margins for seed in seeds]


def flips(reference: pd.DataFrame, engine: pd.DataFrame, repeats: int) -> Iterator[Flip]:
    """What changed sides where the verdict did."""
    columns = [name for name in reference.columns if name.startswith(MARGINS)]
    for trial in reference.index[reference["verdict"] != engine["verdict"]]:
        a, b = reference.loc[trial], engine.loc[trial]
        again = repeated_margins(float(a["epsilon"]), repeats)
        for column in columns:
            if (a[column] < 0) != (b[column] < 0):
                name = column.removeprefix(MARGINS)
                error = statistics.stdev([float(margins[name]) for margins in again])
                yield Flip(float(a["epsilon"]), name, a[column], b[column], error)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares the engine with its reference path.")
    parser.add_argument("--members", type=int, default=1, metavar="K")
    parser.add_argument("--trials", default="16", metavar="N")
    parser.add_argument("--repeats", type=int, default=4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        options = ("--trials", given.trials)
        reference, engine = side_by_side(Path(scratch), *options, members=given.members)
    ratio = engine["seconds"].sum() / reference["seconds"].sum()
    print(
        f"sum of seconds: reference {reference['seconds'].sum():.1f} s, engine "
        f"{engine['seconds'].sum():.1f} s, ratio {ratio:.2f}"
    )
    print(f"bit for bit the same: {(reference['r'] == engine['r']).sum()} of {len(engine)}")
    print(pd.concat({"reference": reference["verdict"], "engine": engine["verdict"]}, axis=1))
    found = list(flips(reference, engine, given.repeats))
    print(*found or ["no verdict differs"], sep="\n")
    return int(ratio > MOST or not all(flip.within for flip in found))


PATHS = {"reference": "reference", "engine": "closed_form"}


def test_studies_by_both_train_the_same_configurations(tmp_path: Path) -> None:
    short: dict[str, Any] = {"updates": 200, "anneal_updates": 100, "window": 100}
    options = [f"base.{key}={value}" for key, value in short.items()]
    # nothing is left to be measured beforehand
    options += ["long_run.steps=0", "resources.cpus_per_trial=1"]
    given = ("--trials", "2", "--workers", "1", "--no-progress")
    reference, engine = side_by_side(tmp_path, *given, "--set", *options)
    assert list(reference["epsilon"]) == list(engine["epsilon"])
    for name, path in PATHS.items():
        (pack,) = (tmp_path / name).glob("studies/*/trials/0000/seed-0/pack.yaml")
        assert read_pack(pack).engine_path == path


def test_the_engine_takes_less_than_its_reference() -> None:
    config = preset("digits", updates=200, anneal_updates=100, window=100, device="cpu")
    spent: dict[str, list[float]] = {name: [] for name in PATHS}
    for _ in range(3):
        for name, path in PATHS.items():
            began = time.process_time()
            train_members([config], engine_path=path)
            spent[name].append(time.process_time() - began)
    assert statistics.median(spent["engine"]) < MOST * statistics.median(spent["reference"])


if __name__ == "__main__":
    sys.exit(main())
