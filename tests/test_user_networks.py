"""Networks of users that fail while they are trained: each is recorded as what it is, for real.

One study trains them one by one, another in a pack; a failure harms nothing but itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from tiny_study import PLANE, assignment, unit

from ebm_core.document import dump_yaml
from ebm_core.pack import read_pack
from ebm_core.trainer import Trainer
from study.failures import AttemptError
from study.mlflow_store import absolute_uri, artifact_root, connect
from study.spec import from_resolved
from study.trainable import EBMTrainable

TESTS = Path(__file__).parent
BASE = {**PLANE, "langevin_steps": 4, "updates": 140, "window": 110}
ALONE: dict[str, Any] = {
    "name": "alone",
    "base": {**BASE, "checkpoint_interval": 20},
    "parameters": {
        "network": {
            "distribution": "choice",
            "values": [
                f"bad_networks:{name}"
                for name in (
                    *("Good", "Hangs", "Raises", "GivesNan", "GivesOneTooFew", "Constant"),
                    *("Leaks", "Killed", "AlsoGood"),
                )
            ],
        }
    },
    "method": "grid",
    "long_run": {"steps": 0},
    "resources": {
        "retries": 0,
        "seconds_per_trial": 30,
        "gigabytes_per_trial": 1.8,
        "members_per_trial": 1,
        "cpus_per_trial": 1,
    },
}
TOGETHER: dict[str, Any] = {
    **ALONE,
    "name": "together",
    "base": {**BASE, "network": "bad_networks:Crowded", "checkpoint_interval": 2},
    "parameters": {"epsilon": {"distribution": "grid", "values": [0.1]}},
    "seeds": 4,
    "resources": {"retries": 1, "members_per_trial": 4, "cpus_per_trial": 1},
}
# What is said of each that fails to run, in its last line
CAUSES = {
    1: "not done after 30 s",
    2: "ValueError: a layer that is not there",
    4: "EnergyError: GivesOneTooFew gave shape (11,) for 12 samples, not (12,)",
    6: "GB, over its 1.8 GB",
    7: "the worker was lost",
}


class Done(NamedTuple):
    """A study that came to its end."""

    folder: Path
    name: str
    code: int
    said: str

    @property
    def study(self) -> Path:
        return self.folder / "studies" / self.name

    @property
    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.study / "results.csv", keep_default_na=False)

    @property
    def trials(self) -> list[Any]:
        storage = f"sqlite:///{self.study / 'optuna.db'}"
        return optuna.load_study(study_name=self.name, storage=storage).trials

    def files(self, trial: int, seed: int = 0) -> Path:
        return self.study / f"trials/{trial:04d}/seed-{seed}"

    def trace(self, trial: int, seed: int, name: str) -> np.ndarray:
        with np.load(self.files(trial, seed) / "traces.npz") as traces:
            return traces[name]

    def runs(self) -> Iterator[tuple[tuple[int, int], Any, set[str]]]:
        """MLflow's run of each training, and its artifacts."""
        uri = absolute_uri(f"sqlite:///{self.folder / 'mlflow.db'}")
        client = connect(uri, artifact_root(uri, self.study))
        experiment = client.get_experiment_by_name(self.name).experiment_id
        for run in client.search_runs([experiment], "tags.role = 'training'"):
            key = int(run.data.tags["trial"]), int(run.data.tags["seed"])
            yield key, run, {each.path for each in client.list_artifacts(run.info.run_id)}


