"""Runs the trainings of a study on Ray: starts or joins it, hands out work, leaves it."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ebm_core.errors import ConfigError, Problem
from study.failures import RayError, behind
from study.guardian import guarded
from study.ledger import Ledger
from study.plan import Plan, Room
from study.pruners import looks
from study.spec import StudySpec
from study.stopping import OverdueError, Stopping

if TYPE_CHECKING:
    from study.searcher import Listener

# Ray asks what it may before it is imported: no usage reports, no change of the working directory
# (relative data paths mean the folder that the study was started from), nothing on the console:
# what fails is told by the listeners. Workers that it starts beforehand, one a core, are not those
# that Tune asks for: they would be started for nothing. Tune's snapshots and logs would grow with
# the study, and nobody reads them.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    # a trial that asks for no GPU sees none, so that `device: auto` means the CPU there
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}
# Tune's own record of a run, on the storage that all machines see; of no use afterwards.
_SCRATCH = ".tune"
_KNOCK_SECONDS = 10.0


@contextmanager
def joined(spec: StudySpec) -> Iterator[Room | None]:
    """Joins the cluster that a study names, for as long as it is entered.

    Yields:
        What the cluster has room for; None for a study that runs on this machine alone, where Ray
        is started with its trainings and ends with them.

    Raises:
        ConfigError: If there is no such cluster, or it does not let this machine in.
    """
    address = spec.resources.address
    if address == "local":
        yield None
        return
    with _environment({**_ENVIRONMENT, **_credentials()}):
        import ray

        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        # Ray raises many kinds, from a wrong port to a wrong token
        except Exception as error:
            said = _reason(error)
            rule = f"no Ray cluster can be joined there ({said[:300]})"
            raise ConfigError([Problem("resources.address", rule, address)]) from error
        try:
            found = ray.cluster_resources()
            yield Room(int(found.get("CPU", 0)), int(found.get("GPU", 0)))
        finally:
            _leave()  # the cluster is what it was


def _credentials() -> dict[str, str]:
    """Has Ray show its token, where there is one; it does so of itself only to its own cluster."""
    token = Path.home() / ".ray" / "auth_token"
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    # it would try a token that is refused 20 times, a second each
    mode = {"RAY_AUTH_MODE": "token"} if given or token.exists() else {}
    return {"RAY_NUM_REDIS_GET_RETRIES": "3", **mode}


def _knock(address: str) -> None:
    """One connection to a cluster, which says at once that there is none; Ray tries for long."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()


def _reason(error: Exception) -> str:
    """Why a cluster cannot be joined; a token that is refused is behind Ray's own error."""
    if "InvalidAuthToken" in "".join(str(each) for each in behind(error)):
        return "it does not accept the token: RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, as there"
    return " ".join(str(error).split()) or type(error).__name__


def run_trainings(
    spec: StudySpec,
    ledger: Ledger,
    folder: Path,
    plan: Plan,
    listeners: Sequence[Listener],
    stopping: Stopping,
) -> None:
    """Trains what the ledger has left, and tells the listeners.

    Returns when all is done, or when the workers have stopped because `stopping` asked them to.

    Args:
        spec: The study.
        ledger: Of the study.
        folder: Of the study, absolute.
        plan: How many trials run side by side, on how many threads, of how many members.
        listeners: See `study.searcher.Listener`.
        stopping: Ends it before all is done.
    """
    with _ray(spec, plan), stopping.listening():
        try:
            _tune(spec, ledger, folder, plan, listeners, stopping)
        except OverdueError:
            pass  # ends with Ray, or goes on until it looks at its permit
        except Exception:
            # on a full disk Tune fails over its own files, too, and says less
            if stopping.error is None:
                raise
        finally:
            shutil.rmtree(folder / _SCRATCH, ignore_errors=True)


@contextmanager
def _ray(spec: StudySpec, plan: Plan) -> Iterator[None]:
    """Ray on this machine alone; or what was joined."""
    if spec.resources.address != "local":
        yield
        return
    with _environment(_ENVIRONMENT), guarded():
        import ray

        try:
            ray.init(
                address="local",
                num_cpus=plan.workers * plan.threads,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
        # Ray gives itself half a minute, and says in many ways that it was not enough
        except Exception as error:
            _leave()
            raise RayError(_reason(error)) from error
        try:
            yield
        finally:
            _leave()


def _leave() -> None:
    """Leaves Ray, and ends it where it was started here.

    A reference to one of its objects that is freed while it shuts down ends the process at once,
    without a word. Garbage may hold some, and any thread may be the one that collects it.
    """
    import ray

    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if collecting:
            gc.enable()


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Settings of Ray, but for those that the user has made; given back at the end."""
    new = {key: value for key, value in settings.items() if key not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for key in new:
            os.environ.pop(key, None)


def _tune(
    spec: StudySpec,
    ledger: Ledger,
    folder: Path,
    plan: Plan,
    listeners: Sequence[Listener],
    stopping: Stopping,
) -> None:
    from ray import tune
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        # of workers that were lost; listeners tell that, and what follows
        worker.print_to_stdstream = lambda *_, **__: None
    # it names trials by names of its own, and complains of a full disk for itself
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)

    from study.recovery import Recovery
    from study.scheduler import PruningScheduler
    from study.searcher import StudySearcher, TrialEvents
    from study.trainable import EBMTrainable

    resources = spec.resources
    options = {
        "folder": str(folder),
        "threads": plan.threads,
        "long_run_steps": spec.long_run.steps,
        "long_run_chains": spec.long_run.chains,
        "adjusted_steps": spec.long_run.adjusted_steps,
        "long_run_every": spec.long_run.every,
        "engine_path": spec.engine_path,
        "looks": looks(spec),
        "metric": spec.metrics[0].name,
        "seconds_limit": resources.seconds_per_trial,
        "gigabytes_limit": resources.gigabytes_per_trial,
    }
    recovery = Recovery(ledger, folder, stopping)
    tune.Tuner(
        tune.with_resources(EBMTrainable, {"cpu": plan.threads, "gpu": resources.gpus_per_trial}),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(ledger, plan.members, options, stopping),
            scheduler=PruningScheduler(ledger),
            # as many as the searcher gives
            num_samples=-1,
            max_concurrent_trials=plan.workers,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(folder / _SCRATCH),
            verbose=0,
            callbacks=[TrialEvents(listeners, recovery, stopping)],
            # what failed is handed out again by the ledger
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
