"""Permits: what lets an attempt at a pack go on, and whoever handed it out stop it.

A permit is a small file beside the checkpoint of a pack that holds the token of its newest
attempt. Taking it away asks the worker to save and stop: to remove a file works on a full disk
too. Writing another supersedes the attempt before it, which may still run on a machine that is
out of reach, or belong to a command that was killed a moment ago: two attempts at once would write
each other's files.
"""

from __future__ import annotations

import uuid
from enum import Enum
from pathlib import Path

from ebm_core.files import replacing


class Standing(Enum):
    """What has become of the permit of an attempt."""

    VALID = "valid"
    # save, and stop
    WITHDRAWN = "withdrawn"
    # stop, and touch nothing: another attempt is under way
    SUPERSEDED = "superseded"


def issue(path: Path) -> str:
    """Permits a new attempt, and no other; returns its token."""
    token = uuid.uuid4().hex
    with replacing(path) as temporary:
        temporary.write_text(token)
    return token


def withdraw(path: Path) -> None:
    """Asks the attempt to stop."""
    path.unlink(missing_ok=True)


def standing(path: Path, token: str) -> Standing:
    """Whether the attempt with this token may go on."""
    try:
        found = path.read_text()
    except FileNotFoundError:
        return Standing.WITHDRAWN
    return Standing.VALID if found == token else Standing.SUPERSEDED
