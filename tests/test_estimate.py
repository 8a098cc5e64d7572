"""The rehearsal of a study, and what it is estimated to cost."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_probes import IDLE, START_SECONDS, MadeUpProbes
from tiny_study import IMAGES, PLANE, document

from ebm_core.data import load_data
from ebm_core.errors import ConfigError
from ebm_core.trainer import Trainer
from study import estimate as module
from study.estimate import estimate, narrow_directions, narrowest, prepare, rehearse
from study.plan import Plan, Wanted, makespan
from study.spec import StudySpec, from_resolved
from study.survey import PackCost, Survey


def spec_of(base: dict[str, Any] = PLANE, **sections: Any) -> StudySpec:
    return from_resolved(document(base=base, **sections))


# -- cost ----------------------------------------------------------------------------------------

COST = PackCost(4, 60.0, 3.0, 1.0, 0.5, 2.0, 4e8, 3e8, 2e9)


@pytest.mark.parametrize("trainings", [8, 80])
def test_a_study_takes_its_packs_what_is_besides_and_the_time_to_measure(trainings: int) -> None:
    survey = Survey(spec_of(), MadeUpProbes())
    plan = Plan(2, 1, 4)
    found = estimate(plan, COST, trainings, survey)
    assert (found.training_seconds, found.check_seconds) == (15.0, 3.0)
    # the survey has taken no longer than the start of the probes
    besides = (module._STARTS + 1) * START_SECONDS
    expected = makespan(plan, COST, trainings) + besides
    assert found.study_seconds == pytest.approx(expected, abs=0.5)
    assert found.worker_bytes == 4e8 + module._RAY_BYTES


@pytest.mark.parametrize(
    ("trainings", "workers", "members", "rounds"),
    [
        (8, 2, 4, 1),
        (16, 2, 4, 2),
        (12, 2, 4, 2),
        (9, 1, 8, 1.125),
        (20, 2, 8, 1.5),
        (13, 2, 4, 2),
        (7, 2, 1, 4),
    ],
)
def test_a_pack_that_is_not_full_takes_less(
    trainings: int, workers: int, members: int, rounds: float
) -> None:
    assert module._rounds(members, workers, trainings) == rounds
    full = makespan(Plan(workers, 1, members), replace(COST, cold=0.0), trainings)
    assert rounds <= full / COST.seconds


def test_a_study_smaller_than_a_pack_is_measured_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(trials=3, resources={"members_per_trial": 8})
    plan, cost, probes, _ = prepared(monkeypatch, spec)
    assert plan == Plan(1, 1, 8)
    assert probes.asked == [(1, 1, 3)]
    assert cost.training_seconds == pytest.approx(0.01 * PLANE["updates"])


def prepared(monkeypatch: pytest.MonkeyPatch, spec: StudySpec, workers: int = 2) -> Any:
    probes = MadeUpProbes()
    made = []

    def make(count: int, gpus: float) -> MadeUpProbes:
        made.append((count, gpus))
        return probes

    monkeypatch.setattr(module, "Probes", make)
    found = prepare(spec, Wanted(spec.resources, workers), spec.trials * spec.seeds)
    return *found, probes, made


def test_a_plan_and_its_cost_come_from_the_same_measurement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resources = {"members_per_trial": 3, "gpus_per_trial": 0.5}
    spec = spec_of(trials=6, resources=resources, long_run={"steps": 2000})
    plan, cost, probes, made = prepared(monkeypatch, spec)
    assert plan == Plan(2, 1, 3)
    assert made == [(2, 0.5)]
    assert probes.asked == [(2, 1, 3)]
    assert cost.training_seconds == pytest.approx(0.01 * PLANE["updates"])
    assert cost.check_seconds == pytest.approx(2.0)
    assert cost.worker_bytes == IDLE + 3e6 + module._RAY_BYTES


@pytest.mark.parametrize(
    ("changes", "grows"),
    [({}, False), ({"updates": 6000}, True)],
    ids=["the same again", "longer trainings"],
)
def test_time_grows_with_updates(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], grows: bool
) -> None:
    short = prepared(monkeypatch, spec_of())[1].study_seconds
    other = prepared(monkeypatch, spec_of({**PLANE, **changes}))[1].study_seconds
    assert other - short == pytest.approx(59.4 if grows else 0.0, abs=0.5)


def test_what_the_memory_does_not_hold_is_refused_before_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Made-up probes grow by 1 MB a member, and have room for 2 GB, four fifths of a share."""
    spec = spec_of(trials=6, resources={"members_per_trial": 3})
    monkeypatch.setattr("study.memory.free_bytes", lambda: 5e6)
    with pytest.raises(ConfigError, match=r"2 workers with 3 trainings each need 0\.00 GB a w"):
        prepared(monkeypatch, spec)
    prepared(monkeypatch, spec, workers=1)
    on_gpu = spec_of({**PLANE, "device": "auto"}, resources={"gpus_per_trial": 0.5})
    prepared(monkeypatch, on_gpu)  # whose main memory is no concern of this
    monkeypatch.setattr(MadeUpProbes, "_measure", lambda *_: {"seconds": 1.0, "bytes": 2.6e9})
    rule = r"needs 2\.60 GB of a GPU, and its share of what is free there is 2\.50 GB"
    with pytest.raises(ConfigError, match=rf"must fit into memory: a worker with 1 .* {rule}"):
        prepared(monkeypatch, on_gpu)


