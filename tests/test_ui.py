"""The command that serves MLflow's UI, as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from study import mlflow_store, ui
from study.tracking import Tracker

ROOT = Path(ui.__file__).parents[1]


def processes_of(session: int) -> list[str]:
    """Command lines of the processes in one session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_ui_serves_a_study_on_loopback_and_leaves_no_process(tmp_path):
    tracker = Tracker("sqlite:///" + str(tmp_path / "m.db"), "e", "one", tmp_path / "studies/one")
    tracker.open({})
    with subprocess.Popen(
        [sys.executable, "-m", "study.ui", "one"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as command:
        try:
            assert command.stdout is not None
            lines = [command.stdout.readline() for _ in range(2)]
            pattern = r"MLflow UI: (http://127\.0\.0\.1:\d+)(\S+) \(Ctrl-C ends it\)\n"
            said = re.fullmatch(pattern, lines[1])
            assert said, lines
            assert said[2].startswith("/#/experiments/1/runs?")
            (server,) = children_of(command.pid)
            assert len(processes_of(server)) >= 2
            with urlopen(said[1], timeout=20) as page:
                assert b"MLflow" in page.read()
            query = f"{said[1]}/api/2.0/mlflow/runs/get?run_id={tracker.run_id}"
            with urlopen(query, timeout=20) as answer:
                assert json.load(answer)["run"]["info"]["run_name"] == "one"
        finally:
            command.send_signal(signal.SIGINT)
            _, errors = command.communicate(timeout=20)
    assert (command.returncode, errors) == (0, "")
    deadline = time.monotonic() + 5
    while processes_of(server) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(server) == []
    # Nothing was left where the command was run
    assert {path.name for path in tmp_path.iterdir()} == {"m.db", "studies"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"--uri: must be the address of a database that exists.*mlflow\.db"),
        (["--uri", "sqlite:///no.db"], r"--uri: must be .* got 'sqlite:////.*/no\.db'"),
        (["nobody"], r"NAME: must be a study .* no studies/nobody/mlflow\.json, got 'nobody'"),
    ],
)
def test_what_is_not_there_is_named(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert ui.main(arguments) == 2
    assert re.fullmatch(message + r".*\n", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_a_study_is_found_by_name_and_by_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.db").touch()
    uri = f"sqlite:///{tmp_path}/m.db"
    mlflow_store.identity(tmp_path / "studies/one", uri, "7")
    assert ui.address("one", None) == (uri, mlflow_store.page("7"))
    assert ui.address(str(tmp_path / "studies/one"), None) == (uri, mlflow_store.page("7"))
    assert ui.address("one", "http://host:5000") == ("http://host:5000", "")


def test_a_server_has_a_page_of_its_own(capsys):
    assert ui.main(["--uri", "http://host:5000"]) == 0
    assert "http://host:5000" in capsys.readouterr().out


def test_a_port_that_is_taken_is_refused_only_if_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind((ui.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(ui, "PORT", port)
        assert ui.free_port(None) != port
        assert ui.main(["--port", str(port)]) == 2
    assert "--port: must be a free port" in capsys.readouterr().err
    assert ui.free_port(None) == port
