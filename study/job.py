"""The work of one Tune trial: trains a pack, judges its members, leaves their files.

It has never heard of Ray, Optuna or MLflow; whoever drives it passes on what it returns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ebm_core import checkpoint
from ebm_core.artifacts import write_artifacts, write_long_run
from ebm_core.config import TrainConfig, make_config
from ebm_core.data import Dataset, is_plane_law
from ebm_core.diagnostics import band_adherence
from ebm_core.evaluate import (
    DensityDivergence,
    LongRun,
    check,
    density_divergence,
    short_run_samples,
)
from ebm_core.pack import Pack
from ebm_core.result import RunResult, Series
from ebm_core.trainer import Trainer
from ebm_core.verdict import band_scale
from study.table import Row, row

# At most this many points of a curve leave the worker, one at the end included.
CURVE_POINTS = 200
# A training reports at most about this often: more would move no progress bar.
REPORTS = 100
# Extra column: time for judging a member, its long run and its files; `seconds` is its training's.
CONCLUSION_SECONDS = "conclusion_seconds"
# Short-run samples that are compared with densities in the plane
PLANE_SAMPLES = 4_096

Point = dict[str, float]


@dataclass(frozen=True)
class Unit:
    """One training to be done: a (configuration, seed).

    Attributes:
        trial: Number of the configuration in the study.
        seed: Which of its repeats, from 0.
        point: What was searched.
        config: Plain `TrainConfig` values.
    """

    trial: int
    seed: int
    point: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where its files lie, below the folder of the study."""
        return Path("trials") / f"{self.trial:04d}" / f"seed-{self.seed}"


@dataclass(frozen=True)
class Assignment:
    """What one Tune trial is told to do; travels as plain values.

    Attributes:
        units: The trainings of the pack, in the order of its members.
        folder: Of the study, absolute, seen by all nodes.
        threads: torch's threads.
        long_run_steps: Length of the check after each training, 0 for none.
        long_run_chains: Chains of that check from each start.
        adjusted_steps: Length of its Metropolis-adjusted chains, 0 for none.
        engine_path: How members are run, see `ebm_core.engine`; None to choose.
    """

    units: tuple[Unit, ...]
    folder: str
    threads: int
    long_run_steps: int
    long_run_chains: int
    adjusted_steps: int = 0
    engine_path: str | None = None

    def plain(self) -> dict[str, Any]:
        """As nested dictionaries and lists."""
        return {**asdict(self), "units": [asdict(unit) for unit in self.units]}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Assignment:
        """The inverse of `plain`."""
        return cls(**{**values, "units": tuple(Unit(**unit) for unit in values["units"])})


def pack_checkpoint(units: Sequence[Unit]) -> Path:
    """Where a pack keeps its checkpoint until its rows are recorded, below the study's folder."""
    first = units[0]
    return Path("trials") / f"{first.trial:04d}" / f"pack-{first.seed}.pt"


