"""Energy networks F: any module that maps (n, *shape) to (n,)."""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ebm_core.config import network_problems
from ebm_core.errors import ConfigError, EnergyError

LEAKY = "leaky_relu"
# Smooth in x, as the gradient of F then is; by the names of `ebm_core.sections.Activation`.
_SMOOTH: dict[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
}


def activated(name: str, slope: float) -> nn.Module:
    """An activation by name; `slope` is that of the leaky ReLU below zero, and no other has it."""
    return nn.LeakyReLU(slope) if name == LEAKY else _SMOOTH[name]()


class Mlp(nn.Module):
    """Perceptron on flattened samples; *toy* and *mlp* are both of this form.

    Args:
        inputs: N, numbers of one sample.
        widths: Hidden units of each layer.
        slope: Of the leaky ReLU below zero.
        activation: See `activated`.
    """

    def __init__(
        self, inputs: int, widths: Sequence[int], slope: float = 0.05, activation: str = LEAKY
    ) -> None:
        super().__init__()
        sizes = [inputs, *widths]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.output = nn.Linear(sizes[-1], 1)
        self.slope = slope
        self.activation = activated(activation, slope)

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(1)
        for layer in self.hidden:
            h = self.activation(layer(h))
        value: Tensor = self.output(h)
        return value.squeeze(-1)


class Vanilla(nn.Module):
    """Plain convolutional network, as many stride-2 stages as bring the image down to 4x4.

    3x3 convolution to `width` channels, then 4x4 at stride 2 with doubled channels a stage, then
    4x4 to one number.

    Args:
        channels: Of the image.
        size: Side of the square image in pixels: 8, 16, 32 or 64.
        width: Channels of the first layer.
        slope: Of the leaky ReLU below zero.
        activation: See `activated`.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        width: int = 32,
        slope: float = 0.05,
        activation: str = LEAKY,
    ) -> None:
        super().__init__()
        stages = int(math.log2(size // 4))
        first = nn.Conv2d(channels, width, 3, padding=1)
        layers: list[nn.Module] = [first, activated(activation, slope)]
        for stage in range(stages):
            fan = width * 2**stage
            convolution = nn.Conv2d(fan, 2 * fan, 4, stride=2, padding=1)
            layers += [convolution, activated(activation, slope)]
        self.body = nn.Sequential(*layers)
        self.output = nn.Conv2d(width * 2**stages, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.output(self.body(x))
        return value.flatten(1).squeeze(-1)


class NonlocalBlock(nn.Module):
    """Embedded-Gaussian non-local block with pooled keys and values, residual, zero at the start.

    Source: Wang et al. 2018, *Non-local neural networks*; the form used for the published runs.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.output = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.output.weight)
        if self.output.bias is not None:
            nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2).transpose(1, 2)
        key = nn.functional.max_pool2d(self.key(x), 2).flatten(2)
        value = nn.functional.max_pool2d(self.value(x), 2).flatten(2).transpose(1, 2)
        mixed = torch.softmax(query @ key, dim=-1) @ value
        mixed = mixed.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])
        change: Tensor = self.output(mixed)
        return x + change


