"""Packs tried out for a moment: in this process, and in processes of their own."""

from __future__ import annotations

import itertools
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_study import IMAGES, PLANE, WILD

from ebm_core.config import make_config
from ebm_core.trainer import Trainer
from study import probe as module
from study.probe import Probe, answer, memory_room
from study.probes import MOST_PROBES, ProbeError, Probes, combined

LONG_RUN = {"steps": 40, "chains": 16, "adjusted_steps": 0}


def plain(base: dict[str, Any] = PLANE, **changes: Any) -> dict[str, Any]:
    return make_config({**base, **changes}).model_dump(mode="json")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.05)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# -- in this process -----------------------------------------------------------------------------


@pytest.mark.parametrize("base", [PLANE, IMAGES], ids=["plane", "images"])
@pytest.mark.parametrize("members", [1, 3])
def test_all_numbers_are_finite_and_positive(base: dict[str, Any], members: int) -> None:
    probe = Probe()
    built = probe.prepare(plain(base), members, 1)
    measured = probe.measure()
    concluded = probe.conclude(**LONG_RUN)
    assert built["cold"] >= 0
    assert built["room"] == module.CPU_BYTES
    sizes = [built["idle"], measured["bytes"], concluded["bytes"]]
    # the system counts pages of each core by themselves, and adds them up now and then
    assert all(0 < low <= high + 2e6 for low, high in itertools.pairwise(sizes))
    found = [built["build"], measured["seconds"], concluded["check"], concluded["pictures"]]
    assert all(math.isfinite(value) and value > 0 for value in found)


def test_updates_cost_what_they_do_in_a_training() -> None:
    config = make_config({**IMAGES, "langevin_steps": 30, "updates": 600})
    trainer = Trainer([config, config])
    trainer.run(50)
    trainer.run(350)
    probe = Probe()
    probe.prepare(config.model_dump(mode="json"), 2, 1)
    expected = trainer.seconds / 400
    assert expected / 3 < probe.measure()["seconds"] < 3 * expected


@pytest.mark.parametrize("updates", [40, 60])
def test_trainings_that_diverge_at_once_have_a_cost_too(updates: int) -> None:
    probe = Probe()
    probe.prepare(plain(**WILD, updates=updates), 1, 1)
    assert 0 < probe.measure()["seconds"] < 10
    assert probe.conclude(**LONG_RUN)["pictures"] > 0


class Clocked:
    """A trainer of which each Langevin step takes a second and the rest of an update two."""

    def __init__(self, configs: Any, engine_path: str | None) -> None:
        self.config, self.device = configs[0], torch.device("cpu")
        self.update, self.seconds, self.finished = 0, 0.0, False

    def run(self, updates: int) -> None:
        self.update += updates
        took = updates * (2.0 + self.config.langevin_steps)
        self.seconds += took
        Clock.now += took


class Clock:
    now = 0.0


