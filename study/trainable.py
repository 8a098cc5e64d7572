"""The trainer as a Ray Tune trainable; with `searcher`, all that touches Ray Tune's classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune

from ebm_core import checkpoint
from ebm_core.config import make_config, override
from ebm_core.presets import preset_values
from ebm_core.trainer import Trainer
from study.job import Assignment, Job
from study.table import row

_CHECKPOINT = "checkpoint.pt"


class EBMTrainable(tune.Trainable):
    """Trains energy-based models under Ray Tune.

    Takes the assignment that a study hands out, or a flat configuration of your own::

        tune.Tuner(EBMTrainable, param_space={"epsilon": tune.loguniform(0.02, 0.4)}).fit()

    whose keys are fields of `TrainConfig`, and ``preset`` (default ``digits``) for the others. It
    reports the columns of the results table: the verdict and numbers such as
    ``convergence_score``, as far as they are known.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._work: _Assigned | _Flat
        assigned = config.get("assignment")
        self._work = _Assigned(assigned) if assigned else _Flat(config)

    def step(self) -> dict[str, Any]:
        return self._work.step()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        self._work.trainer.save(Path(checkpoint_dir) / _CHECKPOINT)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        self._work.load(Path(checkpoint_dir) / _CHECKPOINT)


class _Assigned:
    """A pack of a study: its curves while it runs, its rows at the end."""

    def __init__(self, assignment: dict[str, Any]) -> None:
        self.job = Job(Assignment.from_plain(assignment))

    @property
    def trainer(self) -> Trainer:
        return self.job.trainer

    def step(self) -> dict[str, Any]:
        curves = self.job.advance()
        done = self.job.finished
        rows = self.job.conclude() if done else []
        return {"update": self.trainer.update, "curves": curves, "rows": rows, "done": done}

    def load(self, path: Path) -> None:
        raise RuntimeError(f"{path}: a study's trainings go on from their own folder")


class _Flat:
    """One training from a flat configuration, reported as a row of the table."""

    def __init__(self, config: dict[str, Any]) -> None:
        values = dict(config)
        base = preset_values(values.pop("preset", "digits"))
        self.trainer = Trainer([make_config(override(base, values))])

    def step(self) -> dict[str, Any]:
        self.trainer.run(self.trainer.config.report_interval)
        found = row(self.trainer.result(), None, None, trial=0, seed=0)
        del found["trial"], found["mlflow_run_id"], found["long_run"], found["long_run_departure"]
        known = {name: value for name, value in found.items() if value is not None}
        # Tune's loggers take one set of names for the whole run
        missing = {name: float("nan") for name in found.keys() - known.keys()}
        return {**known, **missing, "done": self.trainer.finished}

    def load(self, path: Path) -> None:
        self.trainer.load_state(checkpoint.load(path))
