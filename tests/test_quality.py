"""The checks that a change must pass besides its tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
# Modules whose distribution has another name
DISTRIBUTIONS = {"yaml": "pyyaml", "sklearn": "scikit-learn", "PIL": "pillow"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "mypy"],
        ["-c", "from importlinter.cli import lint_imports_command as run; run()"],
    ],
    ids=["lint", "format", "types", "layers"],
)
def test_check(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def declared_packages() -> set[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [project["dependencies"], *project["optional-dependencies"].values()]
    return {re.split(r"[\[<>=!~ ]", name)[0].lower() for names in wanted for name in names}


def test_every_imported_package_is_declared() -> None:
    imported = {
        name
        for folder in ("ebm_core", "study", "tests")
        for path in (REPOSITORY / folder).rglob("*.py")
        for name in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
    }
    own = {path.stem for path in (REPOSITORY / "tests").rglob("*.py")} | {"ebm_core", "study"}
    foreign = imported - own - set(sys.stdlib_module_names)
    assert {"torch", "optuna"} <= foreign
    missing = {DISTRIBUTIONS.get(name, name).lower() for name in foreign} - declared_packages()
    assert not missing


def test_every_declared_package_is_pinned() -> None:
    pins = (REPOSITORY / "constraints.txt").read_text().lower()
    assert not {name for name in declared_packages() if f"\n{name}==" not in pins}
