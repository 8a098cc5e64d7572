"""Probes that measure nothing: what a pack costs is a law of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

START_SECONDS = 2.0
IDLE, ROOM = 3e8, 2e9

# Seconds of an update, of workers side by side, threads and members
Law = Callable[[int, int, int], float]


class MadeUpProbes:
    """Stands in for `study.probes.Probes`; notes what it is asked.

    Args:
        count: How many workers there would be.
        gpus: Of each.
        law: Seconds of one update.
        member_bytes: What one member takes.
        most_members: More give no answer, as where memory runs out.
    """

    start_seconds = START_SECONDS
    shortage: ClassVar = {"needed": 9e9, "free": 4e9}

    def __init__(
        self,
        count: int = 1,
        gpus: float = 0.0,
        law: Law = lambda workers, threads, members: 0.01 * members,
        member_bytes: float = 1e6,
        most_members: int = 10**9,
    ) -> None:
        self.count, self.gpus = count, gpus
        self.law, self.member_bytes, self.most_members = law, member_bytes, most_members
        self.asked: list[tuple[int, int, int]] = []
        self.configs: list[dict[str, Any]] = []
        self.engine_paths: list[str | None] = []
        self.conclusions = 0

    def __enter__(self) -> MadeUpProbes:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def ask(self, count: int, command: str, **arguments: Any) -> dict[str, float] | None:
        return {
            "prepare": self._prepare,
            "measure": self._measure,
            "conclude": self._conclude,
        }[command](count, **arguments)

    def _prepare(
        self,
        count: int,
        config: dict[str, Any],
        members: int,
        threads: int,
        engine_path: str | None,
    ) -> dict[str, float] | None:
        if members > self.most_members:
            return None
        self.asked.append((count, threads, members))
        self.configs.append(config)
        self.engine_paths.append(engine_path)
        return {"cold": 1.0, "build": 0.2, "idle": IDLE, "room": ROOM}

    def _measure(self, count: int) -> dict[str, float]:
        size = IDLE + self.asked[-1][2] * self.member_bytes
        return {"seconds": self.law(*self.asked[-1]), "bytes": size}

    def _conclude(
        self, count: int, steps: int, chains: int, adjusted_steps: int
    ) -> dict[str, float]:
        self.conclusions += 1
        return {"check": 0.001 * steps, "pictures": 0.5, "bytes": IDLE}
