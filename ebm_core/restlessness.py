r"""How much a model that is still learning redraws its own landscape, told from a few energies.

Every so many updates the energies of some states of the chains are computed, and again later, at
the same states, under what the model has become. What they have changed, beyond a constant, is
what chains would have to follow to stay in the model's steady state. Functions of arrays only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ebm_core.compaction import Rows

# Updates from one look to the next. After 5 little has changed that chains do not follow, and 100
# leave few looks; restlessness over 25 told best which long chains depart.
INTERVAL = 25


def restlessness(before: Tensor, after: Tensor) -> Tensor:
    r"""Variance of the change of U over variance of U, at the same states.

    .. math:: \mathrm{Var}\,(U_{t + 25}(x) - U_t(x)) \,/\, \mathrm{Var}\, U_t(x)

    0 where the model does not change but for a constant. Modes of a model whose U swings by
    :math:`\delta` nats against each other weigh :math:`e^\delta` times more or less from one time
    to another, and short-run samples do not follow if they hardly cross between them.

    Args:
        before: U or F at some chains, shape (M, n): members x chains.
        after: The same later, at the same states.

    Returns:
        Shape (M,). NaN for a single chain and where energies never vary, infinite where they do
        only afterwards.
    """
    share = 1 / (before.shape[1] - 1 or math.nan)
    change, level = (x - x.mean(1, keepdim=True) for x in (after - before, before))
    return (change.square().sum(1) * share) / (level.square().sum(1) * share)


class Looks:
    """Looks at the energies of chains every `INTERVAL` updates, and once more at the next look.

    Attributes:
        last: ``states``, shape (M, n, *shape), and their ``energies``, shape (M, n), at the last
            look; empty before the first.
    """

    def __init__(self) -> None:
        self.last: dict[str, Tensor] = {}

    def look(
        self,
        update: int,
        states: Tensor,
        energies: Tensor,
        energy: Callable[[Tensor], Tensor],
        rows: Rows,
    ) -> Tensor:
        """Restlessness since the last look, shape (K,); NaN between the looks.

        Args:
            update: Its index.
            states: Chains after their path, shape (K, n, *shape).
            energies: F of them, shape (K, n).
            energy: F as it is now, of states like these.
            rows: The K members that these belong to; at the first look, all.
        """
        nothing = energies.new_full(energies.shape[:1], math.nan)
        if update % INTERVAL:
            return nothing
        before = rows.of(self.last)
        # copies: parts of what is kept here change in place
        now = {"states": states.clone(), "energies": energies.clone()}
        found = restlessness(before["energies"], energy(before["states"])) if before else nothing
        self.last = rows.put(self.last, now)
        return found
