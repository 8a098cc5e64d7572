"""All paths compute the same, no member sees another, and the right path is chosen."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from ebm_core.energies import Mlp, Nonlocal, Vanilla
from ebm_core.engine import (
    Batched,
    ClosedFormMlp,
    Engine,
    Looped,
    choice,
    choose_engine,
    make_engine,
    module_gradient,
    module_with,
    probe,
    stack_parameters,
)
from ebm_core.errors import EnergyError


class Custom(nn.Module):
    """A user's network: smooth, with a buffer, a frozen parameter and a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.twice = nn.Linear(5, 5)
        self.shift = nn.Parameter(torch.full((5,), 0.3), requires_grad=False)
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x.flatten(1)) + self.shift)
        h = torch.tanh(self.twice(torch.tanh(self.twice(h))))
        return self.scale * h.square().sum(1)


class Branching(nn.Module):
    """Control flow that depends on the data: cannot be batched over members."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.linear(x).squeeze(-1)
        return value if bool(value.sum() > 0) else 2 * value


class Network(NamedTuple):
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]


NETWORKS = {
    "toy": Network(lambda: Mlp(2, (32, 64, 64, 64)), (2,)),
    "mlp": Network(lambda: Mlp(16, (12, 9), slope=0.1), (1, 4, 4)),
    "relu": Network(lambda: Mlp(3, (7,), slope=0.0), (3,)),
    "vanilla": Network(lambda: Vanilla(2, 8, width=4), (2, 8, 8)),
    "nonlocal": Network(lambda: _attentive(Nonlocal(1, 8, (4, 6, 8))), (1, 8, 8)),
    "smooth mlp": Network(lambda: Mlp(16, (12, 9), activation="silu"), (1, 4, 4)),
    "smooth vanilla": Network(lambda: Vanilla(2, 8, width=4, activation="gelu"), (2, 8, 8)),
    "custom": Network(Custom, (3, 2)),
}
CASES = [
    (name, path)
    for name in NETWORKS
    for path in ("closed_form", "vmap", "loop", "reference")
    if path != "closed_form" or name in ("toy", "mlp", "relu", "vanilla")
]
paths = pytest.mark.parametrize(("name", "path"), CASES)


def _attentive(energy: nn.Module) -> nn.Module:
    """A non-local network whose blocks take part: by default their last layer is zero."""
    for name, value in energy.named_parameters():
        if name.endswith("output.weight"):
            nn.init.normal_(value, std=0.3)
    return energy


def pack(name: str, members: int, seed: int = 0) -> tuple[list[nn.Module], Tensor]:
    torch.manual_seed(seed)
    build, shape = NETWORKS[name]
    modules = [build().double() for _ in range(members)]
    return modules, torch.randn(members, 4, *shape, dtype=torch.float64)


def parameter_gradient(engine: Engine, parameters: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    total = engine.energy(leaves, x).mean(1).sum()
    return list(torch.autograd.grad(total, list(leaves.values())))


@pytest.mark.parametrize("members", [1, 3])
@paths
def test_a_path_computes_what_plain_autograd_does(name: str, path: str, members: int) -> None:
    modules, x = pack(name, members)
    engine, parameters = make_engine(modules[0], members, path), stack_parameters(modules)
    assert engine.path == path
    slope = engine.input_gradient(parameters)(x)
    learned = parameter_gradient(engine, parameters, x)
    assert slope.shape == x.shape
    for m, module in enumerate(modules):
        y = x[m].clone().requires_grad_()
        own = [value for value in module.parameters() if value.requires_grad]
        value = module(y)
        expected, *gradients = torch.autograd.grad(value.mean(), [y, *own])
        close(engine.energy(parameters, x)[m], value)
        close(slope[m], 4 * expected)
        # One scale for all, since some are zero: a softmax does not see the bias of its keys
        scale = max(float(wanted.abs().max()) for wanted in gradients)
        for found, wanted in zip(learned, gradients, strict=True):
            close(found[m], wanted, scale)


def close(found: Tensor, wanted: Tensor, scale: float | None = None) -> None:
    """Equal to 1e-10 of a scale, by default the largest entry."""
    assert found.shape == wanted.shape
    found, wanted = found.detach(), wanted.detach()
    tolerance = 1e-10 * (float(wanted.abs().max()) if scale is None else scale)
    assert float((found - wanted).abs().max()) <= tolerance


@paths
def test_paths_agree_on_wrong_parameters_too(name: str, path: str) -> None:
    """A negative control: another member's parameters give another answer."""
    modules, x = pack(name, 2)
    engine = make_engine(modules[0], 2, path)
    right, swapped = stack_parameters(modules), stack_parameters(modules[::-1])
    a, b = engine.input_gradient(right)(x), engine.input_gradient(swapped)(x)
    assert float((a - b).abs().max()) > 1e-3 * float(a.abs().max())


