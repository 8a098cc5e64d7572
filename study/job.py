"""The work of one Tune trial: trains a pack, judges its members, leaves their files.

It has never heard of Ray, Optuna or MLflow; whoever drives it passes on what it returns, or what
it raises.
"""

from __future__ import annotations

import math
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import torch

from ebm_core import checkpoint
from ebm_core.artifacts import write_artifacts, write_long_run
from ebm_core.checkpoint import CheckpointWarning
from ebm_core.config import TrainConfig, make_config
from ebm_core.data import Dataset, is_plane_law
from ebm_core.diagnostics import band_adherence
from ebm_core.errors import CheckpointError
from ebm_core.evaluate import (
    DensityDivergence,
    LongRun,
    Worth,
    check,
    density_divergence,
    samples_worth,
    short_run_samples,
)
from ebm_core.pack import Pack
from ebm_core.result import RunResult, Series
from ebm_core.trainer import STATE_KEYS, Trainer
from ebm_core.verdict import band_scale
from ebm_core.watch import LongRunWatch
from study import permit
from study.assignment import Assignment, PackFiles
from study.pace import Pace
from study.permit import Standing
from study.table import Row, number, row

# At most this many points of a curve leave the worker, one at the end included.
CURVE_POINTS = 200
# A training reports at most about this often: more would move no progress bar.
REPORTS = 100
# Extra column: time for judging a member, its long run and its files; `seconds` is its training's.
CONCLUSION_SECONDS = "conclusion_seconds"
# Short-run samples that are compared with densities in the plane
PLANE_SAMPLES = 4_096

Point = dict[str, float]


