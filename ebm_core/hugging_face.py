"""Images of Hugging Face's `datasets`, the one module that touches it; made ready once.

What was read and cut is kept as one file of bytes beside the cache of `datasets`, so that workers
and later studies find it ready.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from ebm_core.errors import DataError
from ebm_core.images import read_image
from ebm_core.kept import FORMAT, kept_images
from ebm_core.mapped import Rows

_FOLDER = "ebm_core"


def hugging_face_images(
    dataset: str, subset: str | None, split: str, column: str, size: int, channels: int
) -> Rows:
    """Images of a data set by name or from a folder, resized and centre-cropped.

    Args:
        dataset: A name on the hub, or a folder of parquet files or images.
        subset: Which, where it has several.
        split: Which, with a slice if wanted.
        column: That holds the images.
        size: Pixels of a side.
        channels: 3 for colours, 1 for grey.

    Returns:
        Shape (n, channels, size, size), from -1 to 1, float32; left in the file of bytes beyond
        `mapped.HELD_BYTES`.

    Raises:
        DataError: If `datasets` is not installed, the data set cannot be had, it lacks the
            column, or a row of it is no image; it names the row.
    """
    rows, cache = _opened(dataset, subset, split, column)
    made_of = f"{FORMAT} {rows._fingerprint} {column} {size} {channels}"
    kept = cache / f"{hashlib.sha256(made_of.encode()).hexdigest()[:32]}.npy"
    images = _made_ready(rows, column, size, channels, f"{dataset}, {split}")
    return kept_images(kept, (len(rows), channels, size, size), images)


def _opened(dataset: str, subset: str | None, split: str, column: str) -> tuple[Any, Path]:
    """The rows of a data set, their images not yet decoded, and where ready ones are kept."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
        rule = "needs `datasets`: pip install datasets"
        raise DataError(f"data of name hugging_face {rule}") from None
    folder = Path(dataset).expanduser()
    source = str(folder) if folder.is_dir() else dataset
    try:
        rows = datasets.load_dataset(source, subset, split=split)
    # it raises whatever its builders, its downloads and its readers raise
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).partition("\n")[0]
        where = (
            "" if folder.is_dir() else "; it is no folder here, and asks the hub on the network"
        )
        raise DataError(f"{dataset}: cannot be had: {first}{where}") from error
    if column not in rows.column_names:
        known = ", ".join(rows.column_names)
        raise DataError(f"{dataset}: has no column {column!r}, but {known}")
    if len(rows) == 0:
        raise DataError(f"{dataset}: the split {split!r} is empty")
    if isinstance(rows.features[column], datasets.Image):
        rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows, Path(datasets.config.HF_DATASETS_CACHE) / _FOLDER


def _made_ready(rows: Any, column: str, size: int, channels: int, name: str) -> Iterator[Tensor]:
    """Each image as bytes, shape (channels, size, size)."""
    for index, encoded in enumerate(_encoded(rows, column, name)):
        yield read_image(encoded, size, channels, f"{name}, row {index}")


def _encoded(rows: Any, column: str, name: str) -> Iterator[Any]:
    """Each image of a column as a file to read."""
    for index, value in enumerate(rows[column]):
        content = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(content, bytes):
            yield io.BytesIO(content)
        elif isinstance(value, dict) and isinstance(value.get("path"), str):
            yield Path(value["path"])
        else:
            kind = type(value).__name__
            raise DataError(f"{name}, row {index}: {column} must be an image, got {kind}")
