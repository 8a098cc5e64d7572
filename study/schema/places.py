"""What a study file needs of the disk, and of places that other machines see. Writes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ebm_core.config import file_problems, make_config
from ebm_core.errors import ConfigError, Problem
from study.schema.sections import Resources, Tracking


def cluster_problems(
    base: Mapping[str, Any], resources: Resources, storage: str
) -> Iterator[Problem]:
    """Whether other machines find what they are to read and write."""
    if resources.address == "local":
        return
    data = base.get("data")
    path = data.get("path") if isinstance(data, Mapping) else None
    for key, place in (("base.data.path", path), ("storage", storage)):
        if isinstance(place, str) and not place.startswith(("/", "~")):
            rule = (
                f"must be absolute where resources.address is {resources.address}:"
                " other machines run in folders of their own"
            )
            yield Problem(key, rule, place)


def data_file_problems(base: Mapping[str, Any]) -> list[Problem]:
    """Whether the files of the data are there."""
    try:
        # Nothing but the data of the base, so that its other faults do not hide a missing folder
        config = make_config({"data": base.get("data"), "network": "mlp", "epsilon": 1.0})
    except ConfigError:
        return []  # the data themselves are wrong, which `point_problems` tells
    return [problem.under("base") for problem in file_problems(config)]


def storage_problems(storage: str, name: str) -> Iterator[Problem]:
    """Whether the folder of the study could be made; nothing is."""
    try:
        rule = _unwritable(Path(storage).expanduser() / name)
    except RuntimeError:
        rule = "must lie in a folder; there is no such home"
    if rule:
        yield Problem("storage", rule, storage)


def tracking_problems(tracking: Tracking) -> Iterator[Problem]:
    """Whether a database in a file could be made."""
    scheme, _, path = tracking.uri.partition(":///")
    if scheme != "sqlite":
        return
    if not path or os.path.isdir(path):
        yield Problem("tracking.uri", "must name a file after sqlite:///", tracking.uri)
    elif rule := _unwritable(Path(path).parent) or _unusable(Path(path)):
        yield Problem("tracking.uri", rule, tracking.uri)


def _unwritable(folder: Path) -> str:
    """Why a folder cannot be written to or made; empty if it can."""
    folder = folder.absolute()
    if rule := _unusable(folder):
        return rule
    nearest = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not os.path.isdir(nearest):
        return f"must lie in a folder, but {nearest} is not one"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"must be a folder that can be written to, but {nearest} cannot"
    return ""


def _unusable(path: Path) -> str:
    """Why a path cannot be one here, such as a name that is too long; empty if it can."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return ""  # the usual case, and one that the nearest folder tells more of
    except OSError as error:
        return f"must be a path that can be used ({error.strerror})"
    return ""
