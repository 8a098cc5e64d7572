"""What is seen of a study while it runs: a live status on a terminal, plain lines elsewhere.

The only module that touches Rich.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from study import table
from study.assignment import Unit
from study.job import Point
from study.ledger import Ledger
from study.plan import Plan
from study.space import searched
from study.table import Row

# Where there is no terminal, the status is a line at most this often.
PLAIN_SECONDS = 30.0
_MARKS = {
    "convergent": "●",
    "nonconvergent": "○",
    "diverged": "×",
    "collapsed": "▼",
    "failed": "!",
}
_COLORS = {
    "convergent": "green",
    "nonconvergent": "yellow",
    "diverged": "red",
    "collapsed": "red",
    "failed": "bold red",
}
_AXES = {"epsilon": "ε", "eps_data_ratio": "ρ", "gamma_0": "γ0", "anneal_updates": "anneal"}

_Key = tuple[int, int]


def label(unit: Unit, seeds: int = 1, varying: Collection[str] | None = None) -> str:
    """A short name for a training, for example ``ε=0.080 ρ=2 γ0=5e-4 anneal=1000``.

    Args:
        unit: The training.
        seeds: How many of its configuration there are; of several, the seed is told.
        varying: The parameters that vary, told if the four axes lack them; None for all there are.
    """
    shown = {symbol: _short(unit.config[name]) for name, symbol in _AXES.items()}
    for name, value in unit.point.items():
        if name not in _AXES and (varying is None or name in varying):
            shown[name] = _short(value)
    shown["ε"] = _padded(unit.config["epsilon"])
    if seeds > 1:
        shown["seed"] = str(unit.seed)
    return " ".join(f"{name}={text}" for name, text in shown.items())


class Progress:
    """A listener that shows how a study goes.

    Args:
        ledger: Of the study; what it holds already counts as done.
        enabled: False shows nothing.
        console: Where to; standard error if None, so that results can be piped.
        trouble: Tells what is in the way of MLflow, None if nothing is.
    """

    def __init__(
        self,
        ledger: Ledger,
        enabled: bool = True,
        console: Console | None = None,
        trouble: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._trouble = trouble
        self._spec, self._total = ledger.spec, ledger.trainings
        self._varying = searched(ledger.spec.parameters)
        self._rows = {_key(row): row for row in ledger.rows()}
        self._before = len(self._rows)
        # of every pack, by its first unit: how many trainings, and the share of updates made
        self._running: dict[_Key, tuple[int, float]] = {}
        self._enabled = enabled
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._began: float | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> Progress:
        console = self._console
        if self._enabled and console.is_terminal and not console.is_dumb_terminal:
            # transient: what the status said last is said again, and better, by the answer
            self._live = Live(
                self._status(), console=console, refresh_per_second=2, transient=True
            )
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def announce(self, plan: Plan, seconds: float | None = None) -> None:
        """Says what is about to happen.

        Args:
            plan: How the study runs.
            seconds: What it will take, if that is known.
        """
        time = "" if seconds is None else f": about {duration(seconds)}"
        words = described(plan, self._total, self._before)
        self._say(Text(f"{self._spec.name}: {words}{time}"))

    def started(self, units: Sequence[Unit]) -> None:
        """Counts a pack as running."""
        self._began = self._began or time.monotonic()
        self._running[_first(units)] = len(units), 0.0
        self._refresh()

    def progressed(self, units: Sequence[Unit], update: int, curves: list[list[Point]]) -> None:
        """Notes how far a pack is."""
        self._running[_first(units)] = len(units), update / units[0].config["updates"]
        self._refresh()

    def held_up(self, units: Sequence[Unit], why: str) -> None:
        """Says what went wrong with an attempt, and what follows."""
        self._running.pop(_first(units), None)
        names = ", ".join(label(unit, self._spec.seeds, self._varying) for unit in units)
        self._say(Text.assemble(f"{names}: ", ("! ", "bold red"), why))
        self._refresh()

    def ended(self, units: Sequence[Unit], rows: list[Row]) -> None:
        """Says what became of each training of a pack."""
        self._running.pop(_first(units), None)
        for unit, row in zip(units, rows, strict=True):
            self._rows[_key(row)] = row
            self._say(self._line(unit, row))
        self._refresh()

    def seconds_left(self) -> float | None:
        """Estimate of the time left, from what this run of the study has done so far."""
        running = sum(members * share for members, share in self._running.values())
        done = len(self._rows) - self._before + running
        if self._began is None or done <= 0.05:
            return None
        left = self._total - self._before - done
        return (time.monotonic() - self._began) / done * max(0.0, left)

    def _line(self, unit: Unit, row: Row) -> Text:
        return Text.assemble(
            f"[{len(self._rows)}/{self._total}] ",
            f"{label(unit, self._spec.seeds, self._varying)}: ",
            _styled(_verdict(row)),
            _details(row),
        )

    def _say(self, text: Text) -> None:
        if self._enabled:
            # a line that a terminal would fold is fine in a log, which has no width
            self._console.print(text, soft_wrap=True, highlight=False)

    def _refresh(self) -> None:
        now = time.monotonic()
        if self._live is not None:
            self._live.update(self._status())
        elif now - self._last_line >= PLAIN_SECONDS and len(self._rows) < self._total:
            self._last_line = now
            self._say(Text("; ").join(self._parts()))

    def _status(self) -> Group:
        for part in (parts := self._parts()):
            part.no_wrap, part.overflow = True, "ellipsis"
        return Group(*parts)

    def _parts(self) -> list[Text]:
        """How many are done and running, what became of them, and the best so far."""
        counts = Counter(map(_verdict, self._rows.values()))
        verdicts = [_styled(name, f"{n} ") for name, n in sorted(counts.items())]
        parts = [Text(self._counts()), Text(", ").join(verdicts), Text(self._best())]
        if trouble := self._trouble():
            parts.append(Text(f"{trouble}; what it is to be told is kept", style="yellow"))
        return [part for part in parts if part]

    def _counts(self) -> str:
        words = [f"{len(self._rows)} of {counted(self._total, 'training')} done"]
        if self._running:
            shares = ", ".join(f"{share:.0%}" for _, share in self._running.values())
            words.append(f"{sum(n for n, _ in self._running.values())} running ({shares})")
        elif self._began is None and len(self._rows) < self._total:
            words.append("workers start")
        left = self.seconds_left()
        if left is not None and len(self._rows) < self._total:
            words.append(f"about {duration(left)} left")
        return ", ".join(words)

    def _best(self) -> str:
        metric = self._spec.metrics[0]
        sign = 1 if metric.goal == "maximize" else -1
        known = [
            (value, row)
            for row in self._rows.values()
            if (value := table.number(row, metric.name)) is not None
        ]
        if not known:
            return ""
        value, best = max(known, key=lambda each: sign * each[0])
        where = f"trial {best['trial']}, ε={_padded(float(best['epsilon'] or 0))}"
        return f"best {metric.name} {_short(value)} ({where})"


def _key(row: Row) -> _Key:
    return int(row["trial"] or 0), int(row["seed"] or 0)


def _first(units: Sequence[Unit]) -> _Key:
    return units[0].trial, units[0].seed


def _verdict(row: Row) -> str:
    return str(row["verdict"] or row["status"])


def _styled(verdict: str, before: str = "") -> Text:
    mark = _MARKS.get(verdict, "·")
    return Text(f"{mark} {before}{verdict}", style=_COLORS.get(verdict, "dim"))


def _details(row: Row) -> str:
    parts = []
    if row["reasons"]:
        parts.append(str(row["reasons"]).replace(";", ", ").replace("_", " "))
    elif row["cause"]:
        parts.append(str(row["cause"]).splitlines()[-1])
    if row["r_matched"] is not None and row["verdict"] in ("convergent", "nonconvergent"):
        parts.append(f"r/r* {row['r_matched']:.2f}")
    if row["long_run"] not in (None, "not_run"):
        parts.append(f"long run {row['long_run']}")
    if row["seconds"] is not None:
        parts.append(f"{row['seconds']:.1f} s")
    return f" ({'; '.join(parts)})" if parts else ""


def _short(value: Any) -> str:
    """A number to three digits, as one says it: ``0.08``, ``5e-4``, ``1200``."""
    if not isinstance(value, float):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e6:
        digits, power = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{float(f'{value:.3g}'):g}"


def _padded(epsilon: float) -> str:
    """As `_short`, with three decimals where that adds only zeros, so that a column lines up."""
    short = _short(epsilon)
    return f"{epsilon:.3f}" if 0 < float(short) == round(epsilon, 3) < 1 else short


def described(plan: Plan, trainings: int, done: int = 0) -> str:
    """``16 trainings in packs of 8 on 2 workers, 1 thread each``."""
    before = f", {done} of them done before," if done else ""
    packs = f" in packs of {plan.members}" if plan.members > 1 else ""
    each = " each" if plan.workers > 1 else ""
    return (
        f"{counted(trainings, 'training')}{before}{packs} on {counted(plan.workers, 'worker')}"
        f", {counted(plan.threads, 'thread')}{each}"
    )


def counted(n: int, word: str) -> str:
    """``1 training``, ``2 trainings``."""
    return f"{n} {word}{'' if n == 1 else 's'}"


def duration(seconds: float) -> str:
    """A length of time for people, to a tenth or better.

    ``0.4 s``, ``45 s``, ``1 min 40 s``, ``12 min``, ``3.4 h``, ``6.5 days``
    """
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 3 else f"{seconds:.0f} s"
    if seconds < 595:
        minutes, tens = divmod(round(seconds / 10), 6)
        return f"{minutes} min {tens}0 s" if tens else f"{minutes} min"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
