"""Data and banks that are left in files: the same numbers, without their memory."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ebm_core import kept, mapped, preset
from ebm_core.config import make_config
from ebm_core.data import Samples, load_data
from ebm_core.errors import DataError
from ebm_core.fingerprint import difference, fingerprint
from ebm_core.images import scaled
from ebm_core.mapped import MappedRows, allocate, blocks, stacked
from ebm_core.matched import matched_gradient
from ebm_core.sections import ArrayData, ImageFolderData
from ebm_core.trainer import Trainer
from study.estimate import _narrowest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    return place / "ebm_core"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called nothing is small enough to be held, and pieces are small."""

    def lowered() -> None:
        monkeypatch.setattr(mapped, "HELD_BYTES", 100)
        monkeypatch.setattr(mapped, "_BLOCK_NUMBERS", 500)

    return lowered


def array_file(tmp_path: Path, dtype: str = "f4", order: str = "C") -> dict[str, Any]:
    values = np.random.default_rng(0).uniform(-3, 3, (90, 1, 4, 4))
    if np.dtype(dtype).kind in "iu":
        values = (values + 3) * 40
    path = tmp_path / "x.npy"
    np.save(path, np.asarray(values, dtype=dtype, order=order))  # type: ignore[call-overload]
    return {"name": "array", "path": str(path)}


def image_files(tmp_path: Path, count: int = 40) -> dict[str, Any]:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for index in range(count):
        pixels = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03}.png")
    return {"name": "image_folder", "path": str(folder), "size": 8, "channels": 3}


SETS = {
    "images": image_files,
    "float32": array_file,
    "float64": lambda folder: array_file(folder, "f8"),
    "bytes": lambda folder: array_file(folder, "u1"),
    "whole numbers": lambda folder: array_file(folder, "u2"),
    "other byte order": lambda folder: array_file(folder, ">f8"),
    "column order": lambda folder: array_file(folder, "f4", "F"),
}


def both(
    tmp_path: Path, kind: str, small: Callable[[], None]
) -> tuple[dict[str, Any], Samples, Samples]:
    """A configuration, and its data held in memory and left in the file."""
    data = SETS[kind](tmp_path)
    section = (ImageFolderData if kind == "images" else ArrayData)(**data)
    held = load_data(section)
    small()
    left = load_data(section)
    assert isinstance(held, Samples)
    assert isinstance(left, Samples)
    assert isinstance(held.x, Tensor)
    assert isinstance(left.x, MappedRows)
    return data, held, left


@pytest.mark.parametrize("kind", SETS)
def test_the_same_seed_draws_the_same_samples(
    tmp_path: Path, kind: str, small: Callable[[], None]
) -> None:
    _, held, left = both(tmp_path, kind, small)
    assert left.shape == held.shape
    assert len(left.x) == len(held.x)
    for seed in range(3):
        drawn = [data.draw(200, torch.Generator().manual_seed(seed)) for data in (held, left)]
        assert drawn[1].dtype == torch.float32
        assert torch.equal(*drawn)
    assert torch.equal(torch.cat([left.x[rows] for rows in blocks(left.x)]), held.x[:])


