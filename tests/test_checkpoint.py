"""Checkpoints: whole or not at all, plain content, and nothing in them is executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ebm_core import checkpoint
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
    bomb = {"format": checkpoint.FORMAT, "bank": _Bomb(trace)}
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


@pytest.mark.parametrize("content", [{"update": 1}, {"format": 0}, [1, 2]])
def test_a_file_of_another_kind_is_told(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "run.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"`format == 1` must hold, got "):
        checkpoint.load(path)


def test_what_a_file_lacks_is_told(tmp_path: Path) -> None:
    path = checkpoint.save(STATE, tmp_path / "run.pt")
    assert checkpoint.load(path, keys=STATE)["update"] == 7
    with pytest.raises(CheckpointError, match=r"run\.pt: no whole checkpoint: it lacks r, s$"):
        checkpoint.load(path, keys=["update", "r", "s"])


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="absent: no such checkpoint"):
        checkpoint.load(tmp_path / "absent")
