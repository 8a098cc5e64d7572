"""What MLflow is to be told, kept on disk until it was: a file a training, a record a line.

Whoever writes never waits for MLflow, and a process that dies loses nothing: what is in a file is
delivered again from its first record, by `courier`, through `tracking`, which takes it twice.
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebm_core.files import leftovers, replacing
from study.curves import now

if TYPE_CHECKING:
    from study.assignment import Unit

FOLDER = "outbox"
CLOSING = "study.json"
_NAME = re.compile(r"(\d{4,})-(\d+)\.jsonl")

Key = tuple[int, int]
Record = dict[str, Any]


@dataclass
class _File:
    """What is in the file of a training.

    Attributes:
        size: In bytes.
        ready: How many of them may be delivered.
        update: The last that was told.
        time: Of the last record.
        finished: Whether its end was told.
    """

    size: int = 0
    ready: int = 0
    update: int = -1
    time: int = 0
    finished: bool = False

    def note(self, record: Record, size: int) -> None:
        """Notes that a record was added, and the size since."""
        curve = record["kind"] == "curve"
        self.ready = self.size if curve else size
        self.size = size
        self.time = record["time"]
        self.finished = record["kind"] == "finish"
        if curve:
            self.update = int(record["points"][-1]["update"])


class Outbox:
    """Takes what a study has to tell; one process writes, and one thread beside it delivers.

    Every record has the time at which it was taken, in milliseconds since 1970, never earlier
    than that of the record before it. A line that was cut off, as by a power failure, is dropped
    when the outbox is opened.

    Args:
        folder: Of the study.

    Attributes:
        on_append: Called after each record that was taken, with nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.study = folder
        self.folder = folder / FOLDER
        self.on_append: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._files: dict[Key, _File] = {}
        for draft in leftovers(self.folder / CLOSING):
            draft.unlink()
        for path in sorted(self.folder.glob("*.jsonl")):
            if match := _NAME.fullmatch(path.name):
                self._files[int(match[1]), int(match[2])] = _mended(path)

    # -- what the study tells --------------------------------------------------------------------

    def start(self, unit: Unit, name: str) -> None:
        """A training is on a worker; if something is kept of it, that begins with its start.

        Args:
            unit: The training.
            name: Shown in MLflow.
        """
        if not self._file(unit).size:
            self._append(unit, "start", config=dict(unit.config), name=name)

    def curve(self, unit: Unit, points: Sequence[Mapping[str, float]]) -> None:
        """New points of its curves, in order.

        A training that was interrupted tells again what it told before: points that are not later
        than the last are dropped, and so is what comes after its end.
        """
        file = self._file(unit)
        later = [dict(point) for point in points if point["update"] > file.update]
        if later and not file.finished:
            self._append(unit, "curve", points=later)

    def finish(self, unit: Unit, row: Mapping[str, Any]) -> None:
        """Its row of the table, the last that is told of it; kept for good when this returns."""
        if not self._file(unit).finished:
            self._append(unit, "finish", True, row=dict(row), files=str(unit.folder))

    def sync(self, unit: Unit) -> None:
        """Sees that what was told of a training outlasts a power failure."""
        with self._lock:
            self._sync(unit.key)

    def _sync(self, key: Key) -> None:
        for path in (self._path(key), self.folder):
            _sync(path)

    def close(
        self,
        metrics: Mapping[str, Any],
        tags: Mapping[str, Any],
        artifacts: Iterable[Path],
        description: str,
        status: str,
    ) -> None:
        """The outcome of the study, delivered after its trainings; takes the place of another.

        Args:
            metrics: Numbers by name.
            tags: Texts by name.
            artifacts: Files and folders, read when they are delivered.
            description: Markdown.
            status: FINISHED, FAILED or KILLED.
        """
        record = {
            "time": now(),
            "metrics": dict(metrics),
            "tags": dict(tags),
            # a study's folder may be moved before all is delivered
            "artifacts": [os.path.relpath(path, self.study) for path in artifacts],
            "description": description,
            "status": status,
        }
        with self._lock, replacing(self.folder / CLOSING) as draft:
            draft.write_text(json.dumps(record))
        self.on_append()

    def reopen(self) -> None:
        """The study goes on: how it ended the time before is told no more."""
        with self._lock:
            (self.folder / CLOSING).unlink(missing_ok=True)

    # -- what is left to deliver -----------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether there is something that only waits to be delivered."""
        with self._lock:
            finished = any(file.finished for file in self._files.values())
        return finished or self.closing() is not None

    def unfinished(self) -> list[Key]:
        """Trainings that were started, and whose end was not told."""
        with self._lock:
            return [key for key, file in self._files.items() if not file.finished]

    def ready(self) -> dict[Key, int]:
        """Trainings in the order of their start, and up to where each may be delivered.

        Points that were told last wait for what comes behind them: if that is the end of the
        training, some of them are left out.
        """
        with self._lock:
            return {key: file.ready for key, file in self._files.items()}

    def read(self, key: Key, start: int = 0) -> list[tuple[Record, int]]:
        """Records of a training that may be delivered, each with the offset behind it.

        Args:
            key: The training.
            start: Offset of the first; the beginning or one that was given before.
        """
        with self._lock:
            end = self._files[key].ready
        with self._path(key).open("rb") as file:
            file.seek(start)
            lines = file.read(end - start).splitlines(keepends=True)
        return [(record, start + size) for record, size in _complete(lines)]

    def remove(self, key: Key) -> None:
        """Forgets a training: all of it was delivered."""
        with self._lock:
            self._path(key).unlink(missing_ok=True)
            self._files.pop(key, None)

    def closing(self) -> Record | None:
        """The outcome of the study, None if there is none to deliver."""
        try:
            record: Record = json.loads((self.folder / CLOSING).read_text())
        except FileNotFoundError:
            return None
        return record

    def closed(self, record: Record) -> None:
        """Forgets an outcome that was delivered, if no other has taken its place."""
        with self._lock:
            if self.closing() == record:
                (self.folder / CLOSING).unlink()

    def _file(self, unit: Unit) -> _File:
        with self._lock:
            return self._files.get(unit.key, _File())

    def _path(self, key: Key) -> Path:
        trial, seed = key
        return self.folder / f"{trial:04d}-{seed}.jsonl"

    def _append(self, unit: Unit, kind: str, lasting: bool = False, **fields: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            file = self._files.get(unit.key, _File())
            record = {"kind": kind, "time": max(file.time, now()), **fields}
            size = _append(self._path(unit.key), json.dumps(record).encode() + b"\n")
            file.note(record, size)
            self._files[unit.key] = file
            if lasting:
                # before it can be delivered, and the file removed
                self._sync(unit.key)
        self.on_append()


def _append(path: Path, line: bytes) -> int:
    """Appends a line, whole or not at all; returns the size of the file."""
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            file.truncate(size)
            raise
    return size + len(line)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _complete(lines: Iterable[bytes]) -> list[tuple[Record, int]]:
    """Records up to the first line that is not whole, each with the number of bytes so far."""
    records, size = [], 0
    for line in lines:
        try:
            record = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            record = None
        if not isinstance(record, dict):
            break
        size += len(line)
        records.append((record, size))
    return records


def _mended(path: Path) -> _File:
    """What is in a file that an earlier process wrote; what is not whole is cut off."""
    file = _File()
    with path.open("rb") as lines:
        for record, size in _complete(lines):
            file.note(record, size)
    if file.size < path.stat().st_size:
        os.truncate(path, file.size)
    return file
