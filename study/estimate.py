"""A study tried out for a moment in this process: whether it can run, and what it will cost."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

import torch

from ebm_core.config import TrainConfig
from ebm_core.data import Dataset, is_plane_law, load_data
from ebm_core.device import resolve_device
from ebm_core.errors import ConfigError, DataError, EnergyError, Problem
from ebm_core.evaluate import check
from ebm_core.trainer import Trainer
from study import space
from study.spec import StudySpec

# Ray, and torch and matplotlib in every worker
_START_SECONDS = 15.0
_WORKER_BYTES = 700e6
# Pictures and files of one training
_PICTURE_SECONDS = 1.5
# One of each kind is tried out; all of them tell how long trainings are on average
_POINTS = 64
_WARM_UPDATES = 3
_PROBE_SECONDS = 1.5
_FEW_STEPS, _MORE_STEPS = 20, 120
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


def rehearse(spec: StudySpec) -> None:
    """Builds every network of a study once on its data, so that no worker need fail over them.

    Raises:
        ConfigError: If data cannot be read, a network not be trained, or a device is not there.
    """
    gpus, wanted = torch.cuda.device_count(), spec.resources.gpus_per_trial
    if wanted > gpus:
        rule = f"must not be more than there are here ({gpus})"
        raise ConfigError([Problem("resources.gpus_per_trial", rule, wanted)])
    try:
        _build(spec)
    except ConfigError as error:
        problems = error.problems
    except DataError as error:
        problems = [Problem("data", str(error))]
    except EnergyError as error:
        problems = [Problem("network", str(error))]
    else:
        return
    raise ConfigError([each.under(_section(spec, each.key)) for each in problems])


def _build(spec: StudySpec) -> None:
    configs = [spec.config(point) for point in space.probe_points(spec.parameters)]
    resolve_device(configs[0].device)
    datasets = {str(config.data): load_data(config.data) for config in configs}
    for config, *_ in _kinds(configs):
        Trainer([config.with_(device="cpu")], dataset=datasets[str(config.data)])


def _section(spec: StudySpec, key: str) -> str:
    """Where in the study file a field of the training is decided."""
    return "parameters" if key.split(".")[0] in spec.parameters else "base"


def estimate(spec: StudySpec, workers: int, members: int) -> Estimate:
    """Trains one pack for a moment, in this process, and multiplies.

    Args:
        spec: The study.
        workers: Trials that run side by side.
        members: Trainings of one pack.
    """
    points = space.random_points(spec.parameters, _POINTS, spec.seed)
    configs = [spec.config(point) for point in points]
    training = check = most = 0.0
    narrowest = math.inf
    # what a training costs hangs on its data and its network; the mean is over all points
    for kind in _kinds(configs):
        share = len(kind) / len(configs)
        with _threads(spec.resources.cpus_per_trial):
            trainer = Trainer([kind[0]] * members)
            updates = fmean(config.updates for config in kind)
            training += share * _update_seconds(trainer) * updates
            check += share * _check_seconds(spec, trainer) * members
        state = trainer.states.nbytes + trainer.records.nbytes
        data = getattr(trainer.dataset, "x", torch.empty(0)).nbytes
        most = max(most, 2 * state + 3 * data)
        narrowest = min(narrowest, _narrowest(trainer.dataset))
    pack = training + check + _PICTURE_SECONDS * members
    packs = math.ceil(spec.trials * spec.seeds / members)
    return Estimate(
        training_seconds=training / members,
        check_seconds=check / members,
        study_seconds=_START_SECONDS + math.ceil(packs / workers) * pack,
        worker_bytes=_WORKER_BYTES + most,
        narrowest=narrowest,
    )


def _kinds(configs: Sequence[TrainConfig]) -> list[list[TrainConfig]]:
    """Configurations apart by their data and network."""
    found: dict[str, list[TrainConfig]] = {}
    for config in configs:
        found.setdefault(f"{config.data} {config.network}", []).append(config)
    return list(found.values())


def narrow_directions(spec: StudySpec, narrowest: float) -> list[str]:
    """A warning where chains are wider than the noised data along some direction of the data.

    Args:
        spec: The study.
        narrowest: See `Estimate`.
    """
    probes = [spec.config(point) for point in space.probe_points(spec.parameters)]
    bad = [c for c in probes if c.data_epsilon**2 + narrowest**2 < c.epsilon**2]
    if not bad:
        return []
    worst = max(bad, key=lambda config: config.epsilon)
    return [
        f"some direction of the data has an sd of {narrowest:.2g}, which with its noise stays "
        f"under epsilon={worst.epsilon:g}: there chains are wider than the data, and no energy "
        "can match them (appendix C)"
    ]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """As many threads as a worker has, for a moment."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _update_seconds(trainer: Trainer) -> float:
    trainer.run(_WARM_UPDATES)
    before, began = trainer.update, time.perf_counter()
    while not trainer.finished and time.perf_counter() - began < _PROBE_SECONDS:
        trainer.run(1)
    if trainer.update > before:
        return (time.perf_counter() - began) / (trainer.update - before)
    # diverged in the warm-up, which is then all there is
    return trainer.seconds / trainer.update


def _check_seconds(spec: StudySpec, trainer: Trainer) -> float:
    steps, chains = spec.long_run.steps, spec.long_run.chains
    if steps == 0:
        return 0.0
    result = trainer.result()

    def seconds(steps: int, adjusted_steps: int = 0) -> float:
        began = time.perf_counter()
        check(result, steps, chains, trainer.dataset, adjusted_steps=adjusted_steps)
        return time.perf_counter() - began

    # what every check costs, and what each step adds to it
    few, more = seconds(_FEW_STEPS), seconds(_MORE_STEPS)
    a_step = max(0.0, more - few) / (_MORE_STEPS - _FEW_STEPS)
    found = few + a_step * (steps - _FEW_STEPS)
    if adjusted := spec.long_run.adjusted_steps:
        found += max(0.0, seconds(_FEW_STEPS, _FEW_STEPS) - few) / _FEW_STEPS * adjusted
    return max(0.0, found)


def _narrowest(dataset: Dataset) -> float:
    """Least sd of the data along any direction.

    Of very large samples along any direction of their first coordinates: no less than that of all,
    and neighbouring pixels are what varies together most closely.
    """
    if is_plane_law(dataset):
        return float(dataset.sd)
    x = getattr(dataset, "x").flatten(1)[:, :_COORDINATES].double()  # noqa: B009
    if len(x) <= x.shape[1]:
        return 0.0  # so few samples do not vary along every direction
    least = torch.linalg.eigvalsh(torch.cov(x.T).reshape(x.shape[1], -1))[0]
    return float(least.clamp(min=0).sqrt())