@pytest.mark.parametrize("kind", ["images", "column order"])
def test_what_reads_all_of_the_data_finds_the_same(
    tmp_path: Path, kind: str, small: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, held, left = both(tmp_path, kind, small)
    monkeypatch.setattr("ebm_core.matched._DATA_BLOCK", 7)
    found = [fingerprint(data) for data in (held, left)]
    assert found[0] == found[1]
    assert not difference(*found)
    assert matched_gradient(held, 0.1, 0.2) == matched_gradient(left, 0.1, 0.2)
    assert _narrowest(held) == _narrowest(left)


def test_a_fingerprint_spreads_its_numbers_alike_in_any_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.randn(83, 3, 5, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("ebm_core.fingerprint.NUMBERS", 200)
    whole = fingerprint(Samples(x))
    monkeypatch.setattr(mapped, "_BLOCK_NUMBERS", 45)
    assert fingerprint(Samples(x)) == whole


def test_a_training_on_either_is_the_same(tmp_path: Path, small: Callable[[], None]) -> None:
    data, held, left = both(tmp_path, "images", small)
    config = make_config(
        {
            "data": data,
            "network": {"name": "mlp", "widths": [8]},
            "epsilon": 0.1,
            "batch_size": 10,
            "bank_size": 30,
            "bank_start": "data",
            "langevin_steps": 3,
            "updates": 40,
            "window": 20,
        }
    )
    found = []
    for dataset in (held, left, None):  # the last reads the file by itself
        trainer = Trainer([config], dataset=dataset)
        trainer.run(40)
        found.append(trainer)
    assert isinstance(found[2].dataset.x, MappedRows)  # type: ignore[attr-defined]
    for other in found[1:]:
        assert np.array_equal(found[0].d(), other.d())
        assert np.array_equal(found[0].r(), other.r())
        assert found[0].fingerprint == other.fingerprint


def test_those_held_out_are_the_same_in_a_file_and_stay_there(
    tmp_path: Path, small: Callable[[], None]
) -> None:
    config = make_config(
        {"data": {**array_file(tmp_path), "held_out": 0.2}, "network": "mlp", "epsilon": 0.1}
    ).data
    held = load_data(config)
    assert isinstance(held, Samples)
    small()
    left = load_data(config)
    assert isinstance(left, Samples)
    for there, here in ((left.x, held.x), (left.held_out, held.held_out)):
        assert isinstance(there, MappedRows)
        assert here is not None
        assert there.shape == here.shape
        assert torch.equal(there[:], here)
        assert torch.equal(there[3:7], here[3:7])
        few = torch.tensor([5, 0, 5])
        assert torch.equal(there[few], here[few])
        assert torch.equal(there.only(few)[1:], here[few][1:])
        assert torch.equal(there.only(few)[torch.tensor([2])], here[few][2:])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_what_is_not_finite_is_refused_in_a_file_as_well(
    tmp_path: Path, value: float, small: Callable[[], None]
) -> None:
    values = np.zeros((300, 4))
    values[250, 3] = value
    np.save(tmp_path / "x.npy", values)
    small()
    with pytest.raises(DataError, match=r"x\.npy: samples must be finite as float32"):
        load_data(ArrayData(path=str(tmp_path / "x.npy")))


def test_a_flat_array_holds_one_number_a_sample(tmp_path: Path, small: Callable[[], None]) -> None:
    np.save(tmp_path / "x.npy", np.arange(200))
    small()
    data = load_data(ArrayData(path=str(tmp_path / "x.npy")))
    assert data.shape == (1,)
    assert torch.equal(data.x[3:5], torch.tensor([[3.0], [4.0]]))  # type: ignore[attr-defined]


def test_every_byte_stands_for_the_same_number_everywhere() -> None:
    levels = scaled(torch.arange(256))
    pixels = np.arange(256, dtype=np.uint8)
    assert torch.equal(levels, scaled(torch.from_numpy(pixels)))
    assert np.array_equal(levels.numpy(), pixels.astype(np.float32) / 127.5 - 1)


def test_images_are_decoded_once_until_they_change(
    tmp_path: Path, cache: Path, small: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    small()
    section = ImageFolderData(**image_files(tmp_path))
    first = load_data(section).x[:]  # type: ignore[attr-defined]
    [file] = cache.glob("*.npy")
    assert np.load(file).dtype == np.uint8
    assert file.stat().st_size == pytest.approx(40 * 3 * 8 * 8, rel=0.05)

    decoded = []
    real = kept.read_image

    def counted(*arguments: Any) -> Tensor:
        decoded.append(arguments[0])
        return real(*arguments)

    monkeypatch.setattr(kept, "read_image", counted)
    assert torch.equal(load_data(section).x[:], first)  # type: ignore[attr-defined]
    assert decoded == []
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "000.png")
    assert not torch.equal(load_data(section).x[:], first)  # type: ignore[attr-defined]
    assert len(decoded) == 40


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, small: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config({"data": image_files(tmp_path), "network": "mlp", "epsilon": 0.1}).data
    small()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        DataError, match=r"file/ebm_core: .* cannot be kept .* XDG_CACHE_HOME names"
    ):
        load_data(config)


def test_an_image_that_cannot_be_read_leaves_no_file(
    tmp_path: Path, cache: Path, small: Callable[[], None]
) -> None:
    small()
    section = ImageFolderData(**image_files(tmp_path))
    (tmp_path / "images" / "020.png").write_text("no image")
    with pytest.raises(DataError, match=r"020\.png: cannot be read as an image"):
        load_data(section)
    assert list(cache.iterdir()) == []


def test_a_set_that_does_not_fit_a_gpu_stays_on_the_host(
    tmp_path: Path, small: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is none the free memory of a GPU is made up, and no row is asked for."""
    _, held, left = both(tmp_path, "images", small)
    gpu, free = torch.device("cuda:0"), 4.0 * 4 * held.x.shape.numel()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free - 1, free))
    moved = left.to(gpu)
    assert isinstance(moved.x, MappedRows)
    assert moved.x.device == gpu
    assert left.x.device.type == "cpu"
    # one that fits is moved whole, here to what keeps no numbers
    assert isinstance(left.to(torch.device("meta")).x, Tensor)


MEMORY = r"""
import re, sys
from pathlib import Path
import torch
from ebm_core.data import load_data
from ebm_core.fingerprint import fingerprint
from ebm_core.sections import ArrayData

def peak():
    # not getrusage, which begins with what the process that started this one took
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])

