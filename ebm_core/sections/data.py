"""Data sets, by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from ebm_core.errors import ConfigError, Problem
from ebm_core.sections.base import Count, Section, from_word, kind


class GmmData(Section):
    """Gaussians of equal weight on a circle in the plane; fresh samples at every draw."""

    name: Literal["gmm"] = "gmm"
    modes: Count = 8
    radius: float = Field(default=1.0, ge=0)
    sd: float = Field(default=0.15, gt=0)

    @property
    def shape(self) -> tuple[int, ...] | None:
        return (2,)


class RingsData(Section):
    """Circles of radius 1, 2, ... blurred by a Gaussian; fresh samples at every draw."""

    name: Literal["rings"] = "rings"
    rings: Count = 4
    sd: float = Field(default=0.15, gt=0)

    @property
    def shape(self) -> tuple[int, ...] | None:
        return (2,)


# Share of a finite set that learning does not see, drawn at random but always the same samples:
# what the model thinks of them tells learning from copying.
HeldOut = Annotated[float, Field(ge=0, le=0.5)]


class DigitsData(Section):
    """The 1,797 handwritten 8x8 digits that scikit-learn carries, scaled to [-1, 1]."""

    name: Literal["digits"] = "digits"
    size: int = Field(default=8, ge=4, le=64)
    held_out: HeldOut = 0.0

    @property
    def shape(self) -> tuple[int, ...] | None:
        return (1, self.size, self.size)


class PatchesData(Section):
    """Square patches of scikit-learn's two sample photographs, scaled to [-1, 1].

    Attributes:
        size: Pixels of a side of a patch.
        channels: 1 for grey, 3 for colours.
        stride: Pixels from one patch to the next, along rows and columns. By default there are
            7,700 patches of 8x8 pixels, 6,716 of 16x16, 4,940 of 32x32.
        shrink: The photographs, 640x427 pixels, are made this many times smaller before, by
            averaging squares of pixels, so that a patch holds more than a smooth slope.
    """

    name: Literal["patches"] = "patches"
    size: int = Field(default=16, ge=4, le=64)
    channels: Literal[1, 3] = 1
    stride: int = Field(default=2, ge=1, le=64)
    shrink: int = Field(default=4, ge=1, le=6)  # at 6 there are still 106x71 pixels
    held_out: HeldOut = 0.0

    @property
    def shape(self) -> tuple[int, ...] | None:
        return (self.channels, self.size, self.size)


def has_control(text: str) -> bool:
    """Whether text holds what no path may: control characters, or halves of others."""
    return any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in text)


def _place(value: str) -> str:
    if not value or has_control(value):
        raise ValueError("must be a path without control characters")
    return value


Place = Annotated[str, AfterValidator(_place)]


class ArrayData(Section):
    """An array of shape (n, *shape) in an npy, npz or pt file; values are used as they are.

    Attributes:
        path: The file.
        key: Which array, where the file holds several.
    """

    name: Literal["array"] = "array"
    path: Place
    key: str | None = None
    held_out: HeldOut = 0.0

    @property
    def shape(self) -> tuple[int, ...] | None:
        return None  # known once the file is read


class ImageFolderData(Section):
    """Every image below a folder, resized and centre-cropped to a square, scaled to [-1, 1]."""

    name: Literal["image_folder"] = "image_folder"
    path: Place
    size: int = Field(default=32, ge=4, le=256)
    channels: Literal[1, 3] = 3
    held_out: HeldOut = 0.0

    @property
    def shape(self) -> tuple[int, ...] | None:
        return (self.channels, self.size, self.size)


class HuggingFaceData(Section):
    """Images of a data set of Hugging Face, resized and centre-cropped, scaled to [-1, 1].

    Attributes:
        dataset: Its name on the hub, as ``uoft-cs/cifar10``, or a folder of parquet files or
            images.
        subset: Which, where the data set has several.
        split: Which, with a slice if wanted: ``train[:5000]``.
        held_out_split: Which is held out, in place of a share of `split`: ``test``.
        column: That holds the images.
    """

    name: Literal["hugging_face"] = "hugging_face"
    dataset: Place
    subset: str | None = None
    split: str = "train"
    held_out_split: str | None = None
    column: str = "image"
    size: int = Field(default=32, ge=4, le=256)
    channels: Literal[1, 3] = 3
    held_out: HeldOut = 0.0

    @property
    def shape(self) -> tuple[int, ...] | None:
        return (self.channels, self.size, self.size)

    @model_validator(mode="after")
    def _held_out_once(self) -> HuggingFaceData:
        if self.held_out and self.held_out_split is not None:
            rule = "must not be given together with held_out, a share of `split`"
            raise ConfigError([Problem("held_out_split", rule, self.held_out_split)])
        if self.held_out_split == self.split:
            rule = "must be another one than `split`, which learning sees"
            raise ConfigError([Problem("held_out_split", rule, self.held_out_split)])
        return self


DATA_KINDS: dict[str, type[Section]] = {
    "gmm": GmmData,
    "rings": RingsData,
    "digits": DigitsData,
    "patches": PatchesData,
    "array": ArrayData,
    "image_folder": ImageFolderData,
    "hugging_face": HuggingFaceData,
}

DataConfig = Annotated[
    Annotated[GmmData, Tag("gmm")]
    | Annotated[RingsData, Tag("rings")]
    | Annotated[DigitsData, Tag("digits")]
    | Annotated[PatchesData, Tag("patches")]
    | Annotated[ArrayData, Tag("array")]
    | Annotated[ImageFolderData, Tag("image_folder")]
    | Annotated[HuggingFaceData, Tag("hugging_face")],
    Discriminator(kind),
    BeforeValidator(from_word),
]
