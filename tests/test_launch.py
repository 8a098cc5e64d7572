"""What Ray is asked for; that trainings run is for the end-to-end tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from tiny_study import document

from study.launch import run_trainings
from study.ledger import Ledger
from study.plan import Plan
from study.spec import from_resolved
from study.stopping import Stopping


def test_a_plan_is_what_ray_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: dict[str, Any] = {}
    tuned: dict[str, Any] = {}

    class Tuner:
        def __init__(self, trainable: Any, tune_config: Any, run_config: Any) -> None:
            tuned.update(resources=trainable, config=tune_config, run=run_config)

        def fit(self) -> None:
            tuned["first"] = tuned["config"].search_alg.suggest("1")["assignment"]

    monkeypatch.setattr(ray, "init", lambda **options: started.update(options))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(tune, "Tuner", Tuner)
    monkeypatch.setattr(tune, "with_resources", lambda _, resources: resources)
    resources = {"cpus_per_trial": "auto", "members_per_trial": "auto", "gpus_per_trial": 0.25}
    spec = from_resolved(document(trials=7, resources=resources))
    run_trainings(spec, Ledger(spec, tmp_path), tmp_path, Plan(2, 4, 3), [], Stopping())
    assert started["num_cpus"] == 8
    assert tuned["resources"] == {"cpu": 4, "gpu": 0.25}
    # what fails is handed out again, so that nobody knows how many there will be
    assert (tuned["config"].max_concurrent_trials, tuned["config"].num_samples) == (2, -1)
    assert tuned["run"].failure_config.max_failures == 0
    assert len(tuned["first"]["units"]) == 3
    assert tuned["first"]["threads"] == 4


# Garbage holds references to Ray's objects, and another thread collects it while Ray, which has
# left its cluster by then, ends its own part of this process
COLLECTED_BY_ANOTHER = """
import gc, sys, threading, time
import ray
from ray._private import worker
from study.launch import _ray
from study.plan import Plan
from study.spec import from_resolved
from tiny_study import document

class Held:
    pass

def collect():
    time.sleep(0.1)
    gc.collect()

collector = threading.Thread(target=collect)

def disconnected(*arguments, **options):
    worker.disconnect = real
    real(*arguments, **options)
    collector.start()

gc.disable()
with _ray(from_resolved(document()), Plan(1, 1, 1)):
    real, worker.disconnect = worker.disconnect, disconnected
    for number in range(3_000):
        held = Held()
        held.itself, held.reference = held, ray.put(number)
    del held
collector.join()
print("went on")
"""


def test_garbage_that_another_thread_collects_does_not_end_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLLECTED_BY_ANOTHER],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