@pytest.mark.parametrize("steps", [2, 3, 7, 500])
def test_the_length_of_slow_updates_is_extrapolated(
    monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """500 steps of a second each are not waited for."""
    monkeypatch.setattr(Clock, "now", 0.0)
    monkeypatch.setattr(module, "Trainer", Clocked)
    monkeypatch.setattr(time, "perf_counter", lambda: Clock.now)
    probe = Probe()
    probe.prepare(plain(langevin_steps=steps), 1, 1)
    assert probe.measure()["seconds"] == pytest.approx(2.0 + steps)
    assert Clock.now < 60


def test_a_check_costs_in_proportion_to_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What every check costs, and a millisecond a step; adjusted steps are twice as slow."""
    monkeypatch.setattr(Clock, "now", 0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: Clock.now)
    lengths = []

    def evaluated(result: Any, wanted: Any, dataset: Any) -> None:
        lengths.append(wanted.long_run_steps)
        Clock.now += 0.3 + 1e-3 * wanted.long_run_steps + 2e-3 * wanted.adjusted_steps

    monkeypatch.setattr(module, "evaluated", evaluated)
    monkeypatch.setattr(module, "write_artifacts", lambda *_: None)
    probe = Probe()
    probe.prepare(plain(), 1, 1)
    assert probe.conclude(2000, 16, 0)["check"] == pytest.approx(2.3)
    assert max(lengths) <= 256
    assert probe.conclude(2000, 16, 100)["check"] == pytest.approx(2.5)
    assert probe.conclude(0, 16, 0)["check"] == pytest.approx(0.3)


def test_threads_are_those_that_are_asked_for() -> None:
    Probe().prepare(plain(), 1, 2)
    assert torch.get_num_threads() == 2


def test_members_are_run_by_the_path_that_is_asked_for() -> None:
    probe = Probe()
    probe.prepare(plain(), 2, 1, "loop")
    assert probe._trainers[0].engine.path == "loop"
    probe.prepare(plain(), 2, 1)
    assert probe._trainers[0].engine.path != "loop"


def test_random_numbers_are_left_alone() -> None:
    state = torch.get_rng_state()
    probe = Probe()
    probe.prepare(plain(), 2, 1)
    probe.measure()
    assert torch.equal(torch.get_rng_state(), state)


def test_the_room_on_a_gpu_is_a_share_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10_000, 80_000))
    gpu = torch.device("cuda")
    assert memory_room(gpu, 1.0) == pytest.approx(8_000)
    assert memory_room(gpu, 0.25) == pytest.approx(2_000)
    assert memory_room(gpu, 2.0) == pytest.approx(8_000)
    assert memory_room(torch.device("cpu"), 0.25) == 2e9


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (MemoryError("no more"), 0.0),
        (MemoryError("Unable to allocate 30.0 GiB for an array with shape (2, 3)"), 30 * 2**30),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 40.00 GiB."), 40 * 2**30),
        (RuntimeError("can't allocate memory: you tried to allocate 50000000000 bytes."), 5e10),
    ],
)
def test_memory_that_runs_out_is_an_answer_with_numbers(
    monkeypatch: pytest.MonkeyPatch, error: Exception, asked: float
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(module, "Trainer", full)
    monkeypatch.setattr("study.memory.free_bytes", lambda: 2e10)
    arguments = {"config": plain(), "members": 1, "threads": 1}
    found = answer(Probe(), "prepare", arguments)
    assert (found["full"], found["free"]) == (1.0, 2e10)
    # it may have grown by what other tests of this process take
    assert found["needed"] == pytest.approx(max(asked, 2e10), abs=1e8)


def test_other_errors_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a broken network")

    monkeypatch.setattr(module, "Trainer", broken)
    with pytest.raises(RuntimeError, match="a broken network"):
        answer(Probe(), "prepare", {"config": plain(), "members": 1, "threads": 1})


# -- processes of their own ----------------------------------------------------------------------


def test_answers_are_combined() -> None:
    replies = [{"seconds": 1.0, "bytes": 5.0}, {"seconds": 3.0, "bytes": 4.0}]
    assert combined(replies) == {"seconds": 2.0, "bytes": 5.0}
    assert combined([replies[0], {"full": 1.0, "needed": 3.0, "free": 2.0}]) is None


NETWORKS = """
import torch

print("what a network prints is no answer")


class Broken(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        raise RuntimeError("a broken network")


class Sound(Broken):
    def forward(self, x):
        return self.weight * x.flatten(1).square().sum(1)
"""


def test_probes_work_side_by_side_and_find_what_this_process_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_networks.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    prepare = {"members": 2, "threads": 1}
    with Probes(2) as probes:
        assert probes.start_seconds > 0
        built = probes.ask(2, "prepare", config=plain(network="my_networks:Sound"), **prepare)
        measured = probes.ask(2, "measure")
        assert built is not None
        assert measured is not None
        assert built["build"] > 0
        assert 0 < measured["seconds"] < 10
        with pytest.raises(ProbeError, match="a broken network"):
            probes.ask(1, "prepare", config=plain(network="my_networks:Broken"), **prepare)
    assert all(process.returncode is not None for process in probes._processes)


def test_the_memory_of_a_probe_is_its_own_and_not_that_of_the_command() -> None:
    ballast = torch.ones(200_000_000)  # 800 MB
    with Probes(1) as probes:
        built = probes.ask(1, "prepare", config=plain(), members=1, threads=1)
        measured = probes.ask(1, "measure")
    assert built is not None
    assert measured is not None
    assert built["idle"] < measured["bytes"] < 6e8 < 4 * len(ballast)


def test_memory_grows_with_members() -> None:
    """In a process of its own: the most that this one took, by other tests, may be more."""
    many = plain(IMAGES, bank_size=100_000)
    with Probes(1) as probes:
        probes.ask(1, "prepare", config=plain(IMAGES), members=1, threads=1)
        small = probes.ask(1, "measure")
        probes.ask(1, "prepare", config=many, members=4, threads=1)
        large = probes.ask(1, "measure")
    assert small is not None
    assert large is not None
    assert large["bytes"] - small["bytes"] > 4 * 100_000 * 64 * 4 * 0.9


def test_a_probe_runs_out_of_memory_before_the_machine_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bank of 0.9 GB where two share as much: no process is killed, and it is told."""
    (tmp_path / "sitecustomize.py").write_text(
        "from study import memory\nmemory.free_bytes = lambda: 9e8\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    large = plain(IMAGES, bank_size=3_500_000)  # in memory, barely
    with Probes(2) as probes:
        assert probes.ask(1, "prepare", config=large, members=1, threads=1) is None
    assert probes.shortage["free"] == 4.5e8
    assert 9e8 < probes.shortage["needed"] < 1.5e9


def test_processes_that_do_not_start_are_told_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    probes = Probes(1)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ProbeError, match="ended with 1"):
        probes.__enter__()
    assert [process.returncode for process in probes._processes] == [1]


def test_there_are_never_more_than_tell_something() -> None:
    assert Probes(64)._count == MOST_PROBES == 8
    assert Probes(3)._count == 3


@pytest.mark.parametrize(
    ("gpus", "given", "seen"),
    [
        (0.0, None, ["", "", ""]),
        (0.0, "3,5", ["", "", ""]),
        (1.0, None, ["0", "1", "2"]),
        (0.5, None, ["0", "0", "1"]),
        (0.5, "3,5", ["3", "3", "5"]),
        (0.4, "3,5", ["3", "3", "5"]),
        (2.0, None, ["0,1", "2,3", ""]),
    ],
)
def test_each_sees_the_gpus_that_a_worker_would(
    monkeypatch: pytest.MonkeyPatch, gpus: float, given: str | None, seen: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    probes = Probes(3, gpus)
    assert [probes._environment(i)["CUDA_VISIBLE_DEVICES"] for i in range(3)] == seen
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == given
