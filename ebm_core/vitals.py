"""Which members of a pack still live, and what stopped the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_core.assessment import Divergence, Verdict
from ebm_core.breakdown import REASONABLE
from ebm_core.compaction import Rows
from ebm_core.verdict import Thresholds

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

# States further out than this many times the extent of the data are lost.
STATE_LIMIT = 100.0
# So are gradients this many times as long as the data are wide; those of healthy trainings were
# seen to stay under 0.1 (docs/breakdown.md).
GRADIENT_LIMIT = 10.0
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


def limits_of(extent: float, dimensions: int) -> Limits:
    """What is reasonable for data of this extent, units of x, and this many dimensions."""
    return Limits(
        state=STATE_LIMIT * extent,
        gradient=GRADIENT_LIMIT * extent * math.sqrt(dimensions),
        depth=Thresholds().collapse_nats * dimensions,
    )


def _largest(x: Tensor) -> Tensor:
    """Largest size of a number of each member, (M, ...) to (M,); NaN if one of them is."""
    return x.reshape(len(x), -1).abs().amax(1)


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
        self._everyone = Rows(range(members), members, device)
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
        rows: Rows | None = None,
    ) -> None:
        """Stops the members that are no longer finite, reasonable or moving.

        Args:
            update: Its index.
            d: Energy differences, shape (K,).
            r: Gradient magnitudes, shape (K,).
            start: Chains before their path, shape (K, n, *shape).
            states: The same after it.
            parameters: After the update, each of shape (K, ...).
            rows: The K members that these belong to; None for all.
        """
        rows = rows or self._everyone
        own = rows.of(self._tensors())
        self._count(own, d, r)
        still = (states == start).flatten(1)
        # in the order of the causes; written so that NaN is not sound
        sound = torch.stack(
            [
                d.abs() < math.inf,
                d.abs() < REASONABLE,
                r < math.inf,
                _largest(states) <= self.limits.state,
                r <= self.limits.gradient,
                torch.stack([_largest(p) for p in parameters.values()]).amax(0) < math.inf,
                still.sum(1) <= STILL_SHARE * still.shape[1],
                own["repeats"] < REPEATS,
            ]
        )
        failing = ~sound
        newly = failing.any(0) & own["alive"]
        cause = failing.int().argmax(0)
        # a collapse ends in steep gradients and lost chains, which are not what is wrong
        collapsed = (cause < _FROZEN) & (own["deep"] >= DEEP_UPDATES)
        cause = torch.where(collapsed, COLLAPSED, cause)
        own["cause"] = torch.where(newly, cause, own["cause"])
        own["stopped_at"] = torch.where(newly, update, own["stopped_at"])
        own["alive"] = own["alive"] & ~newly
        self.load_state(rows.put(self._tensors(), own))

    def _count(self, own: dict[str, Tensor], d: Tensor, r: Tensor) -> None:
        now = torch.stack([d, r], dim=1).double()
        same = (now == own["last"]).all(1)
        own["repeats"] = torch.where(same, own["repeats"] + 1, 0)
        own["last"] = now
        longer = torch.where(d < -self.limits.depth, own["deep"] + 1, 0)
        own["deep"] = torch.where(d.isnan(), own["deep"], longer)

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

    def state(self, pick: slice) -> dict[str, Tensor]:
        """What `load_state` takes, for some of the members."""
        return {name: value[pick].clone() for name, value in self._tensors().items()}

    def _tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in _TENSORS}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state` gave."""
        for name in _TENSORS:
            setattr(self, name, state[name])
