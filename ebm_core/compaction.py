"""Which members of a pack an update computes, and their part of tensors that hold all members."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def computed_members(
    stopped_at: Sequence[int], updates: int, interval: int = 1, share: float = 1.0
) -> list[int]:
    """The members that the next update computes, as told by when others were stopped.

    Every `interval` updates it is looked who still lives. The stopped ones are left out after that
    where at most a share of those that were computed is left. The arguments tell all looks so far,
    so that this is the same however a training is cut into pieces.

    Args:
        stopped_at: The update that stopped each member, -1 for the living.
        updates: How many the pack has made.
        interval: From one look to the next, updates.
        share: Of the computed members; 1 leaves out every stopped one.

    Returns:
        Their indices, rising; those stopped since the last look are among them, as are those whom
        it did not pay to leave out.
    """
    seen_at = [math.ceil((at + 1) / interval) * interval if at >= 0 else None for at in stopped_at]
    computed = list(range(len(stopped_at)))
    for look in sorted({at for at in seen_at if at is not None and at <= updates}):
        living = [m for m in computed if (at := seen_at[m]) is None or at > look]
        if len(living) <= share * len(computed):
            computed = living
    return computed


class Rows:
    """Some members of a pack, as rows of tensors whose first axis is the member axis.

    Nothing is copied as long as these are all members.

    Args:
        members: Their indices, rising.
        total: M.
        device: Of the tensors.

    Attributes:
        members: Their indices.
        index: The same on the device, shape (K,).
    """

    def __init__(self, members: Sequence[int], total: int, device: torch.device) -> None:
        self.members = list(members)
        self.index = torch.tensor(self.members, dtype=torch.long, device=device)
        self._all = len(self.members) == total

    def of(self, tree: Any) -> Any:
        """Their part of the tensors of a tree, (M, ...) to (K, ...)."""
        if self._all:
            return tree
        if isinstance(tree, Tensor):
            return tree.index_select(0, self.index)
        return {key: self.of(value) for key, value in tree.items()}

    def put(self, whole: Any, part: Any) -> Any:
        """A tree with this as their part, (K, ...) into (M, ...).

        The part itself if they are all members; else the whole, its tensors changed in place.
        """
        if self._all:
            return part
        if isinstance(whole, Tensor):
            return whole.index_copy_(0, self.index, part)
        return {key: self.put(value, part[key]) for key, value in whole.items()}


def chosen(alive: Tensor | None, new: Any, old: Any) -> Any:
    """A tree with new rows for the living members and old ones for the others.

    Args:
        alive: Shape (K,), bool; None where all live.
        new: Tensors of shape (K, ...), in a tree.
        old: The same; may be anything where all live.
    """
    if alive is None:
        return new
    if isinstance(new, Tensor):
        return torch.where(alive.reshape(-1, *[1] * (new.dim() - 1)), new, old)
    return {key: chosen(alive, value, old[key]) for key, value in new.items()}
