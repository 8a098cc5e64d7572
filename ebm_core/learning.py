"""From samples of data and chains to the next parameters, for all members at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ebm_core import objective
from ebm_core.config import TrainConfig
from ebm_core.engine import Engine
from ebm_core.objective import Parameters
from ebm_core.schedule import learning_rate

Moments = dict[str, Parameters]


class Rates:
    """gamma_0(t) of the members of a pack.

    Args:
        configs: One a member.
        device: Where to keep them.
    """

    def __init__(self, configs: Sequence[TrainConfig], device: torch.device) -> None:
        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)

        self._last = column([c.gamma_0 for c in configs])
        self._first = column([c.start_rate for c in configs])
        self._length = column([c.anneal_updates for c in configs])
        self._constant_from = max(c.constant_from for c in configs)

    def at(self, updates: Tensor | int) -> Tensor:
        """At some updates: shape (M,), or (t, M) for shape (t, 1); float64."""
        return learning_rate(updates, self._last, self._first, self._length)

    def during(self, update: int) -> Tensor:
        """The same during one update, shape (M,); with less ado where all annealing is over."""
        return self.at(update) if update < self._constant_from else self._last


def difference(
    engine: Engine, parameters: Parameters, positive: Tensor, negative: Tensor, epsilon: Tensor
) -> tuple[Tensor, Parameters, Tensor]:
    """Energies of data and chains, and what lowers the ones and raises the others.

    Args:
        engine: Evaluates F.
        parameters: Each of shape (M, ...).
        positive: Noised data, shape (M, n, *shape).
        negative: Chains after their path, shape (M, m, *shape).
        epsilon: Langevin noise sd of each member, shape (M,), units of x.

    Returns:
        d, shape (M,), nats; the gradients of mean F(data) - mean F(chains) in the parameters; and
        F of the chains, shape (M, m).
    """
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    energies = engine.energy(leaves, torch.cat([positive, negative], dim=1))
    low, high = torch.split(energies, [positive.shape[1], negative.shape[1]], dim=1)
    # members share nothing, so that the gradient of the sum is each member's own
    gap = (low.mean(1) - high.mean(1)).sum()
    gradients = torch.autograd.grad(gap, list(leaves.values()))
    low, high = low.detach(), high.detach()
    d = objective.energy_difference(low, high, epsilon)
    return d, dict(zip(leaves, gradients, strict=True)), high


def limited(gradients: Parameters, limit: float | None) -> tuple[Parameters, dict[str, Tensor]]:
    """Gradients no longer than a limit, if there is one; and whose were ``clipped``, shape (M,).

    Args:
        gradients: As given by `difference`.
        limit: Largest norm over all parameters; None for any, of which nothing is told.
    """
    if limit is None:
        return gradients, {}
    shortened, clipped = objective.clip(gradients, limit)
    return shortened, {"clipped": clipped}


def learn(
    parameters: Parameters,
    moments: Moments,
    gradients: Mapping[str, Tensor],
    rate: Tensor,
    epsilon: Tensor,
    step: int,
) -> tuple[Parameters, Moments]:
    """One step of Adam where there are moments, else of plain SGD.

    Args:
        parameters: Each of shape (M, ...).
        moments: Of Adam, see `objective.adam_state`; empty for SGD.
        gradients: As given by `difference`.
        rate: gamma_0(t) of each member, shape (M,).
        epsilon: Langevin noise sd of each member, shape (M,), units of x.
        step: Count of this step, from 1.

    Returns:
        New parameters and moments; those given are not changed.
    """
    if not moments:
        return objective.sgd_step(parameters, gradients, rate), {}
    # Adam follows the loss d itself; the factor matters to its stabilizer alone
    scale = 2 / epsilon.square()
    of_d = {name: value * objective.per_member(scale, value) for name, value in gradients.items()}
    return objective.adam_step(parameters, of_d, rate, moments, step)
