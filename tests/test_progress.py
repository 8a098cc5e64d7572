"""What a study shows while it runs, read line by line."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_study import document

from ebm_core.config import make_config
from study import progress
from study.assignment import Unit
from study.ledger import Ledger
from study.plan import Plan
from study.progress import Progress, counted, duration, label
from study.spec import from_resolved
from study.table import Row, failed_row


class Clock:
    """A clock that is set by hand; seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(from_resolved(document(trials=6)), tmp_path / "tiny")


def shown(ledger: Ledger, width: int = 100, terminal: bool = False) -> tuple[Progress, Console]:
    console = Console(
        file=io.StringIO(), width=width, height=24, force_terminal=terminal, color_system=None
    )
    return Progress(ledger, console=console), console


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def outcome(unit: Unit, **fields: Any) -> Row:
    config = make_config(unit.config)
    row = failed_row(config, unit.trial, unit.seed, "", unit.point)
    ended: Row = {
        "status": "finished",
        "verdict": "convergent",
        "reasons": "",
        "convergence_score": 0.9,
        "r_matched": 0.987,
        "long_run": "holds",
        "seconds": 9.61,
    }
    return {**row, **ended, **fields}


def a_unit(point: dict[str, Any] | None = None, seed: int = 0, **config: Any) -> Unit:
    given = {"data": "gmm", "network": "toy", "epsilon": 0.08, "eps_data_ratio": 2.0, **config}
    return Unit(4, seed, point or {}, make_config(given).model_dump(mode="json"))


# -- names of trainings --------------------------------------------------------------------------


def test_a_label_names_the_four_axes() -> None:
    unit = a_unit(gamma_0=5e-4, anneal_updates=1000)
    assert label(unit) == "ε=0.080 ρ=2 γ0=5e-4 anneal=1000"


def test_a_label_names_what_else_varies_in_three_digits() -> None:
    point = {
        "epsilon": 0.08,
        "gamma_start_ratio": 6.595138811880143,
        "optimizer": "adam",
        "updates": 2000,
    }
    unit = a_unit(point, seed=1, gamma_0=0.02)
    everything = "ε=0.080 ρ=2 γ0=0.02 anneal=0 gamma_start_ratio=6.6 optimizer=adam updates=2000"
    assert label(unit) == everything
    ratio_alone = label(unit, seeds=3, varying=["epsilon", "gamma_start_ratio"])
    assert ratio_alone == "ε=0.080 ρ=2 γ0=0.02 anneal=0 gamma_start_ratio=6.6 seed=1"


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [
        (0.08, "0.080"),
        (0.4, "0.400"),
        (0.105, "0.105"),
        (0.011649, "0.0116"),
        (0.0015, "0.0015"),
        (1.5, "1.5"),
        (3.21e-5, "3.21e-5"),
    ],
)
def test_epsilon_lines_up(epsilon: float, text: str) -> None:
    assert label(a_unit(epsilon=epsilon)).startswith(f"ε={text} ")


