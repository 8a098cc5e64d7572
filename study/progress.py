"""What is seen of a study while it runs: a live status on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study.job import Point, Unit
from study.ledger import Ledger
from study.table import Row

_MARKS = {"convergent": "●", "nonconvergent": "○", "diverged": "×", "collapsed": "▼"}
_COLORS = {
    "convergent": "green",
    "nonconvergent": "yellow",
    "diverged": "red",
    "collapsed": "red",
    "failed": "bold red",
}
_AXES = (
    ("epsilon", "ε"),
    ("eps_data_ratio", "ρ"),
    ("gamma_0", "γ0"),
    ("anneal_updates", "anneal"),
)


def label(unit: Unit, seeds: int = 1) -> str:
    """A short name for a training, for example ``ε=0.08 ρ=2 γ0=0.005 anneal=1000``."""
    shown = {name: unit.config[name] for name, _ in _AXES}
    words = [f"{symbol}={shown[name]:.3g}" for name, symbol in _AXES[:3]]
    words.append(f"anneal={shown['anneal_updates']}")
    names = {name for name, _ in _AXES}
    words += [f"{name}={value}" for name, value in unit.point.items() if name not in names]
    return " ".join([*words, *([f"seed={unit.seed}"] if seeds > 1 else [])])


class Progress:
    """A listener that shows how a study goes.

    Args:
        ledger: Of the study; what it holds already counts as done.
        enabled: False shows nothing.
        console: Where to; standard error if None, so that results can be piped.
    """

    def __init__(
        self, ledger: Ledger, enabled: bool = True, console: Console | None = None
    ) -> None:
        self._ledger = ledger
        self._console = console or Console(stderr=True)
        self._enabled = enabled
        self._rows: list[Row] = ledger.rows()
        self._before = len(self._rows)
        self._running: dict[tuple[int, int], float] = {}
        self._began = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self._enabled and self._console.is_terminal:
            self._live = Live(self._status(), console=self._console, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live is not None:
            self._live.update(self._status())
            self._live.stop()

    def announce(self, workers: int) -> None:
        """Says what is about to happen."""
        if self._enabled:
            name, total = self._ledger.spec.name, self._ledger.trainings
            going_on = f", {self._before} of them done before" if self._before else ""
            self._console.print(
                f"{name}: {total} trainings on {workers} workers{going_on}", highlight=False
            )

    def started(self, units: Sequence[Unit]) -> None:
        for unit in units:
            self._running[unit.trial, unit.seed] = 0.0
        self._refresh()

    def progressed(self, units: Sequence[Unit], update: int, curves: list[list[Point]]) -> None:
        for unit in units:
            self._running[unit.trial, unit.seed] = update / unit.config["updates"]
        self._refresh()

    def ended(self, units: Sequence[Unit], rows: list[Row]) -> None:
        for unit, row in zip(units, rows, strict=True):
            self._running.pop((unit.trial, unit.seed), None)
            self._rows.append(row)
            if self._enabled:
                self._print(unit, row)
        self._refresh()

    def seconds_left(self) -> float | None:
        """Estimate of the time left, from what this run of the study has done so far."""
        done = len(self._rows) - self._before + sum(self._running.values())
        if done <= 0.05:
            return None
        left = self._ledger.trainings - self._before - done
        return (time.monotonic() - self._began) / done * max(0.0, left)

    def _print(self, unit: Unit, row: Row) -> None:
        verdict = str(row["verdict"] or row["status"])
        text = Text.assemble(
            f"[{len(self._rows)}/{self._ledger.trainings}] ",
            f"{label(unit, self._ledger.spec.seeds)}: ",
            (f"{_MARKS.get(verdict, '·')} {verdict}", _COLORS.get(verdict, "dim")),
            _details(row),
        )
        # a line that a terminal would fold is fine in a log, which has no width
        self._console.print(text, soft_wrap=True, highlight=False)

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._status())

    def _status(self) -> Table:
        done, total = len(self._rows), self._ledger.trainings
        table = Table.grid(padding=(0, 2))
        counts = Counter(str(row["verdict"] or row["status"]) for row in self._rows)
        verdicts = Text("  ").join(
            Text(f"{_MARKS.get(name, '·')} {n} {name}", style=_COLORS.get(name, "dim"))
            for name, n in sorted(counts.items())
        )
        left = self.seconds_left()
        table.add_row(
            Text(f"{done} of {total} trainings", style="bold"),
            f"{len(self._running)} running ({_percent(self._running.values())})",
            "" if left is None or done >= total else f"about {duration(left)} left",
        )
        if counts:
            table.add_row(verdicts, self._best(), "")
        return table

    def _best(self) -> str:
        name = self._ledger.spec.metrics[0].name
        goal = max if self._ledger.spec.metrics[0].goal == "maximize" else min
        known = [row for row in self._rows if isinstance(row.get(name), int | float)]
        if not known:
            return ""
        best = goal(known, key=lambda row: float(row[name] or 0.0))
        value = float(best[name] or 0.0)
        return f"best {name} {value:.3f} (trial {best['trial']}, ε={best['epsilon']:.3g})"


def _percent(shares: Any) -> str:
    return ", ".join(f"{share:.0%}" for share in shares) or "none"


def _details(row: Row) -> str:
    parts = []
    if row["reasons"]:
        parts.append(str(row["reasons"]).replace(";", ", "))
    elif row["cause"]:
        parts.append(str(row["cause"]).splitlines()[-1])
    if row["r_matched"] is not None and row["verdict"] in ("convergent", "nonconvergent"):
        parts.append(f"r/r* {row['r_matched']:.2f}")
    if row["long_run"] not in (None, "not_run"):
        parts.append(f"long run {row['long_run']}")
    if row["seconds"] is not None:
        parts.append(f"{row['seconds']:.1f} s")
    return f" ({'; '.join(parts)})" if parts else ""


def duration(seconds: float) -> str:
    """A length of time for people: ``45 s``, ``12 min``, ``3.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
