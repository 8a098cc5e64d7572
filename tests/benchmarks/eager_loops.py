"""What speed is compared with: a plain loop straight from the equations, and torchebm."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ebm_core.energies import Mlp

Run = Callable[[Tensor, int], Tensor]


class PointwiseConvolutions(nn.Module):
    """The toy network as its authors publish it: 1x1 convolutions over samples of one pixel."""

    def __init__(self, toy: Mlp) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for linear in toy.hidden:
            assert isinstance(linear, nn.Linear)
            layers += [_as_convolution(linear), nn.LeakyReLU(toy.slope)]
        self.body = nn.Sequential(*layers, _as_convolution(toy.output))

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.body(x.reshape(len(x), -1, 1, 1)).squeeze()
        return value


def _as_convolution(linear: nn.Linear) -> nn.Conv2d:
    convolution = nn.Conv2d(linear.in_features, linear.out_features, 1)
    with torch.no_grad():
        convolution.weight.copy_(linear.weight.reshape(convolution.weight.shape))
        convolution.bias.copy_(linear.bias)  # type: ignore[union-attr]
    return convolution


def eager_loop(energy: nn.Module, epsilon: float) -> Run:
    """x <- x - grad F(x) + epsilon z by autograd, with the gradient magnitude of every step."""

    def run(x: Tensor, steps: int) -> Tensor:
        x = x.clone().requires_grad_()
        r = torch.zeros((), device=x.device)
        for _ in range(steps):
            (gradient,) = torch.autograd.grad(energy(x).sum(), x)
            x.data += -gradient + epsilon * torch.randn_like(x)
            r += gradient.flatten(1).norm(dim=1).mean()
        return x.detach()

    return run


def torchebm_loop(energy: nn.Module, epsilon: float, device: torch.device) -> Run | None:
    """torchebm's LangevinDynamics on U = F / (epsilon**2 / 2); None where it is not installed."""
    if importlib.util.find_spec("torchebm") is None:
        return None
    from torchebm.core import BaseModel
    from torchebm.samplers import LangevinDynamics

    class Potential(BaseModel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.energy = energy

        def forward(self, x: Tensor) -> Tensor:
            value: Tensor = self.energy(x) / (epsilon**2 / 2)
            return value

    sampler = LangevinDynamics(Potential().to(device), step_size=epsilon**2 / 2, device=device)
    return lambda x, steps: sampler.sample(x=x, n_steps=steps)
