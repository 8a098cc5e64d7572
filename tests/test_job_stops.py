"""How the work at a pack ends before its time, and goes on: permits, looks and damaged files."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_study import PLANE, assignment, unit

from ebm_core import checkpoint
from ebm_core.checkpoint import CheckpointWarning
from study import permit
from study.assignment import Assignment
from study.job import Job, SupersededError
from study.table import Row

STEPS = 20


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A job sets torch's threads; they are set back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def given(folder: Path, base: dict[str, Any] = PLANE, **changes: Any) -> Assignment:
    return dataclasses.replace(
        assignment(folder, unit(base=base), long_run_steps=STEPS), **changes
    )


def finish(job: Job) -> tuple[list[Row], list[float | None]]:
    """Rows, and the value of each look."""
    values = []
    while not job.finished:
        job.advance()
        values.append(job.look())
    return job.conclude(), values


def traces(job: Job) -> list[bytes]:
    return [job.trainer.d().tobytes(), job.trainer.r().tobytes()]


def test_a_withdrawn_permit_saves_and_stops_soon(tmp_path: Path) -> None:
    # an attempt at this could take long
    job = Job(given(tmp_path, {**PLANE, "updates": 20_000, "checkpoint_interval": 20_000}))
    token = permit.issue(job.files.permit)
    job.assignment = dataclasses.replace(job.assignment, token=token)
    job.advance()
    assert not job.stopped
    permit.withdraw(job.files.permit)
    began, update = time.monotonic(), job.trainer.update
    job.advance()
    assert job.stopped
    assert time.monotonic() - began < 5
    assert not job.finished
    assert job.trainer.update == update
    # one that is withdrawn in the middle of a chunk saves what it has come to
    token = permit.issue(job.files.permit)
    job.assignment = dataclasses.replace(job.assignment, token=token)
    run = job.trainer.run

    def withdrawn_meanwhile(updates: int) -> None:
        run(updates)
        permit.withdraw(job.files.permit)

    job.trainer.run = withdrawn_meanwhile  # type: ignore[method-assign]
    job.advance()
    assert job.stopped
    assert job.trainer.update > update
    assert checkpoint.load(job.files.checkpoint)["update"] == job.trainer.update


def test_a_permit_that_is_withdrawn_at_the_end_leaves_no_rows(tmp_path: Path) -> None:
    job = Job(given(tmp_path))
    token = permit.issue(job.files.permit)
    job.assignment = dataclasses.replace(job.assignment, token=token)
    while not job.finished:
        job.advance()
    permit.withdraw(job.files.permit)
    assert job.conclude() == []
    assert job.stopped
    # all is saved, so that the next attempt only judges
    again = Job(given(tmp_path))
    assert again.finished
    assert again.conclude()[0]["updates"] == PLANE["updates"]


def test_a_superseded_attempt_writes_nothing(tmp_path: Path) -> None:
    job = Job(given(tmp_path))
    token = permit.issue(job.files.permit)
    job.assignment = dataclasses.replace(job.assignment, token=token)
    job.advance(), job.advance()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    newer = permit.issue(job.files.permit)
    with pytest.raises(SupersededError, match=r"pack-0-1\.permit: another attempt has begun"):
        job.advance()
    with pytest.raises(SupersededError, match="another attempt has begun"):
        job.conclude()
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == {**before, job.files.permit: newer.encode()}


def test_advance_ends_at_each_look(tmp_path: Path) -> None:
    looks, metric = (7, 25, 26, 60), "r"
    job, told = Job(given(tmp_path, looks=looks, metric=metric)), {}
    while not job.finished:
        job.advance()
        if (value := job.look()) is not None:
            told[job.trainer.update] = value
    # at the end there is a row, and nothing to stop
    assert list(told) == [7, 25, 26]
    assert all(value > 0 for value in told.values())
    # saved there, so that whoever is stopped is judged as it was
    again = Job(given(tmp_path / "other", looks=looks, metric=metric))
    again.advance()
    assert again.trainer.update == 7
    assert checkpoint.load(again.files.checkpoint)["update"] == 7


def test_a_look_is_told_once_more_after_an_interruption(tmp_path: Path) -> None:
    asked = given(tmp_path, looks=(7, 25), metric="r")
    job = Job(asked)
    job.advance()
    value = job.look()
    again = Job(asked)
    assert again.trainer.update == 7
    curves = again.advance()
    assert again.trainer.update == 7  # nothing was trained before it was told
    assert [point["update"] for point in curves[0]] == list(range(1, 8))
    assert again.look() == value
    assert again.look() == value  # one that was told stays known
    again.advance()
    assert again.trainer.update > 7
    assert again.look() is None
    # elsewhere an interrupted one goes on at once
    third = Job(given(tmp_path, looks=(25,), metric="r"))
    update = third.trainer.update
    third.advance()
    assert third.trainer.update > update


def test_what_was_stopped_early_is_concluded_as_that(tmp_path: Path) -> None:
    job = Job(given(tmp_path, stop_at=25))
    (row,), _ = finish(job)
    assert job.trainer.update == 25
    assert row["updates"] == 25
    assert row["status"] == "stopped_early"
    assert row["cause"].startswith("stopped after 25 of 60 updates")  # type: ignore[union-attr]
    assert row["long_run"] == "not_run"
    # while the whole training has its long run
    (whole,), _ = finish(Job(given(tmp_path / "whole")))
    assert (whole["status"], whole["updates"]) == ("finished", 60)
    assert whole["long_run"] != "not_run"


@pytest.fixture
def interrupted(tmp_path: Path) -> tuple[Job, list[bytes]]:
    """A job with two checkpoints, and what it comes to if it is left alone."""
    whole = Job(given(tmp_path / "whole"))
    while not whole.finished:
        whole.advance()
    job = Job(given(tmp_path))
    while job.trainer.update < 45:
        job.advance()
    return job, traces(whole)


def damage(path: Path) -> None:
    """Cuts it off, as a machine does that loses power."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    interrupted: tuple[Job, list[bytes]],
) -> None:
    job, wanted = interrupted
    path = job.files.checkpoint
    before = checkpoint.load(checkpoint.previous(path))["update"]
    damage(path)
    with pytest.warns(CheckpointWarning, match="the one before it is used"):
        again = Job(job.assignment)
    assert 0 < again.trainer.update == before < 45
    while not again.finished:
        again.advance()
    assert traces(again) == wanted


def test_two_damaged_checkpoints_begin_anew(interrupted: tuple[Job, list[bytes]]) -> None:
    job, wanted = interrupted
    damage(job.files.checkpoint)
    damage(checkpoint.previous(job.files.checkpoint))
    with pytest.warns(CheckpointWarning, match="begun anew: .* nor can the one before be used"):
        again = Job(job.assignment)
    assert again.trainer.update == 0
    while not again.finished:
        again.advance()
    assert traces(again) == wanted
    assert np.frombuffer(wanted[0]).size == PLANE["updates"]
