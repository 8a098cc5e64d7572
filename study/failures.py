"""What goes wrong with the attempts at a pack, and what follows from it.

A worker tells what went wrong in words that begin with the kind in brackets: in the error that it
raises, or as the last line of its log where it can no longer raise one.
"""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """Of what went wrong."""

    # the process or its machine is gone
    LOST = "lost"
    # of the host or of the GPU
    MEMORY = "memory"
    TIMEOUT = "timeout"
    # the disk is full or may not be written: no fault of the training
    STORAGE = "storage"
    ERROR = "error"


class Next(Enum):
    """What becomes of the pack."""

    RETRY = "retry"
    # in halves, so that what fails alone fails alone, and what was too large fits
    SPLIT = "split"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class Failure:
    """An attempt that ended in a failure.

    Attributes:
        kind: Of failure.
        cause: In words; its last line says it shortest.
    """

    kind: Kind
    cause: str

    @property
    def headline(self) -> str:
        """The cause in one line."""
        return self.cause.strip().splitlines()[-1]


class AttemptError(RuntimeError):
    """Raised by a worker about something that it recognized; the kind comes first."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(kind, message)  # what it is copied from, as Tune does

    def __str__(self) -> str:
        return marked(*self.args)


class RayError(RuntimeError):
    """Ray could not be started."""


class StorageError(RuntimeError):
    """The disk of a study is full or cannot be written."""


_MARKED = re.compile(r"^\[(memory|timeout|storage)\] (.*)", re.MULTILINE)
_RAISED = re.compile(r"AttemptError: \[(memory|timeout|storage)\] (.*)")
# What Ray says of workers that it, or the kernel, has killed for their memory.
_RAY_MEMORY = ("low on memory", "OutOfMemoryError")
_RAY_LOST = (
    "ActorDiedError",
    "RayActorError",
    "ActorUnavailableError",
    "WorkerCrashedError",
    "NodeDiedError",
    "actor died",
    "actor is dead",
    "actor is temporarily unavailable",
)
_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# In the command these are of the study's folder; in a worker they may be of a user's own files.
_FORBIDDEN = (errno.EACCES, errno.EPERM)
# A disk I/O error is what SQLite says of a journal that it may no longer remove.
_STORAGE_WORDS = (
    "disk is full",
    "readonly database",
    "unable to open database",
    "disk I/O error",
)
# The end of what a worker said.
_TAIL_LINES = 15


def marked(kind: Kind, message: str) -> str:
    """What `told` recognizes."""
    return f"[{kind.value}] {' '.join(message.split())}"


def recognized(error: BaseException) -> AttemptError | None:
    """What a worker is to raise in place of an error; None if the error itself says it best."""
    import torch

    full = storage_trouble(error)
    if full:
        return AttemptError(Kind.STORAGE, full)
    allocation = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or allocation:
        said = str(error).strip().splitlines() or [type(error).__name__]
        return AttemptError(Kind.MEMORY, f"out of memory: {said[0]}")
    return None


def storage_trouble(error: BaseException, forbidden: bool = False) -> str:
    """What is wrong with the disk, if that is what is behind an error; else empty.

    Args:
        error: That was raised.
        forbidden: Whether what may not be written counts, too.
    """
    numbers = (*_STORAGE, *_FORBIDDEN) if forbidden else _STORAGE
    for each in behind(error):
        if isinstance(each, StorageError):
            return str(each)
        if isinstance(each, OSError) and each.errno in numbers:
            where = f": {each.filename}" if each.filename else ""
            return f"{each.strerror or 'cannot be written'}{where}"
        if isinstance(each, sqlite3.Error) and any(word in str(each) for word in _STORAGE_WORDS):
            return str(each)
    return ""


def behind(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def told(text: str, log: str) -> Failure:
    """The failure that an error and a log tell of.

    Args:
        text: What Ray says of the error; empty if it says nothing.
        log: What the worker has written, its end at least.
    """
    lost = not text or any(word in text for word in _RAY_LOST)
    # what a worker said of itself counts only if it did not live to raise it
    found = _MARKED.findall(log) if lost else _RAISED.findall(text)
    if found:
        kind, message = found[-1]
        return Failure(Kind(kind), f"{_tail(log)}\n{message}".strip() if lost else message)
    if any(word in text for word in _RAY_MEMORY):
        return Failure(Kind.MEMORY, f"{_tail(log)}\nout of memory: the machine ran low".strip())
    if lost:
        return Failure(Kind.LOST, f"{_tail(log)}\nthe worker was lost".strip())
    return Failure(Kind.ERROR, _tail(text))


def _tail(text: str) -> str:
    """The end of what was said, without what is told in other words."""
    lines = _MARKED.sub("", text).strip().splitlines()
    return "\n".join(lines[-_TAIL_LINES:])


def decide(kind: Kind, members: int, failures: int, retries: int) -> Next:
    """What to do with a pack that failed.

    Args:
        kind: Of this failure.
        members: Of the pack.
        failures: How often in a row it failed, this time included.
        retries: How often a failure is made good.
    """
    if kind is Kind.LOST and failures <= retries:
        return Next.RETRY  # whatever it was, it may not have been the pack
    if members > 1:
        return Next.SPLIT
    return Next.RETRY if failures <= retries else Next.GIVE_UP
