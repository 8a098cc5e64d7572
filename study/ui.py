"""The MLflow UI on a study's database, on loopback.

    python -m study.ui [NAME|FOLDER] [--port P] [--uri URI]

Without a name or an address this is ``mlflow.db`` in the working directory.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.request import urlopen

from ebm_core.entry import run_command
from ebm_core.errors import ConfigError, Problem
from study.mlflow_store import (
    RECORD,
    absolute_uri,
    artifact_root,
    database_path,
    page,
    recorded,
)

HOST = "127.0.0.1"
PORT = 5000
START_SECONDS = 120

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Job execution would start four more processes, which serve language models only
_LEAN = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def address(study: str | None, uri: str | None) -> tuple[str, str]:
    """The absolute address of the store to look at, and the page of the study ("" if unknown).

    Raises:
        ConfigError: If the study has none, or its database is not there.
    """
    key, where = "--uri", ""
    if uri is None and study is not None:
        folder = Path(study) if Path(study).is_dir() else Path("studies") / study
        record = recorded(folder)
        if record is None:
            rule = f"must be a study that has been tracked, but there is no {folder / RECORD}"
            raise ConfigError([Problem("NAME", rule, study)])
        key, uri, where = "NAME", record["uri"], page(record["experiment_id"])
    uri = absolute_uri(uri or "sqlite:///mlflow.db")
    database = database_path(uri)
    if database is not None and not database.is_file():
        rule = "must be the address of a database that exists; run a study, or name one"
        raise ConfigError([Problem(key, rule, uri)])
    return uri, where


def free_port(wanted: int | None) -> int:
    """The wanted port, or the usual one if it is free, or any.

    Raises:
        ConfigError: If the wanted one is taken.
    """
    for port in (wanted,) if wanted is not None else (PORT, 0):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                reason = error.strerror
                continue
            return int(probe.getsockname()[1])
    raise ConfigError([Problem("--port", f"must be a free port ({reason})", wanted)])


def serve(uri: str, port: int, where: str = "") -> int:
    """Serve until interrupted; returns the exit code. No process is left behind."""
    url = f"http://{HOST}:{port}"
    # What the server says is of interest only if it fails
    with tempfile.TemporaryFile() as log, _server(uri, port, log) as server:
        try:
            print(f"Starting the MLflow UI on {uri} ...", flush=True)
            if _answers(server, url):
                print(f"MLflow UI: {url}{where} (Ctrl-C ends it)", flush=True)
                server.wait()
        except KeyboardInterrupt:
            return 0
        log.seek(0)
        print(log.read().decode(errors="replace"), file=sys.stderr)
        print(f"{uri}: the MLflow UI on {url} did not start, or broke off", file=sys.stderr)
        return 1


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 2 where there is nothing to look at."""
    parser = argparse.ArgumentParser(
        prog="python -m study.ui", description="Serves the MLflow UI of a study on loopback."
    )
    parser.add_argument(
        "study", nargs="?", metavar="NAME|FOLDER", help="a name under studies/, or a folder"
    )
    parser.add_argument("--port", type=int, help=f"instead of {PORT}, or of any that is free")
    parser.add_argument("--uri", help="address of the database, instead of the study's own")
    given = parser.parse_args(argv)
    try:
        uri, where = address(given.study, given.uri)
        if uri.startswith("http"):
            print(f"MLflow UI: {uri}{where} (a server, which has its own)")
            return 0
        port = free_port(given.port)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    for name in _ENDING:
        signal.signal(name, signal.default_int_handler)
    return serve(uri, port, where)


@contextmanager
def _server(uri: str, port: int, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server in a process group of its own, which is ended with the context."""
    root = artifact_root(uri, Path.cwd())
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--uvicorn-opts", "--log-level=warning", "--no-serve-artifacts"]
    command += ["--default-artifact-root", str(root)] if root else []
    # No shell reads this
    server = subprocess.Popen(  # noqa: S603
        command,
        env={**os.environ, **_LEAN},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        yield server
    finally:
        # A second Ctrl-C must not cut this short
        for name in _ENDING:
            signal.signal(name, signal.SIG_IGN)
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def _answers(server: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the server answers; False if it ended or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"{url}/health", timeout=5):  # noqa: S310
                return True
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    return False


if __name__ == "__main__":
    run_command(main)
