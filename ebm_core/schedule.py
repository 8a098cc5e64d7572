"""Learning rate over updates: geometric annealing by its length."""

from __future__ import annotations

import torch
from torch import Tensor


def learning_rate(
    update: int | Tensor, gamma_0: Tensor, gamma_start: Tensor, anneal_updates: Tensor
) -> Tensor:
    r"""Learning rate gamma_0(t) of every member.

    .. math:: \gamma_0(t) = \max(\gamma_0, \gamma_s (\gamma_0 / \gamma_s)^{t / T})

    Equals gamma_start at t = 0 and gamma_0 from t = T on; constant where gamma_start <= gamma_0 or
    T = 0. With gamma_0 = 0 it is 0 from t = 1 on, the limit of small gamma_0.

    Args:
        update: t, counted from 0; an integer, or integers of shape (t, 1).
        gamma_0: Final rates, shape (M,).
        gamma_start: Rates of the first update, shape (M,).
        anneal_updates: T, shape (M,); whole numbers of any dtype.

    Returns:
        Rates in the dtype of `gamma_0`, shape (M,), or (t, M) for many updates.

    Source: Nijkamp et al. 2020, appendix B; `decay = (gamma_0 / gamma_start)^(1 / T)`.
    """
    active = (gamma_start > gamma_0) & (anneal_updates > 0)
    # torch would divide two integers in float32
    length = anneal_updates.to(gamma_0.dtype).clamp(min=1)
    progress = update / length
    annealed = gamma_start * (gamma_0 / gamma_start.clamp(min=1e-30)) ** progress
    # exact at and after T, whatever the power rounds to
    annealed = torch.where(progress >= 1, gamma_0, torch.maximum(annealed, gamma_0))
    return torch.where(active, annealed, gamma_0)
