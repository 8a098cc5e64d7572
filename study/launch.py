"""Runs the trainings of a study on Ray: starts it, hands out work, stops it."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from study.ledger import Ledger
from study.plan import Plan
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


def run_trainings(
    spec: StudySpec, ledger: Ledger, folder: Path, plan: Plan, listeners: Sequence[Listener]
) -> None:
    """Trains what the ledger has left, and tells the listeners.

    Returns when all is done, or after an interrupt (Ctrl-C), which Tune takes as a wish to end.

    Args:
        spec: The study.
        ledger: Of the study.
        folder: Of the study, absolute.
        plan: How many trials run side by side, on how many threads, of how many members.
        listeners: See `study.searcher.Listener`.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in _ENVIRONMENT.items()})
    import ray
    from ray import tune

    # at the end it would name trials that failed or were interrupted by names of its own
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)

    from study.searcher import StudySearcher, TrialEvents
    from study.trainable import EBMTrainable

    options = {
        "folder": str(folder),
        "threads": plan.threads,
        "long_run_steps": spec.long_run.steps,
        "long_run_chains": spec.long_run.chains,
        "adjusted_steps": spec.long_run.adjusted_steps,
        "engine_path": spec.engine_path,
    }
    # Tune's own record of the run is of no use afterwards: the ledger is what a study goes on from
    scratch = tempfile.mkdtemp(prefix="study-")
    ray.init(
        address="local",
        num_cpus=plan.workers * plan.threads,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        tune.Tuner(
            tune.with_resources(
                EBMTrainable, {"cpu": plan.threads, "gpu": spec.resources.gpus_per_trial}
            ),
            tune_config=tune.TuneConfig(
                search_alg=StudySearcher(ledger, plan.members, options),
                num_samples=ledger.packs_left(plan.members),
                max_concurrent_trials=plan.workers,
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
