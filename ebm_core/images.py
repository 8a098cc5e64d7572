"""Images as arrays, scaled to [-1, 1]: scikit-learn's digits and photographs, and folders.

The one module that reads with Pillow and scikit-learn; both are imported when they are needed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ebm_core.errors import DataError

if TYPE_CHECKING:
    from PIL import Image as Pillow

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})

# Share of red, green and blue in grey: ITU-R 601, as in Pillow's mode L
_LUMA = (0.299, 0.587, 0.114)


def digits(size: int) -> Tensor:
    """scikit-learn's 1,797 handwritten 8x8 digits, resized; shape (1797, 1, size, size)."""
    images = torch.from_numpy(_digits()).float().reshape(-1, 1, 8, 8) / 8 - 1
    if size == 8:
        return images
    return torch.nn.functional.interpolate(
        images, size=(size, size), mode="bilinear", antialias=True
    )


def _digits() -> np.ndarray:
    """Counts from 0 to 16, shape (1797, 64), read from scikit-learn's file.

    To import scikit-learn for them takes every process over a second; that is done only if they
    lie elsewhere in some other version of it.
    """
    installed = importlib.util.find_spec("sklearn")
    if installed is not None and installed.origin is not None:
        path = Path(installed.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return np.loadtxt(path, delimiter=",", usecols=range(64))
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().data)


def photograph_patches(size: int, channels: int, stride: int, shrink: int) -> Tensor:
    """Square patches of scikit-learn's two sample photographs, a temple and a flower.

    Args:
        size: Pixels of a side of a patch.
        channels: 3 for colours, 1 for grey.
        stride: Pixels from one patch to the next, along rows and columns.
        shrink: Pixels of the photograph along one side of the square that is averaged to one.

    Returns:
        Shape (n, channels, size, size): all patches of one photograph, row by row, then those of
        the other.
    """
    from sklearn.datasets import load_sample_images

    cut = []
    for pixels in load_sample_images().images:
        photograph = torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)
        if channels == 1:
            photograph = (photograph * torch.tensor(_LUMA)[:, None, None]).sum(0, keepdim=True)
        small = torch.nn.functional.avg_pool2d(photograph, shrink)
        patches = small.unfold(1, size, stride).unfold(2, size, stride)
        cut.append(patches.permute(1, 2, 0, 3, 4).reshape(-1, channels, size, size))
    return torch.cat(cut)


def image_folder(folder: Path, size: int, channels: int) -> Tensor:
    """Every image below a folder, resized and centre-cropped, shape (n, channels, size, size).

    Raises:
        DataError: If there is none, or one cannot be read.
    """
    paths = image_paths(folder)
    images = torch.empty(len(paths), channels, size, size)
    for image, path in zip(images, paths, strict=True):
        image.copy_(scaled(read_image(path, size, channels, str(path))))
    return images


def image_paths(folder: Path) -> list[Path]:
    """Every image below a folder, in the order of their names.

    Raises:
        DataError: If there is none.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise DataError(f"{folder}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return paths


def scaled(pixels: Tensor) -> Tensor:
    """Bytes as float32 from -1 to 1."""
    return pixels.float() / 127.5 - 1


def read_image(file: Path | BinaryIO, size: int, channels: int, name: str) -> Tensor:
    """One image as bytes, shape (channels, size, size), uint8.

    Grey of 16 bit is reduced to 8 bit; what is transparent lies on white.

    Args:
        file: Encoded, as PNG or JPEG.
        size: Pixels of a side of the square that is cut from its middle.
        channels: 3 for colours, 1 for grey.
        name: What errors call it.

    Raises:
        DataError: If it cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            plain = _plain(ImageOps.exif_transpose(image))
            coloured = plain.convert("RGB" if channels == 3 else "L")
            square = ImageOps.fit(coloured, (size, size), Image.Resampling.LANCZOS)
    # the kinds of error that Pillow's readers raise for damaged and for enormous files
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name}: cannot be read as an image: {error}") from error
    pixels = torch.from_numpy(np.array(square))
    return pixels.reshape(size, size, channels).permute(2, 0, 1)


def _plain(image: Pillow.Image) -> Pillow.Image:
    """An image that is opaque and has 8 bit a channel; `ValueError` where no range is known."""
    from PIL import Image

    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no black and white; save it with 8 or 16 bit")
    if image.mode.startswith("I;16"):
        # 65535 = 257 * 255
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if not image.has_transparency_data:
        return image
    colours = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours)
