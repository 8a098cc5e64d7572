"""A study in a notebook: its table, traces, checkpoints and map."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from agreement_study import FOUR, labelled_frame
from fake_study import frame_of, row, spec_of

from ebm_core.artifacts import TRACES, write_traces
from ebm_core.errors import ConfigError
from ebm_core.presets import preset
from ebm_core.trainer import Trainer
from study import load_study, table
from study.finished import FinishedStudy
from study.region.map import TooFew

CONFIG = preset("gmm_convergent").with_(updates=30, window=20, anneal_updates=0, seed=3)


@pytest.fixture(scope="module")
def trained() -> Trainer:
    trainer = Trainer([CONFIG])
    trainer.run(30)
    return trainer


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Trainer) -> FinishedStudy:
    monkeypatch.chdir(tmp_path)
    folder = Path("studies/four")
    place = folder / "trials/0007/seed-0"
    trained.save(place / "checkpoint/checkpoint.pt", 0)
    write_traces(trained.result(), place / TRACES)
    table.write(labelled_frame(40).to_dict("records"), folder)
    (folder / "study.json").write_text(json.dumps(spec_of(FOUR, name="four").resolved()))
    return load_study("four")


def test_a_study_is_found_by_name_and_by_folder(study: FinishedStudy) -> None:
    assert study.spec.name == "four"
    assert study.table.equals(load_study(study.folder.absolute()).table)
    assert list(study.table["trial"]) == list(range(40))
    assert list(study.table.columns[:3]) == ["trial", "seed", "epsilon"]


def test_traces_and_model_are_those_of_the_training(
    study: FinishedStudy, trained: Trainer
) -> None:
    traces = study.traces(7)
    assert np.array_equal(traces["d"], trained.d())
    assert np.array_equal(traces["r"], trained.r())
    assert {each.shape for each in traces.values()} == {(30,)}
    again = study.trainer(7)
    assert again.configs == [CONFIG]
    x = torch.randn(5, 2)
    assert torch.equal(again.result().energy(x), trained.result().energy(x))


def test_the_map_is_fitted_once(study: FinishedStudy) -> None:
    assert study.map is study.map
    assert study.map.axes == tuple(FOUR)
    low, high = study.map.probability(
        [
            {"epsilon": e, "eps_data_ratio": 2.0, "gamma_0": 0.05, "anneal_updates": 500}
            for e in (0.021, 0.19)
        ]
    )
    assert low < high


def test_what_is_not_there_is_named(study: FinishedStudy) -> None:
    with pytest.raises(ConfigError, match=r"one of the 40 trainings .*got \(99, 0\)"):
        study.traces(99)
    with pytest.raises(ConfigError, match=r"must have left .*0000/seed-0/checkpoint.*finished"):
        study.checkpoint(0)
    with pytest.raises(ConfigError, match=r"a name under .*studies.*did you mean `four`"):
        load_study("fuor")
    few = Path("studies/few")
    table.write(frame_of([row(0)]).to_dict("records"), few)
    (few / "study.json").write_text(json.dumps(spec_of(name="few").resolved()))
    with pytest.raises(TooFew, match="there are 1"):
        load_study("few").map  # noqa: B018  # it is reckoned when it is asked for


def test_the_name_alone_loads_no_library() -> None:
    heavy = "{'torch', 'pandas', 'ray', 'mlflow', 'optuna'}"
    code = f"import sys, study; study.load_study; print({heavy} & sys.modules.keys())"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout == "set()\n"
