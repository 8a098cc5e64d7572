"""How long a study will take and how much memory, from a short probe."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from ebm_core.data import Dataset, is_plane_law
from ebm_core.evaluate import long_run
from ebm_core.trainer import Trainer
from study import space
from study.spec import StudySpec

# Ray, and torch and matplotlib in every worker
_START_SECONDS = 15.0
_WORKER_BYTES = 700e6
# Pictures and files of one training
_PICTURE_SECONDS = 1.5
_WARM_UPDATES = 3
_PROBE_SECONDS = 1.5
# The least variance of this many coordinates takes about a second to find
_COORDINATES = 1024


@dataclass(frozen=True)
class Estimate:
    """What a study is expected to cost.

    Attributes:
        training_seconds: The update loop of one training.
        check_seconds: The long-run check of one training.
        study_seconds: The whole study, as a clock shows it.
        worker_bytes: Memory of one worker process.
        narrowest: Least sd of the data along any direction, without added noise; units of x.
    """

    training_seconds: float
    check_seconds: float
    study_seconds: float
    worker_bytes: float
    narrowest: float


def estimate(spec: StudySpec, workers: int, members: int) -> Estimate:
    """Trains one pack for a moment, in this process, and multiplies.

    Args:
        spec: The study.
        workers: Trials that run side by side.
        members: Trainings of one pack.
    """
    torch.set_num_threads(spec.resources.cpus_per_trial)
    point = space.random_points(spec.parameters, 1, spec.seed)[0]
    trainer = Trainer([spec.config(point, 0)] * members)
    trainer.run(_WARM_UPDATES)
    before, began = trainer.update, time.perf_counter()
    while time.perf_counter() - began < _PROBE_SECONDS and trainer.update < trainer.config.updates:
        trainer.run(1)
    per_update = (time.perf_counter() - began) / max(1, trainer.update - before)
    training = per_update * trainer.config.updates
    check = _check_seconds(spec, trainer) * members
    pack = training + check + _PICTURE_SECONDS * members
    packs = -(-spec.trials * spec.seeds // members)
    rounds = -(-packs // workers)
    state = trainer.states.nbytes + trainer.records.nbytes
    data = getattr(trainer.dataset, "x", torch.empty(0)).nbytes
    return Estimate(
        training_seconds=training / members,
        check_seconds=check / members,
        study_seconds=_START_SECONDS + rounds * pack,
        worker_bytes=_WORKER_BYTES + 2 * state + 3 * data,
        narrowest=_narrowest(trainer.dataset),
    )


def _check_seconds(spec: StudySpec, trainer: Trainer) -> float:
    steps, chains = spec.long_run.steps, spec.long_run.chains
    if steps == 0:
        return 0.0
    result = trainer.result()
    batch = result.chains[torch.arange(chains) % len(result.chains)]
    trial_steps = min(steps, 20)
    began = time.perf_counter()
    long_run(result.energy, batch, batch, trainer.config.epsilon, trial_steps, chains=chains)
    return (time.perf_counter() - began) / trial_steps * steps


def _narrowest(dataset: Dataset) -> float:
    """Least sd of the data along any direction.

    Of very large samples along any direction of their first coordinates: no less than that of all,
    and neighbouring pixels are what varies together most closely.
    """
    if is_plane_law(dataset):
        return float(dataset.sd)
    x = getattr(dataset, "x").flatten(1)[:, :_COORDINATES].double()  # noqa: B009
    least = torch.linalg.eigvalsh(torch.cov(x.T).reshape(x.shape[1], -1))[0]
    return float(least.clamp(min=0).sqrt())
