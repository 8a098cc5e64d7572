"""Data sets: where positive samples come from, and what is known of their law."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeGuard

import numpy as np
import torch
from torch import Tensor

from ebm_core.errors import DataError

if TYPE_CHECKING:
    from PIL import Image as Pillow

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


class Dataset(Protocol):
    """What the trainer needs of a data set."""

    shape: tuple[int, ...]

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n samples without added noise, shape (n, *shape), float32 on the generator's device."""
        ...

    def to(self, device: torch.device) -> Self:
        """A data set of the same law, ready to draw on a device; this one stays where it is."""
        ...


class PlaneLaw(Dataset, Protocol):
    """A data law in the plane whose density is known, also under added Gaussian noise."""

    sd: float
    extent: float

    @property
    def device(self) -> torch.device:
        """Where its densities are computed."""
        ...

    def log_density(self, x: Tensor, sd: float) -> Tensor:
        """log q at x, shape (n, 2) to (n,), for component sd `sd`."""
        ...


def positive_samples(
    dataset: Dataset, n: int, data_epsilon: float, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    r"""Positive samples with fresh noise, :math:`X^+ = x_{\varphi(j)} + \varepsilon_{data} Q_j`.

    Args:
        dataset: Where the clean samples come from.
        n: How many.
        data_epsilon: sd of the added noise, units of x.
        generator: Source of the indices and of the noise.
        dtype: Of the result.

    Returns:
        Shape (n, *shape).

    Source: Nijkamp et al. 2020, eq. (5A).
    """
    clean = dataset.draw(n, generator).to(dtype)
    noise = torch.empty_like(clean).normal_(generator=generator)
    return noise.mul_(data_epsilon).add_(clean)


def _normal(size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(size, generator=generator, dtype=torch.float32, device=generator.device)


class Gmm:
    """Gaussians of equal weight and sd, their means evenly on a circle."""

    shape: tuple[int, ...] = (2,)

    def __init__(self, modes: int = 8, radius: float = 1.0, sd: float = 0.15) -> None:
        angles = 2 * math.pi * torch.arange(modes, dtype=torch.float64) / modes
        self.means = radius * torch.stack([angles.cos(), angles.sin()], dim=1)
        self.sd = sd
        self.extent = radius + 8 * sd

    @property
    def device(self) -> torch.device:
        return self.means.device

    def to(self, device: torch.device) -> Self:
        moved = copy.copy(self)
        moved.means = self.means.to(device)
        return moved

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        which = torch.randint(len(self.means), (n,), generator=generator, device=device)
        noise = _normal((n, 2), generator)
        return self.means.float()[which] + self.sd * noise

    def log_density(self, x: Tensor, sd: float) -> Tensor:
        """log q at x, shape (n, 2) to (n,), float64, for modes of sd `sd`."""
        squared = (x.double()[:, None] - self.means).square().sum(-1)
        exponents = torch.logsumexp(-squared / (2 * sd**2), dim=1)
        return exponents - math.log(len(self.means)) - math.log(2 * math.pi * sd**2)


class Rings:
    """Uniform on concentric circles of radius 1, 2, ..., blurred by an isotropic Gaussian."""

    shape: tuple[int, ...] = (2,)

    def __init__(self, rings: int = 4, sd: float = 0.15) -> None:
        self.radii = torch.arange(1, rings + 1, dtype=torch.float64)
        self.sd = sd
        self.extent = rings + 6 * sd

    @property
    def device(self) -> torch.device:
        return self.radii.device

    def to(self, device: torch.device) -> Self:
        moved = copy.copy(self)
        moved.radii = self.radii.to(device)
        return moved

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        which = torch.randint(len(self.radii), (n,), generator=generator, device=device)
        uniform = torch.rand(n, generator=generator, dtype=torch.float32, device=device)
        angle = 2 * math.pi * uniform
        noise = _normal((n, 2), generator)
        circle = torch.stack([angle.cos(), angle.sin()], dim=1)
        return self.radii.float()[which, None] * circle + self.sd * noise

    def log_density(self, x: Tensor, sd: float) -> Tensor:
        r"""log q at x, shape (n, 2) to (n,), float64, for circles blurred by `sd`.

        A circle of radius R under noise s: the angle integrates to a scaled Bessel function,

        .. math:: q(x) = e^{-(|x| - R)^2 / 2 s^2} \, i_{0e}(|x| R / s^2) / (2 \pi s^2)
        """
        distance = x.double().norm(dim=1)[:, None]
        bessel = torch.special.i0e(distance * self.radii / sd**2).log()
        exponents = -(distance - self.radii).square() / (2 * sd**2) + bessel
        return (
            torch.logsumexp(exponents, dim=1)
            - math.log(len(self.radii))
            - math.log(2 * math.pi * sd**2)
        )


class Samples:
    """A finite training set held in memory; drawn from uniformly, with replacement.

    Args:
        x: Samples, shape (n, *shape).

    Raises:
        DataError: If there are none, or some value is not finite as float32.
    """

    def __init__(self, x: Tensor) -> None:
        if x.dim() < 2 or len(x) == 0:
            raise DataError(f"samples must have shape (n, *shape), but got {tuple(x.shape)}")
        self.x = x.float().contiguous()
        if not torch.isfinite(self.x).all():
            raise DataError("samples must be finite as float32, but some are NaN or infinite")
        self.shape = tuple(x.shape[1:])

    def to(self, device: torch.device) -> Self:
        moved = copy.copy(self)
        moved.x = self.x.to(device)
        return moved

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        which = torch.randint(len(self.x), (n,), generator=generator, device=generator.device)
        return self.x[which]


def load_data(config: Any) -> Dataset:
    """The data set that a configuration names.

    Args:
        config: A data configuration, see `ebm_core.config`.

    Raises:
        DataError: If it cannot be read or does not have the promised shape.
    """
    if config.name == "gmm":
        return Gmm(config.modes, config.radius, config.sd)
    if config.name == "rings":
        return Rings(config.rings, config.sd)
    if config.name == "digits":
        return Samples(_digits(config.size))
    path = Path(config.path).expanduser()
    if config.name == "array":
        array = _array(path, config.key)
    else:
        array = _image_folder(path, config.size, config.channels)
    try:
        return Samples(array)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def is_plane_law(dataset: Dataset) -> TypeGuard[PlaneLaw]:
    """Whether the density of a data set is known in closed form."""
    return hasattr(dataset, "log_density")


def _digits(size: int) -> Tensor:
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
    if size == 8:
        return images
    return torch.nn.functional.interpolate(
        images, size=(size, size), mode="bilinear", antialias=True
    )


def _array(path: Path, key: str | None) -> Tensor:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        if path.suffix in (".pt", ".pth"):
            content = torch.load(path, weights_only=True, map_location="cpu")
        else:
            content = _read_numpy(path)
    except Exception as error:  # whatever the reader says is for the user, with the file's name
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: cannot be read as an array: {reason}") from error
    array = _pick(content, path, key)
    if not isinstance(array, Tensor | np.ndarray):
        raise DataError(f"{path}: must hold an array, got {type(array).__name__}")
    if isinstance(array, np.ndarray):
        if array.dtype.kind not in "iuf":
            raise DataError(f"{path}: must hold real numbers, got {array.dtype}")
        with np.errstate(over="ignore"):  # `Samples` refuses what is too large
            array = torch.from_numpy(array.astype(np.float32))
    if array.is_complex() or array.dtype == torch.bool:
        raise DataError(f"{path}: must hold real numbers, got {array.dtype}")
    return array[:, None] if array.dim() == 1 else array


def _read_numpy(path: Path) -> Any:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        return {name: content[name] for name in content.files}


def _pick(content: Any, path: Path, key: str | None) -> Any:
    if not isinstance(content, dict):
        if key is not None:
            raise DataError(f"{path}: holds one array without a name, got data.key={key!r}")
        return content
    names = list(content)
    if key is None and len(names) == 1:
        return content[names[0]]
    if key not in names:
        raise DataError(f"{path}: `data.key` must be one of {names}, got {key!r}")
    return content[key]


def _image_folder(folder: Path, size: int, channels: int) -> Tensor:
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise DataError(f"{folder}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    images = torch.empty(len(paths), channels, size, size)
    for image, path in zip(images, paths, strict=True):
        image.copy_(_read_image(path, size, channels))
    return images


def _read_image(path: Path, size: int, channels: int) -> Tensor:
    """One image, shape (channels, size, size), from -1 to 1.

    Grey of 16 bit is reduced to 8 bit; what is transparent lies on white.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            plain = _plain(ImageOps.exif_transpose(image))
            coloured = plain.convert("RGB" if channels == 3 else "L")
            square = ImageOps.fit(coloured, (size, size), Image.Resampling.LANCZOS)
    # the kinds of error that Pillow's readers raise for damaged and for enormous files
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image: {error}") from error
    pixels = torch.from_numpy(np.asarray(square, dtype=np.float32) / 127.5 - 1)
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
