"""Keeps what comes back from the workers: in MLflow first, then for good in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from study.job import Point, Unit, pack_checkpoint
from study.ledger import Ledger
from study.progress import label
from study.space import searched
from study.table import Row
from study.tracking import Tracker


class Recorder:
    """A listener that records.

    A training counts as done once the ledger has its row. MLflow comes before, and takes the same
    twice: if the driver dies between the two, the training is handed out again, goes on from its
    last checkpoint and ends as it did.

    Args:
        tracker: Of the study, open.
        ledger: Of the study.
        folder: Of the study.
    """

    def __init__(self, tracker: Tracker, ledger: Ledger, folder: Path) -> None:
        self._tracker, self._ledger, self._folder = tracker, ledger, folder
        self._runs: dict[tuple[int, int], str] = {}

    def started(self, units: Sequence[Unit]) -> None:
        """Finds or makes the MLflow run of each unit."""
        for unit in units:
            self._run(unit)

    def progressed(self, units: Sequence[Unit], update: int, curves: list[list[Point]]) -> None:
        """Logs the new points of the curves."""
        for unit, points in zip(units, curves, strict=True):
            self._tracker.log_curve(self._run(unit), points)

    def ended(self, units: Sequence[Unit], rows: list[Row]) -> None:
        """Closes the runs, enters the rows into the ledger, and lets the pack's checkpoint go."""
        for unit, row in zip(units, rows, strict=True):
            run, files = self._run(unit), self._folder / unit.folder
            self._tracker.finish_child(run, row, files, failed=row["status"] == "failed")
            self._ledger.record(unit, row)
        (self._folder / pack_checkpoint(units)).unlink(missing_ok=True)

    def _run(self, unit: Unit) -> str:
        """The MLflow run of a unit. What fails while it is set up has ended and never started."""
        key = unit.trial, unit.seed
        if key not in self._runs:
            spec = self._ledger.spec
            name = label(unit, spec.seeds, searched(spec.parameters))
            self._runs[key] = self._tracker.child(unit.trial, unit.seed, unit.config, name)
            self._ledger.set_run(unit, self._runs[key])
        return self._runs[key]
