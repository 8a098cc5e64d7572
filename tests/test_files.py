"""Files are replaced whole or not at all, and an error of the disk comes through as it is."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from ebm_core.artifacts import write_config, write_figure, write_traces
from ebm_core.config import make_config
from ebm_core.files import leftovers, replacing, sweep
from ebm_core.pack import Pack, write_pack
from ebm_core.presets import preset

NOISE = np.random.default_rng(0).random((200, 200))
CONFIG = make_config(preset("digits").model_dump(mode="json"))


def traces(path: Path) -> Path:
    series = NOISE.reshape(-1)
    assessment = SimpleNamespace(evidence={"chain_spread": 1.0})
    result: Any = SimpleNamespace(
        config=CONFIG,
        d=series,
        r=series,
        r_rms=series,
        restlessness=series,
        clipped=np.empty(0),
        assessment=assessment,
        divergence=None,
    )
    return write_traces(result, path)


def picture(path: Path) -> Path:
    figure = Figure()
    figure.subplots().imshow(NOISE)
    return write_figure(figure, path)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "config.yaml": lambda path: write_config(CONFIG, path),
    "pack.yaml": lambda path: write_pack(Pack((CONFIG,) * 3, 0, 1, "loop"), path),
    "traces.npz": traces,
    "picture.png": picture,
}
EVERY_WRITER = pytest.mark.parametrize("name", WRITERS)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Files of this process cannot grow beyond some bytes: the system refuses, mid-write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.yaml"
    for text in ("one", "two"):
        with replacing(path) as temporary:
            assert temporary.suffix == ".yaml"
            assert leftovers(path) == []
            temporary.write_text(text)
            assert leftovers(path) == [temporary]
        assert path.read_text() == text
    assert os.listdir(path.parent) == ["x.yaml"]


def test_what_was_there_is_kept_under_another_name(tmp_path: Path) -> None:
    path, old = tmp_path / "x", tmp_path / "old"
    for text in ("one", "two", "three"):
        with replacing(path, keep_as=old) as temporary:
            temporary.write_text(text)
    assert (path.read_text(), old.read_text()) == ("three", "two")


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path, old = tmp_path / "x", tmp_path / "old"
    path.write_text("before")

    def interrupted() -> None:
        with replacing(path, keep_as=old) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == ["x"]
    assert path.read_text() == "before"


def test_it_is_on_the_disk_before_it_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, done = tmp_path / "x", []
    fsync, replace = os.fsync, Path.replace

    def flushed(number: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{number}")).read_text())
        fsync(number)

    def renamed(self: Path, target: Path) -> Path:
        done.append("renamed")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    with replacing(path) as temporary:
        temporary.write_text("content")
    assert done == ["content", "renamed"]


@EVERY_WRITER
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, name: str, share: float) -> None:
    path = WRITERS[name](tmp_path / name)
    before = path.read_bytes()
    with (
        room_for(int(share * len(before))),
        pytest.raises(OSError, match="File too large") as caught,
    ):
        WRITERS[name](path)
    assert caught.value.errno == errno.EFBIG
    assert os.listdir(tmp_path) == [name]
    assert path.read_bytes() == before
    with room_for(2 * len(before)):
        WRITERS[name](path)


@EVERY_WRITER
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_what_cannot_be_flushed_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    path = tmp_path / name
    path.write_text("before")

    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        WRITERS[name](path)
    assert caught.value.errno == number
    assert os.listdir(tmp_path) == [name]
    assert path.read_text() == "before"


@EVERY_WRITER
def test_a_read_only_folder_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    path.write_text("before")

    # permissions would not hold back the superuser, as whom containers often run
    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refused)
        with pytest.raises(OSError, match="Read-only file system") as caught:
            WRITERS[name](path)
    assert caught.value.errno == errno.EROFS
    assert os.listdir(tmp_path) == [name]
    assert path.read_text() == "before"


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / "a" / name for name in (".lock", "pack.pt", ".mlflow.json", ".abc.pack.pt")]
    left = tmp_path / "a" / f".{'0' * 32}.pack.pt"
    left.parent.mkdir()
    for path in (*kept, left):
        path.touch()
    sweep(tmp_path)
    assert not left.exists()
    assert all(path.exists() for path in kept)
