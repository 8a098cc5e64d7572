"""Studies of convergence: a YAML file in, real trainings, a map of the convergent region out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from study.finished import FinishedStudy

__all__ = ["load_study"]


def load_study(study: str | Path) -> FinishedStudy:
    """A study that was run, for a notebook: table, traces, checkpoints and the fitted map.

        found = load_study("eps_sweep")
        found.table                       # pandas, one row a training
        found.traces(trial=3)["r"]        # numpy, one value an update
        found.map.crossing("epsilon")     # where learning begins to converge

    Args:
        study: Its folder, or its name under ``studies``.

    Raises:
        ConfigError: If there is no such study, or its files are not what a study leaves.
    """
    # a study is validated without pandas, which this needs
    from study.finished import load

    return load(study)
