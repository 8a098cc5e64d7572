"""The whole way, for real: a study file, Ray, Optuna and MLflow, in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pandas as pd
import pytest

from ebm_core.document import dump_yaml
from study.job import CURVE_POINTS
from study.mlflow_store import absolute_uri, artifact_root, connect
from study.table import COLUMNS

REPOSITORY = Path(__file__).parents[1]
STUDY = {
    "name": "small",
    "base": {
        "preset": "digits",
        "network": {"name": "mlp", "widths": [16]},
        "langevin_steps": 5,
        "bank_size": 100,
        "updates": 300,
        "anneal_updates": 50,
        "window": 150,
        "report_interval": 50,
        "checkpoint_interval": 50,
    },
    "parameters": {"epsilon": {"distribution": "loguniform", "min": 0.02, "max": 0.4}},
    "method": "tpe",
    "metric": {"name": "convergence_score", "goal": "maximize"},
    "constraints": ["diverged == 0"],
    "trials": 3,
    "seeds": 2,
    "first_points": [{"epsilon": 0.2}],
    "resources": {"members_per_trial": 2},
    "long_run": {"steps": 20, "chains": 32},
}


def write_study(folder: Path, **changes: object) -> None:
    (folder / "small.yaml").write_text(dump_yaml({**STUDY, **changes}))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "study.run", "small.yaml", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def run_study(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("finished")
    write_study(folder)
    return folder, run_study(folder)


def test_a_study_ends_with_an_answer(finished) -> None:
    folder, done = finished
    assert done.returncode == 0, done.stderr
    assert "Learning converged for" in (folder / "studies/small/report.html").read_text()
    assert "Report  studies/small/report.html" in done.stdout
    assert "MLflow  python -m study.ui small" in done.stdout
    # six trainings are enough for a map, whatever it says
    assert re.search(r"^Learning (converges|is likely to converge) for ", done.stdout, re.M)
    assert "The map rests on " in done.stdout
    assert "[6/6]" in done.stderr
    # nothing of the machinery shows
    for noise in ("Warning", "WARN", "Traceback", "ray::", "alembic", "mlflow.", "Trial "):
        assert noise not in done.stdout + done.stderr


def test_it_leaves_a_table_with_one_row_a_training(finished) -> None:
    folder, _ = finished
    table = pd.read_csv(folder / "studies/small/results.csv")
    assert tuple(table.columns[: len(COLUMNS)]) == COLUMNS
    assert table[["trial", "seed"]].to_numpy().tolist() == [
        [trial, seed] for trial in range(3) for seed in range(2)
    ]
    assert table["epsilon"].nunique() == 3
    assert (table["seconds"] > 0).all()
    assert table["mlflow_run_id"].nunique() == 6
    parquet = pd.read_parquet(folder / "studies/small/results.parquet")
    assert parquet["epsilon"].tolist() == table["epsilon"].tolist()


def test_optuna_holds_every_configuration(finished) -> None:
    folder, _ = finished
    study = optuna.load_study(
        study_name="small", storage=f"sqlite:///{folder / 'studies/small/optuna.db'}"
    )
    table = pd.read_csv(folder / "studies/small/results.csv")
    scores = table.groupby("trial")["convergence_score"].mean()
    assert [trial.value for trial in study.trials] == pytest.approx(scores.tolist())
    assert all(trial.user_attrs["verdict"] for trial in study.trials)


def test_mlflow_holds_one_parent_and_one_child_a_training(finished) -> None:
    folder, _ = finished
    uri = absolute_uri(f"sqlite:///{folder / 'mlflow.db'}")
    client = connect(uri, artifact_root(uri, folder / "studies/small"))
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert len(children) == 6
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    left = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "results.csv", "overview.png"} <= left
    table = pd.read_csv(folder / "studies/small/results.csv").set_index("mlflow_run_id")
    for run in children:
        row = table.loc[run.info.run_id]
        assert run.data.tags["verdict"] == row["verdict"]
        assert run.data.tags["oscillation"] == row["oscillation"]
        assert run.data.tags["long_run"] == row["long_run"]
        assert float(run.data.params["epsilon"]) == row["epsilon"]
        assert run.data.params["network.name"] == "mlp"
        assert run.data.metrics["r_matched"] == pytest.approx(row["r_matched"])
        assert run.data.metrics["d_balance"] == pytest.approx(row["d_balance"])
        left = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert left == {
            "checkpoint",
            "config.yaml",
            "diagnostics.png",
            "long_run.yaml",
            "pack.yaml",
            "preview.png",
            "samples.png",
            "traces.npz",
        }
        for name in ("d", "r", "r_scaled", "r_matched", "r_band_adherence", "gamma"):
            steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
            assert 100 < len(steps) <= CURVE_POINTS
            assert all(isinstance(step, int) for step in steps)
            assert steps == sorted(set(steps))
            assert steps[0] == 1
            assert steps[-1] >= 299


def test_the_same_command_says_that_it_is_finished(finished) -> None:
    folder, _ = finished
    before = (folder / "studies/small/results.csv").read_bytes()
    again = run_study(folder)
    assert again.returncode == 0
    assert "small is finished" in again.stdout
    assert (folder / "studies/small/results.csv").read_bytes() == before


def test_a_pack_repeats_its_traces(finished, tmp_path) -> None:
    import numpy as np

    folder, _ = finished
    source = folder / "studies/small/trials/0001/seed-1"
    options = ["--member", "1", "--out", str(tmp_path / "out"), "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "ebm_core", "train", "--pack", source / "pack.yaml", *options],
        cwd=folder,
        env=environment(),
        check=True,
        capture_output=True,
        timeout=300,
    )
    (path,) = (tmp_path / "out").rglob("traces.npz")
    with np.load(source / "traces.npz") as there, np.load(path) as here:
        assert np.array_equal(there["d"], here["d"])
        assert np.array_equal(there["r"], here["r"])


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(tmp_path) -> None:
    write_study(tmp_path, base={**STUDY["base"], "updates": 1500}, trials=2, seeds=1)  # type: ignore[dict-item]
    with subprocess.Popen(
        command("--workers", "1"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_for(lambda: list(tmp_path.glob("studies/small/trials/*/pack-*.pt")))
        # a terminal tells the whole group
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "the same command continues" in out
    assert "Traceback" not in out + err
    done = run_study(tmp_path, "--no-progress")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "studies/small/results.csv")
    assert table["updates"].tolist() == [1500, 1500]
    stored = json.loads((tmp_path / "studies/small/mlflow.json").read_text())
    client = connect(stored["uri"], artifact_root(stored["uri"], tmp_path / "studies/small"))
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert len(runs) == 3
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in table["mlflow_run_id"]:
        steps = [point.step for point in client.get_metric_history(run, "d")]
        assert steps == sorted(set(steps))
        assert len(steps) > 150


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
