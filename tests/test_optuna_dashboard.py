"""optuna-dashboard reads the ledger of a study."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from fake_study import row, spec_of

from study.ledger import Ledger
from study.ui import free_port

_SECONDS = 60


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Of a study of three trainings, two of them done."""
    found = Ledger(spec_of(name="shown", trials=3), tmp_path)
    for number in range(3):
        (unit,) = found.next_pack(1)
        if number < 2:
            found.record(unit, {**row(unit.trial), "convergence_score": 0.5 + number / 4})
    return found


def asked(server: subprocess.Popen[bytes], url: str) -> Any:
    """The answer of a server that may still be starting."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            with urlopen(url, timeout=20) as answer:
                return json.load(answer)
        except URLError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_the_dashboard_shows_the_trials_of_a_study(ledger: Ledger, tmp_path: Path) -> None:
    port = free_port(None)
    script = Path(sys.executable).with_name("optuna-dashboard")
    command = [str(script), f"sqlite:///{tmp_path / 'optuna.db'}", "--port", str(port)]
    url = f"http://127.0.0.1:{port}/api/studies"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            [summary] = asked(server, url)["study_summaries"]
            assert summary["study_name"] == "shown"
            trials = asked(server, f"{url}/{summary['study_id']}")["trials"]
            assert [each["state"] for each in trials] == ["Complete", "Complete", "Running"]
            assert [each["values"] for each in trials[:2]] == [[0.5], [0.75]]
            assert all("epsilon" in {p["name"] for p in each["params"]} for each in trials)
        finally:
            server.terminate()
