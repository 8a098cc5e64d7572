"""What importing loads: reading a configuration is quick, training knows no study libraries."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import ebm_core

ROOT = Path(__file__).parents[1]
STUDY_LIBRARIES = {"ray", "optuna", "mlflow", "matplotlib", "sklearn"}
# The picture maker and the command line are the two that load matplotlib, the latter when asked
APART = ("ebm_core.plots", "ebm_core.__main__")


def loaded_by(statements: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter holds after some statements."""
    code = f"{statements}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statements",
    [
        "import ebm_core",
        "import ebm_core.config, ebm_core.presets, ebm_core.document, ebm_core.errors",
        "from ebm_core import preset; preset('digits', epsilon=0.1).flat()",
    ],
)
def test_a_configuration_waits_for_no_heavy_library(statements: str) -> None:
    loaded = loaded_by(statements)
    assert not loaded & {"torch", "numpy", "scipy", "pandas", *STUDY_LIBRARIES}
    assert "ebm_core" in loaded


def test_training_loads_no_study_library() -> None:
    names = [
        module.name
        for module in pkgutil.walk_packages(ebm_core.__path__, "ebm_core.")
        if not module.name.startswith(APART)
    ]
    assert "ebm_core.trainer" in names
    loaded = loaded_by(f"import {', '.join(names)}")
    assert "torch" in loaded
    assert not loaded & {*STUDY_LIBRARIES, "study"}


def test_public_names_are_what_they_say() -> None:
    """In a fresh interpreter: a submodule must not take the place of a function of its name."""
    loaded_by(
        "import ebm_core\n"
        "for name in ebm_core.__all__:\n"
        "    assert getattr(getattr(ebm_core, name), '__name__', name) == name, name\n"
        "assert callable(ebm_core.presets)\n"
    )


def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(AttributeError, match="module 'ebm_core' has no attribute 'trian'"):
        ebm_core.trian  # noqa: B018
