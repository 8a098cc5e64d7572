"""Trains packs to their end, with reports and checkpoints on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ebm_core import checkpoint
from ebm_core.config import TrainConfig
from ebm_core.data import Dataset
from ebm_core.result import RunResult
from ebm_core.trainer import STATE_KEYS, EnergySource, Trainer

OnReport = Callable[[Trainer], bool | None]


def train_members(
    configs: Sequence[TrainConfig],
    on_report: OnReport | None = None,
    resume_from: str | Path | None = None,
    energy: EnergySource | None = None,
    dataset: Dataset | None = None,
    checkpoint_to: str | Path | None = None,
    engine_path: str | None = None,
) -> list[RunResult]:
    """Trains the members of a pack to their end.

    Args:
        configs: One configuration a member.
        on_report: Called with the trainer every `report_interval` updates; returning True stops.
        resume_from: A checkpoint of this very pack to go on from; the one before it where it is
            damaged, with a `checkpoint.CheckpointWarning`.
        energy: The user's own network, see `Trainer`.
        dataset: The user's own data set, see `Trainer`.
        checkpoint_to: Where to write a checkpoint every `checkpoint_interval` updates. The one
            before is kept beside it, see `checkpoint.previous`.
        engine_path: See `Trainer`.

    Raises:
        ConfigError: If the configurations do not form a pack.
        CheckpointError: If the checkpoint belongs to another training.
    """
    trainer = Trainer(configs, energy, dataset, engine_path)
    if resume_from is not None:
        trainer.load_state(checkpoint.load_newest(resume_from, keys=STATE_KEYS)[0])
    report, save = trainer.config.report_interval, trainer.config.checkpoint_interval
    while not trainer.finished:
        trainer.run(min(n - trainer.update % n for n in (report, save)))
        stop = on_report is not None and trainer.update % report == 0 and on_report(trainer)
        if checkpoint_to is not None and (stop or trainer.finished or trainer.update % save == 0):
            trainer.save(checkpoint_to, keep_previous=True)
        if stop:
            break
    return trainer.results()


def train(
    config: TrainConfig,
    on_report: OnReport | None = None,
    resume_from: str | Path | None = None,
    **options: Any,
) -> RunResult:
    """Trains one model; see `train_members`."""
    return train_members([config], on_report, resume_from, **options)[0]
