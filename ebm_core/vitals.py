"""Which members of a pack still live, and what stopped the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ebm_core.snapshot import picked
from ebm_core.verdict import Divergence

# What stops a member; those seen at once are looked for in this order.
CAUSES = (
    "d is not finite",
    "the gradient magnitude is not finite",
    "chains left any reasonable range",
    "the parameters are not finite",
    "d runs to minus infinity",
)
COLLAPSED = len(CAUSES) - 1


class Vitals:
    """Life of the members of a pack, kept on the device: looking at an update costs no host sync.

    Attributes:
        alive: Shape (M,), bool.
        stopped_at: The update at which a member stopped, -1 for the living; shape (M,).
        cause: Index into `CAUSES`; shape (M,).
    """

    def __init__(self, members: int, device: torch.device) -> None:
        self.alive = torch.ones(members, dtype=torch.bool, device=device)
        self.stopped_at = torch.full((members,), -1, device=device)
        self.cause = torch.zeros(members, dtype=torch.long, device=device)

    def examine(
        self,
        update: int,
        d: Tensor,
        r: Tensor,
        states: Tensor,
        parameters: Mapping[str, Tensor],
        limit: float,
    ) -> None:
        """Stops the members that are no longer finite, or whose states left any reasonable range.

        Args:
            update: Its index.
            d: Energy differences, shape (M,).
            r: Gradient magnitudes, shape (M,).
            states: Chains after their path, shape (M, n, *shape).
            parameters: After the update, each of shape (M, ...).
            limit: Largest size of a coordinate that is still reasonable.
        """
        finite = [p.isfinite().reshape(len(p), -1).all(1) for p in parameters.values()]
        sound = torch.stack(finite).all(0)
        # written so that NaN counts as out of range
        inside = states.abs().flatten(1).amax(1) <= limit
        failing = torch.stack([~d.isfinite(), ~r.isfinite(), ~inside, ~sound])
        newly = failing.any(0) & self.alive
        self.cause = torch.where(newly, failing.int().argmax(0), self.cause)
        self.stopped_at = torch.where(newly, update, self.stopped_at)
        self.alive = self.alive & ~newly

    def collapse(self, member: int, update: int) -> None:
        """Stops a member whose d runs to minus infinity."""
        self.alive[member] = False
        self.stopped_at[member] = update
        self.cause[member] = COLLAPSED

    def updates_made(self, member: int, update: int) -> int:
        """How many updates a member made when the pack has made `update`."""
        return update if self.alive[member] else int(self.stopped_at[member]) + 1

    def report(self, member: int) -> tuple[str, Divergence | None]:
        """What stopped a member, empty for the living, and what the verdict needs of it."""
        if self.alive[member]:
            return "", None
        code, update = int(self.cause[member]), int(self.stopped_at[member])
        divergence = None if code == COLLAPSED else Divergence(update, CAUSES[code])
        return f"{CAUSES[code]} at update {update}", divergence

    def state(self, pick: slice) -> Any:
        """What `load_state` takes, for some of the members."""
        return picked(vars(self), pick)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state` gave."""
        self.alive, self.stopped_at = state["alive"], state["stopped_at"]
        self.cause = state["cause"]
