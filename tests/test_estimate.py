"""The rehearsal of a study, and what it is estimated to cost."""

from __future__ import annotations

import math
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_study import IMAGES, PLANE, WILD, document

from ebm_core.data import load_data
from ebm_core.errors import ConfigError
from ebm_core.trainer import Trainer
from study import estimate as module
from study.estimate import estimate, narrow_directions, rehearse
from study.spec import StudySpec, from_resolved

LONG_RUN = {"steps": 40, "chains": 16}


def spec_of(base: dict[str, Any] = PLANE, **sections: Any) -> StudySpec:
    return from_resolved(document(base=base, **sections))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PROBE_SECONDS", 0.05)


@pytest.fixture
def one_second_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is multiplied can be told exactly."""
    monkeypatch.setattr(module, "_update_seconds", lambda trainer: 1.0)
    monkeypatch.setattr(module, "_check_seconds", lambda spec, trainer: 30.0)


# -- cost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [PLANE, IMAGES], ids=["plane", "images"])
@pytest.mark.parametrize("members", [1, 3])
def test_all_numbers_are_finite_and_positive(base: dict[str, Any], members: int) -> None:
    cost = estimate(spec_of(base, long_run=LONG_RUN), workers=2, members=members)
    *costs, narrowest = astuple(cost)
    assert all(math.isfinite(value) and value > 0 for value in costs)
    assert math.isfinite(narrowest)
    assert narrowest >= 0
    assert cost.study_seconds > cost.training_seconds + cost.check_seconds


@pytest.mark.parametrize("updates", [20, 60])
def test_trainings_that_diverge_at_once_have_a_cost_too(updates: int) -> None:
    base = {**PLANE, **WILD, "updates": updates}
    cost = estimate(spec_of(base, long_run=LONG_RUN), workers=1, members=1)
    assert all(math.isfinite(value) and value > 0 for value in astuple(cost)[:4])


def test_every_kind_of_data_is_tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_update_seconds", lambda trainer: float(trainer.dimensions))
    kinds = {"data": {"distribution": "choice", "values": ["digits@4", "digits@6"]}}
    found = estimate(spec_of(IMAGES, parameters=kinds), workers=1, members=1)
    a_update = found.training_seconds / IMAGES["updates"]
    # of 64 points about half have 16 pixels, the others 36
    assert 20 < a_update < 32


def test_without_a_check_there_is_no_time_for_it() -> None:
    assert estimate(spec_of(), workers=1, members=1).check_seconds == 0.0


@pytest.mark.usefixtures("one_second_an_update")
@pytest.mark.parametrize(
    ("trials", "seeds", "workers", "members", "packs_in_a_row"),
    [
        (12, 1, 1, 1, 12),
        (12, 2, 1, 1, 24),
        (12, 1, 4, 1, 3),
        (13, 1, 4, 1, 4),
        (12, 1, 2, 3, 2),
        (13, 1, 2, 3, 3),
    ],
)
def test_time_is_that_of_the_busiest_worker(
    trials: int, seeds: int, workers: int, members: int, packs_in_a_row: int
) -> None:
    cost = estimate(spec_of(trials=trials, seeds=seeds), workers, members)
    assert cost.training_seconds == pytest.approx(60 / members)
    assert cost.check_seconds == pytest.approx(30)
    pack = 60 + members * (30 + module._PICTURE_SECONDS)
    assert cost.study_seconds == pytest.approx(module._START_SECONDS + packs_in_a_row * pack)


@pytest.mark.usefixtures("one_second_an_update")
def test_time_follows_the_updates_and_their_mean_where_they_are_searched() -> None:
    twice = estimate(spec_of({**PLANE, "updates": 120}), workers=1, members=1)
    assert twice.training_seconds == pytest.approx(120)
    lengths = {"distribution": "choice", "values": [60, 100]}
    mixed = estimate(spec_of(parameters={"updates": lengths}), workers=1, members=1)
    assert mixed.training_seconds == pytest.approx(80, rel=0.1)


def test_memory_grows_with_chains_and_members() -> None:
    small, large = spec_of(IMAGES), spec_of({**IMAGES, "bank_size": 30_000})
    one, many = estimate(small, 1, 1), estimate(large, 1, 1)
    more = 30_000 * 64 * 4
    assert many.worker_bytes - one.worker_bytes == pytest.approx(2 * more, rel=0.01)
    assert estimate(small, 1, 4).worker_bytes > one.worker_bytes


def test_the_probe_leaves_threads_and_random_numbers_alone() -> None:
    before, state = torch.get_num_threads(), torch.get_rng_state()
    wanted = before + 1
    seen = []

    def check_seconds(*_: Any) -> float:
        seen.append(torch.get_num_threads())
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_check_seconds", check_seconds)
        estimate(spec_of(resources={"cpus_per_trial": wanted}), 1, 1)
    assert seen == [wanted]
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_are_put_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> float:
        raise RuntimeError("out of memory")

    before = torch.get_num_threads()
    monkeypatch.setattr(module, "_update_seconds", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        estimate(spec_of(resources={"cpus_per_trial": before + 1}), 1, 1)
    assert torch.get_num_threads() == before


# -- narrow directions ---------------------------------------------------------------------------


def narrowest_of(path: Path, x: np.ndarray) -> float:
    np.save(path, x.astype(np.float32))
    data = {"name": "array", "path": str(path)}
    base = {**IMAGES, "data": data, "bank_size": 50, "bank_start": "uniform"}
    return estimate(spec_of(base), 1, 1).narrowest


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
    assert estimate(spec, 1, 1).narrowest == pytest.approx(float(sd))


@pytest.mark.parametrize(
    ("ratio", "narrowest", "warned"),
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
    ratio: float, narrowest: float, warned: bool
) -> None:
    """The widest chains have epsilon 0.3: data of sd s match from s**2 + (ratio 0.3)**2 on."""
    found = narrow_directions(spec_of({**PLANE, "eps_data_ratio": ratio}), narrowest)
    assert len(found) == warned
    for line in found:
        assert f"an sd of {narrowest:.2g}, which with its noise stays under epsilon=0.3" in line


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
