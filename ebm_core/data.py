"""Data sets: where positive samples come from, and what is known of their law."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any, Protocol, Self, TypeGuard

import torch
from torch import Tensor

from ebm_core.arrays import read_array
from ebm_core.errors import DataError
from ebm_core.hugging_face import hugging_face_images
from ebm_core.images import IMAGE_SUFFIXES, digits, photograph_patches
from ebm_core.kept import folder_images
from ebm_core.mapped import MappedRows, Rows, all_finite, only

__all__ = [
    "IMAGE_SUFFIXES",
    "Dataset",
    "Gmm",
    "PlaneLaw",
    "Rings",
    "Samples",
    "is_plane_law",
    "load_data",
    "positive_samples",
]


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
    """A finite training set; drawn from uniformly, with replacement.

    Held in memory as float32, or where it is too large for that left in its file, as bytes or
    whatever the file holds (`mapped.HELD_BYTES`): `draw` then reads and converts the rows that it
    picks. The same seed draws the same samples either way, bit for bit. On a GPU such a set is
    held there if it fits (`mapped.GPU_SHARE`); else rows are picked on the host and copied.

    Args:
        x: Samples, shape (n, *shape).
        held_out: Further ones that are never drawn, shape (m, *shape); they stay where they are.

    Raises:
        DataError: If there are none, some value is not finite as float32, or those held out are
            fewer than two or of another shape.
    """

    def __init__(self, x: Rows, held_out: Rows | None = None) -> None:
        self.x = _usable(x)
        self.shape = tuple(x.shape[1:])
        self.held_out = None if held_out is None else _usable(held_out)
        if held_out is None:
            return
        if tuple(held_out.shape[1:]) != self.shape:
            shape = tuple(held_out.shape[1:])
            raise DataError(f"samples have shape {self.shape}, but those held out {shape}")
        if len(held_out) < 2:
            raise DataError("one sample that is held out tells nothing: hold out two at least")

    def split(self, share: float) -> Samples:
        """The same with a share of them held out: at random, but always the same ones.

        Raises:
            DataError: If those are fewer than two.
        """
        held = round(share * len(self.x))
        if held < 2:
            rule = f"data.held_out: {share:g} of {len(self.x)} samples is under two"
            raise DataError(f"{rule}, which tell nothing")
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(0))
        # in their order, which is the faster one to read in a file
        parts = (order[held:].sort().values, order[:held].sort().values)
        return Samples(*(only(self.x, part) for part in parts))

    def to(self, device: torch.device) -> Self:
        moved = copy.copy(self)
        moved.x = self.x.to(device)
        return moved

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        which = torch.randint(len(self.x), (n,), generator=generator, device=generator.device)
        return self.x[which]


def _usable(x: Rows) -> Rows:
    if x.dim() < 2 or len(x) == 0:
        raise DataError(f"samples must have shape (n, *shape), but got {tuple(x.shape)}")
    found: Rows = x if isinstance(x, MappedRows) else x.float().contiguous()
    if not all_finite(found):
        raise DataError("samples must be finite as float32, but some are NaN or infinite")
    return found


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
    whole = _samples(config)
    return whole.split(config.held_out) if config.held_out else whole


def _samples(config: Any) -> Samples:
    """All samples of a finite set."""
    if config.name == "digits":
        return Samples(digits(config.size))
    if config.name == "patches":
        return Samples(
            photograph_patches(config.size, config.channels, config.stride, config.shrink)
        )
    if config.name == "hugging_face":
        return _of_splits(config)
    path = Path(config.path).expanduser()
    if config.name == "array":
        array = read_array(path, config.key)
    else:
        array = folder_images(path, config.size, config.channels)
    try:
        return Samples(array)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _of_splits(config: Any) -> Samples:
    parts = [
        hugging_face_images(
            config.dataset, config.subset, split, config.column, config.size, config.channels
        )
        for split in (config.split, config.held_out_split)
        if split is not None
    ]
    return Samples(*parts)


def is_plane_law(dataset: Dataset) -> TypeGuard[PlaneLaw]:
    """Whether the density of a data set is known in closed form."""
    return hasattr(dataset, "log_density")
