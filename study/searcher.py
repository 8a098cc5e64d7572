"""Ray Tune's side of a study: it asks the ledger for work, and passes on what comes back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.search import Searcher

from ebm_core.config import make_config
from study.job import Assignment, Point, Unit
from study.ledger import Ledger
from study.table import Row, failed_row

# The end of what a failed worker said; the rest lies in its own log.
_TAIL_LINES = 15
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

    def ended(self, units: Sequence[Unit], rows: list[Row]) -> None:
        """A pack ended, or failed to run; the rows say which."""
        ...


class _Unsaved:
    """Leaves nothing of itself in Tune's snapshots: a study goes on from its ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StudySearcher(_Unsaved, Searcher):
    """Gives Tune the next pack of the ledger. It has no state of its own to save.

    Args:
        ledger: Of the study.
        members: Units of one pack.
        options: The other fields of `Assignment`.
    """

    def __init__(self, ledger: Ledger, members: int, options: dict[str, Any]) -> None:
        super().__init__(metric=None, mode=None)
        self._ledger, self._members, self._options = ledger, members, options

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        units = self._ledger.next_pack(self._members)
        if not units:
            return Searcher.FINISHED
        return {"assignment": Assignment(units=tuple(units), **self._options).plain()}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        pass  # `TrialEvents` records the rows, which Tune flattens for searchers

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study goes on from its ledger, not from Tune's snapshots")


class TrialEvents(_Unsaved, tune.Callback):
    """Translates Tune's events for listeners that know nothing of Tune.

    Args:
        listeners: Told in this order: what records first, what shows after it.
    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        units = _units(trial)
        for listener in self._listeners:
            listener.started(units)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        units = _units(trial)
        for listener in self._listeners:
            listener.progressed(units, result["update"], result["curves"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        # Tune calls a trial complete, too, that an interruption stopped half-way
        if rows := trial.last_result.get("rows"):
            self._ended(_units(trial), rows)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        units = _units(trial)
        self._ended(units, list(_failed_rows(units, _cause(trial))))

    def _ended(self, units: Sequence[Unit], rows: list[Row]) -> None:
        for listener in self._listeners:
            listener.ended(units, rows)


def _units(trial: Any) -> tuple[Unit, ...]:
    return Assignment.from_plain(trial.config["assignment"]).units


def _failed_rows(units: Sequence[Unit], cause: str) -> Iterator[Row]:
    for unit in units:
        yield failed_row(make_config(unit.config), unit.trial, unit.seed, cause, unit.point)


def _cause(trial: Any) -> str:
    """The last lines of what went wrong, the error itself at the end."""
    if not trial.error_file or not Path(trial.error_file).exists():
        return "the worker was lost"
    text = _COLOUR.sub("", Path(trial.error_file).read_text(errors="replace"))
    return "\n".join(text.strip().splitlines()[-_TAIL_LINES:])
