"""Failures: what went wrong, by what was raised and said, and what becomes of the pack."""

from __future__ import annotations

import errno
import sqlite3
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from study.failures import (
    AttemptError,
    Kind,
    Next,
    decide,
    marked,
    recognized,
    storage_trouble,
    told,
)

FULL = OSError(errno.ENOSPC, "No space left on device", "/s/pack.pt")


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (FULL, Kind.STORAGE, "No space left on device: /s/pack.pt"),
        (raised(RuntimeError("writing failed"), FULL), Kind.STORAGE, "No space left"),
        (
            OSError(errno.EROFS, "Read-only file system"),
            Kind.STORAGE,
            "Read-only file system",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), Kind.MEMORY, "CUDA out of memory"),
        (MemoryError(), Kind.MEMORY, "out of memory: MemoryError"),
        (
            RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: you tried"),
            Kind.MEMORY,
            "DefaultCPUAllocator",
        ),
    ],
)
def test_what_is_no_fault_of_the_network_is_recognized(
    error: BaseException, kind: Kind, message: str
) -> None:
    found = recognized(error)
    assert isinstance(found, AttemptError)
    assert message in str(found)
    # and told by whoever hears of it
    text = f"Traceback\nstudy.failures.AttemptError: {found}"
    assert told(text, "").kind is kind
    assert message in told(text, "").cause


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape mismatch"),
        FileNotFoundError(errno.ENOENT, "no such file"),
        PermissionError(errno.EACCES, "Permission denied", "weights.pt"),
        sqlite3.OperationalError("no such table: trials"),
        KeyError("memory"),
    ],
)
def test_what_may_be_the_fault_of_the_network_says_it_best_itself(error: Exception) -> None:
    assert recognized(error) is None
    assert storage_trouble(error) == ""


def test_to_the_command_what_may_not_be_written_is_trouble() -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", "studies/s/results.csv")
    assert storage_trouble(denied, forbidden=True) == "Permission denied: studies/s/results.csv"


def test_a_full_database_is_a_full_disk() -> None:
    full = sqlite3.OperationalError("database or disk is full")
    assert storage_trouble(raised(RuntimeError("storage"), full)) == "database or disk is full"
    lost = sqlite3.OperationalError("disk I/O error")
    assert storage_trouble(raised(RuntimeError("storage"), lost)) == "disk I/O error"


def test_errors_that_cause_each_other_end() -> None:
    one, two = RuntimeError("one"), RuntimeError("two")
    one.__cause__, two.__cause__ = two, one
    assert storage_trouble(one) == ""


LEFT = f"tail\n{marked(Kind.MEMORY, 'out of memory: it holds 3 GB')}\n"


@pytest.mark.parametrize(
    ("text", "log", "kind", "cause"),
    [
        ("", "", Kind.LOST, "the worker was lost"),
        ("ActorDiedError: The actor died", LEFT, Kind.MEMORY, "out of memory: it holds 3 GB"),
        (
            "RayActorError: gone",
            f"{marked(Kind.TIMEOUT, 'not done after 5 s')}\n",
            Kind.TIMEOUT,
            "not done after 5 s",
        ),
        # an earlier attempt's last words are not those of an error that was raised
        ("RayTaskError: ValueError: bad", LEFT, Kind.ERROR, "RayTaskError: ValueError: bad"),
        (
            "ActorDiedError: killed due to the node running low on memory",
            "",
            Kind.MEMORY,
            "out of memory: the machine ran low",
        ),
    ],
)
def test_the_kind_is_told_from_error_and_log(text: str, log: str, kind: Kind, cause: str) -> None:
    found = told(text, log)
    assert found.kind is kind
    assert found.headline == cause


def test_a_user_cannot_be_taken_at_a_word_that_was_not_said() -> None:
    """A network that prints what a worker would say, and raises something else."""
    assert told("RayTaskError: ValueError: [storage] mine", "").kind is Kind.ERROR


@given(kind=st.sampled_from(Kind), members=st.integers(1, 64), retries=st.integers(0, 5))
def test_every_pack_comes_to_an_end(kind: Kind, members: int, retries: int) -> None:
    """However it fails, a pack is halved or given up after so many failures in a row."""
    decisions: list[Any] = [decide(kind, members, n, retries) for n in range(1, retries + 2)]
    if members > 1:
        first = retries if kind is Kind.LOST else 0
        assert decisions[: first + 1] == [Next.RETRY] * first + [Next.SPLIT]
    else:
        assert decisions == [Next.RETRY] * retries + [Next.GIVE_UP]
