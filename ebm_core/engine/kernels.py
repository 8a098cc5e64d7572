"""How one kind of network is evaluated for all members of a pack: a kernel each.

A kernel's gradient is split in two: `prepare` once an update, for parameters that stay as they are
along a path, and `gradient` at every step, a function of tensors alone that can be compiled or
captured. Kernels differ in rounding.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from ebm_core.energies import Mlp, Vanilla
from ebm_core.engine.parameters import learned
from ebm_core.errors import EnergyError
from ebm_core.objective import Parameters

Weights = Sequence[Tensor]

_leaky_relu_backward = torch.ops.aten.leaky_relu_backward.default
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

# Coordinates that a convolutional network is given at a time on a CPU: larger activations than
# these make (some 7 MB in float32) come as fresh pages from the system every time, which costs 7 %
# (vanilla) to 18 % (nonlocal) at 100 chains of 32x32x3; smaller pieces lose more than that.
_PIECE = 160_000


class Kernel(Protocol):
    """Evaluates the energies of all members.

    Attributes:
        name: Of the path, as kept in checkpoints.
        flat: Whether it sees no shape, so that states may be flattened once for a path.
    """

    name: str
    flat: bool

    def energy(self, parameters: Parameters, x: Tensor) -> Tensor:
        """F, (M, n, *shape) to (M, n); differentiable in the parameters."""
        ...

    def prepare(self, parameters: Parameters, dtype: torch.dtype | None = None) -> Weights:
        """What `gradient` needs of the parameters, detached, laid out, and rounded to a type."""
        ...

    def gradient(self, weights: Weights, x: Tensor) -> Tensor:
        """grad F(x), (M, n, *shape) to the same shape and the type of x."""
        ...


def _rounded(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    return value.detach().to(dtype or value.dtype)


def _type(weights: Weights, x: Tensor) -> torch.dtype:
    """Type to compute in; that of the states for a network that learns nothing."""
    return weights[0].dtype if weights else x.dtype


class ClosedFormMlp:
    """Perceptrons by batched matrix products, the input gradient written out.

    For layers ``h_k = lrelu(h_{k-1} W_k^T + b_k)`` and ``F = h_K w + b`` the gradient is the chain
    of products ``(w m_K) W_K m_{K-1} ... W_1`` with ``m_k`` the slopes: no graph is built.
    """

    name = "closed_form"
    flat = True

    def __init__(self, module: Mlp) -> None:
        self.layers = len(module.hidden)
        self.slope = module.slope

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether a module is such a perceptron, all of its own weights to be learned."""
        if type(module) is not Mlp or type(module.activation) is not nn.LeakyReLU:
            return False
        layers = [*(f"hidden.{k}" for k in range(len(module.hidden))), "output"]
        names = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
        return names == set(learned(module))

    def energy(self, parameters: Parameters, x: Tensor) -> Tensor:
        h = x.flatten(2)
        for layer in range(self.layers):
            weight = parameters[f"hidden.{layer}.weight"].mT
            bias = parameters[f"hidden.{layer}.bias"].unsqueeze(1)
            h = nn.functional.leaky_relu(torch.baddbmm(bias, h, weight), self.slope)
        bias = parameters["output.bias"].unsqueeze(1)
        return torch.baddbmm(bias, h, parameters["output.weight"].mT).squeeze(-1)

    def prepare(self, parameters: Parameters, dtype: torch.dtype | None = None) -> Weights:
        weights = [_rounded(parameters["output.weight"], dtype)]
        for layer in range(self.layers):
            weight = _rounded(parameters[f"hidden.{layer}.weight"], dtype)
            bias = _rounded(parameters[f"hidden.{layer}.bias"], dtype)
            weights += [weight.mT, bias.unsqueeze(1), weight]
        return weights

    def gradient(self, weights: Weights, x: Tensor) -> Tensor:
        last, slope, activations = weights[0], self.slope, []
        h = x if x.dim() == 3 and x.dtype == last.dtype else x.flatten(2).to(last.dtype)
        for weight, bias in zip(weights[1::3], weights[2::3], strict=True):
            # In place: a fresh large buffer a layer costs more than the arithmetic on a CPU.
            # The sign, all that the way back needs, is that of the input.
            h = nn.functional.leaky_relu_(torch.baddbmm(bias, h, weight), slope)
            activations.append(h)
        g = last
        for weight in weights[:0:-3]:
            g = torch.bmm(_leaky_relu_backward(g, activations.pop(), slope, True), weight)
        return g if g.shape == x.shape and g.dtype == x.dtype else g.view(x.shape).to(x.dtype)


