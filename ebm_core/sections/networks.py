"""Networks, by name or import path."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from ebm_core.errors import Problem
from ebm_core.sections.base import Count, Section, from_word, kind

IMAGE_SIZES = {"vanilla": (8, 16, 32, 64), "nonlocal": tuple(range(8, 65, 8))}


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


NETWORK_KINDS: dict[str, type[Section]] = {
    "toy": ToyNetwork,
    "mlp": MlpNetwork,
    "vanilla": VanillaNetwork,
    "nonlocal": NonlocalNetwork,
}

NetworkConfig = Annotated[
    Annotated[ToyNetwork, Tag("toy")]
    | Annotated[MlpNetwork, Tag("mlp")]
    | Annotated[VanillaNetwork, Tag("vanilla")]
    | Annotated[NonlocalNetwork, Tag("nonlocal")]
    | Annotated[CustomNetwork, Tag("custom")],
    Discriminator(kind),
    BeforeValidator(from_word),
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
