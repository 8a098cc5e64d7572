"""Images through Hugging Face's `datasets`, of sets that the tests make."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from ebm_core.data import load_data
from ebm_core.errors import DataError
from ebm_core.mapped import MappedRows
from ebm_core.sections import HuggingFaceData

datasets = pytest.importorskip("datasets")

RED, GREY = (200, 40, 20), 100


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where nothing of another test is found, and no network is asked."""
    place = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", place)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return place


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def images() -> list[bytes]:
    """Of every mode and size that real sets have."""
    return [
        encoded(Image.new("RGB", (12, 9), RED)),
        encoded(Image.new("L", (40, 40), GREY)),
        encoded(Image.new("RGBA", (8, 8), (*RED, 0))),
        encoded(Image.new("RGB", (3, 3), RED), "BMP"),
    ]


def parquet(folder: Path, contents: list[Any], column: str = "image") -> Path:
    folder.mkdir(parents=True)
    rows = [{"bytes": content, "path": None} for content in contents]
    pq.write_table(pa.table({column: rows, "label": list(range(len(rows)))}), folder / "a.parquet")
    return folder


def config(dataset: Path | str, **more: Any) -> HuggingFaceData:
    return HuggingFaceData(**{"dataset": str(dataset), "size": 8, **more})


def test_a_parquet_set_of_many_modes_and_sizes(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "set", images())
    data = load_data(config(folder))
    assert data.shape == (3, 8, 8)
    red = torch.tensor(RED) / 127.5 - 1
    grey = torch.full((3,), GREY / 127.5 - 1)
    expected = torch.stack([red, grey, torch.ones(3), red])
    assert torch.allclose(data.x, expected[:, :, None, None].expand(4, 3, 8, 8), atol=1e-6)
    one = load_data(config(folder, channels=1, size=16, split="train[1:2]"))
    assert one.x.shape == (1, 1, 16, 16)


def test_several_splits_follow_each_other(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "set", images()[:3])
    (folder / "a.parquet").rename(folder / "train.parquet")
    rest = parquet(tmp_path / "rest", images()[3:])
    (rest / "a.parquet").rename(folder / "test.parquet")
    parts = [load_data(config(folder, split=split)).x for split in ("train", "test")]
    assert torch.equal(load_data(config(folder, split="train+test")).x, torch.cat(parts))


def test_a_split_of_its_own_is_held_out(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "set", images()[:2])
    (folder / "a.parquet").rename(folder / "train.parquet")
    rest = parquet(tmp_path / "rest", images()[2:])
    (rest / "a.parquet").rename(folder / "test.parquet")
    data = load_data(config(folder, held_out_split="test"))
    assert torch.equal(data.x, load_data(config(folder)).x)
    assert data.held_out is not None
    assert torch.equal(data.held_out, load_data(config(folder, split="test")).x)
    with pytest.raises(ValidationError, match="held_out_split: must not be given together with"):
        config(folder, held_out_split="test", held_out=0.1)
    with pytest.raises(ValidationError, match="held_out_split: must be another one than `split`"):
        config(folder, held_out_split="train")


def test_an_image_folder_of_the_builder(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    shades = np.arange(0, 192, 3, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(shades).save(folder / "a.png")
    data = load_data(config(folder, channels=1))
    assert torch.allclose(data.x[0, 0], torch.from_numpy(shades / 127.5 - 1).float())


def test_what_was_made_ready_is_kept_and_read_again(tmp_path: Path, cache: Path) -> None:
    folder = parquet(tmp_path / "set", images())
    first = load_data(config(folder))
    [kept] = cache.glob("ebm_core/*.npy")
    again = np.load(kept)
    assert again.dtype == np.uint8
    np.save(kept, np.zeros_like(again))
    assert (load_data(config(folder)).x == -1).all()
    kept.unlink()
    assert torch.equal(load_data(config(folder)).x, first.x)
    # other images are not taken for these
    other = parquet(tmp_path / "other", images()[::-1])
    assert not torch.equal(load_data(config(other)).x, first.x)


def test_a_large_set_stays_in_its_file_and_is_drawn_from_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = parquet(tmp_path / "set", images())
    held = load_data(config(folder))
    monkeypatch.setattr("ebm_core.mapped.HELD_BYTES", 100)
    left = load_data(config(folder))
    assert isinstance(left.x, MappedRows)
    drawn = [data.draw(20, torch.Generator().manual_seed(0)) for data in (held, left)]
    assert torch.equal(*drawn)


@pytest.mark.parametrize(
    ("contents", "more", "message"),
    [
        ([*images(), b"no image"], {}, r"row 4: cannot be read as an image"),
        ([images()[0], images()[1][:60]], {}, r"row 1: cannot be read as an image"),
        ([images()[0], None], {}, r"row 1: image must be an image"),
        (images(), {"column": "img"}, r"no column 'img', but image, label"),
        (images(), {"column": "label"}, r"row 0: label must be an image, got int"),
        (images(), {"split": "test"}, r"cannot be had: Unknown split"),
        (images(), {"split": "train[:0]"}, r"corresponds to no data"),
    ],
)
def test_what_is_no_image_is_refused_by_name(
    tmp_path: Path, contents: list[Any], more: dict[str, Any], message: str
) -> None:
    folder = parquet(tmp_path / "set", contents)
    with pytest.raises(DataError, match=message) as caught:
        load_data(config(folder, **more))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_network_the_set_and_the_way_out_are_named() -> None:
    with pytest.raises(DataError, match=r"^some/where: cannot be had: .* asks the hub"):
        load_data(config("some/where"))


def test_without_the_library_it_is_named() -> None:
    code = """
import sys
sys.modules["datasets"] = None
from ebm_core.data import load_data
from ebm_core.sections import HuggingFaceData
try:
    load_data(HuggingFaceData(dataset="some/where"))
except Exception as error:
    print(type(error).__name__, error)
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith("DataError data of name hugging_face needs `datasets`: pip")
