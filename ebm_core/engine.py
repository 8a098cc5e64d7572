"""How the members of a pack are run: one interface, a path for each kind of network.

A path is chosen once for a training and kept in its checkpoint, since paths differ in rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from ebm_core.energies import Mlp
from ebm_core.errors import EnergyError
from ebm_core.langevin import Gradient
from ebm_core.objective import Parameters

_leaky_relu_backward = torch.ops.aten.leaky_relu_backward


class Engine(Protocol):
    """Evaluates the energies of all members at once."""

    path: str

    def energy(self, parameters: Parameters, x: Tensor) -> Tensor:
        """F, (M, n, *shape) to (M, n); differentiable in the parameters."""
        ...

    def input_gradient(self, parameters: Parameters) -> Gradient:
        """The function x -> grad F(x), (M, n, *shape) to the same, for these parameters."""
        ...


class ClosedFormMlp:
    """Perceptrons by batched matrix products, the input gradient written out.

    For layers ``h_k = lrelu(h_{k-1} W_k^T + b_k)`` and ``F = h_K w + b`` the gradient is the chain
    of products ``(w m_K) W_K m_{K-1} ... W_1`` with ``m_k`` the slopes: no graph is built.
    """

    path = "closed_form"

    def __init__(self, module: Mlp) -> None:
        self.layers = len(module.hidden)
        self.slope = module.slope

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether a module is such a perceptron, all of its own weights to be learned."""
        if type(module) is not Mlp:
            return False
        layers = [*(f"hidden.{k}" for k in range(len(module.hidden))), "output"]
        names = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
        return names == set(_learned(module))

    def _hidden(self, parameters: Parameters, layer: int) -> tuple[Tensor, Tensor]:
        weight = parameters[f"hidden.{layer}.weight"]
        return weight, parameters[f"hidden.{layer}.bias"].unsqueeze(1)

    def energy(self, parameters: Parameters, x: Tensor) -> Tensor:
        h = x.flatten(2)
        for layer in range(self.layers):
            weight, bias = self._hidden(parameters, layer)
            h = nn.functional.leaky_relu(torch.baddbmm(bias, h, weight.mT), self.slope)
        bias = parameters["output.bias"].unsqueeze(1)
        return torch.baddbmm(bias, h, parameters["output.weight"].mT).squeeze(-1)

    def input_gradient(self, parameters: Parameters) -> Gradient:
        fixed = {name: value.detach() for name, value in parameters.items()}
        hidden = [self._hidden(fixed, layer) for layer in range(self.layers)]
        forward = [(weight.mT.contiguous(), bias) for weight, bias in hidden]
        backward = [weight for weight, _ in reversed(hidden)]
        last = fixed["output.weight"]
        slope = self.slope

        def gradient(x: Tensor) -> Tensor:
            h = x.flatten(2)
            activations = []
            for weight, bias in forward:
                # In place: a fresh large buffer a layer costs more than the arithmetic on a CPU.
                # The sign, all that the way back needs, is that of the input.
                h = nn.functional.leaky_relu_(torch.baddbmm(bias, h, weight), slope)
                activations.append(h)
            g = last
            for weight in backward:
                g = torch.bmm(_leaky_relu_backward(g, activations.pop(), slope, True), weight)
            return g.reshape(x.shape)

        return gradient


class Batched:
    """Any module, its members batched by `torch.func.vmap`."""

    path = "vmap"

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def _one(self, parameters: Parameters, x: Tensor) -> Tensor:
        value: Tensor = functional_call(self.module, parameters, (x,))
        return value

    def energy(self, parameters: Parameters, x: Tensor) -> Tensor:
        value: Tensor = vmap(self._one)(parameters, x)
        return value

    def input_gradient(self, parameters: Parameters) -> Gradient:
        fixed = {name: value.detach() for name, value in parameters.items()}
        slope = vmap(grad(lambda p, x: self._one(p, x).sum(), argnums=1))
        return lambda x: slope(fixed, x)


class Looped:
    """Any module, one member after the other; the path of a single member, too."""

    path = "loop"

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def energy(self, parameters: Parameters, x: Tensor) -> Tensor:
        return torch.stack([self._call(parameters, m, y) for m, y in enumerate(x)])

    def _call(self, parameters: Parameters, member: int, x: Tensor) -> Tensor:
        own = {name: value[member] for name, value in parameters.items()}
        value: Tensor = functional_call(self.module, own, (x,))
        return value

    def input_gradient(self, parameters: Parameters) -> Gradient:
        fixed = {name: value.detach() for name, value in parameters.items()}

        def gradient(x: Tensor) -> Tensor:
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                (slope,) = torch.autograd.grad(self.energy(fixed, leaf).sum(), leaf)
            return slope

        return gradient


