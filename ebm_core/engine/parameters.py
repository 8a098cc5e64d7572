"""What modules have to learn, as tensors with a leading member axis."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ebm_core.errors import EnergyError
from ebm_core.objective import Parameters


def learned(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a module that are not frozen."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def stack_parameters(modules: Sequence[nn.Module]) -> Parameters:
    """What several modules of one architecture have to learn, each tensor of shape (M, ...).

    Frozen parameters (``requires_grad`` off) and buffers are left out: the engine takes them from
    the module that it was made from, so they have to be the same in all of these.

    Raises:
        EnergyError: If a frozen parameter or a buffer differs.
    """
    tables = [learned(module) for module in modules]
    fixed = [_fixed(module) for module in modules]
    for name, value in fixed[0].items():
        if not all(torch.equal(value, other[name]) for other in fixed[1:]):
            raise EnergyError(
                f"{type(modules[0]).__name__}.{name} is not learned, but differs between members. "
                "Make it a parameter, or draw it from a seed of its own"
            )
    return {name: torch.stack([t[name].detach() for t in tables]) for name in tables[0]}


def _fixed(module: nn.Module) -> dict[str, Tensor]:
    own = learned(module)
    return {
        name: value
        for name, value in (*module.named_parameters(), *module.named_buffers())
        if name not in own
    }


def module_with(module: nn.Module, parameters: Parameters, member: int) -> nn.Module:
    """A copy of the module that holds the parameters of one member."""
    own = copy.deepcopy(module)
    with torch.no_grad():
        for name, value in own.named_parameters():
            if name in parameters:
                value.copy_(parameters[name][member])
    return own
