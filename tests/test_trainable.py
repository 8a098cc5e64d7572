"""The trainable: what it reports, how it goes on, and one real run under Ray Tune."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ebm_core.config import make_config
from ebm_core.errors import CheckpointError, ConfigError
from study.assignment import Assignment, Unit
from study.launch import _ENVIRONMENT
from study.schema.base import expand
from study.table import (
    CHECK_COLUMNS,
    HELD_OUT_COLUMNS,
    NUMERIC_COLUMNS,
    PLANE_COLUMNS,
    TEXT_COLUMNS,
    WORTH_COLUMNS,
)
from study.trainable import EBMTrainable

REPOSITORY = Path(__file__).parents[1]
TINY: dict[str, Any] = {
    "epsilon": 0.1,
    "network": {"name": "mlp", "widths": [8]},
    "bank_size": 100,
    "langevin_steps": 3,
    "updates": 150,
    "window": 110,
    "anneal_updates": 20,
    "report_interval": 50,
}
OF_A_STUDY = {"trial", "mlflow_run_id", "long_run", "long_run_departure"}
OF_THE_DATA = {*PLANE_COLUMNS, *WORTH_COLUMNS, *HELD_OUT_COLUMNS}
NUMBERS = set(NUMERIC_COLUMNS) - {*OF_A_STUDY, *CHECK_COLUMNS, *OF_THE_DATA}
WORDS = (set(TEXT_COLUMNS) | {"cause"}) - {*OF_A_STUDY, *CHECK_COLUMNS}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A study's training sets torch's threads; they are set back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def trainable(**changes: Any) -> EBMTrainable:
    return EBMTrainable(config={**TINY, **changes})


def finish(training: EBMTrainable) -> dict[str, Any]:
    while not (result := training.train())["done"]:
        pass
    return result


def d(training: EBMTrainable) -> np.ndarray:
    return training._work.trainer.d()


def config_of(training: EBMTrainable) -> Any:
    return training._work.trainer.config


def test_reports_are_rows_of_the_table_with_the_same_names_each_time() -> None:
    training = trainable(seed=4)
    first, last = training.train(), finish(training)
    for result in (first, last):
        assert result.keys() >= NUMBERS | WORDS
        assert not result.keys() & OF_A_STUDY
        assert all(isinstance(result[name], int | float) for name in NUMBERS)
        assert all(isinstance(result[name], str) for name in WORDS)
        assert result["seed"] == 4
    assert first["verdict"] == "unassessed"
    assert math.isnan(first["convergence_score"])
    assert first["updates"] == 50
    assert last["verdict"] in ("convergent", "nonconvergent")
    assert 0 <= last["convergence_score"] <= 1
    assert last["updates"] == 150
    assert last["training_iteration"] == 3


def test_a_diverged_training_ends_at_once() -> None:
    result = trainable(gamma_0=1e6, gamma_start=None, anneal_updates=0).train()
    assert result["done"]
    assert result["verdict"] == "diverged"
    assert result["convergence_score"] == 0
    assert "update" in result["cause"]


def test_a_checkpoint_gives_the_exact_continuation(tmp_path: Path) -> None:
    whole, begun = trainable(), trainable()
    finish(whole)
    begun.train()
    begun.save(str(tmp_path))
    resumed = trainable()
    resumed.restore(str(tmp_path))
    assert len(d(resumed)) == 50
    finish(resumed)
    assert d(resumed).tobytes() == d(whole).tobytes()


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    begun = trainable()
    begun.train()
    begun.save(str(tmp_path))
    with pytest.raises(CheckpointError, match=r"epsilon=0\.1 there, 0\.2 here"):
        trainable(epsilon=0.2).restore(str(tmp_path))


def test_a_reused_actor_trains_as_a_new_one() -> None:
    reused, fresh = trainable(epsilon=0.3), trainable()
    reused.train()
    assert reused.reset(TINY)
    assert config_of(reused).epsilon == 0.1
    assert len(d(reused)) == 0
    reused.train(), fresh.train()
    assert d(reused).tobytes() == d(fresh).tobytes()


def test_other_fields_are_those_of_the_preset() -> None:
    strong = make_config(expand({"preset": "digits_strong"}))
    assert config_of(EBMTrainable(config={})) == make_config(expand({"preset": "digits"}))
    assert config_of(EBMTrainable(config={"preset": "digits_strong"})) == strong
    given = config_of(EBMTrainable(config={"preset": "digits_strong", "epsilon": 0.2}))
    assert given == strong.with_(epsilon=0.2)
    assert config_of(EBMTrainable(config={"preset": "gmm_convergent"})).data.name == "gmm"


def test_nested_fields_change_their_part_of_the_preset() -> None:
    config = config_of(trainable(network={"widths": [8]}, band={"low": 0.7}, gamma_start_ratio=4))
    assert (config.network.name, list(config.network.widths)) == ("mlp", [8])
    assert (config.band.low, config.band.high) == (0.7, config_of(trainable()).band.high)
    # one form of the early rate replaces the other, which the preset has
    assert (config.gamma_start, config.gamma_start_ratio) == (None, 4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epsilom": 0.1}, r"epsilom: unknown key.*did you mean `epsilon`\?"),
        ({"preset": "digit"}, r"preset: must be one of .*did you mean `digits`\?"),
        ({"preset": 3}, "preset: must be the name of a preset, got 3"),
        ({"band.low": 0.7}, r"band\.low: unknown key"),
        ({"network": {"width": [8]}}, r"network\.width.*: unknown key"),
        ({"anneal_updates": 100}, r"`anneal_updates \+ window <= updates` must hold"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trainable(**wrong)


def assigned(folder: Path, **changes: Any) -> dict[str, Any]:
    config = make_config(expand({"preset": "digits", **TINY, **changes})).model_dump()
    units = (Unit(0, 0, {"epsilon": config["epsilon"]}, config),)
    return {"assignment": Assignment(units, str(folder), 1, 0, 1).plain()}


def test_an_assignment_of_a_study_reports_curves_and_at_the_end_rows(tmp_path: Path) -> None:
    training = EBMTrainable(config=assigned(tmp_path))
    results = [training.train() for _ in range(3)]
    assert [result["update"] for result in results] == [50, 100, 150]
    assert [result["done"] for result in results] == [False, False, True]
    assert [len(result["rows"]) for result in results] == [0, 0, 1]
    told = [point["update"] for result in results for point in result["curves"][0]]
    assert told == list(range(1, 151))
    assert (tmp_path / "trials/0000/seed-0/traces.npz").is_file()
    # the same actor, given the next pack
    assert training.reset(assigned(tmp_path / "next", epsilon=0.3))
    assert training.train()["update"] == 50
    assert config_of(training).epsilon == 0.3


def test_a_users_own_tuner_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"  # a study's alone: Tune's tables would be empty
    for name, value in ((key, value) for key, value in _ENVIRONMENT.items() if key != own):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    import ray
    from ray import tune

    space = {**TINY, "epsilon": tune.loguniform(0.05, 0.2), "updates": 300, "window": 150}
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        found = tune.Tuner(
            EBMTrainable,
            param_space=space,
            tune_config=tune.TuneConfig(num_samples=2, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
        ).fit()
    finally:
        ray.shutdown()
    assert found.errors == []
    table = found.get_dataframe()
    assert len(table) == 2
    assert set(table) >= NUMBERS | WORDS
    assert all(table[name].dtype.kind in "if" for name in NUMBERS)
    assert table["epsilon"].between(0.05, 0.2).all()
    assert (table["epsilon"] == table["config/epsilon"]).all()
    assert table["verdict"].isin(["convergent", "nonconvergent"]).all()
    assert (table["updates"] == 300).all()
    best = found.get_best_result("convergence_score", "max")
    assert best.metrics["convergence_score"] == table["convergence_score"].max()
    # the checkpoint that Tune leaves at the end holds the whole training
    with best.checkpoint.as_directory() as folder:
        again = EBMTrainable(config=best.config)
        again.load_checkpoint(folder)
    assert len(d(again)) == 300
