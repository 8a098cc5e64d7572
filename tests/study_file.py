"""A small study file, and how tests change it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from study.spec import StudySpec, load_study

EPSILON = {"distribution": "loguniform", "min": 0.01, "max": 0.4}
DOCUMENT: dict[str, Any] = {
    "name": "sweep",
    "base": {"preset": "digits"},
    "parameters": {"epsilon": EPSILON},
    "method": "tpe",
    "trials": 4,
}


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory holds ``s.yaml``, and ``file`` where a folder could be."""
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(json.dumps(DOCUMENT))
    Path("file").write_text("")


def load(**changes: str) -> StudySpec:
    """The small study with some keys replaced; two underscores stand for a dot."""
    return load_study("s.yaml", {key.replace("__", "."): text for key, text in changes.items()})
