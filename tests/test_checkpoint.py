"""Checkpoints: whole or not at all, the one before, plain content, and nothing is executed."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ebm_core import checkpoint
from ebm_core.checkpoint import CheckpointWarning
from ebm_core.errors import CheckpointError

STATE: dict[str, Any] = {
    "update": 7,
    "seconds": 0.1 + 0.2,
    "engine_path": "loop",
    "nothing": None,
    "alive": torch.tensor([True, False]),
    "bank": torch.arange(6.0, dtype=torch.float64).reshape(2, 3),
    "configs": [{"epsilon": 0.1, "widths": (96, 96)}, {}],
}
DAMAGED = r"damaged or changed since it was written, as its digest tells"


class _Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.target),))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = checkpoint.save(STATE, tmp_path / "deep" / "run.pt")
    state = checkpoint.load(path)
    assert {key: state[key] for key in STATE if key not in ("alive", "bank")} == {
        key: value for key, value in STATE.items() if key not in ("alive", "bank")
    }
    assert torch.equal(state["alive"], STATE["alive"])
    assert torch.equal(state["bank"], STATE["bank"])
    assert state["bank"].dtype == torch.float64
    assert set(state) == set(STATE)


def test_a_file_is_a_plain_one_of_torch(tmp_path: Path) -> None:
    path = checkpoint.save(STATE, tmp_path / "run.pt")
    content = torch.load(path, weights_only=True)
    assert set(content) == {"format", "digest", "state"}
    assert content["digest"] == checkpoint.digest(content["state"]) == checkpoint.digest(STATE)


def test_an_interruption_leaves_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint.save(STATE, tmp_path / "run.pt")

    def interrupted(content: Any, file: Any) -> None:
        file.write(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save({"update": 8}, path)
    assert checkpoint.load(path)["update"] == 7
    assert os.listdir(tmp_path) == ["run.pt"]


def test_the_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    path = checkpoint.save(STATE, tmp_path / "run.pt")
    assert path.stat().st_mode == other.stat().st_mode


def test_a_part_of_a_large_tensor_is_saved_without_the_rest(tmp_path: Path) -> None:
    bank = torch.zeros(100, 10_000)
    path = checkpoint.save({"bank": bank[3]}, tmp_path / "run.pt")
    assert path.stat().st_size < 2 * bank[3].nbytes
    assert checkpoint.load(path)["bank"].shape == (10_000,)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.float64(1.0), "state.records.1: a checkpoint cannot hold a float64"),
        (np.zeros(3), "state.records.1: a checkpoint cannot hold a ndarray"),
        (Path("x"), "state.records.1: a checkpoint cannot hold a PosixPath"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        checkpoint.save({"records": [0.0, value]}, tmp_path / "run.pt")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, zipped: bool) -> None:
    path, trace = tmp_path / "run.pt", tmp_path / "trace"
    state = {"bank": _Bomb(trace)}
    bomb = {"format": checkpoint.FORMAT, "digest": "0" * 64, "state": state}
    if zipped:
        torch.save(bomb, path)
    else:
        path.write_bytes(pickle.dumps(bomb))
    with pytest.raises(CheckpointError, match=r"run\.pt: cannot be read as a checkpoint"):
        checkpoint.load(path)
    assert not trace.exists()


def test_the_bomb_is_armed(tmp_path: Path) -> None:
    path, trace = tmp_path / "run.pt", tmp_path / "trace"
    torch.save({"bank": _Bomb(trace)}, path)
    torch.load(path, weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize("keep", [0, 1, 0.5, 0.99])
def test_a_damaged_file_is_told(tmp_path: Path, keep: float) -> None:
    path = checkpoint.save(STATE, tmp_path / "run.pt")
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(
        CheckpointError, match=r"run\.pt: cannot be read as a checkpoint"
    ) as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [{"update": 1}, {"format": 1, "update": 1}, {"format": torch.zeros(2)}, [1, 2]]
)
def test_a_file_of_another_kind_is_told(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "run.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"`format == 2` must hold, got "):
        checkpoint.load(path)


def test_what_a_file_lacks_is_told(tmp_path: Path) -> None:
    path = checkpoint.save(STATE, tmp_path / "run.pt")
    assert checkpoint.load(path, keys=STATE)["update"] == 7
    with pytest.raises(CheckpointError, match=r"run\.pt: no whole checkpoint: it lacks r, s$"):
        checkpoint.load(path, keys=["update", "r", "s"])


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="absent: no such checkpoint"):
        checkpoint.load(tmp_path / "absent")


# -- the digest ----------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("update", 8),
        ("update", 7.0),
        ("update", "7"),
        ("seconds", 0.3),
        ("nothing", False),
        ("alive", torch.tensor([True, True])),
        ("alive", torch.tensor([1, 0], dtype=torch.uint8)),
        ("alive", [True, False]),
        ("bank", torch.arange(6.0, dtype=torch.float64).reshape(3, 2)),
        ("bank", torch.arange(6.0, dtype=torch.float64).reshape(2, 3).requires_grad_()),
        ("bank", STATE["bank"].nextafter(torch.tensor(9.0, dtype=torch.float64))),
        ("configs", [{"epsilon": 0.1, "widths": [96, 96]}, {}]),
        ("configs", [{}, {"epsilon": 0.1, "widths": (96, 96)}]),
        ("configs", [{"epsilon": 0.1}, {"widths": (96, 96)}]),
        ("more", None),
    ],
)
def test_the_digest_tells_any_change(key: str, value: Any) -> None:
    assert checkpoint.digest({**STATE, key: value}) != checkpoint.digest(STATE)


def test_the_digest_is_of_the_content_alone() -> None:
    bank = STATE["bank"]
    for same in (bank.clone(), bank.T.contiguous().T, torch.cat([bank, bank])[2:]):
        assert checkpoint.digest({**STATE, "bank": same}) == checkpoint.digest(STATE)
    for dtype in (torch.bfloat16, torch.bool, torch.int64, torch.complex64):
        for shape in ((), (0, 3), (2, 2)):
            x = torch.ones(shape, dtype=dtype)
            assert checkpoint.digest(x) == checkpoint.digest(x.clone())
            assert checkpoint.digest(x) != checkpoint.digest(x.reshape(1, *shape))
    assert checkpoint.digest(0.0) != checkpoint.digest(-0.0)
    assert checkpoint.digest(NAN) == checkpoint.digest(NAN) != checkpoint.digest(-NAN)
    with pytest.raises(TypeError, match="a checkpoint cannot hold a set"):
        checkpoint.digest({"x": {1}})


def test_changed_content_is_told(tmp_path: Path) -> None:
    path = checkpoint.save(STATE, tmp_path / "run.pt")
    content = torch.load(path, weights_only=True)
    torch.save(content, path)
    assert checkpoint.load(path)["update"] == 7
    content["state"]["update"] = 8
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf"run\.pt: {DAMAGED}$"):
        checkpoint.load(path)


def test_every_flipped_byte_is_found_or_changes_nothing(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    state = {**STATE, "look": torch.randn(40, generator=rng)}
    path, wanted = checkpoint.save(state, tmp_path / "run.pt"), checkpoint.digest(state)
    content = bytearray(path.read_bytes())
    data = bytes(state["look"].numpy().tobytes())
    stored = range(content.index(data), content.index(data) + len(data))
    told: dict[str, set[int]] = {"digest": set(), "unreadable": set(), "same": set()}
    for at in range(len(content)):
        # another bit of each byte in turn, so that all eight of them are met
        bit = 1 << (at % 8)
        content[at] ^= bit
        path.write_bytes(content)
        content[at] ^= bit
        try:
            found = checkpoint.load(path)
        except CheckpointError as error:
            told["digest" if "as its digest tells" in str(error) else "unreadable"].add(at)
        else:
            assert checkpoint.digest(found) == wanted
            told["same"].add(at)
    # torch alone reads most of these files without complaint
    assert told["digest"] >= set(stored)
    assert told["unreadable"]
    assert told["same"]


def test_a_file_that_is_cut_off_anywhere_is_told(tmp_path: Path) -> None:
    path = checkpoint.save(STATE, tmp_path / "run.pt")
    content = path.read_bytes()
    for length in [*range(0, len(content), 37), *range(len(content) - 40, len(content))]:
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"run\.pt: (cannot be read|damaged)"):
            checkpoint.load(path)


# -- the one before ------------------------------------------------------------------------------


def saved(path: Path, *updates: int) -> None:
    for update in updates:
        checkpoint.save({**STATE, "update": update}, path, keep_previous=True)


def damage(path: Path) -> None:
    """Flips a bit of the bank, which torch does not notice."""
    content = bytearray(path.read_bytes())
    content[content.index(STATE["bank"].numpy().tobytes()) + 9] ^= 1
    path.write_bytes(content)


def tamper(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["state"]["update"] = 99
    torch.save(content, path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def test_the_one_before_is_kept_where_wanted(tmp_path: Path) -> None:
    path = tmp_path / "pack-0.pt"
    checkpoint.save(STATE, path)
    checkpoint.save({**STATE, "update": 8}, path)
    assert os.listdir(tmp_path) == ["pack-0.pt"]
    saved(path, 9, 10)
    assert sorted(os.listdir(tmp_path)) == ["pack-0.previous.pt", "pack-0.pt"]
    assert checkpoint.previous(path) == tmp_path / "pack-0.previous.pt"
    assert checkpoint.load(path)["update"] == 10
    assert checkpoint.load(checkpoint.previous(path))["update"] == 9


def test_the_newest_is_read_without_a_warning(tmp_path: Path) -> None:
    saved(tmp_path / "run.pt", 1, 2)
    state, source = checkpoint.load_newest(str(tmp_path / "run.pt"), keys=STATE)
    assert (state["update"], source) == (2, tmp_path / "run.pt")


@pytest.mark.parametrize("harm", [damage, tamper, cut, empty, Path.unlink])
def test_the_one_before_is_used_with_a_warning(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    path = tmp_path / "run.pt"
    saved(path, 1, 2)
    harm(path)
    told = r"run\.pt: .+; the one before it is used, .*run\.previous\.pt$"
    with pytest.warns(CheckpointWarning, match=told):
        state, source = checkpoint.load_newest(path)
    assert (state["update"], source) == (1, checkpoint.previous(path))


def test_a_file_that_lacks_something_is_not_used_either(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    saved(path, 1)
    checkpoint.save({"update": 2}, path, keep_previous=True)
    with pytest.warns(
        CheckpointWarning, match=r"run\.pt: no whole checkpoint: it lacks bank; the"
    ):
        assert checkpoint.load_newest(path, keys=["update", "bank"])[0]["update"] == 1


def test_where_neither_can_be_used_both_are_named(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    with pytest.raises(CheckpointError, match=r"run\.pt: no such checkpoint$"):
        checkpoint.load_newest(path)
    saved(path, 1, 2)
    damage(path)
    empty(checkpoint.previous(path))
    told = (
        rf"run\.pt: {DAMAGED}; nor can the one before be used: .*run\.previous\.pt: cannot be read"
    )
    with pytest.raises(CheckpointError, match=told):
        checkpoint.load_newest(path)


@pytest.mark.parametrize("harm", [damage, tamper, cut, empty, Path.unlink])
def test_a_damaged_file_never_takes_the_place_of_the_good_one_before(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    path = tmp_path / "run.pt"
    saved(path, 1, 2)
    harm(path)
    saved(path, 3)
    assert checkpoint.load(path)["update"] == 3
    assert checkpoint.load(checkpoint.previous(path))["update"] == 1
    saved(path, 4)
    assert checkpoint.load(checkpoint.previous(path))["update"] == 3


def test_a_file_of_another_process_is_kept_if_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = tmp_path / "run.pt", []
    saved(path, 1)
    load = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda *_: read.append(path) or load(path))
    saved(path, 2)
    assert read == []
    checkpoint._written.clear()
    saved(path, 3)
    assert read == [path]
    assert load(checkpoint.previous(path))["update"] == 2


def test_both_are_removed_and_what_killed_processes_left(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    checkpoint.remove(path)
    checkpoint.remove(tmp_path / "absent" / "run.pt")
    assert not checkpoint.exists(path)
    saved(path, 1, 2)
    (tmp_path / f".{'0' * 32}.run.pt").touch()
    others = {f".{'0' * 32}.other.pt", f".{'0' * 32}.run_pt", ".run.pt", "run.pt.txt", "x.run.pt"}
    for name in others:
        (tmp_path / name).touch()
    for each in (path, checkpoint.previous(path)):
        assert checkpoint.exists(path)
        each.rename(tmp_path / "aside")
        assert checkpoint.exists(path)
        (tmp_path / "aside").rename(each)
    checkpoint.remove(path)
    assert set(os.listdir(tmp_path)) == others
    assert not checkpoint.exists(path)


# -- kills and full disks ------------------------------------------------------------------------


def killed_at(moment: int, action: Callable[[], object]) -> bool:
    """Makes a child process act until its n-th operation on files; whether it was killed there.

    Operations are what Python's audit events tell: files opened, renamed, removed, folders made;
    and the moments between them at which data are written and flushed.
    """
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WIFSIGNALED(status)
    count = -1

    def operation(*_: object) -> None:
        nonlocal count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    fsync, write = os.fsync, torch.save

    def flushed(number: int) -> None:
        operation()
        fsync(number)
        operation()

    def written(content: Any, file: Any) -> None:
        file.write(b"half a file")
        file.flush()
        operation()
        file.seek(0)
        write(content, file)
        operation()

    events = {"open", "os.rename", "os.remove", "os.mkdir", "os.listdir", "os.scandir"}
    try:
        os.fsync, torch.save = flushed, written
        sys.addaudithook(lambda event, _: operation() if event in events else None)
        action()
    except BaseException:
        os._exit(1)
    os._exit(0)


@pytest.mark.filterwarnings("ignore::ebm_core.checkpoint.CheckpointWarning")
@pytest.mark.parametrize("harmed", [False, True], ids=["whole", "damaged"])
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path, harmed: bool) -> None:
    path = tmp_path / "run.pt"
    found = []
    while True:
        saved(path, 1, 2)
        if harmed:
            damage(path)
        killed = killed_at(len(found), lambda: saved(path, 3))
        found.append(checkpoint.load_newest(path, keys=STATE)[0]["update"])
        saved(path, 4)
        assert checkpoint.load(path)["update"] == 4
        assert checkpoint.load(checkpoint.previous(path))["update"] == found[-1]
        checkpoint.remove(path)
        assert os.listdir(tmp_path) == []
        if not killed:
            break
    # before the new one is in place it is the one before, and there were moments of both kinds
    before = 1 if harmed else 2
    assert found == sorted(found)
    assert set(found) == {before, 3}
    assert found.count(before) >= 6


def test_the_kills_find_a_careless_save_out(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    checkpoint.save(STATE, path)
    content = torch.load(path, weights_only=True)

    def in_place() -> None:
        with path.open("wb") as file:
            torch.save(content, file)

    assert killed_at(0, in_place)
    assert checkpoint.load(path)["update"] == 7
    assert killed_at(1, in_place)
    with pytest.raises(CheckpointError, match=r"run\.pt: cannot be read"):
        checkpoint.load_newest(path)
    assert not killed_at(9, in_place)
    assert checkpoint.load(path)["update"] == 7


def test_a_kill_that_removes_leaves_the_newest_to_the_last(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    moment = 0
    while True:
        saved(path, 1, 2)
        killed = killed_at(moment, lambda: checkpoint.remove(path))
        if not killed:
            break
        assert checkpoint.load_newest(path)[0]["update"] == 2
        moment += 1
    assert moment >= 2
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_disk_that_is_full_leaves_both_files_and_says_so(tmp_path: Path, share: float) -> None:
    path = tmp_path / "run.pt"
    state = {**STATE, "states": torch.zeros(20_000)}
    for update in (1, 2):
        checkpoint.save({**state, "update": update}, path, keep_previous=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # the system refuses to write more than this into a file, as it does on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * path.stat().st_size), limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            checkpoint.save({**state, "update": 3}, path, keep_previous=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert sorted(os.listdir(tmp_path)) == ["run.previous.pt", "run.pt"]
    assert checkpoint.load(path)["update"] == 2
    assert checkpoint.load(checkpoint.previous(path))["update"] == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_what_cannot_be_flushed_leaves_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "run.pt"
    saved(path, 1, 2)

    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        saved(path, 3)
    assert caught.value.errno == number
    assert sorted(os.listdir(tmp_path)) == ["run.previous.pt", "run.pt"]
    assert checkpoint.load(path)["update"] == 2
    assert checkpoint.load(checkpoint.previous(path))["update"] == 1


def test_what_else_torch_complains_of_comes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(content: Any, file: Any) -> None:
        raise RuntimeError("no such dtype")

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(RuntimeError, match="no such dtype"):
        checkpoint.save(STATE, tmp_path / "run.pt")
    assert os.listdir(tmp_path) == []
