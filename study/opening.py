"""Opens a study: its lock, its ledger, and what is told of it to MLflow."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ebm_core.errors import ConfigError, Problem
from ebm_core.files import replacing
from study import ledger as ledgers
from study.courier import Courier
from study.estimate import rehearse
from study.failures import behind
from study.launch import joined
from study.ledger import Ledger
from study.lock import hold
from study.mlflow_store import artifact_root, connect, recorded
from study.outbox import Outbox
from study.plan import Room
from study.recorder import Recorder
from study.spec import StudySpec
from study.tracking import Tracker

# Where the ledger notes with how many trainings it was last reported on.
CONCLUDED = "concluded"


@dataclass
class OpenStudy:
    """A study that this process holds.

    Attributes:
        spec: The study.
        folder: Its folder, absolute.
        ledger: What there is of it.
        outbox: What MLflow is still to be told.
        courier: Tells it; None for a study of which nothing is left to tell.
        recorder: Writes both.
        room: What the cluster that it trains on has room for; None for this machine alone.
    """

    spec: StudySpec
    folder: Path
    ledger: Ledger
    outbox: Outbox
    courier: Courier | None
    recorder: Recorder
    room: Room | None

    def trouble(self) -> str | None:
        """What is in the way of MLflow, None if nothing is."""
        return None if self.courier is None else self.courier.trouble


def open_study(
    spec: StudySpec,
    held: ExitStack,
    training: ExitStack,
    plan: Callable[[Room | None], object] = lambda _: None,
) -> OpenStudy:
    """Opens a study, or begins it; one that cannot be run leaves no trace of itself.

    Where a study is begun, MLflow must answer: an address may be mistyped. Where it goes on, it
    may be away. A cluster that trains must be there in either case, before MLflow is told.

    Args:
        spec: The study.
        held: What is held until the study is closed.
        training: What is held until its trainings have ended: the cluster.
        plan: Called before a new study is begun, with what the cluster has room for: may refuse.

    Raises:
        ConfigError: If data, network, folder, cluster or memory do not do.
        LedgerError: If another study is stored there.
        LockedError: If another process runs it.
        TrackingError: If MLflow does not answer.
    """
    folder = spec.folder.absolute()
    experiment = spec.tracking.experiment or spec.name
    tracker = Tracker(spec.tracking.uri, experiment, spec.name, folder)
    lock = held.enter_context(ExitStack())
    ledger, room = _open_ledger(spec, folder, tracker, lock, training, plan)
    outbox = Outbox(folder)
    told, courier = ledger.study.user_attrs.get(CONCLUDED), None
    # one that was cut off just before its end has something to tell yet
    if ledger.complete and told == ledger.recorded and not outbox.pending:
        lock.close()  # it is only looked at
    else:
        if recorded(folder) is None:
            tracker.open(spec.resolved())
        courier = Courier(tracker, outbox, spec.resolved())
    # makes good what was cut off, before any of it is told
    recorder = Recorder(outbox, ledger, folder, courier)
    if courier is not None:
        held.enter_context(courier)
    if not ledger.complete:
        with replacing(folder / "study.json") as temporary:
            temporary.write_text(json.dumps(spec.resolved(), indent=2) + "\n")
    return OpenStudy(spec, folder, ledger, outbox, courier, recorder, room)


def _open_ledger(
    spec: StudySpec,
    folder: Path,
    tracker: Tracker,
    lock: ExitStack,
    training: ExitStack,
    plan: Callable[[Room | None], object],
) -> tuple[Ledger, Room | None]:
    """The ledger, made last, and the room of the cluster that its trainings need."""
    if (folder / ledgers.FILE).exists():
        lock.enter_context(hold(folder))
        ledger, room = _read_ledger(spec, folder), None
        if not ledger.complete:
            ledger.check_data(rehearse(spec))
            room = training.enter_context(joined(spec))
        return ledger, room
    data = rehearse(spec)
    room = training.enter_context(joined(spec))
    plan(room)
    connect(tracker.uri, artifact_root(tracker.uri, folder))
    lock.enter_context(hold(folder))
    ledger = _read_ledger(spec, folder)
    ledger.check_data(data)
    return ledger, room


def _read_ledger(spec: StudySpec, folder: Path) -> Ledger:
    try:
        return ledgers.Ledger(spec, folder)
    # The libraries above the database raise their own errors, from what it said
    except Exception as error:
        reasons = [each for each in behind(error) if isinstance(each, sqlite3.Error)]
        if not reasons or "full" in str(reasons[0]):
            raise
        reason = reasons[0]
        path = folder / ledgers.FILE
        rule = f"{path} cannot be used ({reason}); restore it, or begin anew with --fresh"
        raise ConfigError([Problem("storage", rule)]) from error
