"""What is done about failed attempts, with a real ledger and real, small checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from tiny_study import PLANE, document

from ebm_core import checkpoint
from ebm_core.checkpoint import CheckpointWarning
from ebm_core.config import make_config
from ebm_core.trainer import STATE_KEYS, Trainer
from study.assignment import Assignment, PackFiles, Unit
from study.failures import Failure, Kind, StorageError
from study.job import Job
from study.ledger import Ledger
from study.recovery import FAILURE, Recovery
from study.spec import from_resolved
from study.stopping import Stopping

FULL = Failure(Kind.MEMORY, "said before\nout of memory: MemoryError")
SPEC = from_resolved(
    document(
        name="recovered",
        base={**PLANE, "precision": "float64"},
        trials=3,
        resources={"retries": 1, "members_per_trial": 3},
    )
)
# Updates before the failure, and after it
BEFORE, AFTER = 10, 5


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A job sets torch's threads; they are set back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Study:
    """A study of one pack of three, which has made some updates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = Ledger(SPEC, folder)
        self.stopping = Stopping()
        self.recovery = Recovery(self.ledger, folder, self.stopping)
        self.units = self.ledger.next_pack(3)
        self.files = PackFiles.of(folder, self.units)

    def train(self) -> Trainer:
        """Trains the pack, and saves it as workers do."""
        trainer = trainer_of(self.units)
        trainer.run(BEFORE)
        checkpoint.save({**trainer.state(), "threads": 1}, self.files.checkpoint)
        return trainer

    def packs(self) -> list[list[int]]:
        """The trials of each pack that another command would hand out."""
        again, found = Ledger(SPEC, self.folder), []
        while units := again.next_pack(3):
            found.append([unit.trial for unit in units])
        return found

    def job(self, units: list[Unit]) -> Job:
        return Job(Assignment(tuple(units), str(self.folder), 1, 0, 16))


def trainer_of(units: list[Unit]) -> Trainer:
    return Trainer([make_config(unit.config) for unit in units])


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_halves_go_on_from_their_part_of_the_checkpoint(study: Study) -> None:
    whole = study.train()
    rows, why = study.recovery.failed(study.units, FULL, BEFORE)
    assert rows == []
    assert why == "out of memory: MemoryError; goes on in halves"
    assert not study.files.checkpoint.exists()
    whole.run(AFTER)
    member = 0
    for size in (2, 1):
        half = study.ledger.next_pack(3)
        assert half == study.units[member : member + size]
        trainer = study.job(half).trainer
        assert trainer.update == BEFORE
        trainer.run(AFTER)
        for index in range(size):
            for name in ("d", "r"):
                ours, theirs = getattr(trainer, name)(index), getattr(whole, name)(member)
                np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
                assert len(ours) == BEFORE + AFTER
            member += 1
    assert study.ledger.next_pack(3) == []


def test_what_was_saved_by_nobody_begins_anew_in_halves(study: Study) -> None:
    study.recovery.failed(study.units, FULL, -1)
    assert study.packs() == [[0, 1], [2]]
    assert study.job(study.ledger.next_pack(3)).trainer.update == 0


def test_damaged_checkpoints_begin_anew_in_halves(study: Study) -> None:
    study.train()
    study.files.checkpoint.write_bytes(b"damaged")
    with pytest.warns(CheckpointWarning, match="begun anew: .*cannot be read as a checkpoint"):
        study.recovery.failed(study.units, FULL, BEFORE)
    assert study.packs() == [[0, 1], [2]]
    assert study.job(study.ledger.next_pack(3)).trainer.update == 0


def test_a_leftover_of_an_earlier_split_is_not_taken_for_a_half(study: Study) -> None:
    other = trainer_of(study.units[:2])
    other.run(1)
    target = PackFiles.of(study.folder, study.units[:2]).checkpoint
    checkpoint.save({**other.state(), "threads": 1}, checkpoint.previous(target))
    study.recovery.failed(study.units, FULL, -1)
    assert not checkpoint.exists(target)


class Died(BaseException):
    """What nothing between here and there catches."""


