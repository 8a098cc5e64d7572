"""Images that were made ready once, kept as one file of bytes for workers and later studies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ebm_core.errors import DataError
from ebm_core.files import replacing
from ebm_core.images import image_folder, image_paths, read_image, scaled
from ebm_core.mapped import MappedRows, Rows, beyond

# Of what is kept; another way of making images ready asks for another number.
FORMAT = 2


def kept_images(path: Path, shape: Sequence[int], images: Iterator[Tensor]) -> Rows:
    """Images of a file of bytes, which is written first where it is not there.

    Args:
        path: The npy file.
        shape: Of all images, (n, channels, size, size).
        images: Each as bytes, shape (channels, size, size); asked for only to be written.

    Returns:
        float32 from -1 to 1, of that shape: held in memory, or beyond `mapped.HELD_BYTES` left in
        the file.

    Raises:
        DataError: If the file cannot be written, or an image cannot be read.
    """
    if not path.is_file():
        try:
            _write(path, shape, images)
        except OSError as error:
            rule = f"the images made ready cannot be kept there ({error.strerror or error})"
            place = "XDG_CACHE_HOME names another place, HF_HOME for images of the hub"
            raise DataError(f"{path.parent}: {rule}; {place}") from None
    if beyond(shape):
        # copy on write, since torch warns of what it must not write
        return MappedRows(np.load(path, mmap_mode="c"), scaled(torch.arange(256)))
    return scaled(torch.from_numpy(np.load(path)))


def _write(path: Path, shape: Sequence[int], images: Iterator[Tensor]) -> None:
    with replacing(path) as draft:
        written = np.lib.format.open_memmap(draft, "w+", np.uint8, tuple(shape))
        for index, image in enumerate(images):
            written[index] = image.numpy()
        written.flush()
        del written


def folder_images(folder: Path, size: int, channels: int) -> Rows:
    """As `images.image_folder`; beyond `mapped.HELD_BYTES` decoded once, into the user's cache.

    The cache (``XDG_CACHE_HOME``, or ~/.cache) knows the images by names, sizes and times.

    Raises:
        DataError: If there is none, or one cannot be read.
    """
    paths = image_paths(folder)
    shape = (len(paths), channels, size, size)
    if not beyond(shape):
        return image_folder(folder, size, channels)
    made_of = hashlib.sha256(f"{FORMAT} {size} {channels} {folder.resolve()}".encode())
    for path in paths:
        found = path.stat()
        made_of.update(f"{path.relative_to(folder)}\0{found.st_size} {found.st_mtime_ns}".encode())
    kept = _cache() / f"{made_of.hexdigest()[:32]}.npy"
    return kept_images(kept, shape, (read_image(p, size, channels, str(p)) for p in paths))


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ebm_core"
