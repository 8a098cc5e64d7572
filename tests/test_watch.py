"""Long chains while training goes on."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ebm_core import preset
from ebm_core.__main__ import main
from ebm_core.evaluate import check
from ebm_core.trainer import Trainer
from ebm_core.watch import COLUMNS, LONG_RUNS, LongRunWatch

SHORT = preset("digits", updates=90, window=40, anneal_updates=0, bank_size=64, device="cpu")
WORDS = ["updates=90", "window=40", "anneal_updates=0", "bank_size=64"]


def lines(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def watched(trainer: Trainer, watch: LongRunWatch) -> None:
    watch.begin(trainer)
    while not trainer.finished:
        trainer.run(min(20, watch.until_next(trainer)))
        watch.look(trainer)


def test_training_is_the_same_and_each_check_is_that_of_its_update() -> None:
    plain, beside = Trainer([SHORT]), Trainer([SHORT])
    watch = LongRunWatch(every=30, steps=20, chains=16)
    watched(beside, watch)
    plain.run(60)
    assert [(update, member) for update, member, _ in watch.found] == [(30, 0), (60, 0), (90, 0)]
    assert watch.found[1][2] == check(plain.result(), 20, 16, plain.dataset)
    plain.run(30)
    np.testing.assert_array_equal(plain.d(), beside.d())


def test_only_members_still_alive_are_checked(tmp_path: Path) -> None:
    wild = SHORT.with_(gamma_0=1e4, gamma_start=None, seed=1)
    watch = LongRunWatch(30, 20, 16, tmp_path / LONG_RUNS)
    watched(Trainer([SHORT, wild]), watch)
    assert [line[:2] for line in lines(tmp_path / LONG_RUNS)[1:]] == [
        ["30", "0"],
        ["60", "0"],
        ["90", "0"],
    ]


def test_what_goes_on_keeps_the_checks_before_it_and_repeats_the_others(tmp_path: Path) -> None:
    path, saved = tmp_path / LONG_RUNS, tmp_path / "checkpoint.pt"
    lost, watch = Trainer([SHORT]), LongRunWatch(30, 20, 16, path)
    lost.run(30)
    watch.look(lost)
    lost.run(10)
    lost.save(saved)
    watched(lost, watch)
    whole = lines(path)
    assert whole[0] == list(COLUMNS)
    assert [line[0] for line in whole[1:]] == ["30", "60", "90"]
    again = LongRunWatch(30, 20, 16, path)
    watched(Trainer.resume(saved), again)
    assert [update for update, _, _ in again.found] == [60, 90]
    assert lines(path) == whole


def test_the_command_tells_each_check_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(*_: object, **__: object) -> None:
        raise AssertionError("the check of the last update was made before")

    monkeypatch.setattr("ebm_core.commands.train.check", again)
    out = tmp_path / "run"
    command = ["train", "--preset", "digits", "--set", *WORDS, "--out", str(out), "--quiet"]
    assert main([*command, "--long-run", "20", "--long-run-every", "45"]) == 0
    said = capsys.readouterr().out
    assert "after 45 updates:  long run" in said
    assert "after 90 updates:  long run" in said
    (last,) = (line for line in said.splitlines() if line.startswith("after 90 updates:"))
    assert last.removeprefix("after 90 updates:") in said.splitlines()
    found = lines(out / LONG_RUNS)
    assert [line[0] for line in found] == ["update", "45", "90"]
    assert {line[2] for line in found[1:]} <= {"holds", "departs"}


def test_chains_without_a_length_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--preset", "digits", "--out", str(tmp_path / "run"), "--quiet"]
    assert main([*command, "--long-run-every", "45"]) == 2
    assert "--long-run-every: needs --long-run STEPS" in capsys.readouterr().err
