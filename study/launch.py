"""Runs the trainings of a study on Ray: starts it, hands out work, stops it."""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from study.ledger import Ledger
from study.schema.sections import Resources
from study.spec import StudySpec

if TYPE_CHECKING:
    from study.searcher import Listener

# Ray asks what it may before it is imported: no usage reports, no change of the working directory
# (relative data paths mean the folder that the study was started from), nothing on the console:
# what fails is told by the listeners.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # a trial that asks for no GPU sees none, so that `device: auto` means the CPU there
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "60",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


def worker_count(spec: StudySpec, wanted: int | None = None) -> int:
    """How many trials run side by side: never more than there are packs to train.

    Args:
        spec: The study.
        wanted: What the user asked for; None for what the cores, and GPUs, give.
    """
    members = spec.resources.members_per_trial
    packs = math.ceil(spec.trials * spec.seeds / (1 if members == "auto" else members))
    return min(packs, _side_by_side(spec.resources) if wanted is None else wanted)


def _side_by_side(resources: Resources) -> int:
    """How many trials this machine has room for, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    room = (cores or 1) // resources.cpus_per_trial
    if resources.gpus_per_trial > 0:
        import torch

        room = min(room, int(torch.cuda.device_count() / resources.gpus_per_trial))
    return max(1, room)


def members_per_pack(spec: StudySpec, workers: int) -> int:
    """K, the trainings of one pack; ``auto`` leaves an adaptive method enough rounds to learn."""
    wanted = spec.resources.members_per_trial
    return wanted if wanted != "auto" else max(1, spec.trials // (8 * workers))


def run_trainings(
    spec: StudySpec, ledger: Ledger, folder: Path, workers: int, listeners: Sequence[Listener]
) -> None:
    """Trains what the ledger has left, and tells the listeners.

    Returns when all is done, or after an interrupt (Ctrl-C), which Tune takes as a wish to end.

    Args:
        spec: The study.
        ledger: Of the study.
        folder: Of the study, absolute.
        workers: Trials that run side by side.
        listeners: See `study.searcher.Listener`.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in _ENVIRONMENT.items()})
    import ray
    from ray import tune

    # at the end it would name trials that failed or were interrupted by names of its own
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)

    from study.searcher import StudySearcher, TrialEvents
    from study.trainable import EBMTrainable

    resources = {
        "cpu": spec.resources.cpus_per_trial,
        "gpu": spec.resources.gpus_per_trial,
    }
    members = members_per_pack(spec, workers)
    options = {
        "folder": str(folder),
        "threads": spec.resources.cpus_per_trial,
        "long_run_steps": spec.long_run.steps,
        "long_run_chains": spec.long_run.chains,
        "adjusted_steps": spec.long_run.adjusted_steps,
    }
    # Tune's own record of the run is of no use afterwards: the ledger is what a study goes on from
    scratch = tempfile.mkdtemp(prefix="study-")
    ray.init(
        address="local",
        num_cpus=workers * spec.resources.cpus_per_trial,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        tune.Tuner(
            tune.with_resources(EBMTrainable, resources),
            tune_config=tune.TuneConfig(
                search_alg=StudySearcher(ledger, members, options),
                num_samples=ledger.packs_left(members),
                max_concurrent_trials=workers,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=spec.name,
                storage_path=scratch,
                verbose=0,
                callbacks=[TrialEvents(listeners)],
                failure_config=tune.FailureConfig(max_failures=1),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)
