"""What only a GPU can show."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from ebm_core import preset
from ebm_core.energies import Mlp, Nonlocal, Vanilla
from ebm_core.engine import Engine, choose_engine, make_engine, stack_parameters
from ebm_core.engine.steppers import Captured
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


# -- captured paths ------------------------------------------------------------------------------

NETWORKS = {
    "toy": (lambda: Mlp(2, (32, 64, 64, 64)), (2,)),
    "mlp": (lambda: Mlp(64, (96, 96)), (1, 8, 8)),
    "vanilla": (lambda: Vanilla(1, 16, width=8), (1, 16, 16)),
    "nonlocal": (lambda: Nonlocal(1, 16, (8, 8, 8)), (1, 16, 16)),
}
STEPS = 20
networks = pytest.mark.parametrize("name", NETWORKS)
sizes = pytest.mark.parametrize("members", [1, 3])


def pack(name: str, members: int, dtype: torch.dtype) -> tuple[list[nn.Module], Tensor]:
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    modules = [build().to("cuda", dtype) for _ in range(members)]
    return modules, torch.randn(members, 16, *shape, dtype=dtype, device="cuda")


def walk(engine: Engine, modules: list[nn.Module], x: Tensor, steps: int = STEPS) -> Tensor:
    epsilon = torch.full((len(modules),), 0.1, dtype=x.dtype, device="cuda")
    generators = [torch.Generator("cuda").manual_seed(m) for m in range(len(modules))]
    noise = [partial(Tensor.normal_, generator=generator) for generator in generators]
    return engine.short_run(stack_parameters(modules), x, epsilon, noise, steps)[0]


@networks
@sizes
@pytest.mark.parametrize("path", ["loop", "vmap", "closed_form"])
def test_a_captured_path_equals_the_reference(name: str, members: int, path: str) -> None:
    if (name, path) == ("nonlocal", "closed_form"):
        path = "reference"  # which has no closed form, and can be captured as well
    modules, x = pack(name, members, torch.float64)
    own = make_engine(modules[0], members, f"{path}+graph")
    for order in (modules, modules[::-1]):  # the second time with other weights in the graph
        wanted = walk(make_engine(modules[0], members, "reference"), order, x)
        torch.testing.assert_close(walk(own, order, x), wanted, rtol=1e-10, atol=1e-10)
    assert own.path == f"{path}+graph"  # or it had been given up


@networks
@sizes
def test_a_path_waits_for_nothing(name: str, members: int) -> None:
    modules, x = pack(name, members, torch.float32)
    own = choose_engine(modules[0], stack_parameters(modules), x, STEPS)
    assert isinstance(own.stepper, Captured)
    walk(own, modules, x)  # captures
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            walk(own, modules, x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    names = [event.key for event in seen.key_averages()]
    assert not [n for n in names if "DtoH" in n or "aten::item" in n or "local_scalar" in n]
    assert any("cudaGraphLaunch" in n for n in names)


def test_a_captured_pack_goes_on_smaller_when_members_are_lost() -> None:
    wild = {"gamma_0": 1e4, "gamma_start": None, "anneal_updates": 0}
    configs = [SHORT.with_(seed=seed, **(wild if seed else {})) for seed in range(4)]
    trainer = Trainer(configs)
    trainer.run(200)
    alone = Trainer([configs[0]])
    alone.run(5)
    assert trainer.alive.tolist() == [True, False, False, False]
    assert np.isfinite(trainer.d(0)).all()
    assert len(trainer.d(0)) == 200
    assert trainer._rows.members == [0]
    np.testing.assert_allclose(trainer.d(0)[:5], alone.d(0), rtol=1e-2)


def test_a_failed_capture_leaves_the_device_as_it_was() -> None:
    class Asks(Mlp):
        def forward(self, x: Tensor) -> Tensor:
            value = super().forward(x)
            return value if value.sum().item() > 0 else 2 * value

    modules = [Asks(64, (8,)).cuda()]
    x = torch.randn(1, 16, 64, device="cuda")
    own, stream = make_engine(modules[0], 1, "loop+graph"), torch.cuda.current_stream()
    with pytest.warns(UserWarning, match="steps are not captured"):
        found = walk(own, modules, x)
    assert own.path == "loop"
    assert torch.cuda.current_stream() == stream
    torch.randn(3, device="cuda")  # numbers can be drawn as before
    torch.testing.assert_close(found, walk(make_engine(modules[0], 1, "loop"), modules, x))
    # and another network can be captured afterwards
    others, y = pack("mlp", 1, torch.float32)
    fine = make_engine(others[0], 1, "closed_form+graph")
    walk(fine, others, y)
    assert fine.path == "closed_form+graph"


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_path_is_captured_on_the_gpu_that_it_runs_on() -> None:
    trainer = Trainer([SHORT.with_(device="cuda:1")])
    trainer.run(60)
    plain = Trainer([SHORT.with_(device="cuda:1")], engine_path="closed_form")
    plain.run(60)
    assert trainer.engine.path == "closed_form+graph"
    assert (trainer.r() > 0).all()
    np.testing.assert_allclose(trainer.d()[:5], plain.d()[:5], rtol=1e-3)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("name", ["mlp", "vanilla"])
def test_reduced_precision_is_near(name: str, precision: str) -> None:
    modules, x = pack(name, 2, torch.float32)
    whole = walk(make_engine(modules[0], 2), modules, x)
    reduced = walk(make_engine(modules[0], 2, precision=precision), modules, x)
    off = float((reduced - whole).abs().max() / whole.abs().max())
    assert 0 < off < 0.1


def test_full_precision_is_not_left_to_the_defaults_of_libraries() -> None:
    before = torch.backends.cudnn.conv.fp32_precision
    torch.manual_seed(0)
    narrow = Vanilla(3, 32).cuda()
    x, epsilon = torch.randn(1, 64, 3, 32, 32, device="cuda"), torch.full((1,), 0.1).cuda()

    def r(module: nn.Module, precision: str, dtype: torch.dtype) -> Tensor:
        own = make_engine(module, 1, precision=precision)
        parameters = stack_parameters([module.to(dtype)])
        _, info = own.short_run(parameters, x.to(dtype), epsilon.to(dtype), [Tensor.zero_], 1)
        return info.gradient_magnitude.double()

    found = {p: r(narrow, p, torch.float32) for p in ("float32", "tf32")}
    exact = r(narrow.double(), "float64", torch.float64)
    off = {p: float((value / exact - 1).abs().mean()) for p, value in found.items()}
    assert off["float32"] < 1e-5 < off["tf32"]
    assert torch.backends.cudnn.conv.fp32_precision == before
