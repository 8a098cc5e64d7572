"""Chains at another noise sd or temperature than those of the training, and the sd that suits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm_core.langevin import Energy, Gradient, run_langevin

# Of Metropolis-adjusted Langevin chains in many dimensions, Roberts and Rosenthal 1998
TARGET = 0.574

_ROUNDS, _STEPS, _KEPT = 60, 5, 20


def energy_factor(epsilon: float, trained_epsilon: float, temperature: float) -> float:
    r"""What F is multiplied by so that chains of another noise sd keep their target.

    .. math:: h^2 / (\tau \varepsilon^2)

    A move of noise sd h is ``x - grad F'(x) + h z`` for the target ``exp(-F' / (h**2 / 2))``. With
    F' this factor times F that is ``exp(-F / (tau T))``, T the temperature of the training.

    Args:
        epsilon: h, units of x.
        trained_epsilon: Of the training, units of x.
        temperature: tau, in units of T.
    """
    return epsilon**2 / (temperature * trained_epsilon**2)


def scaled(energy: Energy, gradient: Gradient, factor: float) -> tuple[Energy, Gradient]:
    """An energy and its gradient times a factor; the same functions where it is 1."""
    if factor == 1:
        return energy, gradient
    return lambda x: factor * energy(x), lambda x: factor * gradient(x)


def tuned_epsilon(
    energy: Energy,
    gradient: Gradient,
    x: Tensor,
    trained_epsilon: float,
    temperature: float,
    generator: torch.Generator,
    target: float = TARGET,
) -> float:
    """Noise sd at which adjusted chains accept a wanted share of their moves, units of x.

    By stochastic approximation over 300 moves of the chains given, which are left where they are;
    afterwards the sd is fixed, so that the chains proper keep their law.

    Args:
        energy: F, (n, *shape) to (n,).
        gradient: Its input gradient.
        x: Where chains are, shape (n, *shape), float64.
        trained_epsilon: Of the training, units of x; where the search begins.
        temperature: In units of that of the training.
        generator: Source of the noise.
        target: Share of accepted moves.

    Source: Robbins and Monro 1951; the average of the last values as Polyak and Juditsky 1992.
    """
    log_epsilon, kept = math.log(trained_epsilon), []
    for k in range(_ROUNDS):
        epsilon = math.exp(log_epsilon)
        factor = energy_factor(epsilon, trained_epsilon, temperature)
        own = scaled(energy, gradient, factor)
        x, info = run_langevin(own[0], x, epsilon, _STEPS, generator, True, own[1])
        log_epsilon += (float(info.acceptance.mean()) - target) / (k + 1) ** 0.6
        kept.append(log_epsilon)
    return math.exp(math.fsum(kept[-_KEPT:]) / _KEPT)