class Nonlocal(nn.Module):
    """Three stages of 3x3 convolution and max-pool, non-local blocks before the last two.

    Args:
        channels: Of the image.
        size: Side of the square image in pixels, a multiple of 8.
        widths: Channels of the three stages.
        slope: Of the leaky ReLU below zero.
        activation: See `activated`.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        widths: tuple[int, int, int] = (32, 64, 128),
        slope: float = 0.05,
        activation: str = LEAKY,
    ) -> None:
        super().__init__()
        first, second, third = widths

        def stage(fan_in: int, fan_out: int) -> list[nn.Module]:
            convolution = nn.Conv2d(fan_in, fan_out, 3, padding=1)
            return [convolution, activated(activation, slope), nn.MaxPool2d(2)]

        self.body = nn.Sequential(
            *stage(channels, first),
            NonlocalBlock(first),
            *stage(first, second),
            NonlocalBlock(second),
            *stage(second, third),
            nn.Flatten(),
            nn.Linear(third * (size // 8) ** 2, 256),
            activated(activation, slope),
        )
        self.output = nn.Linear(256, 1)

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.output(self.body(x))
        return value.squeeze(-1)


def build_energy(network: Any, shape: tuple[int, ...]) -> nn.Module:
    """The network that a configuration names, for samples of a given shape.

    Args:
        network: A network configuration, see `ebm_core.config`.
        shape: Of one sample.

    Raises:
        ConfigError: If this network cannot take such samples.
        EnergyError: If a user's network cannot be imported or is no module.
    """
    problems = network_problems(network, shape)
    if problems:
        raise ConfigError(problems)
    if network.name in ("toy", "mlp"):
        return Mlp(math.prod(shape), network.widths, network.slope, network.activation)
    if network.name == "vanilla":
        return Vanilla(shape[0], shape[1], network.width, network.slope, network.activation)
    if network.name == "nonlocal":
        return Nonlocal(shape[0], shape[1], network.widths, network.slope, network.activation)
    return _custom_energy(network)


def _custom_energy(network: Any) -> nn.Module:
    module_name, attribute = network.name.split(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise EnergyError(f"network {network.name!r} cannot be imported: {error}") from error
    try:
        energy = factory(**network.arguments)
    except Exception as error:  # the user's code: whatever it says is for the user
        raise EnergyError(f"network {network.name!r} cannot be built: {error}") from error
    if not isinstance(energy, nn.Module):
        raise EnergyError(f"network {network.name!r} gives {type(energy).__name__}, not a module")
    return energy


def check_energy(energy: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Refuses a module that cannot serve as an energy; leaves it as it was.

    Args:
        energy: The module.
        shape: Of one sample.
        dtype: Of its parameters.

    Raises:
        EnergyError: If it does not map (n, *shape) to (n,), has nothing to learn, changes its own
            buffers in a forward pass (as batch normalization in train mode does), or gives a
            sample another value in another batch or at another time (as dropout does).
    """
    kind = type(energy).__name__
    if not any(value.requires_grad for value in energy.parameters()):
        raise EnergyError(f"{kind} has no parameters to learn")
    own = copy.deepcopy(energy)
    before = {name: value.clone() for name, value in own.named_buffers()}
    device = next(own.parameters()).device
    probe = torch.linspace(-1, 1, 3 * math.prod(shape), dtype=dtype, device=device)
    probe = probe.reshape(3, *shape)
    generators = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=generators):
        values = _evaluate(own, probe)
        _refuse_changed_buffers(own, before)
        again = _evaluate(own, probe[:2])
    if not torch.allclose(values[:2], again, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise EnergyError(
            f"{kind} gives a sample another value in another batch or at another time. "
            "Call .eval() on layers such as dropout or batch normalization, or use none"
        )


def _evaluate(energy: nn.Module, x: Tensor) -> Tensor:
    kind, n, shape = type(energy).__name__, len(x), ", ".join(map(str, x.shape[1:]))
    try:
        values = energy(x)
    except Exception as error:  # the user's code: whatever it says is for the user
        raise EnergyError(f"{kind} fails on samples of shape (n, {shape}): {error}") from error
    if not isinstance(values, Tensor) or values.shape != (n,):
        found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise EnergyError(
            f"{kind} must map samples of shape (n, {shape}) to n numbers of shape (n,); "
            f"for n={n} it gave {found}"
        )
    return values


def _refuse_changed_buffers(energy: nn.Module, before: dict[str, Tensor]) -> None:
    for name, value in energy.named_buffers():
        if not torch.equal(value, before[name]):
            owner = type(energy.get_submodule(name.rpartition(".")[0])).__name__
            raise EnergyError(
                f"buffer {name!r} of {owner} changes in a forward pass: the energy would depend "
                "on the batch. Call .eval() on that layer, or use one without running statistics"
            )


def scale_output(energy: nn.Module, factor: float) -> None:
    """Multiplies F by a factor through its last layer, in place (appendix A).

    Raises:
        EnergyError: If the module has no layer called ``output`` with weights.
    """
    if factor == 1:
        return
    output = getattr(energy, "output", None)
    if not isinstance(output, nn.Module) or not any(True for _ in output.parameters()):
        raise EnergyError(
            f"init_scale needs {type(energy).__name__}.output, the last layer, "
            f"to multiply F by {factor:g}; name it so, or scale F yourself"
        )
    with torch.no_grad():
        for value in output.parameters():
            value.mul_(factor)
