"""How many trainings run side by side, and together; that they run is for the end-to-end tests."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from tiny_study import document

from study.launch import members_per_pack, worker_count
from study.spec import StudySpec, from_resolved


def spec_of(trials: int = 16, seeds: int = 1, **resources: Any) -> StudySpec:
    return from_resolved(document(trials=trials, seeds=seeds, resources=resources))


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores and two GPUs."""
    cores = set(range(8))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    ("trials", "resources", "workers"),
    [
        (16, {}, 8),
        (3, {}, 3),
        (16, {"cpus_per_trial": 3}, 2),
        (16, {"cpus_per_trial": 9}, 1),
        (16, {"gpus_per_trial": 1}, 2),
        (16, {"gpus_per_trial": 0.5}, 4),
        (16, {"gpus_per_trial": 0.1}, 8),
        (16, {"gpus_per_trial": 4}, 1),
        (16, {"members_per_trial": 4}, 4),
        (17, {"members_per_trial": 4}, 5),
        (16, {"members_per_trial": "auto"}, 8),
    ],
)
def test_workers_follow_cores_gpus_and_what_there_is_to_do(
    trials: int, resources: dict[str, Any], workers: int
) -> None:
    assert worker_count(spec_of(trials, **resources)) == workers


def test_repeats_are_work_too() -> None:
    assert worker_count(spec_of(trials=2, seeds=3)) == 6


def test_a_user_may_ask_for_more_workers_than_cores_but_not_for_idle_ones() -> None:
    assert worker_count(spec_of(), 12) == 12
    assert worker_count(spec_of(), 1) == 1
    assert worker_count(spec_of(trials=3), 12) == 3


def test_a_system_that_does_not_know_its_affinity_counts_its_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert worker_count(spec_of()) == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert worker_count(spec_of()) == 1


@pytest.mark.parametrize(
    ("trials", "workers", "members"), [(16, 1, 2), (16, 2, 1), (15, 1, 1), (4, 8, 1), (640, 4, 20)]
)
def test_auto_leaves_an_adaptive_method_eight_rounds(
    trials: int, workers: int, members: int
) -> None:
    assert members_per_pack(spec_of(trials, members_per_trial="auto"), workers) == members
    assert members == 1 or members * 8 * workers <= trials


def test_a_number_of_members_is_taken_as_it_is() -> None:
    assert members_per_pack(spec_of(trials=2, members_per_trial=6), 4) == 6
