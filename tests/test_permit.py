"""Permits: who may go on, who is to stop, and who is not to touch anything."""

from __future__ import annotations

from pathlib import Path

from study.permit import Standing, issue, standing, withdraw


def test_the_newest_attempt_alone_may_go_on(tmp_path: Path) -> None:
    path = tmp_path / "trials" / "pack.permit"
    first = issue(path)
    assert standing(path, first) is Standing.VALID
    second = issue(path)
    assert standing(path, first) is Standing.SUPERSEDED
    assert standing(path, second) is Standing.VALID
    withdraw(path)
    withdraw(path)
    assert standing(path, second) is Standing.WITHDRAWN
    third = issue(path)
    assert standing(path, second) is Standing.SUPERSEDED
    assert standing(path, third) is Standing.VALID
