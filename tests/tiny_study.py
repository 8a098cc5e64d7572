"""Trainings of a second, and studies of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ebm_core.config import make_config
from study.assignment import Assignment, Unit
from study.table import CAUSE, COLUMNS, Row

PLANE: dict[str, Any] = {
    "data": "gmm",
    "network": {"name": "toy", "widths": [8]},
    "epsilon": 0.1,
    "eps_data_ratio": 1.0,
    "gamma_0": 0.02,
    "gamma_start": 0.05,
    "anneal_updates": 20,
    "langevin_steps": 2,
    "batch_size": 12,
    "bank_size": 30,
    "bank_start": "gaussian",
    "updates": 60,
    "window": 20,
    "report_interval": 10,
    "checkpoint_interval": 15,
    "device": "cpu",
}
IMAGES = {**PLANE, "data": "digits", "network": {"name": "mlp", "widths": [8]}}
# A rate at which parameters are lost at once
WILD = {"gamma_0": 1e4, "gamma_start": None, "anneal_updates": 0}


def unit(trial: int = 0, seed: int = 0, base: dict[str, Any] = PLANE, **changes: Any) -> Unit:
    config = make_config({**base, "seed": seed, **changes})
    return Unit(trial, seed, {"epsilon": config.epsilon}, config.model_dump(mode="json"))


def assignment(folder: Path, *units: Unit, long_run_steps: int = 0) -> Assignment:
    return Assignment(units or (unit(),), str(folder), 1, long_run_steps, 16)


def document(**sections: Any) -> dict[str, Any]:
    """A study of the plane."""
    return {
        "name": "tiny",
        "base": PLANE,
        "parameters": {"epsilon": {"distribution": "loguniform", "min": 0.05, "max": 0.3}},
        "method": "sobol",
        "trials": 2,
        "long_run": {"steps": 0},
        **sections,
    }


def outcome(unit: Unit, **fields: Any) -> Row:
    """The row of a training that nobody made: convergent, if not told otherwise."""
    found: Row = {
        **dict.fromkeys((*COLUMNS, CAUSE)),
        "trial": unit.trial,
        "seed": unit.seed,
        "epsilon": unit.config["epsilon"],
        "status": "finished",
        "verdict": "convergent",
        "reasons": "",
        "oscillation": "weak",
        "long_run": "not_run",
        "convergence_score": 0.9,
        "updates": unit.config["updates"],
    }
    return {**found, **fields}
