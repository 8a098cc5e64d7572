"""The learning objective and the two ways of following it, for all members at once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Parameters = dict[str, Tensor]


def energy_difference(positive: Tensor, negative: Tensor, epsilon: Tensor) -> Tensor:
    r"""Difference d between data and chains, in nats.

    .. math:: d = \frac{2}{\varepsilon^2}\left(E_q[F(x)] - E_s[F(x)]\right)

    Positive: the update contracts; negative: the data lie lower than the chains, and it expands.

    Args:
        positive: F at data, shape (M, n): members x samples.
        negative: F at chains, shape (M, m).
        epsilon: Langevin noise sd of each member, shape (M,), units of x.

    Returns:
        Shape (M,), nats.

    Raises:
        ValueError: If a batch is empty.

    Source: Nijkamp et al. 2020, appendix A.
    """
    if positive.shape[-1] == 0 or negative.shape[-1] == 0:
        raise ValueError("a batch of samples is empty")
    return 2 / epsilon.square() * (positive.mean(-1) - negative.mean(-1))


def per_member(value: Tensor, like: Tensor) -> Tensor:
    """A number a member, shape (M,), shaped to go with a tensor of shape (M, ...)."""
    return value.reshape(-1, *[1] * (like.dim() - 1))


def clip(gradients: Mapping[str, Tensor], limit: float) -> tuple[Parameters, Tensor]:
    """Shortens the gradients of every member whose norm over all parameters exceeds a limit.

    What is not finite stays so, and is found where divergence is looked for.

    Args:
        gradients: Tensors of shape (M, ...).
        limit: Largest norm.

    Returns:
        New tensors, and which members were shortened, shape (M,).

    Source: Pascanu et al. 2013, algorithm 1.
    """
    squares = [value.flatten(1).square().sum(1) for value in gradients.values()]
    norm = torch.stack(squares).sum(0).sqrt()
    clipped = norm > limit
    factor = torch.where(clipped, limit / norm, 1.0)
    return {name: value * per_member(factor, value) for name, value in gradients.items()}, clipped


def sgd_step(
    parameters: Parameters, gradients: Mapping[str, Tensor], gamma_0: Tensor
) -> Parameters:
    r"""Plain SGD on the rescaled objective.

    .. math:: \theta \leftarrow \theta - \gamma_0 \partial_\theta (E_q[F] - E_s[F])

    With ``gamma = (epsilon**2 / 2) gamma_0`` this is ``theta - gamma grad d``; epsilon cancels, so
    the gradient of d may be passed with gamma just as well.

    Args:
        parameters: Tensors of shape (M, ...).
        gradients: Gradients of ``mean F(data) - mean F(chains)``, same shapes.
        gamma_0: Rate of each member, shape (M,).

    Returns:
        New tensors; those given are not changed.

    Source: Nijkamp et al. 2020, eqs. (3A), (4A).
    """
    return {
        name: value - per_member(gamma_0, value) * gradients[name]
        for name, value in parameters.items()
    }


def adam_state(parameters: Parameters) -> dict[str, Parameters]:
    """Moments before the first Adam step."""
    return {
        moment: {name: torch.zeros_like(value) for name, value in parameters.items()}
        for moment in ("first", "second")
    }


def adam_step(
    parameters: Parameters,
    gradients: Mapping[str, Tensor],
    rate: Tensor,
    state: dict[str, Parameters],
    step: int,
    betas: tuple[float, float] = (0.9, 0.999),
    stabilizer: float = 1e-8,
) -> tuple[Parameters, dict[str, Parameters]]:
    """Adam, with a rate of its own for each member.

    torch.optim.Adam has one rate for a tensor, and the members of a pack share their tensors.

    Args:
        parameters: Tensors of shape (M, ...).
        gradients: Gradients of the loss d, same shapes.
        rate: Rate of each member, shape (M,).
        state: As returned by `adam_state` or by the last step; not changed.
        step: Count of this step, from 1.
        betas: Decay of the two moments.
        stabilizer: Added to the root of the second moment.

    Returns:
        New parameters, and the state for the next step.

    Raises:
        ValueError: If the count is under 1.

    Source: Kingma and Ba 2015, algorithm 1.
    """
    if step < 1:
        raise ValueError(f"`step >= 1` must hold, but got step={step!r}")
    first_decay, second_decay = betas
    updated: Parameters = {}
    first: Parameters = {}
    second: Parameters = {}
    for name, value in parameters.items():
        gradient = gradients[name]
        first[name] = torch.lerp(gradient, state["first"][name], first_decay)
        second[name] = torch.lerp(gradient.square(), state["second"][name], second_decay)
        mean = first[name] / (1 - first_decay**step)
        root = (second[name] / (1 - second_decay**step)).sqrt() + stabilizer
        updated[name] = value - per_member(rate, value) * mean / root
    return updated, {"first": first, "second": second}
