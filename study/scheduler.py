"""Early stopping under Ray Tune: a scheduler that asks Optuna, which keeps what it knows."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.ledger import Ledger
from study.searcher import units_of
from study.unsaved import Unsaved


class PruningScheduler(Unsaved, FIFOScheduler):
    """Stops what the pruner of a study would stop.

    A trial that is stopped is handed out once more by the ledger, to be judged as far as it came.

    Args:
        ledger: Of the study.
    """

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        value = result.get("look")
        # no more than one training of a trial is stopped early
        unit = units_of(trial)[0]
        stop = value is not None and self._ledger.look(unit, result["update"], value)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)
