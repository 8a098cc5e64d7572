"""A study that has ended, or rests, as a notebook sees it; reached by `study.load_study`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ebm_core.errors import ConfigError, Problem, did_you_mean
from study.assignment import Unit
from study.report import read_study

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ebm_core.trainer import Trainer
    from study.region.map import ConvergenceMap
    from study.spec import StudySpec

_STUDIES = Path("studies")


@dataclass(frozen=True)
class FinishedStudy:
    """What a study has left.

    Attributes:
        folder: Its own.
        spec: What was asked.
        table: One row a (configuration, seed), columns of `study.table`.
    """

    folder: Path
    spec: StudySpec
    table: pd.DataFrame

    @cached_property
    def map(self) -> ConvergenceMap:
        """Where learning converges over the space of the study.

        Raises:
            study.region.map.TooFew: If too few trainings have a verdict on learning.
        """
        from study.region import map as region_map

        return region_map.fit(self.table, self.spec.parameters)

    def traces(self, trial: int, seed: int = 0) -> dict[str, np.ndarray]:
        """The series of one training, one value an update each.

        Args:
            trial: Number of the configuration.
            seed: Number of the repeat.

        Returns:
            ``update``, ``d`` (nats), ``r`` and ``r_rms`` (units of x), ``gamma`` and
            ``restlessness``, and ``clipped`` where gradients may be, shape (updates,).

        Raises:
            ConfigError: If there is no such training, or it left none.
        """
        import numpy as np

        from ebm_core.artifacts import TRACES

        with np.load(self._file(trial, seed, TRACES), allow_pickle=False) as found:
            return {name: found[name] for name in found.files if found[name].ndim == 1}

    def checkpoint(self, trial: int, seed: int = 0) -> Path:
        """The checkpoint of one training, for ``python -m ebm_core sample`` or `trainer`.

        Raises:
            ConfigError: If there is no such training, or it left none.
        """
        return self._file(trial, seed, "checkpoint/checkpoint.pt")

    def trainer(self, trial: int, seed: int = 0, device: str | None = None) -> Trainer:
        """One training as it ended: its model is ``.result().energy``, and it can be gone on with.

        Args:
            trial: Number of the configuration.
            seed: Number of the repeat.
            device: Where to; None for where it was trained.

        Raises:
            ConfigError: If there is no such training, or it left none.
            CheckpointError: If the file is damaged. Nothing in it is executed.
        """
        from ebm_core.trainer import Trainer

        return Trainer.resume(self.checkpoint(trial, seed), device=device)

    def _file(self, trial: int, seed: int, name: str) -> Path:
        row = self.table[(self.table["trial"] == trial) & (self.table["seed"] == seed)]
        if row.empty:
            rule = (
                f"must be one of the {len(self.table)} trainings of {self.folder / 'results.csv'}"
            )
            raise ConfigError([Problem("trial, seed", rule, (trial, seed))])
        path = self.folder / Unit(trial, seed, point={}, config={}).folder / name
        if not path.is_file():
            ended = " ".join(str(row.iloc[0][each]) for each in ("status", "verdict"))
            rule = f"must have left {path}; it ended as: {ended}"
            raise ConfigError([Problem("trial, seed", rule, (trial, seed))])
        return path


def load(study: str | Path) -> FinishedStudy:
    """Reads a study, see `study.load_study`."""
    folder = Path(study)
    if not folder.is_dir() and not folder.is_absolute() and (_STUDIES / folder).is_dir():
        folder = _STUDIES / folder
    if not folder.is_dir():
        names = sorted(path.name for path in _STUDIES.glob("*") if path.is_dir())
        rule = f"must be the folder of a study, or a name under {_STUDIES.absolute()}"
        raise ConfigError([Problem("study", rule, str(study), did_you_mean(str(study), names))])
    spec, table = read_study(folder)
    return FinishedStudy(folder, spec, table)
