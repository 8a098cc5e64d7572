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

    For layers ``h_k = lrelu(h_{k-1} W_k^T + b_k)`` and ``F = h_K w + b`` the gradient is the chain of
    products ``(w m_K) W_K m_{K-1} ... W_1`` with ``m_k`` the slopes: no graph is built.
    """

    path = "closed_form"

    def __init__(self, module: Mlp) -> None:
        self.layers = len(module.hidden)
        self.slope = module.slope

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
        hidden = [self._hidden(parameters, layer) for layer in range(self.layers)]
        forward = [(weight.mT.contiguous(), bias) for weight, bias in hidden]
        backward = [weight for weight, _ in hidden]
        last = parameters["output.weight"]
        slope = self.slope

        def gradient(x: Tensor) -> Tensor:
            h = x.flatten(2)
            inputs = []
            for weight, bias in forward:
                z = torch.baddbmm(bias, h, weight)
                inputs.append(z)
                # the last activation is needed for F only
                if len(inputs) < len(forward):
                    h = nn.functional.leaky_relu(z, slope)
            g = last.expand_as(inputs[-1])
            for z, weight in zip(reversed(inputs), reversed(backward)):
                g = torch.bmm(_leaky_relu_backward(g, z, slope, False), weight)
            return g.reshape(x.shape)

        return gradient


class Batched:
    """Any module, its members batched by `torch.func.vmap`."""

    path = "vmap"

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def _one(self, parameters: Parameters, x: Tensor) -> Tensor:
        return functional_call(self.module, parameters, (x,))

    def energy(self, parameters: Parameters, x: Tensor) -> Tensor:
        return vmap(self._one)(parameters, x)

    def input_gradient(self, parameters: Parameters) -> Gradient:
        slope = vmap(grad(lambda p, x: self._one(p, x).sum(), argnums=1))
        return lambda x: slope(parameters, x)


class Looped:
    """Any module, one member after the other; the path of a single member, too."""

    path = "loop"

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def energy(self, parameters: Parameters, x: Tensor) -> Tensor:
        return torch.stack([self._call(parameters, m, y) for m, y in enumerate(x)])

    def _call(self, parameters: Parameters, member: int, x: Tensor) -> Tensor:
        own = {name: value[member] for name, value in parameters.items()}
        return functional_call(self.module, own, (x,))

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
        EnergyError: If there is no such path.
    """
    # functional_call swaps parameters in and out of the module: keep one that nobody else holds
    own = copy.deepcopy(module).requires_grad_(False)
    if path is None:
        path = _choose(own, members)
    if path not in _PATHS:
        raise EnergyError(f"engine path must be one of {', '.join(_PATHS)}, got {path!r}")
    engine: Engine = _PATHS[path](own)
    return engine


def _choose(module: nn.Module, members: int) -> str:
    if type(module) is Mlp:
        return ClosedFormMlp.path
    if members == 1 or not _vmappable(module):
        return Looped.path
    return Batched.path


def _vmappable(module: nn.Module) -> bool:
    """Whether the module says that it can be batched: a ``batchable = False`` attribute opts out.

    Data-dependent control flow and in-place tricks cannot be told from the outside; the trainer
    tries the batched path once before it relies on it.
    """
    return bool(getattr(module, "batchable", True))


def probe(engine: Engine, parameters: Parameters, x: Tensor) -> bool:
    """Whether a path works for these parameters and states, energy and gradient alike."""
    try:
        with torch.no_grad():
            engine.energy(parameters, x)
            engine.input_gradient(parameters)(x)
    except (RuntimeError, ValueError):  # what vmap raises for operations it has no rule for
        return False
    return True


def stack_parameters(modules: Sequence[nn.Module]) -> Parameters:
    """Parameters of several modules of one architecture, each of shape (M, ...)."""
    names = [name for name, _ in modules[0].named_parameters()]
    tables = [dict(module.named_parameters()) for module in modules]
    return {name: torch.stack([table[name].detach() for table in tables]) for name in names}


def module_with(module: nn.Module, parameters: Parameters, member: int) -> nn.Module:
    """A copy of the module that holds the parameters of one member."""
    own = copy.deepcopy(module)
    with torch.no_grad():
        for name, value in own.named_parameters():
            value.copy_(parameters[name][member])
    return own


def module_gradient(module: nn.Module) -> Gradient:
    """Fastest input gradient of one trained module, (n, *shape) to the same."""
    engine = make_engine(module, 1)
    parameters = stack_parameters([module])
    gradient = engine.input_gradient(parameters)
    return lambda x: gradient(x.unsqueeze(0)).squeeze(0)
