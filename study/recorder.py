"""Keeps what comes back from the workers: for good in the ledger, and for MLflow in the outbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ebm_core.files import sweep
from study.assignment import PackFiles, Unit
from study.job import Point
from study.ledger import Ledger
from study.outbox import Key, Outbox
from study.progress import label
from study.space import searched
from study.table import Row


class Runs(Protocol):
    """Who knows MLflow's runs, as `study.courier.Courier` does."""

    @property
    def runs(self) -> Mapping[Key, str]:
        """Those known so far."""
        ...


class Recorder:
    """A listener that records, and never waits for MLflow.

    A training counts as done once the ledger has its row. What MLflow is told of it follows from
    that row: if the driver dies between the two, the next one tells it.

    Args:
        outbox: Of the study. How the study ended the time before is not told any more.
        ledger: Of the study.
        folder: Of the study.
        courier: Who delivers what is in the outbox; None if nobody does.
    """

    def __init__(self, outbox: Outbox, ledger: Ledger, folder: Path, courier: Runs | None) -> None:
        self._outbox, self._ledger, self._folder = outbox, ledger, folder
        self._courier = courier
        self._begun: set[Key] = set()
        self._noted: set[Key] = set()
        outbox.reopen()
        rows = {_key(row): row for row in ledger.rows()}
        self._recorded = set(rows)
        for key in outbox.unfinished():
            if key in rows:
                outbox.finish(_unit(key), rows[key])

    def started(self, units: Sequence[Unit]) -> None:
        """Tells of each unit that it is on a worker."""
        spec = self._ledger.spec
        for unit in units:
            if unit.key not in self._begun | self._recorded:
                name = label(unit, spec.seeds, searched(spec.parameters))
                self._outbox.start(unit, name)
                self._begun.add(unit.key)
        self.note_runs()

    def progressed(self, units: Sequence[Unit], update: int, curves: list[list[Point]]) -> None:
        """Tells of the new points of the curves."""
        self.started(units)
        for unit, points in zip(units, curves, strict=True):
            # an interrupted pack comes again as a whole
            if unit.key not in self._recorded:
                self._outbox.curve(unit, points)

    def held_up(self, units: Sequence[Unit], why: str) -> None:
        """Keeps nothing: the ledger has counted the failure, and the pack comes again."""

    def ended(self, units: Sequence[Unit], rows: list[Row]) -> None:
        """Enters the rows into the ledger, tells of them, and lets the pack's files go."""
        # what fails while it is set up has ended and never started
        self.started(units)
        for unit, row in zip(units, rows, strict=True):
            if unit.key not in self._recorded:
                # of attempts that were killed as they wrote; MLflow is to have none of it
                sweep(self._folder / unit.folder)
                self._outbox.sync(unit)
                self._ledger.record(unit, row)
                self._recorded.add(unit.key)
                self._outbox.finish(unit, row)
        PackFiles.of(self._folder, units).remove()

    def note_runs(self) -> None:
        """Enters into the ledger which runs in MLflow are known by now."""
        runs = self._courier.runs if self._courier else {}
        for key in runs.keys() - self._noted:
            self._ledger.set_run(_unit(key), runs[key])
        self._noted |= runs.keys()


def _unit(key: Key) -> Unit:
    """A training of which no more than its number matters."""
    return Unit(*key, point={}, config={})


def _key(row: Row) -> Key:
    trial, seed = row["trial"], row["seed"]
    assert isinstance(trial, int)
    assert isinstance(seed, int)
    return trial, seed
