"""Where MLflow keeps a study, and how that is opened: with `tracking`, all that touches MLflow.

Reading addresses imports no MLflow, which takes seconds; connecting does.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
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

from ebm_core.files import replacing

# A database in the making, named after the machine and the process that makes it.
_DRAFT = f".mlflow-{socket.gethostname()}-"
RECORD = "mlflow.json"
VIEW = "study"

_REASON = 200
# What says in a few words why a store cannot be used, below layers that say it in many
_PLAIN = (ConnectionError, TimeoutError, socket.gaierror, sqlite3.OperationalError)
_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]+)(.*)")
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow would ask a dead server for four minutes, and take a silent one's part for sixteen
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
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
        with replacing(folder / RECORD) as draft:
            draft.write_text(json.dumps(record, indent=2) + "\n")
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
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if uri.startswith("file:"):
        # MLflow 3.17 writes into folders only when told so
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    level = os.environ.get("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("mlflow").setLevel(level.upper())
    # it prints a page for each request that finds a database locked, and raises the same
    logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)
    with naming(uri):
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


def load(uri: str) -> None:
    """Imports what `connect` needs.

    Before threads are started: two that import the same at once may meet halfway.
    """
    with _known_warnings():
        import mlflow  # noqa: F401

        if not uri.startswith("http"):
            from mlflow.store.tracking import sqlalchemy_store  # noqa: F401


@contextmanager
def naming(uri: str) -> Iterator[None]:
    """Whatever MLflow or a database driver raises, the user needs to know which address it was.

    Raises:
        TrackingError: In place of any error.
    """
    try:
        yield
    except Exception as error:
        raise TrackingError(f"tracking.uri: {uri} cannot be used ({reason(error)})") from error


def reason(error: Exception) -> str:
    """What is wrong, in one line of bearable length."""
    plain = [each for each in _chain(error) if isinstance(each, _PLAIN)]
    found = plain[-1] if plain else error
    first = str(found).strip().partition("\n")[0] or type(found).__name__
    return first if len(first) <= _REASON else f"{first[:_REASON]} …"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came of."""
    while error is not None:
        yield error
        # urllib3 hands on some errors as mere arguments
        inner = [each for each in error.args if isinstance(each, BaseException)]
        error = error.__cause__ or error.__context__ or (inner[0] if inner else None)


def open_experiment(client: Any, name: str, artifacts: Path | None, shown: Any) -> str:
    """Finds, restores or creates an experiment; two may do so at once.

    Args:
        client: As made by `connect`.
        name: Of the experiment.
        artifacts: The artifact root.
        shown: What the UI shows of it first, the state of a shared view.

    Returns:
        Its id.
    """
    from mlflow.exceptions import MlflowException

    tags = {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW}": json.dumps(shown),
    }
    found = client.get_experiment_by_name(name)
    if found is None:
        place = artifacts.as_uri() if artifacts else None
        try:
            # with its tags: two that set one on a database at once would clash
            client.create_experiment(name, artifact_location=place, tags=tags)
        except MlflowException as error:
            # Another study may have been faster
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    for key in tags.keys() - found.tags.keys():
        client.set_experiment_tag(found.experiment_id, key, tags[key])
    return str(found.experiment_id)


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

    _remove_abandoned(path.parent)
    with tempfile.TemporaryDirectory(prefix=f"{_DRAFT}{os.getpid()}-", dir=path.parent) as folder:
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


def _remove_abandoned(folder: Path) -> None:
    """Removes drafts whose makers were killed on this machine."""
    for draft in folder.glob(f"{_DRAFT}*"):
        maker = draft.name.removeprefix(_DRAFT).partition("-")[0]
        if maker.isdecimal() and not _lives(int(maker)):
            shutil.rmtree(draft, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True


def _knock(uri: str) -> None:
    """One request to a server, which says more plainly than MLflow why there is no answer."""
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
