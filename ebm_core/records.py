"""What is kept of every update of a pack: one number a name, update and member."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm_core.compaction import Rows

# What every training records; and what one that clips gradients does, too.
_ALWAYS, _CLIPPING = ("d", "r", "r_rms", "restlessness"), ("clipped",)
NAMES = (*_ALWAYS, *_CLIPPING)


class Records:
    """Series over the updates, NaN where nothing was recorded.

    Args:
        updates: Of the whole training.
        members: M.
        like: Gives type and device.
        clipping: Whether gradients may be clipped, which is recorded then, too.

    Attributes:
        names: Of the series, in their order.
        values: Shape (series, updates, M).
    """

    def __init__(self, updates: int, members: int, like: Tensor, clipping: bool) -> None:
        self.names = NAMES if clipping else _ALWAYS
        self.values = like.new_full((len(self.names), updates, members), torch.nan)

    def write(self, update: int, rows: Rows, alive: Tensor, found: Mapping[str, Tensor]) -> None:
        """Records one update of some members.

        Args:
            update: Its index.
            rows: The K members.
            alive: Which of them have not been stopped, shape (K,); NaN is recorded of the others.
            found: Of each name, shape (K,).
        """
        together = torch.stack([found[name].to(self.values.dtype) for name in self.names])
        together = torch.where(alive, together, torch.nan)
        self.values[:, update].index_copy_(1, rows.index, together)

    def series(self, name: str, member: int, updates: int) -> NDArray[np.float64]:
        """One series of a member over its first updates; empty if it is not recorded here."""
        if name not in self.names:
            return np.empty(0)
        values = self.values[self.names.index(name), :updates, member]
        found: NDArray[np.float64] = values.double().cpu().numpy()
        return found
