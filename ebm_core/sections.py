"""The parts of a configuration: data sets, networks and the band. Imports neither torch nor numpy.

Each part can be written as its name alone (``data: digits``), with a size (``digits@16``) or as a
mapping with options (``data: {name: digits, size: 16}``).
"""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from ebm_core.errors import ConfigError, Problem

# Of every whole number that counts something; tensors and databases keep it in 32 bits.
LARGEST = 2**31 - 1

Count = Annotated[int, Field(gt=0, le=LARGEST)]

IMAGE_SIZES = {"vanilla": (8, 16, 32, 64), "nonlocal": tuple(range(8, 65, 8))}

# matched: r / r* of runs whose long chains held; absolute: as printed in appendix A for
# epsilon = 0.015 on 32x32x3 images; scaled: the same over 0.015 sqrt(3072)
BANDS = {"matched": (0.5, 1.4), "scaled": (0.096, 0.180), "absolute": (0.08, 0.15)}


class Section(BaseModel):
    """An immutable part of a configuration that knows all its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any) -> Any:
        # pydantic would read `true`, which is also how YAML reads `yes` and `on`, as the number 1
        if isinstance(value, bool):
            raise ValueError("must not be true or false")
        return value


class Band(Section):
    """Where the mean gradient magnitude of convergent learning is expected.

    Attributes:
        low: Lower end; by default the usual one for the unit.
        high: Upper end, the same.
        unit: ``matched``: r / r*, r* being what the score of the data demands; ``scaled``:
            r / (epsilon sqrt(N)); ``absolute``: r itself, in units of x.
    """

    low: float = Field(default=BANDS["matched"][0], ge=0)
    high: float = Field(default=BANDS["matched"][1], gt=0)
    unit: Literal["matched", "scaled", "absolute"] = "matched"

    @model_validator(mode="before")
    @classmethod
    def _ends_of_the_unit(cls, values: Any) -> Any:
        if not isinstance(values, dict) or str(values.get("unit")) not in BANDS:
            return values
        low, high = BANDS[values["unit"]]
        return {"low": low, "high": high, **values}

    @model_validator(mode="after")
    def _ordered(self) -> Band:
        if self.low >= self.high:
            rule = f"`low < high` must hold, got high={self.high!r}"
            raise ConfigError([Problem("low", rule, self.low)])
        return self


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


class FiniteData(Section):
    """A set of so many samples.

    Attributes:
        held_out: Share of the samples that learning does not see, drawn at random but always the
            same ones: what the model thinks of them tells learning from copying.
    """

    held_out: float = Field(default=0, ge=0, le=0.5)


class DigitsData(FiniteData):
    """The 1,797 handwritten 8x8 digits that scikit-learn carries, scaled to [-1, 1]."""

    name: Literal["digits"] = "digits"
    size: int = Field(default=8, ge=4, le=64)

    @property
    def shape(self) -> tuple[int, ...] | None:
        return (1, self.size, self.size)


class PatchesData(FiniteData):
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


class ArrayData(FiniteData):
    """An array of shape (n, *shape) in an npy, npz or pt file; values are used as they are.

    Attributes:
        path: The file.
        key: Which array, where the file holds several.
    """

    name: Literal["array"] = "array"
    path: Place
    key: str | None = None

    @property
    def shape(self) -> tuple[int, ...] | None:
        return None  # known once the file is read


class ImageFolderData(FiniteData):
    """Every image below a folder, resized and centre-cropped to a square, scaled to [-1, 1]."""

    name: Literal["image_folder"] = "image_folder"
    path: Place
    size: int = Field(default=32, ge=4, le=256)
    channels: Literal[1, 3] = 3

    @property
    def shape(self) -> tuple[int, ...] | None:
        return (self.channels, self.size, self.size)


class HuggingFaceData(FiniteData):
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


def _few(value: Any) -> Any:
    # before each of them is looked at
    if isinstance(value, list | tuple) and len(value) > 100:
        raise ValueError("must not have more than 100 entries")
    return value


Widths = Annotated[tuple[Count, ...], Field(min_length=1), BeforeValidator(_few)]
Slope = Annotated[float, Field(ge=0, lt=1)]
# Of a network's hidden layers; the source uses the leaky ReLU, and slopes are its alone.
Activation = Literal["leaky_relu", "silu", "softplus", "gelu"]


class ToyNetwork(Section):
    """Perceptron 2-32-64-64-64-1 for data in the plane."""

    name: Literal["toy"] = "toy"
    widths: Widths = (32, 64, 64, 64)
    slope: Slope = 0.05
    activation: Activation = "leaky_relu"


class MlpNetwork(Section):
    """Perceptron on flattened data of any shape."""

    name: Literal["mlp"] = "mlp"
    widths: Widths = (96, 96)
    slope: Slope = 0.05
    activation: Activation = "leaky_relu"


class VanillaNetwork(Section):
    """Plain convolutional network: 3x3, then 4x4 at stride 2 down to 4x4, then one number."""

    name: Literal["vanilla"] = "vanilla"
    width: Count = 32
    slope: Slope = 0.05
    activation: Activation = "leaky_relu"


class NonlocalNetwork(Section):
    """Convolution, max-pool, three times, with non-local blocks before the second and third."""

    name: Literal["nonlocal"] = "nonlocal"
    widths: tuple[Count, Count, Count] = (32, 64, 128)
    slope: Slope = 0.05
    activation: Activation = "leaky_relu"


def _own(value: str) -> str:
    if re.split("[.:]", value)[0] in sys.stdlib_module_names:
        raise ValueError("must be a module of your own, not one of Python's library")
    return value


class CustomNetwork(Section):
    """A user's own module: ``package.module:attribute``, called with `arguments` to build it.

    Python's own library is refused: ``os:system`` would be called as well.
    """

    name: Annotated[str, AfterValidator(_own)] = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", max_length=200
    )
    arguments: dict[str, Any] = Field(default_factory=dict)


DATA_KINDS: dict[str, type[Section]] = {
    "gmm": GmmData,
    "rings": RingsData,
    "digits": DigitsData,
    "patches": PatchesData,
    "array": ArrayData,
    "image_folder": ImageFolderData,
    "hugging_face": HuggingFaceData,
}
NETWORK_KINDS: dict[str, type[Section]] = {
    "toy": ToyNetwork,
    "mlp": MlpNetwork,
    "vanilla": VanillaNetwork,
    "nonlocal": NonlocalNetwork,
}


def _from_word(value: Any) -> Any:
    """``digits`` stands for ``{name: digits}``, ``digits@16`` for that with ``size: 16``."""
    if not isinstance(value, str):
        return value
    name, _, size = value.partition("@")
    return {"name": name, "size": int(size)} if size.isdecimal() else {"name": value}


def _kind(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    if not isinstance(name, str):
        return None
    return "custom" if ":" in name else name


DataConfig = Annotated[
    Annotated[GmmData, Tag("gmm")]
    | Annotated[RingsData, Tag("rings")]
    | Annotated[DigitsData, Tag("digits")]
    | Annotated[PatchesData, Tag("patches")]
    | Annotated[ArrayData, Tag("array")]
    | Annotated[ImageFolderData, Tag("image_folder")]
    | Annotated[HuggingFaceData, Tag("hugging_face")],
    Discriminator(_kind),
    BeforeValidator(_from_word),
]
NetworkConfig = Annotated[
    Annotated[ToyNetwork, Tag("toy")]
    | Annotated[MlpNetwork, Tag("mlp")]
    | Annotated[VanillaNetwork, Tag("vanilla")]
    | Annotated[NonlocalNetwork, Tag("nonlocal")]
    | Annotated[CustomNetwork, Tag("custom")],
    Discriminator(_kind),
    BeforeValidator(_from_word),
]


def network_problems(network: Any, shape: tuple[int, ...]) -> list[Problem]:
    """Why a network cannot take samples of this shape; empty where it can.

    Args:
        network: A network configuration.
        shape: Of one sample.
    """
    if network.name == "toy" and tuple(shape) != (2,):
        rule = f"toy takes data of shape (2,), not {tuple(shape)}; use mlp"
        return [Problem("network", rule, "toy")]
    sizes = IMAGE_SIZES.get(network.name)
    if sizes is None:
        return []
    if len(shape) != 3:
        rule = f"takes images, but a sample has shape {tuple(shape)}"
        return [Problem("network", rule, network.name)]
    if shape[1] != shape[2] or shape[1] not in sizes:
        rule = f"{network.name} takes square images of {', '.join(map(str, sizes))} pixels"
        return [Problem("data.size", rule, "x".join(map(str, shape[1:])))]
    return []
