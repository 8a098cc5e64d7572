"""Which members of a pack still live, and what stopped the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm_core.assessment import Divergence, Verdict
from ebm_core.breakdown import REASONABLE
from ebm_core.snapshot import picked

# What stops a member; those seen at once are looked for in this order.
CAUSES = (
    "d is not finite",
    "d left any reasonable range",
    "the gradient magnitude is not finite",
    "chains left any reasonable range",
    "gradients exploded, a Langevin step is many times as long as the data are wide",
    "the parameters are not finite",
    "chains are frozen, a path leaves most of their coordinates exactly as they were",
    "d and r repeat exactly, neither the energy nor its chains change any more",
    "d runs to minus infinity",
)
_FROZEN = 6
COLLAPSED = len(CAUSES) - 1
# What these make of a training; the others diverged.
_VERDICTS: dict[int, Verdict] = {6: "unassessed", 7: "unassessed", COLLAPSED: "collapsed"}

# A member that breaks off with d deep below 0 for as many updates collapsed. Measured on digits:
# collapses show 6 (Adam 0.03) to 60 (Adam 0.001), steps of SGD that are too long 0 or 1.
DEEP_UPDATES = 5
# Equal values of d and of r in as many updates running; those that live do not repeat once.
REPEATS = 20
# Every step adds noise to every coordinate: what stays exactly equal was lost to rounding.
STILL_SHARE = 0.5

_TENSORS = ("alive", "stopped_at", "cause", "deep", "repeats", "last")


class Limits(NamedTuple):
    """What is no longer reasonable, in the units of a training.

    Attributes:
        state: Largest size of a coordinate.
        gradient: Largest r, units of x.
        depth: d below minus this is deep, nats.
    """

    state: float
    gradient: float
    depth: float


class Vitals:
    """Life of the members of a pack, kept on the device: looking at an update costs no host sync.

    Args:
        members: M.
        device: Where to keep it.
        limits: Of what is reasonable.

    Attributes:
        alive: Shape (M,), bool.
        stopped_at: The update at which a member stopped, -1 for the living; shape (M,).
        cause: Index into `CAUSES`; shape (M,).
        deep: Updates for which d has been deep below 0; shape (M,).
        repeats: Updates for which d and r have been what they are; shape (M,).
        last: d and r of the last update; shape (M, 2).
    """

    def __init__(self, members: int, device: torch.device, limits: Limits) -> None:
        self.limits = limits
        self.alive = torch.ones(members, dtype=torch.bool, device=device)
        self.stopped_at = torch.full((members,), -1, device=device)
        self.cause = torch.zeros(members, dtype=torch.long, device=device)
        self.deep = torch.zeros(members, dtype=torch.long, device=device)
        self.repeats = torch.zeros(members, dtype=torch.long, device=device)
        self.last = torch.full((members, 2), torch.nan, dtype=torch.float64, device=device)

    def examine(
        self,
        update: int,
        d: Tensor,
        r: Tensor,
        start: Tensor,
        states: Tensor,
        parameters: Mapping[str, Tensor],
    ) -> None:
        """Stops the members that are no longer finite, reasonable or moving.

        Args:
            update: Its index.
            d: Energy differences, shape (M,).
            r: Gradient magnitudes, shape (M,).
            start: Chains before their path, shape (M, n, *shape).
            states: The same after it.
            parameters: After the update, each of shape (M, ...).
        """
        self._count(d, r)
        finite = [p.isfinite().reshape(len(p), -1).all(1) for p in parameters.values()]
        # those of what is reasonable are written so that NaN is not
        failing = torch.stack(
            [
                ~d.isfinite(),
                ~(d.abs() < REASONABLE),
                ~r.isfinite(),
                ~(states.abs().flatten(1).amax(1) <= self.limits.state),
                ~(r <= self.limits.gradient),
                ~torch.stack(finite).all(0),
                (states == start).flatten(1).float().mean(1) > STILL_SHARE,
                self.repeats >= REPEATS,
            ]
        )
        newly = failing.any(0) & self.alive
        cause = failing.int().argmax(0)
        # a collapse ends in steep gradients and lost chains, which are not what is wrong
        collapsed = (cause < _FROZEN) & (self.deep >= DEEP_UPDATES)
        cause = torch.where(collapsed, COLLAPSED, cause)
        self.cause = torch.where(newly, cause, self.cause)
        self.stopped_at = torch.where(newly, update, self.stopped_at)
        self.alive = self.alive & ~newly

    def _count(self, d: Tensor, r: Tensor) -> None:
        now = torch.stack([d, r], dim=1).double()
        same = (now == self.last).all(1)
        self.repeats = torch.where(same, self.repeats + 1, 0)
        self.last = now
        longer = torch.where(d < -self.limits.depth, self.deep + 1, 0)
        self.deep = torch.where(d.isnan(), self.deep, longer)

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
        verdict = _VERDICTS.get(code, "diverged")
        return f"{CAUSES[code]} at update {update}", Divergence(update, CAUSES[code], verdict)

    def state(self, pick: slice) -> Any:
        """What `load_state` takes, for some of the members."""
        return picked({name: getattr(self, name) for name in _TENSORS}, pick)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state` gave."""
        for name in _TENSORS:
            setattr(self, name, state[name])
