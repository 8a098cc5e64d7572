"""What becomes of study files that nobody meant: each is a study, or is refused in words."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from nonsense import KINDS

from ebm_core.document import dump_yaml, parse_yaml
from ebm_core.errors import ConfigError
from study.pruners import looks
from study.schema.cautions import warnings
from study.spec import from_resolved, load_study

LONGEST_LINE, MOST_LINES = 2_800, 51
SECONDS = 0.2
_WHOLE = re.compile(r"must be YAML; |must be a mapping of keys to values|must not be larger than")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FORBIDDEN = [
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.truncate",
    "os.chmod",
    "os.utime",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "socket.connect",
    "shutil.rmtree",
    "tempfile.mkstemp",
    "sqlite3.connect",
]


class Watch:
    """What Python's audit hook tells of: files opened for writing, processes and connections."""

    def __init__(self) -> None:
        self.armed, self.seen = False, list[str]()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if writes or event in _FORBIDDEN:
            self.seen.append(f"{event}{arguments}")


WATCH = Watch()


@dataclass(frozen=True)
class Fate:
    """What became of a file.

    Attributes:
        valid: Whether it is a study.
        seconds: Processor time that this took; the lesser of two where the first is over
            `SECONDS`, since a machine that is busy with other things takes more for the same.
        message: What was said against it.
    """

    valid: bool
    seconds: float
    message: str


def campaign(kind: str, files: int, path: Path) -> list[tuple[bytes, Fate]]:
    """Files changed in one way, the same at every call, and what became of each."""
    found = []

    @settings(
        max_examples=files,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(KINDS[kind])
    def each(content: bytes) -> None:
        found.append((content, fate(path, content)))

    each()
    return found


def fate(path: Path, content: bytes) -> Fate:
    """Reads a file as a study, and whatever is done with a study before it starts.

    Raises:
        AssertionError: If a message does not name file, key and rule, is long or cannot be
            printed, or if anything was written or run.
    """
    path.write_bytes(content)
    told, seconds = _timed(path)
    if seconds > SECONDS:
        seconds = min(seconds, _timed(path)[1])
    if told is None:
        return Fate(True, seconds, "")
    _check(told, path)
    return Fate(False, seconds, str(told))


def _timed(path: Path) -> tuple[ConfigError | None, float]:
    WATCH.seen.clear()
    WATCH.armed, began = True, time.process_time()
    try:
        told = _use(path)
    finally:
        seconds, WATCH.armed = time.process_time() - began, False
    assert not WATCH.seen, WATCH.seen
    return told, seconds


def _use(path: Path) -> ConfigError | None:
    try:
        spec = load_study(path)
    except ConfigError as error:
        str(error)
        return error
    resolved = spec.resolved()
    assert from_resolved(json.loads(json.dumps(resolved, allow_nan=False))) == spec
    assert parse_yaml(dump_yaml(resolved)) == resolved
    assert all(text.isprintable() and len(text) < LONGEST_LINE for text in warnings(spec))
    assert len(looks(spec)) <= 1_010
    folder = spec.folder.absolute()
    assert folder.parent == Path(spec.storage).expanduser().absolute()
    return None


def _check(error: ConfigError, path: Path) -> None:
    assert error.problems
    assert all(problem.rule for problem in error.problems)
    assert all(problem.key or _WHOLE.match(problem.rule) for problem in error.problems)
    lines = str(error).split("\n")
    assert len(lines) <= MOST_LINES
    for line in lines:
        assert line.startswith(f"{path}: ")
        assert line.isprintable(), ascii(line)
        assert len(line) <= LONGEST_LINE, len(line)
