"""A wish to stop: heard once as a wish, twice as an order."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from study import stopping as module
from study.permit import Standing, issue, standing
from study.stopping import OverdueError, Stopping


def test_whoever_runs_is_asked_and_whoever_begins_later_as_well(tmp_path: Path) -> None:
    stopping, paths = Stopping(), [tmp_path / name for name in "abc"]
    tokens = [issue(path) for path in paths]
    stopping.began(paths[0]), stopping.began(paths[1])
    stopping.ended(paths[1])
    assert not stopping.asked
    stopping.ask()
    stopping.began(paths[2])
    assert [standing(*each) for each in zip(paths, tokens, strict=True)] == [
        Standing.WITHDRAWN,
        Standing.VALID,
        Standing.WITHDRAWN,
    ]


def test_the_first_reason_is_the_one_that_counts() -> None:
    stopping = Stopping()
    first = OSError("full")
    stopping.ask(first), stopping.ask(OSError("also"))
    assert stopping.error is first


def test_workers_are_waited_for_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = Stopping()
    stopping.check()
    stopping.ask()
    stopping.check()
    monkeypatch.setattr(module, "PATIENCE_SECONDS", -1.0)
    with pytest.raises(OverdueError, match="did not stop in time"):
        stopping.check()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_a_wish_and_the_second_an_order(number: signal.Signals) -> None:
    stopping, before = Stopping(), signal.getsignal(number)
    with stopping.listening():
        os.kill(os.getpid(), number)
        assert stopping.asked
        assert stopping.signal == number
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