before = peak()
data = load_data(ArrayData(path=sys.argv[1]))
rng = torch.Generator().manual_seed(0)
for _ in range(200):
    data.draw(100, rng)
fingerprint(data)
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts kB, as Linux does")
def test_a_set_in_a_file_takes_no_memory_of_its_size(tmp_path: Path) -> None:
    """320 MB of bytes, 1.28 GB as float32: all of it read, and never held."""
    path = tmp_path / "x.npy"
    written = np.lib.format.open_memmap(path, "w+", np.uint8, (5_000, 64_000))
    rng = np.random.default_rng(0)
    for start in range(0, 5_000, 500):
        written[start : start + 500] = rng.integers(0, 256, (500, 64_000), dtype=np.uint8)
    del written
    found = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert int(found.stdout) * 1024 < 250e6


# -- banks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_large_tensor_lies_in_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = len(mapped_files(tmp_path))
    bank = allocate((3, 100, 2), dtype, limit=1000)
    assert (bank.shape, bank.dtype, bank.is_contiguous()) == ((3, 100, 2), dtype, True)
    assert list(tmp_path.iterdir()) == []
    assert len(mapped_files(tmp_path)) == before + 1
    expected = torch.randn(3, 100, 2, dtype=dtype)
    bank.copy_(expected)
    which = torch.tensor([5, 7])
    bank[1, which] = 0
    expected[1, which] = 0
    assert torch.equal(bank, expected)
    del bank
    gc.collect()
    assert len(mapped_files(tmp_path)) == before


def mapped_files(folder: Path) -> list[str]:
    """Lines of the process's map of its memory that name a file of a folder."""
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        pytest.skip("the system tells no process its map")
    return [line for line in maps.read_text().splitlines() if str(folder) in line]


def test_a_small_tensor_and_one_elsewhere_is_an_ordinary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert allocate((10, 25), torch.float32, limit=1000).shape == (10, 25)
    assert allocate((10, 26), torch.float32, "meta", limit=1000).device.type == "meta"
    assert mapped_files(tmp_path) == []


def test_a_disk_without_room_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        allocate((1000,), torch.float32, limit=1000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [0, 10**9])
def test_stacked_is_what_torch_stacks(limit: int) -> None:
    parts = [torch.randn(7, 3) for _ in range(3)]
    assert torch.equal(stacked(iter(parts), 3, limit), torch.stack(parts))
    assert torch.equal(stacked(iter(parts[:1]), 1, limit), parts[0][None])


def test_a_training_with_its_bank_in_a_file_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    config = preset("digits", updates=40, window=30, anneal_updates=0, device="cpu")
    configs = [config, config.with_(seed=1)]
    held = Trainer(configs)
    monkeypatch.setattr(mapped, "HELD_BYTES", 1_000)
    in_files = Trainer(configs)
    for trainer in (held, in_files):
        trainer.run(40)
    assert torch.equal(held.states, in_files.states)
    assert (held.d(1) == in_files.d(1)).all()
