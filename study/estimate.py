"""What a study will cost, and whether it can run at all, before it starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm_core.data import Dataset, is_plane_law, load_data
from ebm_core.device import check_precision, resolve_device
from ebm_core.errors import ConfigError, DataError, EnergyError, Problem
from ebm_core.fingerprint import fingerprint
from ebm_core.mapped import Rows, blocks
from ebm_core.trainer import Trainer
from study import memory, plan, space
from study.failures import recognized
from study.plan import Plan, Wanted
from study.probe import GPU_SHARE
from study.probes import ProbeError, Probes
from study.spec import StudySpec
from study.survey import PackCost, Survey, kinds

# What a study does besides its trainings, in starts of a worker, which are measured: imports,
# Ray, MLflow, the report.
_STARTS = 14.0
# What a worker of Ray takes beside a probe, as measured: 48 to 149 MB for perceptrons in the plane
# and on digits and for convolutional networks at 32x32
_RAY_BYTES = 100e6
# The least variance of this many coordinates takes about a second to find
_COORDINATES = 1024


@dataclass(frozen=True)
class Estimate:
    """What a study is expected to cost. Trainings that diverge end sooner, unforeseen.

    Attributes:
        training_seconds: The update loop of one training.
        check_seconds: The long-run check of one training.
        study_seconds: The whole command, as a clock shows it.
        worker_bytes: Memory of one worker process, or of its GPU.
    """

    training_seconds: float
    check_seconds: float
    study_seconds: float
    worker_bytes: float


def prepare(
    spec: StudySpec,
    wanted: Wanted,
    trainings: int,
    tell: Callable[[], None] | None = None,
) -> tuple[Plan, Estimate]:
    """Tries out packs, chooses what is ``auto``, and says what the study will cost.

    Args:
        spec: The study.
        wanted: What the user asks for.
        trainings: That are to be made.
        tell: Called if it takes longer.

    Raises:
        ConfigError: If the memory of this machine or of a GPU does not hold it.
        ProbeError: If packs cannot be tried out.
    """
    side_by_side = wanted.plan(trainings).workers
    elsewhere = spec.resources.address != "local"
    if elsewhere and spec.resources.gpus_per_trial > torch.cuda.device_count():
        raise ProbeError("the GPUs of the cluster are on other machines")
    with Probes(side_by_side, spec.resources.gpus_per_trial) as probes:
        survey = Survey(spec, probes, tell)
        chosen, cost = plan.choose(spec, wanted, survey, trainings)
        if not elsewhere:
            _check_memory(spec, chosen, cost)
        return chosen, estimate(chosen, cost, trainings, survey)


def _check_memory(spec: StudySpec, chosen: Plan, cost: PackCost) -> None:
    here = spec.config(next(iter(space.probe_points(spec.parameters)))).device
    if spec.resources.gpus_per_trial and here != "cpu":
        memory.check_gpu(cost.members, cost.size, cost.room / GPU_SHARE)
    else:
        memory.check_workers(chosen.workers, cost.members, cost.size - cost.idle)


def estimate(chosen: Plan, cost: PackCost, trainings: int, survey: Survey) -> Estimate:
    """The cost of a study from that of one of its packs.

    Args:
        chosen: How it runs.
        cost: Of one pack.
        trainings: That are to be made.
        survey: What measured it, whose own time counts.
    """
    rounds = _rounds(cost.members, chosen.workers, trainings)
    besides = _STARTS * survey.start_seconds + survey.seconds
    return Estimate(
        training_seconds=cost.training / cost.members,
        check_seconds=cost.check,
        study_seconds=besides + cost.cold + rounds * cost.seconds,
        worker_bytes=cost.size + _RAY_BYTES,
    )


def _rounds(members: float, workers: int, trainings: int) -> float:
    """Packs of the busiest worker; one that is not full counts by its members."""
    packs, rest = divmod(trainings, members)
    rounds, over = divmod(packs, workers)
    return rounds + (1.0 if over else rest / members)


def rehearse(spec: StudySpec) -> dict[str, dict[str, Any]]:
    """Builds every network of a study once on its data, so that no worker need fail over them.

    Returns:
        The fingerprint of each data set.

    Raises:
        ConfigError: If data cannot be read, a network not be trained, or a device is not there.
    """
    gpus, wanted = torch.cuda.device_count(), spec.resources.gpus_per_trial
    # those of a cluster are elsewhere
    if spec.resources.address == "local" and wanted > gpus:
        rule = f"must not be more than there are here ({gpus})"
        raise ConfigError([Problem("resources.gpus_per_trial", rule, wanted)])
    try:
        return _build(spec)
    except ConfigError as error:
        problems = error.problems
    except DataError as error:
        problems = [Problem("data", str(error))]
    except EnergyError as error:
        problems = [Problem("network", str(error))]
    except (MemoryError, RuntimeError) as error:
        if (found := recognized(error)) is None:
            raise
        rule = f"must fit into memory: {str(found).partition('] ')[2]}"
        problems = [Problem("", rule)]
    raise ConfigError([each.under(_section(spec, each.key)) for each in problems])


def _build(spec: StudySpec) -> dict[str, dict[str, Any]]:
    configs = [spec.config(point) for point in space.probe_points(spec.parameters)]
    check_precision(configs[0].precision, resolve_device(configs[0].device))
    datasets = {str(config.data): load_data(config.data) for config in configs}
    for kind in kinds(configs):
        here = {"device": "cpu"}
        if kind.config.precision == "tf32":  # which the device of the trainings has
            here["precision"] = "float32"
        memory.check_states(kind.config, math.prod(datasets[str(kind.config.data)].shape))
        Trainer([kind.config.with_(**here)], dataset=datasets[str(kind.config.data)])
    return {name: fingerprint(dataset) for name, dataset in datasets.items()}


def _section(spec: StudySpec, key: str) -> str:
    """Where in the study file a field of the training is decided."""
    return "parameters" if key.split(".")[0] in spec.parameters else "base"


def narrow_directions(spec: StudySpec, least_sd: float) -> list[str]:
    """A warning where chains are wider than the noised data along some direction of the data.

    Args:
        spec: The study.
        least_sd: See `narrowest`.
    """
    probes = [spec.config(point) for point in space.probe_points(spec.parameters)]
    bad = [c for c in probes if c.data_epsilon**2 + least_sd**2 < c.epsilon**2]
    if not bad:
        return []
    worst = max(bad, key=lambda config: config.epsilon)
    return [
        f"some direction of the data has an sd of {least_sd:.2g}, which with its noise stays "
        f"under epsilon={worst.epsilon:g}: there chains are wider than the data, and no energy "
        "can match them (appendix C)"
    ]


def narrowest(spec: StudySpec) -> float:
    """Least sd along any direction of any of its data, without added noise, in units of x."""
    points = space.probe_points(spec.parameters)
    found = {str(data): data for data in (spec.config(point).data for point in points)}
    return min(_narrowest(load_data(data)) for data in found.values())


def _narrowest(dataset: Dataset) -> float:
    """Least sd of the data along any direction.

    Of very large samples along any direction of their first coordinates: no less than that of all,
    and neighbouring pixels are what varies together most closely.
    """
    if is_plane_law(dataset):
        return float(dataset.sd)
    x: Rows = getattr(dataset, "x")  # noqa: B009
    dimensions = min(_COORDINATES, math.prod(dataset.shape))
    if len(x) <= dimensions:
        return 0.0  # so few samples do not vary along every direction

    def parts() -> Iterator[Tensor]:
        return (x[rows].flatten(1)[:, :dimensions].double() for rows in blocks(x))

    mean = torch.stack([part.sum(0) for part in parts()]).sum(0) / len(x)
    scatter = torch.zeros(dimensions, dimensions, dtype=torch.float64)
    for part in parts():
        scatter.addmm_((part - mean).T, part - mean)
    least = torch.linalg.eigvalsh(scatter / (len(x) - 1))[0]
    return float(least.clamp(min=0).sqrt())
