"""Tries out packs for a moment, in a process of its own as a worker is: ``python -m study.probe``.

Reads commands from standard input, one JSON line each, and answers each with another; see
`study.probes` for the other end.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch

from ebm_core.artifacts import write_artifacts
from ebm_core.config import TrainConfig, make_config
from ebm_core.device import resolve_device
from ebm_core.result import RunResult
from ebm_core.trainer import Trainer
from study import memory
from study.assignment import Assignment
from study.failures import Kind, recognized
from study.job import evaluated

# How long updates are timed, and in how many parts, of which the median counts.
PROBE_SECONDS = 0.35
_PARTS = 7
# An update of more than this is not made whole: its length in Langevin steps is extrapolated.
_SLOW_SECONDS = 1.0
_FEW_STEPS = 2
# Lengths of the long-run check that is tried out: longer and longer until it takes longer, too.
# By large steps, since what it does besides may take far more, and is done again each time.
_FEW_CHECKED, _MOST_CHECKED, _CHECK_SECONDS = 4, 256, 0.2
_LONGER = 4
# What a worker may take: of the main memory, and of its share of a GPU's that is free.
CPU_BYTES = 2e9
GPU_SHARE = 0.8
_STATUS = Path("/proc/self/status")

Reply = dict[str, float]


class Probe:
    """Trains one pack after another for a moment.

    Args:
        share: Of a GPU that a worker has.
        side_by_side: How many probes share the main memory.
    """

    def __init__(self, share: float = 1.0, side_by_side: float = 1.0) -> None:
        self._share = share
        self._device = torch.device("cpu")
        self.free = memory.free_bytes() / side_by_side
        self._taken = peak_bytes(self._device)
        self._trainers: list[Trainer] = []
        self._steps = 0
        # of the memory, before there was a pack
        self._before: Reply = {}

    def prepare(
        self,
        config: Mapping[str, Any],
        members: int,
        threads: int,
        engine_path: str | None = None,
    ) -> Reply:
        """Builds a pack and makes its first updates.

        Args:
            config: Plain `TrainConfig` values of every member.
            members: How many.
            threads: torch's threads.
            engine_path: See `Trainer`.

        Returns:
            ``cold``: what that took at first beyond what it takes again, seconds; ``build``: what
            it takes again; ``idle``: bytes that a worker takes without a pack, and ``room``: that
            it may take.
        """
        torch.set_num_threads(threads)
        whole = make_config(config)
        self._steps = whole.langevin_steps
        few = whole.with_(langevin_steps=min(_FEW_STEPS, self._steps))
        self._forget(resolve_device(whole.device))

        def begun(config: TrainConfig) -> Trainer:
            trainer = Trainer([config] * members, engine_path=engine_path)
            trainer.run(1)
            _settle(trainer.device)
            return trainer

        cold, trainer = _timed(lambda: begun(few))
        first, _ = _timed(lambda: trainer.run(1))
        if first * self._steps / few.langevin_steps <= _SLOW_SECONDS:
            build, trainer = _timed(lambda: begun(whole))
            self._trainers = [trainer]
        else:
            more = few.with_(langevin_steps=min(4 * few.langevin_steps, self._steps))
            build, longer = _timed(lambda: begun(more))
            self._trainers = [trainer, longer]
        return {"cold": max(0.0, cold - build), "build": build, **self._before}

    def shortage(self, error: BaseException) -> Reply:
        """What was ``needed`` at least when memory ran out, and what is ``free`` for it, bytes."""
        taken, free = peak_bytes(self._device), self.free
        if self._device.type == "cuda":
            free = self._before["room"] / GPU_SHARE
        else:
            taken -= self._taken
        # what is given back is not always there to be had again
        return {"needed": max(taken + memory.requested_bytes(error), free), "free": free}

    def _forget(self, device: torch.device) -> None:
        self._trainers, self._device = [], device
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        if not self._before:
            room = memory_room(device, self._share)
            self._before = {"idle": peak_bytes(device), "room": room}

    def measure(self) -> Reply:
        """``seconds`` of one update of the pack that was prepared, and the ``bytes`` it took."""
        few, *more = self._trainers
        seconds = update_seconds(few)
        for trainer in more:
            steps = trainer.config.langevin_steps - few.config.langevin_steps
            a_step = max(0.0, update_seconds(trainer) - seconds) / max(1, steps)
            seconds += a_step * (self._steps - few.config.langevin_steps)
        return {"seconds": seconds, "bytes": peak_bytes(few.device)}

    def conclude(self, steps: int, chains: int, adjusted_steps: int) -> Reply:
        """What is done with one member after its training, see `study.job.Job`.

        Returns:
            ``check``: seconds of the evaluation, the long-run check foremost; ``pictures``: of the
            files; and the ``bytes`` that the process took by then.
        """
        trainer = self._trainers[0]
        result = trainer.result()
        check = _check_seconds(trainer, result, steps, chains, adjusted_steps)
        with tempfile.TemporaryDirectory() as folder:

            def pictures() -> None:
                write_artifacts(result, Path(folder), trainer.dataset)

            found = _timed_twice(pictures)
        return {"check": check, "pictures": found, "bytes": peak_bytes(trainer.device)}


def update_seconds(trainer: Trainer) -> float:
    """Seconds of one update, the median over parts; of what there is, where training ends."""
    first = trainer.seconds / max(1, trainer.update)
    part = max(1, round(PROBE_SECONDS / _PARTS / max(first, 1e-6)))
    found: list[float] = []
    end = time.perf_counter() + PROBE_SECONDS
    while not trainer.finished and time.perf_counter() < end:
        before, began = trainer.update, time.perf_counter()
        trainer.run(part)
        _settle(trainer.device)
        found.append((time.perf_counter() - began) / (trainer.update - before))
    # one that diverged at once has made no more than its first update
    return statistics.median(found) if found else trainer.seconds / trainer.update


def _check_seconds(
    trainer: Trainer, result: RunResult, steps: int, chains: int, adjusted_steps: int
) -> float:
    """Seconds of `study.job.evaluated`, from short checks: they are linear in their length."""

    def seconds(length: int, adjusted: int = 0) -> float:
        wanted = Assignment((), "", torch.get_num_threads(), length, chains, adjusted)
        return _timed_twice(lambda: evaluated(result, wanted, trainer.dataset))

    if steps <= _FEW_CHECKED:
        return seconds(steps, adjusted_steps)
    length, few = _FEW_CHECKED, seconds(_FEW_CHECKED)
    more = few
    while length < min(steps, _MOST_CHECKED) and more - few < _CHECK_SECONDS:
        length = min(_LONGER * length, steps)
        more = seconds(length)
    a_step = max(0.0, more - few) / (length - _FEW_CHECKED)
    found = few + a_step * (steps - _FEW_CHECKED)
    if adjusted_steps:
        both = seconds(_FEW_CHECKED, _FEW_CHECKED)
        found += max(0.0, both - few) / _FEW_CHECKED * adjusted_steps
    return found


def _timed_twice(work: Callable[[], Any]) -> float:
    """The shorter of two times, the second only if the first is short.

    What is done for the first time takes longer, and so does what something else cut into.
    """
    first, _ = _timed(work)
    return first if first > _SLOW_SECONDS else min(first, _timed(work)[0])


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    made = work()
    return time.perf_counter() - began, made


def _settle(device: torch.device) -> None:
    """Waits for what a GPU has still to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory_room(device: torch.device, share: float) -> float:
    """Bytes that a worker may take.

    Args:
        device: Where it trains.
        share: Of a GPU, for one worker.
    """
    if device.type == "cpu":
        return CPU_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return GPU_SHARE * min(1.0, share) * free


