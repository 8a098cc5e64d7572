"""Where MLflow keeps a study, and how that is opened: with `tracking`, all that touches MLflow.

Reading addresses imports no MLflow, which takes seconds; connecting does.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote
from urllib.request import urlopen

RECORD = "mlflow.json"
VIEW = "study"

_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]+)(.*)")
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class TrackingError(RuntimeError):
    """The store cannot be used; the message names it and says why."""


def absolute_uri(uri: str) -> str:
    """The same address from any working directory; a plain path is a folder's."""
    if match := _SQLITE.fullmatch(uri):
        prefix, path, options = match.groups()
        return f"{prefix}{_quoted(os.path.abspath(unquote(path)))}{options}"
    return uri if re.match(r"\w[\w+]*:", uri) else Path(uri).absolute().as_uri()


def database_path(uri: str) -> Path | None:
    """The file of a SQLite address, None for any other."""
    match = _SQLITE.fullmatch(uri)
    return Path(unquote(match[2])) if match else None


def artifact_root(uri: str, folder: Path) -> Path | None:
    """Where the files of runs are kept: beside a SQLite file, in `folder` for other databases.

    None where servers and folders decide for themselves. Databases would take a place below the
    working directory of whoever asks.
    """
    if re.match(r"https?:|file:", uri):
        return None
    database = database_path(uri)
    return (database.parent if database else folder) / "mlartifacts"


def identity(folder: Path, uri: str, experiment_id: str) -> str:
    """What tells this study from another of the same name, kept in its folder with the address.

    A study begun anew in a new folder is another study, and must not write into the old one's
    runs.
    """
    known = recorded(folder) or {"study_id": uuid.uuid4().hex}
    record = {**known, "uri": uri, "experiment_id": experiment_id}
    if record != known:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{RECORD}.{os.getpid()}"
        draft.write_text(json.dumps(record, indent=2) + "\n")
        draft.replace(folder / RECORD)
    return record["study_id"]


def recorded(folder: Path) -> dict[str, str] | None:
    """`study_id`, `uri` and `experiment_id` of the study in a folder, None if it has none."""
    path = folder / RECORD
    return json.loads(path.read_text()) if path.exists() else None


def page(experiment_id: str) -> str:
    """Where in the UI an experiment is shown, as a view of trainings that is stored with it."""
    query = f"workflowType=machine_learning&viewStateShareKey={VIEW}"
    return f"/#/experiments/{experiment_id}/runs?{query}"


def connect(uri: str, artifacts: Path | None) -> Any:
    """A client of the store, whose database is created if it is not there.

    Args:
        uri: An absolute address.
        artifacts: The artifact root.

    Returns:
        An `MlflowClient`, which prints and reports nothing of its own accord.

    Raises:
        TrackingError: If the store cannot be reached, read or written.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if uri.startswith("file:"):
        # MLflow 3.17 writes into folders only when told so
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    level = os.environ.get("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("mlflow").setLevel(level.upper())
    try:
        if database := database_path(uri):
            _prepare(database, artifacts)
        elif uri.startswith("http"):
            _knock(uri)
        with _known_warnings():
            client = MlflowClient(tracking_uri=uri)
            if uri.startswith("http"):
                # whatever answers there may be no MLflow
                client.search_experiments(max_results=1)
            return client
    # Whatever a database driver raises, the user needs to know which address it was
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrackingError(f"tracking.uri: {uri} cannot be used ({reason})") from error


def _prepare(path: Path, artifacts: Path | None) -> None:
    """See that a SQLite file is there and can be written, before MLflow tries for minutes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _create(path, artifacts)
    with closing(sqlite3.connect(path, timeout=30)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.rollback()


def _create(path: Path, artifacts: Path | None) -> None:
    """Create MLflow's database whole or not at all.

    Two creations at once would meet halfway through the same migrations. So each makes its own,
    and the first one in place serves both.
    """
    with _known_warnings():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=path.parent) as folder:
        draft = Path(folder) / "draft.db"
        store = SqlAlchemyStore(f"sqlite:///{_quoted(str(draft))}", str(artifacts))
        store.engine.dispose()
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        except OSError:
            # A file system without hard links
            if not path.exists():
                draft.replace(path)


def _knock(uri: str) -> None:
    """One request to a server; MLflow itself asks a dead one for four minutes."""
    # An error page is an answer too
    with suppress(HTTPError):
        urlopen(f"{uri.rstrip('/')}/health", timeout=20).close()  # noqa: S310


@contextmanager
def _known_warnings() -> Iterator[None]:
    """MLflow 3.17 maps its tables with an option that SQLAlchemy 2.1 calls deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The ``noload`` loader", DeprecationWarning)
        yield


def _quoted(path: str) -> str:
    """A path inside an address; only what would be misread is escaped."""
    return path.replace("%", "%25").replace("?", "%3F")