def test_a_bank_that_the_memory_does_not_hold_is_refused_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("study.memory.free_bytes", lambda: 1e9)
    rule = r"must fit into memory: 1\.60 GB of states, and 1\.00 GB are free, got 200000000"
    with pytest.raises(ConfigError, match=rf"^base\.bank_size: {rule}"):
        rehearse(spec_of({**PLANE, "bank_size": 200_000_000}))


# -- narrow directions ---------------------------------------------------------------------------


def narrowest_of(path: Path, x: np.ndarray) -> float:
    np.save(path, x.astype(np.float32))
    data = {"name": "array", "path": str(path)}
    base = {**IMAGES, "data": data, "bank_size": 50, "bank_start": "uniform"}
    return narrowest(spec_of(base))


def test_the_narrowest_direction_need_not_be_an_axis(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    along = rng.standard_normal(4000)
    across = 0.05 * rng.standard_normal(4000)
    x = np.stack([along + across, along - across], 1) / math.sqrt(2)
    assert x.std(0).min() > 0.6
    assert narrowest_of(tmp_path / "x.npy", x) == pytest.approx(0.05, rel=0.05)


def test_few_samples_do_not_vary_along_every_direction(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((60, 64))
    assert narrowest_of(tmp_path / "x.npy", x) == 0.0


def test_a_law_in_the_plane_knows_its_narrowest_direction() -> None:
    spec = spec_of()
    sd = load_data(spec.config({"epsilon": 0.1}).data).sd  # type: ignore[attr-defined]
    assert narrowest(spec) == pytest.approx(float(sd))


def test_the_narrowest_of_several_data_counts() -> None:
    def least(*values: str) -> float:
        searched = {"data": {"distribution": "choice", "values": list(values)}}
        return narrowest(spec_of({**PLANE, "network": "mlp"}, parameters=searched))

    plane, images = least("gmm"), least("digits@4")
    assert plane != images
    assert least("gmm", "digits@4") == least("digits@4", "gmm") == min(plane, images)


@pytest.mark.parametrize(
    ("ratio", "least_sd", "warned"),
    [
        (0.0, 0.29, True),
        (0.0, 0.31, False),
        (0.8, 0.17, True),
        (0.8, 0.19, False),
        (1.0, 0.0, False),
        (2.0, 0.0, False),
    ],
)
def test_chains_wider_than_the_noised_data_are_warned_of(
    ratio: float, least_sd: float, warned: bool
) -> None:
    """The widest chains have epsilon 0.3: data of sd s match from s**2 + (ratio 0.3)**2 on."""
    found = narrow_directions(spec_of({**PLANE, "eps_data_ratio": ratio}), least_sd)
    assert len(found) == warned
    for line in found:
        assert f"an sd of {least_sd:.2g}, which with its noise stays under epsilon=0.3" in line


# -- rehearsal -----------------------------------------------------------------------------------


def test_a_study_that_can_be_run_passes_and_builds_each_network_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = []

    class Counted(Trainer):
        def __init__(self, configs: Any, **options: Any) -> None:
            built.append(configs[0].network.name)
            super().__init__(configs, **options)

    monkeypatch.setattr(module, "Trainer", Counted)
    networks = {"distribution": "choice", "values": ["toy", "mlp"]}
    epsilon = {"distribution": "loguniform", "min": 0.05, "max": 0.3}
    rehearse(spec_of(parameters={"network": networks, "epsilon": epsilon}))
    assert sorted(built) == ["mlp", "toy"]


def array(path: Path) -> dict[str, Any]:
    return {"name": "array", "path": str(path)}


@pytest.mark.parametrize(
    ("base", "sections", "message"),
    [
        ({"data": "small.npy", "network": "vanilla"}, {}, r"^base\..*8, 16, 32, 64 pixels"),
        ({"data": "words.npy", "network": "mlp"}, {}, r"^base\.data: .*cannot be read"),
        ({"data": "small.npy", "network": "no.such:thing"}, {}, r"^base\.network: .*imported"),
        (
            {"data": "small.npy"},
            {
                "parameters": {
                    "network": {"distribution": "choice", "values": ["mlp", "no.such:thing"]}
                }
            },
            r"^parameters\.network: .*imported",
        ),
        ({}, {"resources": {"gpus_per_trial": 64}}, r"^resources\.gpus_per_trial: must not be"),
    ],
    ids=["image size", "data", "network", "searched network", "GPUs"],
)
def test_what_a_worker_would_fail_over_is_refused(
    tmp_path: Path, base: dict[str, Any], sections: dict[str, Any], message: str
) -> None:
    np.save(tmp_path / "small.npy", np.zeros((40, 1, 5, 5), dtype=np.float32))
    (tmp_path / "words.npy").write_text("words")
    if "data" in base:
        base = {**base, "data": array(tmp_path / base["data"])}
    with pytest.raises(ConfigError, match=message):
        rehearse(spec_of({**PLANE, **base}, **sections))


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    spec = spec_of({**PLANE, "device": "cuda"}, resources={"gpus_per_trial": 1})
    with pytest.raises(ConfigError, match=r"^base\.device: must be auto or cpu"):
        rehearse(spec)


def test_tf32_is_refused_where_there_is_no_gpu_and_rehearsed_where_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = spec_of({**PLANE, "device": "auto", "precision": "tf32"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"^base\.precision: must be float32, float64 or bfl"):
        rehearse(spec)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    rehearse(spec)  # on this machine's CPU
