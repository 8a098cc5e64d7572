"""What only a GPU can show."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ebm_core import preset
from ebm_core.evaluate import check, density_divergence
from ebm_core.langevin import langevin_path
from ebm_core.trainer import Trainer

pytestmark = pytest.mark.gpu
SHORT = preset("digits", updates=200, window=100, anneal_updates=50, device="cuda")


def test_training_on_a_gpu_repeats_and_resumes(tmp_path) -> None:
    whole, begun = Trainer([SHORT]), Trainer([SHORT])
    whole.run(60)
    begun.run(25)
    resumed = Trainer.resume(begun.save(tmp_path / "checkpoint.pt"))
    resumed.run(35)
    assert np.array_equal(whole.d(), resumed.d())
    assert whole.states.device.type == "cuda"


def test_a_path_on_a_gpu_equals_that_on_the_cpu() -> None:
    trainer = Trainer([SHORT.with_(precision="float64")])
    start, noise = trainer.states[:, :16], torch.randn(20, 1, 16, 1, 8, 8, dtype=torch.float64)
    found = []
    for device in ("cuda", "cpu"):
        parameters = {name: value.to(device) for name, value in trainer.parameters.items()}
        gradient = trainer.engine.input_gradient(parameters)
        epsilon = trainer.epsilon.to(device)
        with torch.no_grad():
            x, _ = langevin_path(gradient, start.to(device), epsilon, [noise.to(device).clone()])
        found.append(x.cpu())
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)


def test_an_update_waits_for_no_answer_of_the_device() -> None:
    trainer = Trainer([SHORT])
    trainer.run(5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.run(20)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.update == 25


def test_data_in_the_plane_are_trained_and_judged_on_a_gpu() -> None:
    config = preset("gmm_convergent", updates=200, window=100, langevin_steps=10, device="cuda")
    trainer = Trainer([config])
    trainer.run(200)
    result = trainer.result()
    assert result.assessment.verdict in ("convergent", "nonconvergent", "unassessed")
    assert check(result, steps=20, chains=32).outcome in ("holds", "departs")
    found = density_divergence(result.energy, trainer.dataset, config.epsilon)
    assert found.kl > 0


def test_a_trainer_leaves_the_global_random_state_of_the_gpu_alone() -> None:
    torch.cuda.manual_seed(5)
    before = torch.cuda.get_rng_state()
    Trainer([SHORT])
    assert torch.equal(before, torch.cuda.get_rng_state())
