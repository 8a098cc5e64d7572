"""Ray Tune's side of a study: it asks the ledger for work, and passes on what comes back."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.search import Searcher

from study import permit
from study.assignment import Assignment, PackFiles, Unit
from study.failures import Failure, told
from study.job import Point
from study.ledger import Ledger
from study.recovery import Recovery
from study.stopping import Stopping
from study.table import Row
from study.unsaved import Unsaved
from study.worker_log import tail

# Ray prints the names of its tasks in colour.
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


class Listener(Protocol):
    """What wants to know how the trainings of a study go; `units` are those of one pack."""

    def started(self, units: Sequence[Unit]) -> None:
        """A pack was put on a worker."""
        ...

    def progressed(self, units: Sequence[Unit], update: int, curves: list[list[Point]]) -> None:
        """A pack made some updates; `curves` holds the new points of each unit."""
        ...

    def held_up(self, units: Sequence[Unit], why: str) -> None:
        """An attempt at a pack failed, and what follows."""
        ...

    def ended(self, units: Sequence[Unit], rows: list[Row]) -> None:
        """A pack ended, or failed to run; the rows say which."""
        ...


class StudySearcher(Unsaved, Searcher):
    """Gives Tune the next pack of the ledger. It has no state of its own to save.

    Args:
        ledger: Of the study.
        members: Units of one pack.
        options: The other fields of `Assignment`.
        stopping: Ends the search.
    """

    def __init__(
        self, ledger: Ledger, members: int, options: dict[str, Any], stopping: Stopping
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._ledger, self._members, self._options = ledger, members, options
        self._stopping = stopping
        self._running: dict[str, PackFiles] = {}

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if self._stopping.asked:
            return Searcher.FINISHED
        units = self._ledger.next_pack(self._members)
        if not units:
            # what runs may fail, and be handed out again
            return None if self._running else Searcher.FINISHED
        files = PackFiles.of(Path(self._options["folder"]), units)
        assignment = Assignment(
            units=tuple(units),
            token=permit.issue(files.permit),
            stop_at=self._ledger.stopped_at(units[0]),
            **self._options,
        )
        self._running[trial_id] = files
        self._stopping.began(files.permit)
        return {"assignment": assignment.plain()}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        # `TrialEvents` records the rows, which Tune flattens for searchers
        if files := self._running.pop(trial_id, None):
            self._stopping.ended(files.permit)

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study goes on from its ledger, not from Tune's snapshots")


class TrialEvents(Unsaved, tune.Callback):
    """Translates Tune's events for listeners that know nothing of Tune.

    Tune would take an error here for one of the trial; it ends the study instead.

    Args:
        listeners: Told in this order: what records first, what shows after it.
        recovery: Decides about attempts that failed.
        stopping: Asked to stop if a listener fails.
    """

    def __init__(
        self, listeners: Sequence[Listener], recovery: Recovery, stopping: Stopping
    ) -> None:
        self._listeners, self._recovery, self._stopping = listeners, recovery, stopping

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        self._stopping.check()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        units = units_of(trial)
        self._tell(lambda listener: listener.started(units))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        units = units_of(trial)
        update, curves = result["update"], result["curves"]
        self._tell(lambda listener: listener.progressed(units, update, curves))
        # Tune keeps the last result of every trial
        result["curves"] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        # Tune calls a trial complete, too, that was stopped half-way
        if rows := trial.last_result.get("rows"):
            self._tell(lambda listener: listener.ended(units_of(trial), rows))
            _forget(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        if not self._stopping.asked:
            self._guarded(lambda: self._failed(trial))

    def _failed(self, trial: Any) -> None:
        units = units_of(trial)
        update = (trial.last_result or {}).get("update", -1)
        rows, why = self._recovery.failed(units, failure_of(trial), update)
        if rows:
            self._tell(lambda listener: listener.ended(units, rows))
        elif why:
            self._tell(lambda listener: listener.held_up(units, why))

    def _tell(self, news: Callable[[Listener], None]) -> None:
        for listener in self._listeners:
            self._guarded(partial(news, listener))

    def _guarded(self, action: Callable[[], None]) -> None:
        if self._stopping.error is not None:
            return  # nothing is recorded after what could not be
        try:
            action()
        except Exception as error:
            self._stopping.ask(error)


def _forget(trial: Any) -> None:
    """Empties what Tune would keep of a trial to the end of the study: the ledger has it."""
    trial.last_result["rows"] = []
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()
    trial.evaluated_params = {}


def units_of(trial: Any) -> tuple[Unit, ...]:
    """The trainings of a Tune trial."""
    return Assignment.from_plain(trial.config["assignment"]).units


def failure_of(trial: Any) -> Failure:
    """What went wrong with a Tune trial, from what Ray and the worker said."""
    text = ""
    if trial.error_file and Path(trial.error_file).exists():
        text = _COLOUR.sub("", Path(trial.error_file).read_text(errors="replace"))
    files = PackFiles.of(Path(trial.config["assignment"]["folder"]), units_of(trial))
    return told(text, tail(files.log))