@pytest.mark.parametrize("change", [float("nan"), float("inf"), 1.5])
@paths
def test_no_member_sees_another(name: str, path: str, change: float) -> None:
    modules, x = pack(name, 3)
    engine, parameters = make_engine(modules[0], 3, path), stack_parameters(modules)
    spoilt = {key: value.clone() for key, value in parameters.items()}
    for value in spoilt.values():
        value[1] *= change
    moved = x.clone()
    moved[1] *= change
    before = outcome(engine, parameters, x)
    after = outcome(engine, spoilt, moved)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[[0, 2]], new[[0, 2]])
    assert not torch.equal(before[0][1], after[0][1])


def outcome(engine: Engine, parameters: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    return [
        engine.energy(parameters, x),
        engine.input_gradient(parameters)(x),
        *parameter_gradient(engine, parameters, x),
    ]


@paths
def test_gradients_come_from_the_parameters_given_and_build_no_graph(name: str, path: str) -> None:
    modules, x = pack(name, 2)
    parameters = {k: v.requires_grad_() for k, v in stack_parameters(modules).items()}
    engine = make_engine(modules[0], 2, path)
    untouched = x.clone()
    first = engine.input_gradient(parameters)
    slope = first(x)
    assert not slope.requires_grad
    assert torch.equal(x, untouched)
    assert torch.equal(first(x), slope)
    assert slope.data_ptr() != first(x).data_ptr()


@pytest.mark.parametrize(
    ("name", "members", "path"),
    [
        ("toy", 1, "closed_form"),
        ("mlp", 3, "closed_form"),
        ("vanilla", 1, "closed_form"),
        ("vanilla", 3, "closed_form"),
        ("nonlocal", 1, "loop"),
        ("nonlocal", 3, "loop"),
        ("custom", 1, "loop"),
        ("custom", 3, "vmap"),
    ],
)
def test_the_path_that_is_chosen(name: str, members: int, path: str) -> None:
    modules, _ = pack(name, 1)
    assert make_engine(modules[0], members).path == path


def test_a_module_may_opt_out_of_batching() -> None:
    energy = Custom()
    energy.batchable = False  # type: ignore[assignment]
    assert make_engine(energy, 3).path == "loop"


def test_a_perceptron_that_was_changed_is_no_longer_closed_form() -> None:
    class Wider(Mlp):
        pass

    frozen = Mlp(2, (4,))
    frozen.hidden[0].requires_grad_(False)
    normed = Mlp(2, (4,))
    nn.utils.parametrizations.weight_norm(normed.hidden[0])
    for energy in (Wider(2, (4,)), frozen, normed):
        assert not ClosedFormMlp.fits(energy)
        assert make_engine(energy, 3).path == "vmap"
    assert ClosedFormMlp.fits(Mlp(2, (4,)))


def test_a_convolutional_network_that_was_changed_is_no_longer_closed_form() -> None:
    class Other(Vanilla):
        pass

    frozen = Vanilla(1, 8, width=2)
    frozen.output.requires_grad_(False)
    for energy in (Other(1, 8, width=2), frozen):
        assert make_engine(energy, 3).path == "loop"


@pytest.mark.parametrize("path", ["fast", "closed_form+magic", "+compile", ""])
def test_a_path_has_to_exist(path: str) -> None:
    with pytest.raises(EnergyError, match=rf"closed_form, .*, got '{re.escape(path)}'"):
        make_engine(Custom(), 2, path)


@pytest.mark.parametrize("name", ["nonlocal", "custom"])
def test_the_closed_form_is_for_networks_that_have_one(name: str) -> None:
    modules, _ = pack(name, 1)
    message = f"must be vmap, .*, got 'closed_form' for a {type(modules[0]).__name__}"
    with pytest.raises(EnergyError, match=message):
        make_engine(modules[0], 1, "closed_form")


def test_a_module_that_cannot_be_batched_is_found_out() -> None:
    torch.manual_seed(0)
    modules = [Branching() for _ in range(3)]
    parameters, x = stack_parameters(modules), torch.randn(3, 4, 2)
    engine = make_engine(modules[0], 3)
    assert isinstance(engine.kernel, Batched)
    assert not probe(engine, parameters, x)
    loop = make_engine(modules[0], 3, Looped.name)
    assert probe(loop, parameters, x)
    for m, module in enumerate(modules):
        torch.testing.assert_close(loop.energy(parameters, x)[m], module(x[m]))


@paths
def test_a_path_that_works_passes_the_probe(name: str, path: str) -> None:
    modules, x = pack(name, 2)
    assert probe(make_engine(modules[0], 2, path), stack_parameters(modules), x)


@pytest.mark.parametrize(
    ("name", "members", "seconds", "path"),
    [
        ("mlp", 1, 1e-4, "closed_form"),
        ("mlp", 1, 1e-2, "closed_form+compile"),
        ("mlp", 3, 1e-2, "closed_form"),  # several perceptrons gain nothing
        ("custom", 1, 1e-4, "loop"),
        ("custom", 1, 1e-2, "vmap+compile"),
        ("custom", 3, 1e-2, "vmap+compile"),
        ("vanilla", 1, 1e-2, "closed_form"),
        ("nonlocal", 3, 1e-2, "loop"),
    ],
)
def test_long_trainings_are_compiled_where_that_repays_its_time(
    name: str, members: int, seconds: float, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "_step_seconds", lambda *_: seconds)
    monkeypatch.setenv("CXX", "sh")  # what there is everywhere stands for a compiler
    modules, x = pack(name, members)
    parameters = stack_parameters(modules)
    assert choose_engine(modules[0], parameters, x, steps=100_000).path == path
    monkeypatch.setenv("CXX", "no-such-compiler")
    without = choose_engine(modules[0], parameters, x, steps=100_000).path
    assert without == make_engine(modules[0], members).path


def test_steps_are_timed_on_the_states_of_the_training() -> None:
    modules, x = pack("mlp", 2)
    before = x.clone()
    seconds = choice._step_seconds(make_engine(modules[0], 2), stack_parameters(modules), x)
    assert 1e-6 < seconds < 1
    assert torch.equal(x, before)


def test_what_cannot_be_batched_is_not_chosen() -> None:
    torch.manual_seed(0)
    modules = [Branching() for _ in range(3)]
    found = choose_engine(modules[0], stack_parameters(modules), torch.randn(3, 4, 2), steps=10**9)
    assert found.path == "loop"


def test_an_engine_keeps_the_architecture_and_not_the_module() -> None:
    modules, x = pack("custom", 2)
    engine, parameters = make_engine(modules[0], 2), stack_parameters(modules)
    before = engine.energy(parameters, x)
    with torch.no_grad():
        for value in (*modules[0].parameters(), *modules[0].buffers()):
            value.zero_()
    assert torch.equal(engine.energy(parameters, x), before)


def test_only_what_learns_is_stacked() -> None:
    modules, _ = pack("custom", 3)
    parameters = stack_parameters(modules)
    names = {"first.weight", "first.bias", "twice.weight", "twice.bias"}
    assert set(parameters) == names
    assert all(value.shape[0] == 3 and not value.requires_grad for value in parameters.values())


@pytest.mark.parametrize("name", ["shift", "scale"])
def test_what_does_not_learn_has_to_be_the_same_in_all_members(name: str) -> None:
    modules, _ = pack("custom", 2)
    with torch.no_grad():
        getattr(modules[1], name).add_(1)
    with pytest.raises(EnergyError, match=rf"Custom\.{name} is not learned, but differs between"):
        stack_parameters(modules)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_member_as_a_module_of_its_own(name: str) -> None:
    modules, x = pack(name, 3)
    parameters = stack_parameters(modules)
    own = module_with(modules[0], parameters, 2)
    assert torch.equal(own(x[2]), modules[2](x[2]))
    with torch.no_grad():
        for value in own.parameters():
            value.zero_()
    assert all(
        torch.equal(a, b)
        for a, b in zip(stack_parameters(modules).values(), parameters.values(), strict=True)
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_of_one_module(name: str) -> None:
    modules, x = pack(name, 1)
    y = x[0].clone().requires_grad_()
    (wanted,) = torch.autograd.grad(modules[0](y).sum(), y)
    close(module_gradient(modules[0])(x[0]), wanted)


def test_the_gradient_of_a_module_that_learns_nothing() -> None:
    modules, x = pack("toy", 1)
    wanted = module_gradient(modules[0])(x[0])
    close(module_gradient(modules[0].requires_grad_(False))(x[0]), wanted)