class Job:
    """Trains a pack in chunks; an interrupted one goes on from its checkpoint.

    Whoever records the rows removes that checkpoint afterwards: until then nothing is lost if the
    rows are.

    Args:
        assignment: What to do.
    """

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.folder = Path(assignment.folder)
        self.checkpoint = self.folder / pack_checkpoint(assignment.units)
        configs = [make_config(unit.config) for unit in assignment.units]
        self.trainer, self.threads = self._resumed(configs) or (
            Trainer(configs, engine_path=assignment.engine_path),
            assignment.threads,
        )
        torch.set_num_threads(self.threads)
        self._curves = [Curve(self.trainer, member) for member in range(self.trainer.members)]

    def advance(self) -> list[list[Point]]:
        """Makes the next chunk of updates; the new points of every member's curves."""
        trainer, save = self.trainer, self.trainer.config.checkpoint_interval
        end = trainer.update + max(
            trainer.config.report_interval, math.ceil(trainer.config.updates / REPORTS)
        )
        while trainer.update < end and not trainer.finished:
            trainer.run(min(end - trainer.update, save - trainer.update % save))
            if trainer.update % save == 0 or trainer.finished:
                checkpoint.save({**trainer.state(), "threads": self.threads}, self.checkpoint)
        return [curve.new_points() for curve in self._curves]

    @property
    def finished(self) -> bool:
        """Whether training is over, and `conclude` is due."""
        return self.trainer.finished

    def conclude(self) -> list[Row]:
        """Judges every member, writes its files, and gives its row of the table."""
        return [self._conclude(member) for member in range(self.trainer.members)]

    def _resumed(self, configs: list[TrainConfig]) -> tuple[Trainer, int] | None:
        """The trainer of an interrupted pack and the threads it began with, if there is one."""
        if not self.checkpoint.exists():
            return None
        trainer = Trainer.resume(self.checkpoint)
        # a study that was deleted but for its checkpoints leaves those of other trainings
        if trainer.configs != configs:
            return None
        # sums differ in their last bits with the number of threads, which may have changed since
        return trainer, int(checkpoint.load(self.checkpoint)["threads"])

    def _conclude(self, member: int) -> Row:
        began = time.perf_counter()
        unit, dataset = self.assignment.units[member], self.trainer.dataset
        result = self.trainer.result(member)
        long_run, plane = evaluated(result, self.assignment, dataset)
        folder = self.folder / unit.folder
        # the device that was used, not how it was chosen: others draw other numbers
        device = str(self.trainer.device)
        configs = tuple(config.with_(device=device) for config in self.trainer.configs)
        pack = Pack(configs, member, self.threads, self.trainer.engine.path)
        write_artifacts(result, folder, dataset, pack)
        write_long_run(long_run, folder)
        self.trainer.save(folder / "checkpoint" / "checkpoint.pt", member)
        more = {**unit.point, CONCLUSION_SECONDS: time.perf_counter() - began}
        return row(result, long_run, plane, unit.trial, unit.seed, more)


class Curve:
    """What one member reports over updates, thinned; its last update is always told.

    Args:
        trainer: Which trains it.
        member: Its index.
    """

    def __init__(self, trainer: Trainer, member: int) -> None:
        self.trainer, self.member = trainer, member
        self.config = config = trainer.configs[member]
        star = trainer.matched(member).r_star
        self._scale = {
            unit: band_scale(unit, config.epsilon, trainer.dimensions, star)
            for unit in ("scaled", "matched", config.band.unit)
        }
        self._stride = math.ceil(config.updates / (CURVE_POINTS - 1))
        # a resumed training tells all again: what was lost on the way is filled in
        self._told = 0

    def new_points(self) -> list[Point]:
        """Points since the last call; `update` counts the updates made, from 1."""
        trainer, member = self.trainer, self.member
        r = trainer.r(member)
        over = trainer.finished or not bool(trainer.alive[member])
        wanted = [
            update
            for update in range(self._told + 1, len(r) + 1)
            if (update - 1) % self._stride == 0 or (over and update == len(r))
        ]
        self._told = max(self._told, len(r))
        if not wanted:
            return []
        d = trainer.d(member)
        at = torch.tensor(wanted, device=trainer.device)[:, None] - 1
        gamma = trainer.learning_rates(at)[:, member].tolist()
        return [
            {"update": u, "d": float(d[u - 1]), "gamma": rate, **self._levels(r[:u])}
            for u, rate in zip(wanted, gamma, strict=True)
        ]

    def _levels(self, r: Series) -> Point:
        """r after its last update, in every unit, and the adherence of the window up to it."""
        config, band, last = self.config, self.config.band, float(r[-1])
        recent = r[-config.window :] / self._scale[band.unit]
        return {
            "r": last,
            "r_scaled": last / self._scale["scaled"],
            "r_matched": last / self._scale["matched"],
            "r_band_adherence": band_adherence(recent, band.low, band.high),
        }


def evaluated(
    result: RunResult, assignment: Assignment, dataset: Dataset
) -> tuple[LongRun, DensityDivergence | None]:
    """The long-run check of a training, and in the plane how far its density is off."""
    config = result.config
    long_run = check(
        result,
        assignment.long_run_steps,
        assignment.long_run_chains,
        dataset,
        config.seed,
        assignment.adjusted_steps,
    )
    lost = result.assessment.verdict in ("diverged", "collapsed")
    if lost or not is_plane_law(dataset):
        return long_run, None
    samples = short_run_samples(result, PLANE_SAMPLES, dataset, config.seed)
    plane = density_divergence(
        result.energy, dataset, config.epsilon, config.data_epsilon, short_run=samples
    )
    return long_run, plane
