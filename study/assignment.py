"""What a worker is told to do, and what it keeps while it does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ebm_core import checkpoint
from study import permit


@dataclass(frozen=True)
class Unit:
    """One training to be done: a (configuration, seed).

    Attributes:
        trial: Number of the configuration in the study.
        seed: Which of its repeats, from 0.
        point: What was searched.
        config: Plain `TrainConfig` values.
    """

    trial: int
    seed: int
    point: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def key(self) -> tuple[int, int]:
        """What tells it from the others."""
        return self.trial, self.seed

    @property
    def folder(self) -> Path:
        """Where its files lie, below the folder of the study."""
        return Path("trials") / f"{self.trial:04d}" / f"seed-{self.seed}"


@dataclass(frozen=True)
class Assignment:
    """What one Tune trial is told to do; travels as plain values.

    Attributes:
        units: The trainings of the pack, in the order of its members.
        folder: Of the study, absolute, seen by all nodes.
        threads: torch's threads.
        long_run_steps: Length of the check after each training, 0 for none.
        long_run_chains: Chains of that check from each start.
        adjusted_steps: Length of its Metropolis-adjusted chains, 0 for none.
        long_run_every: Updates from one such check to the next during training; None for none.
        engine_path: How members are run, see `ebm_core.engine`; None to choose.
        token: Of the permit of this attempt; without one nobody can stop it.
        looks: Updates at which the metric so far is told, for whoever may stop it early.
        metric: Which number of the table that is.
        stop_at: The update after which it was stopped early; None if it was not.
        seconds_limit: The most that this attempt may take; None for any.
        gigabytes_limit: The most memory that its process may hold; None for any.
    """

    units: tuple[Unit, ...]
    folder: str
    threads: int
    long_run_steps: int
    long_run_chains: int
    adjusted_steps: int = 0
    long_run_every: int | None = None
    engine_path: str | None = None
    token: str | None = None
    looks: tuple[int, ...] = ()
    metric: str = ""
    stop_at: int | None = None
    seconds_limit: float | None = None
    gigabytes_limit: float | None = None

    def plain(self) -> dict[str, Any]:
        """As nested dictionaries and lists."""
        return {**asdict(self), "units": [asdict(unit) for unit in self.units]}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Assignment:
        """The inverse of `plain`."""
        units = tuple(Unit(**unit) for unit in values["units"])
        return cls(**{**values, "units": units, "looks": tuple(values["looks"])})


@dataclass(frozen=True)
class PackFiles:
    """What a pack keeps below the folder of the study until its rows are recorded.

    Attributes:
        stem: Path without a suffix: it names the first of its trainings and how many there are.
    """

    stem: Path

    @classmethod
    def of(cls, folder: Path, units: Sequence[Unit]) -> PackFiles:
        first = units[0]
        name = f"pack-{first.seed}-{len(units)}"
        return cls(folder / "trials" / f"{first.trial:04d}" / name)

    @property
    def checkpoint(self) -> Path:
        return self.stem.with_suffix(".pt")

    @property
    def permit(self) -> Path:
        return self.stem.with_suffix(".permit")

    @property
    def log(self) -> Path:
        return self.stem.with_suffix(".log")

    def remove(self) -> None:
        """Removes them all; the log stays, if there is one."""
        permit.withdraw(self.permit)
        checkpoint.remove(self.checkpoint)
