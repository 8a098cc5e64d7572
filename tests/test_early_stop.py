"""Early stopping: what the scheduler asks and answers, and one real study."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler
from tiny_study import PLANE, assignment, document, unit

from ebm_core.document import dump_yaml
from study.assignment import Unit
from study.scheduler import PruningScheduler

REPOSITORY = Path(__file__).parents[1]
STOP = {"pruner": "successive_halving", "grace": 120, "reduction": 2}


class FakeLedger:
    """Stops what is worse than a half."""

    def __init__(self) -> None:
        self.looks: list[tuple[int, int, float]] = []

    def look(self, unit: Unit, update: int, value: float) -> bool:
        self.looks.append((unit.trial, update, value))
        return value < 0.5


@pytest.mark.parametrize(
    ("value", "decision"),
    [(None, TrialScheduler.CONTINUE), (0.9, TrialScheduler.CONTINUE), (0.1, TrialScheduler.STOP)],
)
def test_the_pruner_is_asked_where_the_metric_is_told(
    tmp_path: Path, value: float | None, decision: str
) -> None:
    ledger: Any = FakeLedger()
    scheduler = PruningScheduler(ledger)
    trial = SimpleNamespace(config={"assignment": assignment(tmp_path, unit(7)).plain()})
    result = {"update": 40, "curves": [], "look": value}
    assert scheduler.on_trial_result(None, trial, result) == decision
    assert ledger.looks == ([] if value is None else [(7, 40, value)])
    assert vars(pickle.loads(pickle.dumps(scheduler))) == {}


def test_a_study_gives_up_what_its_pruner_would(tmp_path: Path) -> None:
    base = {**PLANE, "updates": 300, "window": 100, "anneal_updates": 20}
    (tmp_path / "s.yaml").write_text(
        dump_yaml(document(base=base, trials=6, early_stop=STOP, long_run={"steps": 20}))
    )
    done = subprocess.run(
        [sys.executable, "-m", "study.run", "s.yaml", "--workers", "1", "--no-progress"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "studies" / "tiny"
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{folder / 'optuna.db'}")
    states = [trial.state for trial in study.trials]
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    table = pd.read_csv(folder / "results.csv")
    assert len(table) == 6
    for trial, (_, row) in zip(study.trials, table.iterrows(), strict=True):
        stopped = trial.state == TrialState.PRUNED
        looks = sorted(trial.intermediate_values)
        # halvings fall due at 120 and 240 updates
        assert looks[-1] == row["updates"] if stopped else looks[-1] < row["updates"] == 300
        assert row["status"] == ("stopped_early" if stopped else "finished")
        assert row["long_run"] == ("not_run" if stopped else row["long_run"])
        assert not stopped or looks[-1] in (120, 240)
        files = folder / "trials" / f"{trial.number:04d}" / "seed-0"
        assert {"traces.npz", "diagnostics.png"} <= {path.name for path in files.iterdir()}
        # judged as far as it came, by the value that its pruner saw
        assert not stopped or trial.value == pytest.approx(row["convergence_score"])
    assert not list(folder.glob("trials/*/pack-*"))