def evaluated(module: nn.Module, own: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Energies of x, shape (n, *shape), by a module with these weights; shape (n,).

    Raises:
        EnergyError: If it gives another shape, as it had not when it was looked at first.
    """
    value: Tensor = functional_call(module, dict(own), (x,))
    if value.shape != x.shape[:1]:
        kind, found = type(module).__name__, tuple(value.shape)
        raise EnergyError(f"{kind} gave shape {found} for {len(x)} samples, not ({len(x)},)")
    return value


class Batched:
    """Any module, its members batched by `torch.func.vmap`."""

    name = "vmap"
    flat = False

    def __init__(self, module: nn.Module) -> None:
        # functional_call swaps parameters in and out: keep a module that nobody else holds
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.names = list(learned(module))
        self._rounded = _Rounded(self.module)

    def energy(self, parameters: Parameters, x: Tensor) -> Tensor:
        value: Tensor = vmap(lambda p, y: evaluated(self.module, p, y))(parameters, x)
        return value

    def prepare(self, parameters: Parameters, dtype: torch.dtype | None = None) -> Weights:
        return [_rounded(parameters[name], dtype) for name in self.names]

    def gradient(self, weights: Weights, x: Tensor) -> Tensor:
        dtype = _type(weights, x)
        module = self._rounded.to(dtype)

        def total(own: dict[str, Tensor], y: Tensor) -> Tensor:
            return evaluated(module, own, y).sum()

        slope: Tensor = vmap(grad(total, argnums=1))(
            dict(zip(self.names, weights, strict=True)), x.to(dtype)
        )
        return slope.to(x.dtype)


class Looped:
    """Any module, one member after the other, by autograd; the path of a single member, too.

    Args:
        module: Gives the architecture.
        tuned: Whether on a CPU convolutions run channels-last, which suits its kernels better,
            and over pieces of the chains.
    """

    name = "loop"
    flat = False

    def __init__(self, module: nn.Module, tuned: bool = True) -> None:
        self.name = self.name if tuned else "reference"
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.names = list(learned(module))
        self._rounded = _Rounded(self.module)
        self._images = tuned and convolves(module) and _on_cpu(module)

    def energy(self, parameters: Parameters, x: Tensor) -> Tensor:
        values = []
        for member, y in enumerate(x):
            own = {name: value[member] for name, value in parameters.items()}
            values.append(evaluated(self.module, own, self.laid_out(y)))
        return torch.stack(values)

    def prepare(self, parameters: Parameters, dtype: torch.dtype | None = None) -> Weights:
        own = [[self.laid_out(_rounded(w, dtype)) for w in parameters[n]] for n in self.names]
        return [weight for member in zip(*own, strict=True) for weight in member]

    def gradient(self, weights: Weights, x: Tensor) -> Tensor:
        dtype, size = _type(weights, x), len(self.names)
        module = self._rounded.to(dtype)
        slopes = []
        for member, y in enumerate(x):
            own = weights[member * size : (member + 1) * size]
            table = dict(zip(self.names, own, strict=True))
            slopes.append(self._one(module, table, self.laid_out(y.to(dtype))))
        # contiguous, whatever the layout in between: the steps around it run over all numbers
        return torch.stack([slope.to(x.dtype).contiguous() for slope in slopes])

    def _one(self, module: nn.Module, own: dict[str, Tensor], y: Tensor) -> Tensor:
        pieces: list[Tensor] = []
        for piece in self.pieces(y, y):
            with torch.enable_grad():
                leaf = piece.detach().requires_grad_()
                pieces += torch.autograd.grad(evaluated(module, own, leaf).sum(), leaf)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def pieces(self, x: Tensor, like: Tensor) -> Sequence[Tensor]:
        """Chains (n, *shape) in pieces of about equal size, as suits the type of `like`."""
        if not self._images or like.dtype == torch.bfloat16:
            return [x]
        return x.chunk(math.ceil(like.numel() / _PIECE))

    def laid_out(self, y: Tensor) -> Tensor:
        """Channels-last where that suits."""
        if self._images and y.dim() == 4:
            return y.contiguous(memory_format=torch.channels_last)
        return y


class ClosedFormVanilla:
    """The plain convolutional network, member by member, its input gradient written out.

    Each stage is ``h_k = lrelu(W_k * h_{k-1} + b_k)``, the last one a product with all of h: the
    gradient is the chain of transposed convolutions of the slopes. No graph is built, and
    activations change in place.
    """

    name = "closed_form"
    flat = False

    def __init__(self, module: Vanilla) -> None:
        self.loop = Looped(module)
        stages = [part for part in module.body if isinstance(part, nn.Conv2d)]
        self.shapes: list[Any] = [(stage.stride, stage.padding) for stage in stages]
        self.slope = next(p.negative_slope for p in module.body if isinstance(p, nn.LeakyReLU))

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether a module is such a network, all of its own weights to be learned."""
        return (
            type(module) is Vanilla
            and type(module.body[1]) is nn.LeakyReLU
            and len(learned(module)) == len(list(module.parameters()))
        )

    def energy(self, parameters: Parameters, x: Tensor) -> Tensor:
        return self.loop.energy(parameters, x)

    def prepare(self, parameters: Parameters, dtype: torch.dtype | None = None) -> Weights:
        return self.loop.prepare(parameters, dtype)

    def gradient(self, weights: Weights, x: Tensor) -> Tensor:
        slope, size = torch.empty_like(x), len(self.loop.names)
        for member, y in enumerate(x):
            own = weights[member * size : (member + 1) * size]
            y = self.loop.laid_out(y.to(own[0].dtype))
            outs = self.loop.pieces(slope[member], y)
            for piece, out in zip(self.loop.pieces(y, y), outs, strict=True):
                out.copy_(self._one(own, piece))
        return slope

    def _one(self, own: Weights, h: Tensor) -> Tensor:
        activations = []
        hidden, last = list(zip(own[:-2:2], own[1:-2:2], self.shapes, strict=True)), own[-2]
        for weight, bias, (stride, padding) in hidden:
            h = nn.functional.conv2d(h, weight, bias, stride, padding)
            # the sign, all that the way back needs, is that of the input
            h = nn.functional.leaky_relu_(h, self.slope)
            activations.append(h)
        g: Tensor = last.expand_as(h)
        for weight, _, (stride, padding) in reversed(hidden):
            g = _leaky_relu_backward(g, activations.pop(), self.slope, True)
            g = nn.functional.conv_transpose2d(g, weight, None, stride, padding)
        return g


class _Rounded:
    """A module with its frozen parameters and buffers rounded to a type, made once for each."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._made: dict[torch.dtype, nn.Module] = {}

    def to(self, dtype: torch.dtype) -> nn.Module:
        if dtype != torch.bfloat16:
            return self._module
        if dtype not in self._made:
            self._made[dtype] = copy.deepcopy(self._module).to(dtype)
        return self._made[dtype]


def convolves(module: nn.Module) -> bool:
    """Whether a module holds convolutions."""
    return any(isinstance(part, _CONVOLUTIONS) for part in module.modules())


def _on_cpu(module: nn.Module) -> bool:
    return all(value.device.type == "cpu" for value in module.parameters())