def peak_bytes(device: torch.device) -> float:
    """The most memory that this process took so far: of its GPU, or of the main memory."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_reserved(device))
    if _STATUS.is_file():
        # not getrusage, which counts what the process was before, a copy of the one it came from
        told = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
        if told:
            return float(told[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


@contextmanager
def _own_channel() -> Iterator[TextIO]:
    """Standard output for answers alone: what networks print goes where errors go."""
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        yield channel


def answer(probe: Probe, command: str, arguments: Mapping[str, Any]) -> Reply:
    """What a command gives; ``full`` where the memory does not hold it, and `Probe.shortage`."""
    try:
        reply: Reply = getattr(probe, command)(**arguments)
    except (MemoryError, RuntimeError) as error:
        found = recognized(error)
        if found is None or found.args[0] is not Kind.MEMORY:
            raise
        return {"full": 1.0, **probe.shortage(error)}
    return reply


def main() -> None:
    """Answers until its input ends."""
    with _own_channel() as channel:
        probe = Probe(*map(float, sys.argv[1:]))
        if not torch.cuda.is_available():
            memory.stay_within(probe.free)

        def tell(reply: Reply) -> None:
            channel.write(json.dumps(reply) + "\n")
            channel.flush()

        tell({})  # ready
        for line in sys.stdin:
            command, arguments = json.loads(line)
            tell(answer(probe, command, arguments))


if __name__ == "__main__":
    main()
