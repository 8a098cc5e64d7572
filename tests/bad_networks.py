"""Networks as users write them, each with a fault that shows only while it is trained.

A study names them as ``bad_networks:Raises`` and the like. How often a network was called says how
far its training is; its process and its object are new after each failure, and so is the count.
"""

from __future__ import annotations

import os
import signal
import time

import torch
from torch import Tensor, nn


class Good(nn.Module):
    """A small network without a fault; the others are the same with one."""

    # Calls before the fault shows: one member of four Langevin steps makes about 50 updates.
    LATE = 300

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 1))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.fault(self.layers(x)[:, 0])

    def fault(self, u: Tensor) -> Tensor:
        """What becomes of the energies."""
        return u

    @property
    def late(self) -> bool:
        """Whether it is time for the fault."""
        return self.calls > self.LATE


class AlsoGood(Good):
    """The same under another name."""


class GivesNan(Good):
    def fault(self, u: Tensor) -> Tensor:
        return u * float("nan") if self.late else u


class GivesOneTooFew(Good):
    def fault(self, u: Tensor) -> Tensor:
        return u[:-1] if self.late else u


class Constant(Good):
    def fault(self, u: Tensor) -> Tensor:
        return u * 0.0


class Raises(Good):
    def fault(self, u: Tensor) -> Tensor:
        if self.late:
            raise ValueError("a layer that is not there")
        return u


class Leaks(Good):
    """Keeps 12 MB of every call."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Tensor] = []

    def fault(self, u: Tensor) -> Tensor:
        self.held.append(torch.ones(3_000_000))
        return u


class Hangs(Good):
    def fault(self, u: Tensor) -> Tensor:
        if self.late:
            time.sleep(3600)
        return u


class Killed(Good):
    """As the kernel kills a process that holds too much memory, after some words."""

    def fault(self, u: Tensor) -> Tensor:
        if self.late:
            print("a library has had enough", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return u


class HostMemory(Good):
    def fault(self, u: Tensor) -> Tensor:
        if self.late:
            raise MemoryError
        return u


class GpuMemory(Good):
    """What torch raises where a GPU is full."""

    def fault(self, u: Tensor) -> Tensor:
        if self.late:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return u


class Crowded(Good):
    """Has no memory for more than two members; and that of seed 2, of 0 to 3, raises.

    Members are told apart by a weight that nothing depends on, so that it stays as it was drawn.
    """

    MOST = 2
    # early, or the retries together would come to the end
    LATE = 120

    def __init__(self) -> None:
        super().__init__()
        self.badge = nn.Parameter(torch.rand(()))
        self.seen: set[float] = set()

    def fault(self, u: Tensor) -> Tensor:
        badge = float(self.badge.detach())
        self.seen.add(badge)
        if self.late and len(self.seen) > self.MOST:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if self.late and self.unlucky(badge):
            raise ValueError("a layer that this member alone lacks")
        return u + 0.0 * self.badge

    def unlucky(self, badge: float) -> bool:
        return badge < 0.1


class Calm(Crowded):
    """The same with room for all, and without the one that raises."""

    MOST = 4

    def unlucky(self, badge: float) -> bool:
        return False
