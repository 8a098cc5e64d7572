"""What does not fit into memory is refused with numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tiny_study import IMAGES

from ebm_core.config import TrainConfig, make_config
from ebm_core.errors import ConfigError
from study import memory
from study.memory import check_gpu, check_states, check_workers, free_bytes, states_bytes


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system that tells nothing yet."""
    monkeypatch.setattr(memory, "_SYSTEM", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUPS", ((tmp_path / "max", tmp_path / "current"),))
    return tmp_path


def test_what_is_free_is_what_the_system_and_its_groups_leave(system: Path) -> None:
    assert free_bytes() == math.inf
    (system / "meminfo").write_text("MemTotal: 99 kB\nMemFree: 1 kB\nMemAvailable:    8000 kB\n")
    assert free_bytes() == 8000 * 1024
    (system / "max").write_text("max\n")
    (system / "current").write_text("500\n")
    assert free_bytes() == 8000 * 1024
    (system / "max").write_text("3500\n")
    assert free_bytes() == 3000
    (system / "current").write_text("4000\n")
    assert free_bytes() == 0


def test_here_it_is_told() -> None:
    if Path("/proc/meminfo").is_file():
        assert 1e7 < free_bytes() < 1e15


def config(**changes: object) -> TrainConfig:
    return make_config({**IMAGES, "batch_size": 100, "bank_size": 1000, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 1000 * 64 * 4),
        ({"precision": "float64"}, 1000 * 64 * 8),
        ({"chain_start": "uniform"}, 100 * 64 * 4),
    ],
)
def test_states_are_the_bank_or_a_batch(changes: dict[str, object], expected: float) -> None:
    assert states_bytes(config(**changes), 64) == expected


def test_a_bank_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 2.5e8)
    check_states(config(bank_size=900_000), 64)
    rule = r"must fit into memory: 0\.26 GB of states, and 0\.25 GB are free, got 1000000$"
    with pytest.raises(ConfigError, match=rf"^bank_size: {rule}"):
        check_states(config(bank_size=1_000_000), 64)
    with pytest.raises(ConfigError, match=r"^batch_size: must fit into memory"):
        check_states(config(batch_size=1_000_000, chain_start="uniform"), 64)


def test_workers_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 8e9)
    check_workers(4, 2, 1.9e9)
    with pytest.raises(ConfigError) as caught:
        check_workers(4, 2, 3.1e9)
    assert str(caught.value) == (
        "resources: must fit into memory: 4 workers with 2 trainings each need 3.10 GB a worker, "
        "12.40 GB together, and 8.00 GB of main memory are free; "
        "ask for less with base.batch_size, base.bank_size or --workers"
    )
    with pytest.raises(ConfigError, match=r"1 worker with 1 training needs 9\.00 GB, and 8\.00"):
        check_workers(1, 1, 9e9)


def test_a_pack_that_its_share_of_a_gpu_does_not_hold_is_refused() -> None:
    check_gpu(1, 4e9, 4.1e9)
    with pytest.raises(ConfigError) as caught:
        check_gpu(16, 45e9, 40e9)
    assert str(caught.value) == (
        "resources: must fit into memory: a worker with 16 trainings needs 45.00 GB of a GPU, "
        "and its share of what is free there is 40.00 GB; "
        "ask for less with base.batch_size, base.bank_size or members_per_trial"
    )
