"""Whether memory holds a study, in numbers, before it starts: of the machine, or of a GPU."""

from __future__ import annotations

import math
import os
import re
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

from ebm_core.config import TrainConfig
from ebm_core.errors import ConfigError, Problem

# What the system and its control groups tell.
_SYSTEM = Path("/proc/meminfo")
_GROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)
_UNITS = {"bytes": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_ADVICE = "ask for less with base.batch_size, base.bank_size"


def free_bytes() -> float:
    """Main memory that new processes can have; infinite where the system does not tell."""
    return min(_told(), default=math.inf)


def _told() -> Iterator[float]:
    if _SYSTEM.is_file():
        found = re.search(r"^MemAvailable:\s+(\d+) kB", _SYSTEM.read_text(), re.MULTILINE)
        if found:
            yield float(found[1]) * 1024
    for limit, usage in _GROUPS:
        if limit.is_file() and usage.is_file() and (most := limit.read_text().strip()).isdecimal():
            yield max(0.0, float(most) - float(usage.read_text()))


def stay_within(room: float) -> None:
    """Has this process run out of memory once it takes so much more, in bytes.

    The system would hand out more than there is, and then kill some process without a word.
    """
    pages = Path("/proc/self/statm")
    if math.isfinite(room) and pages.is_file():
        used = int(pages.read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (int(used + room), most))


def requested_bytes(error: BaseException) -> float:
    """What torch or numpy was to allocate when memory ran out; 0 where it does not say."""
    found = re.search(r"(?:tried|unable) to allocate ([\d.]+) (\w+)", str(error), re.IGNORECASE)
    return float(found[1]) * _UNITS.get(found[2], 0) if found else 0.0


def states_bytes(config: TrainConfig, dimensions: int) -> float:
    """The bank of one member, or its batch of chains without one."""
    persistent = config.chain_start == "persistent"
    n = config.bank_size if persistent else config.batch_size
    return float(n * dimensions * (8 if config.precision == "float64" else 4))


def check_states(config: TrainConfig, dimensions: int) -> None:
    """Refuses chains that the main memory does not hold, before they are made.

    Raises:
        ConfigError: With what they take and what is free, for the field that says how many.
    """
    needed, free = states_bytes(config, dimensions), free_bytes()
    if needed > free:
        key = "bank_size" if config.chain_start == "persistent" else "batch_size"
        rule = f"must fit into memory: {_gb(needed)} of states, and {_gb(free)} are free"
        raise ConfigError([Problem(key, rule, getattr(config, key))])


def check_workers(workers: int, members: float, growth: float) -> None:
    """Refuses workers that the main memory does not hold side by side.

    Args:
        workers: How many.
        members: Of the pack of each.
        growth: What each takes with its pack beyond what it takes without one, which workers
            share in part.

    Raises:
        ConfigError: With what they take and what is free.
    """
    free = free_bytes()
    if workers * growth <= free:
        return
    if workers == 1:
        need = f"1 worker with {trainings(members)} needs {_gb(growth)}"
    else:
        need = (
            f"{workers} workers with {trainings(members)} each need {_gb(growth)} a worker, "
            f"{_gb(workers * growth)} together"
        )
    rule = f"must fit into memory: {need}, and {_gb(free)} of main memory are free"
    raise ConfigError([Problem("resources", f"{rule}; {_ADVICE} or --workers")])


def check_gpu(members: float, size: float, share: float) -> None:
    """Refuses a pack that a worker's share of a GPU does not hold.

    Args:
        members: Of the pack.
        size: What it takes there, bytes.
        share: Of the GPU's free memory, that the worker has, bytes.

    Raises:
        ConfigError: With both.
    """
    if size > share:
        rule = (
            f"must fit into memory: a worker with {trainings(members)} needs {_gb(size)} of a "
            f"GPU, and its share of what is free there is {_gb(share)}"
        )
        raise ConfigError([Problem("resources", f"{rule}; {_ADVICE} or members_per_trial")])


def ran_out(what: str, shortage: Mapping[str, float]) -> ConfigError:
    """That something could not even be tried out.

    Args:
        what: Was to be tried out.
        shortage: What a probe told: bytes that it ``needed`` at least, and ``free`` ones.
    """
    needed, free = _gb(shortage["needed"]), _gb(shortage["free"])
    rule = f"must fit into memory: {what} needs over {needed}, and {free} are free for it"
    return ConfigError([Problem("resources", f"{rule}; {_ADVICE} or members_per_trial")])


def trainings(members: float) -> str:
    """So many, in words."""
    return "1 training" if members == 1 else f"{members:g} trainings"


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