def dying(after: int, patch: pytest.MonkeyPatch) -> None:
    """The driver dies before a rename, a removal or a ledger write, this many from now."""
    left = [after]

    def counted(action):  # type: ignore[no-untyped-def]
        def call(*arguments, **options):  # type: ignore[no-untyped-def]
            if left[0] == 0:
                raise Died
            left[0] -= 1
            return action(*arguments, **options)

        return call

    for name in ("replace", "unlink", "open", "mkdir"):
        patch.setattr(Path, name, counted(getattr(Path, name)))
    storage = optuna.storages.RDBStorage
    patch.setattr(storage, "set_study_user_attr", counted(storage.set_study_user_attr))


def test_a_driver_may_die_anywhere_in_a_split(study: Study, tmp_path: Path) -> None:
    """Then there is the whole pack, or both of its halves; each goes on from where it was."""
    study.train()
    seen, died = [], True
    while died:
        folder = tmp_path / "copies" / str(len(seen))
        shutil.copytree(study.folder, folder, ignore=shutil.ignore_patterns("copies"))
        recovery = Recovery(Ledger(SPEC, folder), folder, Stopping())
        with pytest.MonkeyPatch.context() as patch:
            dying(len(seen), patch)
            try:
                recovery.failed(study.units, FULL, BEFORE)
                died = False
            except Died:
                pass
        ledger, packs = Ledger(SPEC, folder), []
        while units := ledger.next_pack(3):
            packs.append([unit.trial for unit in units])
            state = checkpoint.load_newest(PackFiles.of(folder, units).checkpoint, STATE_KEYS)[0]
            assert state["configs"] == [unit.config for unit in units]
            assert state["update"] == BEFORE
        assert packs in ([[0, 1, 2]], [[0, 1], [2]])
        seen.append(len(packs))
        if len(packs) == 1:  # and what is handed out whole can be split once more
            why = Recovery(ledger, folder, Stopping()).failed(study.units, FULL, BEFORE)[1]
            assert why.endswith("; goes on in halves")
            assert [len(ledger.next_pack(3)) for _ in range(3)] == [2, 1, 0]
    # both outcomes were met, the whole pack first
    assert sorted(seen) == seen
    assert seen.count(1) > 10
    assert seen.count(2) > 2


def test_a_single_one_is_retried_and_then_given_up(study: Study) -> None:
    study.recovery.failed(study.units, FULL, -1)
    study.ledger.next_pack(3)
    (unit,) = study.ledger.next_pack(3)
    rows, why = study.recovery.failed([unit], FULL, 3)
    assert (rows, why) == ([], "out of memory: MemoryError; goes on from its last checkpoint")
    assert study.ledger.next_pack(3) == [unit]
    rows, why = study.recovery.failed([unit], FULL, 3)
    assert why == ""
    (row,) = rows
    assert (row["trial"], row["status"], row["verdict"]) == (2, "failed", None)
    assert row["cause"] == FULL.cause
    assert row["epsilon"] == unit.config["epsilon"]
    assert (study.folder / unit.folder / FAILURE).read_text() == f"{FULL.cause}\n"
    assert study.ledger.next_pack(3) == []


def test_a_lost_worker_leaves_the_pack_whole(study: Study) -> None:
    study.train()
    why = study.recovery.failed(study.units, Failure(Kind.LOST, "the worker was lost"), BEFORE)[1]
    assert why == "the worker was lost; goes on from its last checkpoint"
    assert study.packs() == [[0, 1, 2]]
    assert study.job(study.ledger.next_pack(3)).trainer.update == BEFORE


def test_a_full_disk_is_no_failure_of_the_pack(study: Study) -> None:
    study.train()
    before = dict(study.ledger.study.user_attrs)
    full = Failure(Kind.STORAGE, "No space left on device: pack.pt")
    assert study.recovery.failed(study.units, full, BEFORE) == ([], "")
    assert study.ledger.study.user_attrs == before
    assert study.ledger.next_pack(3) == []  # this command hands it out no more
    assert study.stopping.asked
    assert isinstance(study.stopping.error, StorageError)
    assert str(study.stopping.error) == "No space left on device: pack.pt"
    assert study.packs() == [[0, 1, 2]]
    assert study.files.checkpoint.exists()