class SupersededError(RuntimeError):
    """Another attempt at the same pack is under way."""


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
        self.files = PackFiles.of(self.folder, assignment.units)
        configs = [make_config(unit.config) for unit in assignment.units]
        resumed = self._resumed(configs)
        self.trainer, self.threads = resumed or (
            Trainer(configs, engine_path=assignment.engine_path),
            assignment.threads,
        )
        torch.set_num_threads(self.threads)
        self.stopped = False
        # what was told of the metric before an interruption may not have arrived
        self._look_due = resumed is not None and self.trainer.update in assignment.looks
        self._pace = Pace(self.trainer.update)
        self._curves = [Curve(self.trainer, member) for member in range(self.trainer.members)]
        every, steps = assignment.long_run_every, assignment.long_run_steps
        chains = assignment.long_run_chains
        self._watch = LongRunWatch(every, steps, chains) if every else None

    def advance(self) -> list[list[Point]]:
        """Makes the next chunk of updates, a few seconds' worth at most.

        Returns:
            The new points of every member's curves.

        Raises:
            SupersededError: If another attempt has begun.
        """
        if not self._look_due:
            self._train_chunk()
        points = [curve.new_points(self.finished) for curve in self._curves]
        # the check after the training is that of its last update
        if self._watch is not None and self.trainer.update and not (self.finished or self.stopped):
            for member, found in self._watch.look(self.trainer):
                departure = {"long_run_departure": found.departure}
                points[member].append({"update": self.trainer.update, **departure})
        return points

    @property
    def finished(self) -> bool:
        """Whether training is over, and `conclude` is due."""
        stop_at = self.assignment.stop_at
        return self.trainer.finished or (stop_at is not None and self.trainer.update >= stop_at)

    def look(self) -> float | None:
        """The metric so far where it is to be told; None elsewhere, and while it is not known."""
        self._look_due = False
        if self.trainer.update not in self.assignment.looks or self.finished:
            return None
        found = row(self.trainer.result(0), None, None, trial=0, seed=0)
        return number(found, self.assignment.metric)

    def conclude(self) -> list[Row]:
        """Judges every member, writes its files, and gives its row of the table."""
        rows = []
        for member in range(self.trainer.members):
            self._attend()
            if self.stopped:
                return []
            rows.append(self._conclude(member))
        return rows

    def _train_chunk(self) -> None:
        trainer, config = self.trainer, self.trainer.config
        report = max(config.report_interval, math.ceil(config.updates / REPORTS))
        marks = [trainer.update + report, self.assignment.stop_at or config.updates]
        if self._watch is not None:
            marks.append(trainer.update + self._watch.until_next(trainer))
        end = min([*marks, *(look for look in self.assignment.looks if look > trainer.update)])
        save = config.checkpoint_interval
        self._pace.begin_chunk()
        self._attend()
        while not (
            self.stopped or self.finished or trainer.update >= end or self._pace.chunk_over
        ):
            slice_end = min(end, self._pace.slice_end(trainer.update))
            trainer.run(min(slice_end - trainer.update, save - trainer.update % save))
            self._pace.made(trainer.update)
            self._attend()
            over = self.stopped or self.finished or trainer.update in self.assignment.looks
            if over or trainer.update % save == 0 or self._pace.save_due:
                self._save()

    def _attend(self) -> None:
        """Notes a wish to stop."""
        token = self.assignment.token
        if token is None:
            return
        standing = permit.standing(self.files.permit, token)
        if standing is Standing.SUPERSEDED:
            raise SupersededError(f"{self.files.permit}: another attempt has begun")
        self.stopped = standing is Standing.WITHDRAWN

    def _save(self) -> None:
        began = time.perf_counter()
        state = {**self.trainer.state(), "threads": self.threads}
        checkpoint.save(state, self.files.checkpoint, keep_previous=True)
        self._pace.saved(time.perf_counter() - began)

    def _resumed(self, configs: list[TrainConfig]) -> tuple[Trainer, int] | None:
        """The trainer of an interrupted pack and the threads it began with, if there is one."""
        if not checkpoint.exists(self.files.checkpoint):
            return None
        try:
            state, _ = checkpoint.load_newest(self.files.checkpoint, (*STATE_KEYS, "threads"))
        except CheckpointError as error:
            # both of them are damaged: what is lost is work, not the training
            warnings.warn(f"begun anew: {error}", CheckpointWarning, stacklevel=2)
            return None
        # a study that was deleted but for its checkpoints leaves those of other trainings
        if [make_config(values) for values in state["configs"]] != configs:
            return None
        trainer = Trainer(configs, engine_path=state["engine_path"])
        trainer.load_state(state)
        # sums differ in their last bits with the number of threads, which may have changed since
        return trainer, int(state["threads"])

    def _conclude(self, member: int) -> Row:
        began = time.perf_counter()
        unit, dataset = self.assignment.units[member], self.trainer.dataset
        result = self.trainer.result(member)
        found = evaluated(result, self.assignment, dataset)
        folder = self.folder / unit.folder
        # the device that was used, not how it was chosen: others draw other numbers
        device = str(self.trainer.device)
        configs = tuple(config.with_(device=device) for config in self.trainer.configs)
        pack = Pack(configs, member, self.threads, self.trainer.engine.path)
        write_artifacts(result, folder, dataset, pack)
        write_long_run(found.long_run, folder)
        self.trainer.save(folder / "checkpoint" / "checkpoint.pt", member)
        more = {**unit.point, CONCLUSION_SECONDS: time.perf_counter() - began}
        return row(result, found.long_run, found.plane, unit.trial, unit.seed, more, found.worth)


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

    def new_points(self, finished: bool) -> list[Point]:
        """Points since the last call; `update` counts the updates made, from 1.

        Args:
            finished: Whether there will be no more.
        """
        trainer, member = self.trainer, self.member
        r = trainer.r(member)
        over = finished or not bool(trainer.alive[member])
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


class Evaluation(NamedTuple):
    """What is found out about a training once it is over.

    Attributes:
        long_run: Its check.
        plane: In the plane how far its density is off.
        worth: Of a finite set what the samples are worth beside the data.
    """

    long_run: LongRun
    plane: DensityDivergence | None
    worth: Worth | None


def evaluated(result: RunResult, assignment: Assignment, dataset: Dataset) -> Evaluation:
    """All that is to be found out about one training."""
    config = result.config
    # what was stopped early was given up on
    stopped = assignment.stop_at is not None and len(result.d) == assignment.stop_at
    long_run = check(
        result,
        0 if stopped else assignment.long_run_steps,
        assignment.long_run_chains,
        dataset,
        config.seed,
        0 if stopped else assignment.adjusted_steps,
    )
    worth = samples_worth(result, dataset, config.seed)
    if result.assessment.censored or not is_plane_law(dataset):
        return Evaluation(long_run, None, worth)
    samples = short_run_samples(result, PLANE_SAMPLES, dataset, config.seed)
    plane = density_divergence(
        result.energy, dataset, config.epsilon, config.data_epsilon, short_run=samples
    )
    return Evaluation(long_run, plane, worth)
