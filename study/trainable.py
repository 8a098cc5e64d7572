"""The trainer as a Ray Tune trainable; with `searcher`, all that touches Ray Tune's classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune

from ebm_core import checkpoint
from ebm_core.config import make_config
from ebm_core.trainer import Trainer
from study.assignment import Assignment, PackFiles
from study.failures import recognized
from study.job import Job
from study.schema.base import expand
from study.table import CAUSE, TEXT_COLUMNS, row
from study.watchdog import Watchdog
from study.worker_log import WorkerLog

_CHECKPOINT = "checkpoint.pt"
# Columns of the table that only a study fills
_OF_A_STUDY = ("trial", "mlflow_run_id", "long_run", "long_run_departure")


class EBMTrainable(tune.Trainable):
    """Trains energy-based models under Ray Tune.

    Takes the assignment that a study hands out, or a flat configuration of your own::

        tune.Tuner(EBMTrainable, param_space={"epsilon": tune.loguniform(0.02, 0.4)}).fit()

    whose keys are fields of `TrainConfig`, and ``preset`` (default ``digits``) for the others.
    Such a training reports the columns of the results table every `report_interval` updates: the
    verdict, and numbers such as ``convergence_score``, NaN while they are not known. It runs on as
    many threads as its trial has CPUs, which Ray sees to. Paths of data are to be absolute, since
    Ray's workers run in folders of their own.

    Raises:
        ConfigError: If a flat configuration breaks a rule.
        CheckpointError: If a training is to go on from the checkpoint of another configuration, as
            population-based schedulers want it: a verdict is about one configuration.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._work: _Assigned | _Flat
        assigned = config.get("assignment")
        self._work = _Assigned(Assignment.from_plain(assigned)) if assigned else _Flat(config)

    def step(self) -> dict[str, Any]:
        return self._work.step()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._work.end()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        self._work.end()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        self._work.trainer.save(Path(checkpoint_dir) / _CHECKPOINT)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        self._work.trainer.load_state(checkpoint.load(Path(checkpoint_dir) / _CHECKPOINT))


class _Assigned:
    """A pack of a study: its curves while it runs, its rows at the end.

    A job is begun with the first step, since what goes wrong there can be told.
    """

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self._job: Job | None = None
        self._log: WorkerLog | None = None
        self._watchdog = Watchdog(assignment.seconds_limit, assignment.gigabytes_limit)

    @property
    def trainer(self) -> Trainer:
        assert self._job is not None
        return self._job.trainer

    def step(self) -> dict[str, Any]:
        try:
            return self._step()
        except Exception as error:
            self.end()
            if told := recognized(error):
                raise told from error
            raise

    def _step(self) -> dict[str, Any]:
        job = self._job = self._job or self._begun()
        curves, value = job.advance(), job.look()
        rows = job.conclude() if job.finished else []
        if done := bool(rows) or job.stopped:
            self.end()
        return {
            "update": job.trainer.update,
            "curves": curves,
            "look": value,
            "rows": rows,
            "done": done,
        }

    def _begun(self) -> Job:
        files = PackFiles.of(Path(self.assignment.folder), self.assignment.units)
        self._log = WorkerLog(files.log)
        self._watchdog.start()
        return Job(self.assignment)

    def end(self) -> None:
        """Stops watching, and closes the log."""
        self._watchdog.stop()
        if self._log is not None:
            self._log.close()
            self._log = None


class _Flat:
    """One training from a flat configuration, reported as a row of the table."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.trainer = Trainer([make_config(expand({"preset": "digits", **config}))])

    def end(self) -> None:
        """Has nothing to end."""

    def step(self) -> dict[str, Any]:
        config = self.trainer.config
        self.trainer.run(config.report_interval)
        found = row(self.trainer.result(), None, None, trial=0, seed=config.seed)
        # Tune's loggers take the names of the first report, and numbers for numbers
        told = {
            name: _unknown(name) if value is None else value
            for name, value in found.items()
            if name not in _OF_A_STUDY
        }
        return {**told, "done": self.trainer.finished}


def _unknown(name: str) -> float | str:
    return "" if name in TEXT_COLUMNS or name == CAUSE else float("nan")
