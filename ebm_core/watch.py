"""Long chains from time to time while a training goes on, and the file that they are told in."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ebm_core.evaluate import check
from ebm_core.files import replacing
from ebm_core.long_run import LongRun
from ebm_core.trainer import Trainer

LONG_RUNS = "long_runs.csv"
COLUMNS = ("update", "member", "outcome", "departure", "standard_error", "noise_departure")


class LongRunWatch:
    """Checks every so many updates whether long chains stay where the short-run samples are.

    The chains draw from streams of their own: the training is the same, bit for bit, with them and
    without. A training that goes on from a checkpoint goes on with the file: what was found up to
    its update stays, and what was found after it is found again.

    Args:
        every: Updates from one check to the next.
        steps: Length of the chains.
        chains: From each start, see `evaluate.check`.
        path: The file, one line a check and member; None to keep it in `found` alone.

    Source: Nijkamp et al. 2020, who run 100,000 steps from data every 5,000 to 10,000 updates.
    """

    def __init__(
        self, every: int, steps: int, chains: int = 256, path: str | Path | None = None
    ) -> None:
        self.every, self.steps, self.chains = every, steps, chains
        self.path = None if path is None else Path(path)
        self.found: list[tuple[int, int, LongRun]] = []
        self._lines: list[list[str]] = []

    def begin(self, trainer: Trainer) -> None:
        """Takes up what the file has of the updates that the trainer has made."""
        if self.path is None or not self.path.exists():
            return
        lines = list(csv.reader(self.path.read_text().splitlines()))[1:]
        self._lines = [line for line in lines if int(line[0]) <= trainer.update]

    def until_next(self, trainer: Trainer) -> int:
        """Updates to the next check."""
        return self.every - trainer.update % self.every

    def look(self, trainer: Trainer) -> list[tuple[int, LongRun]]:
        """Checks every member still alive, if it is time; what was found, by member."""
        told = {line[0] for line in self._lines}
        if trainer.update % self.every or str(trainer.update) in told:
            return []
        alive = [m for m, living in enumerate(trainer.alive.tolist()) if living]
        found = [
            (m, check(trainer.result(m), self.steps, self.chains, trainer.dataset)) for m in alive
        ]
        for member, each in found:
            self.found.append((trainer.update, member, each))
            numbers = (each.departure, each.standard_error, each.noise_departure)
            text = [f"{number:.6g}" for number in numbers]
            self._lines.append([str(trainer.update), str(member), each.outcome, *text])
        if self.path is not None and found:
            self._write(self.path)
        return found

    def at(self, update: int, member: int) -> LongRun | None:
        """What was found of a member after some updates; None if nothing was asked then."""
        found = {(u, m): each for u, m, each in self.found}
        return found.get((update, member))

    def _write(self, path: Path) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *self._lines])
        with replacing(path) as temporary:
            temporary.write_text(text.getvalue())
