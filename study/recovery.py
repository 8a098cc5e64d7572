"""What is done about attempts that failed: the pack is retried, halved, or given up."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from ebm_core import checkpoint
from ebm_core.checkpoint import CheckpointWarning
from ebm_core.config import make_config
from ebm_core.errors import CheckpointError
from ebm_core.files import replacing
from ebm_core.snapshot import part
from study.assignment import PackFiles, Unit
from study.failures import Failure, Kind, Next, StorageError
from study.ledger import Ledger
from study.stopping import Stopping
from study.table import Row, failed_row

# What a training that was given up leaves in its folder.
FAILURE = "failure.txt"
_WORDS = {
    Next.RETRY: "goes on from its last checkpoint",
    Next.SPLIT: "goes on in halves",
}


class Recovery:
    """Decides about failed attempts, and prepares what follows.

    Args:
        ledger: Of the study, which counts failures.
        folder: Of the study.
        stopping: Asked to stop the study where no attempt could succeed.
    """

    def __init__(self, ledger: Ledger, folder: Path, stopping: Stopping) -> None:
        self._ledger, self._folder, self._stopping = ledger, folder, stopping

    def failed(
        self, units: Sequence[Unit], failure: Failure, update: int
    ) -> tuple[list[Row], str]:
        """An attempt failed.

        Args:
            units: Of the pack.
            failure: What went wrong.
            update: How many updates it had made.

        Returns:
            The rows of its trainings if they are given up, else none; and what follows, in words.
        """
        if failure.kind is Kind.STORAGE:
            self._stopping.ask(StorageError(failure.headline))
            return [], ""
        found = self._ledger.failed(units, failure.kind, update)
        if found is Next.GIVE_UP:
            return self._given_up(units, failure), ""
        if found is Next.SPLIT:
            self._split(units)
        return [], f"{failure.headline}; {_WORDS[found]}"

    def _split(self, units: Sequence[Unit]) -> None:
        """Gives each half its part of the checkpoint; then the ledger is told.

        An interruption before that finds the whole pack as it was.
        """
        files = PackFiles.of(self._folder, units)
        middle = (len(units) + 1) // 2
        for members in (range(middle), range(middle, len(units))):
            half = [units[member] for member in members]
            target = PackFiles.of(self._folder, half).checkpoint
            checkpoint.remove(target)  # of an attempt to split that was cut off
            if state := _newest(files):
                checkpoint.save(part(state, list(members)), target)
        self._ledger.split(units)
        files.remove()

    def _given_up(self, units: Sequence[Unit], failure: Failure) -> list[Row]:
        rows = []
        for unit in units:
            with replacing(self._folder / unit.folder / FAILURE) as temporary:
                temporary.write_text(f"{failure.cause}\n")
            config = make_config(unit.config)
            rows.append(failed_row(config, unit.trial, unit.seed, failure.cause, unit.point))
        return rows


def _newest(files: PackFiles) -> dict[str, object] | None:
    if not checkpoint.exists(files.checkpoint):
        return None
    try:
        return checkpoint.load_newest(files.checkpoint)[0]
    except CheckpointError as error:
        warnings.warn(f"begun anew: {error}", CheckpointWarning, stacklevel=2)
        return None