_PATHS: dict[str, Any] = {kind.path: kind for kind in (ClosedFormMlp, Batched, Looped)}


def make_engine(module: nn.Module, members: int, path: str | None = None) -> Engine:
    """An engine for members of this architecture.

    Args:
        module: Gives the architecture; its own parameters are not used.
        members: M.
        path: A path chosen before, as kept in a checkpoint; None to choose one.

    Raises:
        EnergyError: If there is no such path, or it does not suit the module.
    """
    if path is None:
        path = _choose(module, members)
    if path not in _PATHS:
        raise EnergyError(f"engine path must be one of {', '.join(_PATHS)}, got {path!r}")
    if path == ClosedFormMlp.path and not ClosedFormMlp.fits(module):
        rule = "must be vmap or loop for all but a perceptron with weights all its own"
        raise EnergyError(f"engine path {rule}, got {path!r} for a {type(module).__name__}")
    # functional_call swaps parameters in and out of the module: keep one that nobody else holds
    engine: Engine = _PATHS[path](copy.deepcopy(module).requires_grad_(False))
    return engine


def _choose(module: nn.Module, members: int) -> str:
    if ClosedFormMlp.fits(module):
        return ClosedFormMlp.path
    if members == 1 or not getattr(module, "batchable", True) or _convolves_on_cpu(module):
        return Looped.path
    return Batched.path


def _convolves_on_cpu(module: nn.Module) -> bool:
    """Batched, convolutions become grouped ones: 30 % slower at 32x32 on a CPU than one by one."""
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return any(
        isinstance(part, convolutions) and part.weight.device.type == "cpu"
        for part in module.modules()
    )


def probe(engine: Engine, parameters: Parameters, x: Tensor) -> bool:
    """Whether a path works for these parameters and states, energy and gradient alike.

    Data-dependent control flow and in-place tricks of a user's module cannot be told from the
    outside; so the batched path is tried once before it is relied on.

    Args:
        engine: The path to try.
        parameters: Each of shape (M, ...).
        x: A few states, shape (M, n, *shape).
    """
    try:
        with torch.no_grad():
            engine.energy(parameters, x)
            engine.input_gradient(parameters)(x)
    except (RuntimeError, ValueError):  # what vmap raises for operations it has no rule for
        return False
    return True


def _learned(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def stack_parameters(modules: Sequence[nn.Module]) -> Parameters:
    """What several modules of one architecture have to learn, each tensor of shape (M, ...).

    Frozen parameters (``requires_grad`` off) and buffers are left out: the engine takes them from
    the module that it was made from, so they have to be the same in all of these.

    Raises:
        EnergyError: If a frozen parameter or a buffer differs.
    """
    tables = [_learned(module) for module in modules]
    fixed = [_fixed(module) for module in modules]
    for name, value in fixed[0].items():
        if not all(torch.equal(value, other[name]) for other in fixed[1:]):
            raise EnergyError(
                f"{type(modules[0]).__name__}.{name} is not learned, but differs between members. "
                "Make it a parameter, or draw it from a seed of its own"
            )
    return {name: torch.stack([t[name].detach() for t in tables]) for name in tables[0]}


def _fixed(module: nn.Module) -> dict[str, Tensor]:
    learned = _learned(module)
    return {
        name: value
        for name, value in (*module.named_parameters(), *module.named_buffers())
        if name not in learned
    }


def module_with(module: nn.Module, parameters: Parameters, member: int) -> nn.Module:
    """A copy of the module that holds the parameters of one member."""
    own = copy.deepcopy(module)
    with torch.no_grad():
        for name, value in own.named_parameters():
            if name in parameters:
                value.copy_(parameters[name][member])
    return own


def module_gradient(module: nn.Module) -> Gradient:
    """Fastest input gradient of one trained module, (n, *shape) to the same."""
    engine = make_engine(module, 1)
    gradient = engine.input_gradient(stack_parameters([module]))
    return lambda x: gradient(x.unsqueeze(0)).squeeze(0)