def run_study(folder: Path, document: dict[str, Any], *arguments: str) -> Done:
    (folder / "s.yaml").write_text(dump_yaml(document))
    done = subprocess.run(
        [sys.executable, "-m", "study.run", "s.yaml", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return Done(folder, document["name"], done.returncode, done.stdout + done.stderr)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A study's training sets torch's threads; they are set back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return run_study(tmp_path_factory.mktemp("alone"), ALONE, "--workers", "2", "--no-progress")


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return run_study(tmp_path_factory.mktemp("together"), TOGETHER, "--workers", "1")


def test_the_study_goes_on_and_says_how_many_failed(alone: Done) -> None:
    assert alone.code == 1, alone.said
    assert "5 of 9 trainings failed to run; the report says why." in alone.said
    assert "Traceback" not in alone.said
    assert alone.table["trial"].tolist() == list(range(9))
    failed = [0, 1, 1, 0, 1, 0, 1, 1, 0]
    assert (alone.table["status"] == "failed").tolist() == failed


def test_each_is_in_the_table_as_what_it_is(alone: Done) -> None:
    table = alone.table
    for trial, cause in CAUSES.items():
        assert table.loc[trial, "cause"].strip().splitlines()[-1].endswith(cause)
        assert table.loc[trial, "verdict"] == ""
    assert (table.loc[3, "status"], table.loc[3, "verdict"]) == ("stopped_early", "diverged")
    assert table.loc[3, "cause"].startswith("d is not finite at update ")
    assert (table.loc[5, "status"], table.loc[5, "verdict"]) == ("stopped_early", "unassessed")
    assert "neither the energy nor its chains change any more" in table.loc[5, "cause"]
    # where it hung, and what a process said before it was lost
    assert "bad_networks.py" in table.loc[1, "cause"]
    assert "in fault" in table.loc[1, "cause"]
    assert table.loc[7, "cause"].startswith("a library has had enough")


def test_each_is_in_optuna_as_what_it_is(alone: Done) -> None:
    trials, table = alone.trials, alone.table
    for trial in trials:
        row = table.loc[trial.number]
        assert trial.user_attrs["status"] == row["status"]
        assert trial.user_attrs["cause"] == row["cause"]
    # Optuna has no other state for a trial without a value
    without = {*CAUSES, 5}
    assert {each.number for each in trials if each.state.name == "FAIL"} == without
    assert {each.number for each in trials if each.state.name == "COMPLETE"} == {0, 3, 8}


def test_each_is_in_mlflow_as_what_it_is(alone: Done) -> None:
    table, seen = alone.table, set()
    for (trial, _), run, artifacts in alone.runs():
        seen.add(trial)
        row = table.loc[trial]
        failed = trial in CAUSES
        assert run.info.status == ("FAILED" if failed else "FINISHED")
        assert run.data.tags["status"] == row["status"]
        assert ("failure.txt" in artifacts) == failed
        if failed:
            assert CAUSES[trial] in run.data.tags["cause"]
            cause = (alone.files(trial) / "failure.txt").read_text()
            assert cause.strip() == row["cause"].strip()
    assert seen == set(range(9))


def test_the_report_says_why(alone: Done) -> None:
    page = (alone.study / "report.html").read_text()
    for cause in CAUSES.values():
        assert cause in page


@pytest.mark.parametrize("trial", [0, 8])
def test_what_trains_beside_them_is_what_it_is_alone(alone: Done, trial: int) -> None:
    spec = from_resolved(ALONE)
    point = {"network": ALONE["parameters"]["network"]["values"][trial]}
    path = read_pack(alone.files(trial) / "pack.yaml").engine_path
    trainer = Trainer([spec.config(point, 0)], engine_path=path)
    trainer.run(BASE["updates"])  # type: ignore[arg-type]
    assert alone.table.loc[trial, "status"] == "finished"
    assert alone.trace(trial, 0, "d").tobytes() == trainer.d().tobytes()
    assert alone.trace(trial, 0, "r").tobytes() == trainer.r().tobytes()


def test_a_pack_is_halved_until_what_fails_is_alone(together: Done) -> None:
    assert together.code == 1, together.said
    assert "Traceback" not in together.said
    assert (together.table["status"] == "failed").tolist() == [False, False, True, False]
    assert (together.table["verdict"] == "").tolist() == [False, False, True, False]
    cause = together.table.loc[2, "cause"]
    assert cause.strip().endswith("ValueError: a layer that this member alone lacks")
    memory, own, retried = (line for line in together.said.splitlines() if "; goes on" in line)
    assert memory.count("seed=") == 4
    full = "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert memory.endswith(f"! {full}; goes on in halves")
    assert [f"seed={seed}" in own for seed in range(4)] == [False, False, True, True]
    assert own.endswith("ValueError: a layer that this member alone lacks; goes on in halves")
    assert "seed=2" in retried
    assert retried.endswith("; goes on from its last checkpoint")
    # begun together, and gone on from what they had come to
    sizes = [len(read_pack(together.files(0, seed) / "pack.yaml").members) for seed in (0, 1, 3)]
    assert sizes == [2, 2, 1]
    (trial,) = together.trials
    assert trial.user_attrs["status"] == "finished; finished; failed; finished"
    states = {key[1]: run.info.status for key, run, _ in together.runs()}
    assert states == {0: "FINISHED", 1: "FINISHED", 2: "FAILED", 3: "FINISHED"}


def test_the_others_of_its_pack_are_what_they_are_without_it(together: Done) -> None:
    calm = {**TOGETHER, "base": {**TOGETHER["base"], "network": "bad_networks:Calm"}}
    spec = from_resolved(calm)
    trainer = Trainer([spec.config({"epsilon": 0.1}, seed) for seed in range(4)])
    # one member after the other, so that their number does not change their rounding
    assert trainer.engine.path == "loop"
    trainer.run(BASE["updates"])  # type: ignore[arg-type]
    for seed in (0, 1, 3):
        assert together.trace(0, seed, "d").tobytes() == trainer.d(seed).tobytes()
        assert together.trace(0, seed, "r").tobytes() == trainer.r(seed).tobytes()


def finish(training: EBMTrainable) -> None:
    while not training.train()["done"]:
        pass


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("HostMemory", r"^\[memory\] out of memory: MemoryError$"),
        ("GpuMemory", r"^\[memory\] out of memory: CUDA out of memory\. Tried to allocate 2\.00"),
    ],
)
def test_memory_that_a_network_lacks_is_told_as_that(
    name: str, message: str, tmp_path: Path
) -> None:
    work = assignment(tmp_path, unit(base=BASE, network=f"bad_networks:{name}"))
    training = EBMTrainable(config={"assignment": work.plain()})
    with pytest.raises(AttemptError, match=message):
        finish(training)