@pytest.mark.parametrize(
    ("gamma_0", "text"),
    [(0.0, "0"), (0.0001, "1e-4"), (0.00129, "0.00129"), (123456.0, "123000"), (2.5e7, "2.5e7")],
)
def test_numbers_are_short(gamma_0: float, text: str) -> None:
    assert f" γ0={text} " in label(a_unit(gamma_0=gamma_0))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (45.4, "45 s"),
        (89.9, "90 s"),
        (90, "1 min 30 s"),
        (104.9, "1 min 40 s"),
        (116, "2 min"),
        (594.9, "9 min 50 s"),
        (595, "10 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (172799, "48.0 h"),
        (600000, "6.9 days"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_one_is_no_plural() -> None:
    assert [counted(n, "worker") for n in (0, 1, 2)] == ["0 workers", "1 worker", "2 workers"]


@pytest.mark.parametrize(
    ("plan", "seconds", "words"),
    [
        (Plan(2, 1, 8), 70.0, "6 trainings in packs of 8 on 2 workers, 1 thread each: about 70 s"),
        (Plan(2, 1, 1), 100.0, "6 trainings on 2 workers, 1 thread each: about 1 min 40 s"),
        (Plan(1, 4, 2), None, "6 trainings in packs of 2 on 1 worker, 4 threads"),
    ],
)
def test_it_says_what_is_about_to_happen(
    ledger: Ledger, plan: Plan, seconds: float | None, words: str
) -> None:
    live, console = shown(ledger)
    live.announce(plan, seconds)
    assert text_of(console) == f"tiny: {words}\n"


# -- plain lines ---------------------------------------------------------------------------------


def test_a_log_has_a_line_for_every_training(ledger: Ledger, clock: Clock) -> None:
    live, console = shown(ledger, width=40)
    with live:
        live.announce(Plan(2, 1, 1))
        rows: list[dict[str, Any]] = [
            {},
            {
                "verdict": "nonconvergent",
                "reasons": "r_below_band;d_unbalanced",
                "long_run": "departs",
            },
            {"verdict": "diverged", "cause": "d is not finite at update 732", "long_run": None},
            {"verdict": None, "status": "failed", "cause": "Traceback\nOSError: disk full"},
        ]
        for fields in rows:
            (unit,) = ledger.next_pack(1)
            live.started([unit])
            live.ended([unit], [outcome(unit, **fields)])
    head, *lines = text_of(console).splitlines()
    assert head == "tiny: 6 trainings on 2 workers, 1 thread each"
    starts = [rf"\[{n}/6\] ε=0\.\d+ ρ=1 γ0=0\.02 anneal=20: " for n in range(1, 5)]
    ends = [
        "● convergent (r/r* 0.99; long run holds; 9.6 s)",
        "○ nonconvergent (r below band, d unbalanced; r/r* 0.99; long run departs; 9.6 s)",
        "× diverged (d is not finite at update 732; 9.6 s)",
        "! failed (OSError: disk full; long run holds; 9.6 s)",
    ]
    assert len(lines) == 4
    for line, start, end in zip(lines, starts, ends, strict=True):
        assert re.match(start, line)
        assert line.endswith(end)


def test_a_log_says_now_and_then_how_it_goes(ledger: Ledger, clock: Clock) -> None:
    live, console = shown(ledger)
    first, second, third = (ledger.next_pack(1) for _ in range(3))
    live.started(first)
    live.ended(first, [outcome(first[0], convergence_score=0.756)])
    live.started(second)
    live.started(third)
    clock.now += 29
    live.progressed(second, 15, [[]])
    assert len(text_of(console).splitlines()) == 1
    clock.now += 1
    live.progressed(third, 30, [[]])
    live.progressed(third, 45, [[]])
    (_, line) = text_of(console).splitlines()
    epsilon = label(first[0]).split()[0]
    # 1.75 trainings took 30 s, and 4.25 are left
    assert line == (
        "1 of 6 trainings done, 2 running (25%, 50%), about 73 s left; ● 1 convergent; "
        f"best convergence_score 0.756 (trial 0, {epsilon})"
    )


def test_what_was_done_before_counts_but_not_for_the_time_left(
    ledger: Ledger, clock: Clock
) -> None:
    for _ in range(2):
        (unit,) = ledger.next_pack(1)
        ledger.record(unit, outcome(unit))
    live, console = shown(ledger)
    live.announce(Plan(1, 1, 1))
    assert text_of(console) == "tiny: 6 trainings, 2 of them done before, on 1 worker, 1 thread\n"
    assert live.seconds_left() is None
    (unit,) = ledger.next_pack(1)
    live.started([unit])
    clock.now += 20
    assert live.seconds_left() is None
    live.ended([unit], [outcome(unit)])
    assert live.seconds_left() == pytest.approx(60)
    assert "[3/6]" in text_of(console)


def test_the_best_is_that_of_the_goal(tmp_path: Path) -> None:
    least = document(metric={"name": "r_matched", "goal": "minimize"}, trials=3)
    ledger = Ledger(from_resolved(least), tmp_path / "tiny")
    live, console = shown(ledger, terminal=True)
    with live:
        for value in (0.5, 0.25, 0.4):
            (unit,) = ledger.next_pack(1)
            live.ended([unit], [outcome(unit, r_matched=value)])
    assert "best r_matched 0.25 (trial 1, " in text_of(console)


def test_nothing_is_best_while_nothing_is_known(ledger: Ledger) -> None:
    live, console = shown(ledger, terminal=True)
    with live:
        (unit,) = ledger.next_pack(1)
        live.ended([unit], [outcome(unit, verdict="unassessed", convergence_score=None)])
    assert "· unassessed" in text_of(console)
    assert "best" not in text_of(console)


@pytest.mark.parametrize("terminal", [True, False])
def test_it_can_be_silenced(ledger: Ledger, clock: Clock, terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal)
    with Progress(ledger, enabled=False, console=console) as live:
        live.announce(Plan(2, 1, 1))
        (unit,) = ledger.next_pack(1)
        live.started([unit])
        clock.now += 100
        live.progressed([unit], 30, [[]])
        live.ended([unit], [outcome(unit)])
    assert text_of(console) == ""


# -- a terminal ----------------------------------------------------------------------------------


class Screen:
    """What a terminal is left with after Rich's output, and what was erased on the way."""

    def __init__(self, output: str) -> None:
        self.lines, self.erased, row = [""], [], 0
        for part in re.split(r"(\x1b\[[\d;?]*[A-Za-z]|\r|\n)", output):
            if part == "\n":
                row += 1
                self.lines += [""] * (row + 1 - len(self.lines))
            elif part == "\x1b[2K":
                self.erased.append(self.lines[row])
                self.lines[row] = ""
            elif up := re.fullmatch(r"\x1b\[(\d+)A", part):
                row -= int(up[1])
            elif part not in ("\r", "\x1b[?25l", "\x1b[?25h"):
                self.lines[row] += part


@pytest.mark.parametrize("width", [44, 120])
def test_a_terminal_shows_a_status_within_its_width_and_keeps_only_the_lines(
    ledger: Ledger, clock: Clock, width: int
) -> None:
    live, console = shown(ledger, width, terminal=True)
    with live:
        live.announce(Plan(1, 1, 1))
        for _ in range(3):
            (unit,) = ledger.next_pack(1)
            live.started([unit])
            clock.now += 10
            live.progressed([unit], 30, [[]])
            live.ended([unit], [outcome(unit)])
    output = text_of(console)
    screen = Screen(output)
    head, *kept = filter(None, screen.lines)
    assert head == "tiny: 6 trainings on 1 worker, 1 thread"
    assert [line[:5] for line in kept] == ["[1/6]", "[2/6]", "[3/6]"]
    assert all(line.endswith("9.6 s)") for line in kept)
    best = "best convergence_score 0.9 (trial 0, ε=0.104)"
    assert screen.erased[-3:] == [
        best if width > 44 else f"{best[:43]}…",
        "● 3 convergent",
        "3 of 6 trainings done, about 30 s left",
    ]
    assert max(map(len, screen.erased)) <= width
    # the cursor is hidden, and shown again
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h") == 1
