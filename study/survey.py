"""What packs of a study cost on this machine: measured once each, by probes side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Protocol

from ebm_core.config import TrainConfig
from study import space
from study.memory import ran_out
from study.spec import StudySpec

# One of each kind is tried out; all of these points tell how long trainings are on average.
_POINTS = 64
# After so long, people are told what they wait for; and after so long, no more is tried out.
_PATIENCE_SECONDS = 4.0
_MOST_SECONDS = 20.0
# Between two packs a worker waits for Tune and builds the next; measured on eps_sweep.
_TURN_SECONDS = 0.3


class Asked(Protocol):
    """As `study.probes.Probes`."""

    start_seconds: float
    shortage: dict[str, float]

    def ask(self, count: int, command: str, **arguments: object) -> dict[str, float] | None: ...


@dataclass(frozen=True)
class PackCost:
    """What one pack of K members costs, in seconds if not said otherwise.

    Attributes:
        members: K.
        training: Its update loop.
        check: The evaluation of one member after training, the long-run check foremost.
        pictures: The files of one member.
        build: Before its first update.
        cold: What the first pack of a worker takes besides.
        size: Memory of a worker with it, bytes.
        idle: Memory of a worker without any, bytes.
        room: Memory that a worker may take, bytes.
    """

    members: float
    training: float
    check: float
    pictures: float
    build: float
    cold: float
    size: float
    idle: float
    room: float

    @property
    def fits(self) -> bool:
        """Whether there is memory for it."""
        return self.size <= self.room

    @property
    def fits_twice(self) -> bool:
        """Whether there is memory for a pack of twice as many; judged to the safe side."""
        return self.idle + 2 * (self.size - self.idle) <= self.room

    @property
    def seconds(self) -> float:
        """From one pack to the next."""
        after = self.members * (self.check + self.pictures)
        return self.training + after + self.build + _TURN_SECONDS


@dataclass(frozen=True)
class Kind:
    """Trainings that share data and network, and one that stands for them.

    Attributes:
        config: The one that is tried out.
        share: Of the trainings of the study.
        updates: Mean updates of a training, each counted by its work compared with `config`.
    """

    config: TrainConfig
    share: float
    updates: float


class Survey:
    """Costs of packs by workers, threads and members; each is measured when first asked for.

    Args:
        spec: The study.
        probes: Who measure.
        tell: Called once if it takes longer.
    """

    def __init__(
        self, spec: StudySpec, probes: Asked, tell: Callable[[], None] | None = None
    ) -> None:
        self._spec, self._probes, self._tell = spec, probes, tell
        points = space.random_points(spec.parameters, _POINTS, spec.seed)
        self._kinds = kinds([spec.config(point) for point in points])
        self._packs: dict[tuple[int, int, int], PackCost | None] = {}
        self._conclusions: dict[tuple[int, int], list[dict[str, float]]] = {}
        self._cold: dict[int, float] = {}
        # of the start of the probes too
        self._began = time.perf_counter() - probes.start_seconds

    @property
    def start_seconds(self) -> float:
        """How long the probes took to start, side by side."""
        return self._probes.start_seconds

    @property
    def shortage(self) -> dict[str, float]:
        """Memory that was needed and free where it last ran out, see `study.probe`."""
        return self._probes.shortage

    @property
    def seconds(self) -> float:
        """How long all this has taken so far."""
        return time.perf_counter() - self._began

    @property
    def exhausted(self) -> bool:
        """Whether what is known must do."""
        return self.seconds > _MOST_SECONDS

    def pack(self, workers: int, threads: int, members: int) -> PackCost | None:
        """The cost of one pack beside those of the other workers; None if memory ran out."""
        key = workers, threads, members
        if key not in self._packs:
            self._packs[key] = self._measured(*key)
        return self._packs[key]

    def _measured(self, workers: int, threads: int, members: int) -> PackCost | None:
        found = []
        for index, kind in enumerate(self._kinds):
            self._be_patient()
            cost = self._kind_cost(index, kind, workers, threads, members)
            if cost is None:
                return None
            found.append(cost)
        shares = [kind.share for kind in self._kinds]
        return _mean(found, shares)

    def _kind_cost(
        self, index: int, kind: Kind, workers: int, threads: int, members: int
    ) -> PackCost | None:
        built = self._probes.ask(
            workers,
            "prepare",
            config=kind.config.model_dump(mode="json"),
            members=members,
            threads=threads,
            engine_path=self._spec.engine_path,
        )
        measured = self._probes.ask(workers, "measure") if built else None
        if not built or not measured:
            return None
        after = self._conclusion(index, workers, threads)
        # a probe is cold but once, and a worker as well, whatever pack it begins with
        self._cold[index] = max(self._cold.get(index, 0.0), built["cold"])
        return PackCost(
            members=members,
            training=measured["seconds"] * kind.updates,
            check=after["check"] * (1 + self._spec.long_run.before_the_end(round(kind.updates))),
            pictures=after["pictures"],
            build=built["build"],
            cold=self._cold[index],
            size=max(measured["bytes"], after["bytes"]),
            idle=built["idle"],
            room=built["room"],
        )

    def _conclusion(self, index: int, workers: int, threads: int) -> dict[str, float]:
        """Of the pack that is prepared; the same for a member of any, so that it is asked once."""
        known = self._conclusions.setdefault((workers, threads), [])
        if len(known) == index:
            long_run = self._spec.long_run
            found = self._probes.ask(
                workers,
                "conclude",
                steps=long_run.steps,
                chains=long_run.chains,
                adjusted_steps=long_run.adjusted_steps,
            )
            if found is None:
                raise ran_out("the long-run check of a training", self.shortage)
            known.append(found)
        return known[index]

    def _be_patient(self) -> None:
        if self._tell is not None and self.seconds > _PATIENCE_SECONDS:
            self._tell()
            self._tell = None


def kinds(configs: Sequence[TrainConfig]) -> list[Kind]:
    """Configurations apart by data and network, each kind with its share of them."""
    apart: dict[str, list[TrainConfig]] = {}
    for config in configs:
        apart.setdefault(f"{config.data} {config.network}", []).append(config)
    return [_kind(members, len(members) / len(configs)) for members in apart.values()]


def _kind(configs: Sequence[TrainConfig], share: float) -> Kind:
    def update_work(config: TrainConfig) -> int:
        return config.langevin_steps * config.batch_size

    # the middle one: least is extrapolated
    chosen = sorted(configs, key=update_work)[len(configs) // 2]
    work = fmean(update_work(config) * config.updates for config in configs)
    return Kind(chosen, share, work / update_work(chosen))


def _mean(costs: Sequence[PackCost], shares: Sequence[float]) -> PackCost:
    return PackCost(*_weighted(costs, shares))


def _weighted(costs: Sequence[PackCost], shares: Sequence[float]) -> Iterator[float]:
    for field in fields(PackCost):
        values = [getattr(cost, field.name) for cost in costs]
        if field.name in ("size", "room"):
            yield (max if field.name == "size" else min)(values)
        else:
            yield sum(value * share for value, share in zip(values, shares, strict=True))


def between(low: PackCost, high: PackCost, members: int) -> PackCost:
    """The cost of a pack of a size between two that are known, in proportion."""
    if low.members == high.members:
        return low
    share = (members - low.members) / (high.members - low.members)
    return _mean([low, high], [1 - share, share])
