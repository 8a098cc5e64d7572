"""Every fast path walks the chains that the reference path does, and obeys the same exact laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ebm_core import TrainConfig, preset
from ebm_core.energies import Mlp, Nonlocal, Vanilla
from ebm_core.engine import Engine, Precision, engine, make_engine, stack_parameters
from ebm_core.engine.steppers import Captured, Compiled, Record, compiled_steps
from ebm_core.langevin import PathInfo
from ebm_core.trainer import Trainer

STEPS, CHAINS = 20, 6
DTYPES = {torch.float64: 1e-10, torch.float32: 1e-4}


class Silu(nn.Module):
    """A user's smooth network."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(9, 12), nn.SiLU(), nn.Linear(12, 1))

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.net(x.flatten(1)).squeeze(-1)
        return value


class Quadratic(nn.Module):
    """F = c |x|^2 / 2: the law of its chains is known at every step."""

    def __init__(self, c: float = 0.1) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.tensor(c))

    def forward(self, x: Tensor) -> Tensor:
        return self.c * x.flatten(1).square().sum(1) / 2


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Sequence[str]]] = {
    "toy": (lambda: Mlp(2, (32, 64, 64, 64)), (2,), ("closed_form", "vmap", "loop")),
    "mlp": (lambda: Mlp(64, (96, 96)), (1, 8, 8), ("closed_form", "vmap", "loop")),
    "vanilla": (lambda: Vanilla(1, 8, width=6), (1, 8, 8), ("closed_form", "vmap", "loop")),
    "vanilla 32": (lambda: Vanilla(3, 32, width=4), (3, 32, 32), ("closed_form",)),
    "nonlocal": (lambda: Nonlocal(1, 8, (4, 6, 8)), (1, 8, 8), ("vmap", "loop")),
    "user's": (Silu, (3, 3), ("vmap", "loop")),
}
CASES = [(name, path) for name, (_, _, known) in NETWORKS.items() for path in known]
every_path = pytest.mark.parametrize(("name", "path"), CASES)


class Given:
    """A source of noise that was drawn before."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers, self.at = numbers, 0

    def __call__(self, out: Tensor) -> None:
        out.copy_(self.numbers[self.at : self.at + len(out)])
        self.at += len(out)


def walk(
    own: Engine, modules: Sequence[nn.Module], x: Tensor, seed: int = 1
) -> tuple[Tensor, PathInfo]:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(modules), STEPS, *x.shape[1:], generator=generator, dtype=x.dtype)
    epsilon = torch.linspace(0.05, 0.2, len(modules), dtype=x.dtype)
    sources = [Given(numbers) for numbers in noise]
    return own.short_run(stack_parameters(modules), x, epsilon, sources, STEPS)


def pack(name: str, members: int, dtype: torch.dtype) -> tuple[list[nn.Module], Tensor]:
    torch.manual_seed(0)
    build, shape, _ = NETWORKS[name]
    modules = [build().to(dtype) for _ in range(members)]
    return modules, torch.randn(members, CHAINS, *shape, dtype=dtype)


def apart(found: tuple[Tensor, PathInfo], wanted: tuple[Tensor, PathInfo]) -> float:
    """Largest difference of states or of path means, relative to the largest entry."""
    pairs = [(found[0], wanted[0]), *zip(found[1], wanted[1], strict=True)]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("members", [1, 3])
@every_path
def test_a_path_equals_the_reference(
    name: str, path: str, members: int, dtype: torch.dtype
) -> None:
    modules, x = pack(name, members, dtype)
    wanted = walk(make_engine(modules[0], members, "reference"), modules, x)
    found = walk(make_engine(modules[0], members, path), modules, x)
    assert apart(found, wanted) < DTYPES[dtype]
    # a negative control: other noise is seen
    assert apart(walk(make_engine(modules[0], members, path), modules, x, 2), wanted) > 0.01


SHORT = {"anneal_updates": 10, "window": 20, "updates": 30}
TRAINED = {
    "toy": preset("gmm_convergent", langevin_steps=10, **SHORT),
    "mlp": preset("digits", **SHORT),
    "vanilla": preset("digits", network={"name": "vanilla", "width": 6}, **SHORT),
    "nonlocal": preset("digits", network={"name": "nonlocal", "widths": [4, 6, 8]}, **SHORT),
}


@pytest.fixture(scope="module", params=TRAINED)
def trained(request: pytest.FixtureRequest) -> tuple[str, Trainer]:
    config: TrainConfig = TRAINED[request.param]
    trainer = Trainer([config.with_(precision="float64", seed=seed) for seed in (0, 1)])
    trainer.run(config.updates)
    assert bool(trainer.alive.all())
    return request.param, trainer


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_trained_weights_make_no_difference(
    trained: tuple[str, Trainer], dtype: torch.dtype
) -> None:
    name, trainer = trained
    modules = [result.energy.to(dtype) for result in trainer.results()]
    x = trainer.states[:, :CHAINS].to(dtype)
    wanted = walk(make_engine(modules[0], 2, "reference"), modules, x)
    compiled = ["closed_form+compile"] if name == "mlp" else []
    for path in (*NETWORKS[name][2], *compiled):
        own = make_engine(modules[0], 2, path)
        assert apart(walk(own, modules, x), wanted) < DTYPES[dtype]
        assert own.path == path
        own.stepper = Captured(own.kernel, replayed())
        assert apart(walk(own, modules, x), wanted) < DTYPES[dtype]


# -- tiles and pieces ----------------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 16, 17, 40, 64])
def test_tiles_are_even_and_leave_nobody_out(members: int) -> None:
    states, parameters = torch.zeros(members, 5, 2), {"w": torch.zeros(members, 7)}
    found = engine.tiles(parameters, states)
    assert [m for tile in found for m in range(members)[tile]] == list(range(members))
    sizes = {tile.stop - tile.start for tile in found}
    assert max(sizes) <= 16
    assert max(sizes) - min(sizes) <= 1


def test_large_members_walk_alone() -> None:
    states, parameters = torch.zeros(4, 1, 2), {"w": torch.zeros(4, 1 << 10, 1 << 10)}
    assert len(engine.tiles(parameters, states)) == 4


@pytest.mark.parametrize(("chains", "largest"), [(100, 16), (200, 10), (400, 6), (4_000, 1)])
def test_members_of_many_chains_walk_in_smaller_tiles(chains: int, largest: int) -> None:
    parameters = stack_parameters([Mlp(2, (32, 64, 64, 64)) for _ in range(64)])
    found = engine.tiles(parameters, torch.zeros(64, chains, 2))
    assert max(tile.stop - tile.start for tile in found) <= largest
    assert len(found) >= 64 / largest


def test_a_member_walks_the_same_in_a_large_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    modules, x = pack("mlp", 5, torch.float64)
    whole = walk(make_engine(modules[0], 5), modules, x)
    monkeypatch.setattr(engine, "_TILE_MEMBERS", 2)
    assert apart(walk(make_engine(modules[0], 5), modules, x), whole) < 1e-10


@pytest.mark.parametrize("name", ["vanilla", "nonlocal"])
def test_chains_in_pieces_walk_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    modules, x = pack(name, 2, torch.float64)
    whole = walk(make_engine(modules[0], 2), modules, x)
    pieces = []
    split = torch.Tensor.chunk
    monkeypatch.setattr("ebm_core.engine.kernels._PIECE", 100)
    monkeypatch.setattr(torch.Tensor, "chunk", lambda x, n: pieces.append(n) or split(x, n))
    assert apart(walk(make_engine(modules[0], 2), modules, x), whole) < 1e-10
    assert set(pieces) == {math.ceil(CHAINS * 64 / 100)}


# -- steppers ------------------------------------------------------------------------------------


def replayed(record: list[int] | None = None) -> Record:
    """In place of a CUDA capture: the recorded program is run again on its own buffers."""

    def recorder(program: Callable[[], None]) -> Callable[[], None]:
        if record is not None:
            record.append(1)
        return program

    return recorder


@every_path
def test_a_captured_path_equals_the_reference(name: str, path: str) -> None:
    modules, x = pack(name, 3, torch.float64)
    own = make_engine(modules[0], 3, path)
    own.stepper = Captured(own.kernel, replayed())
    assert own.path == f"{path}+graph"
    wanted = walk(make_engine(modules[0], 3, "reference"), modules, x)
    assert apart(walk(own, modules, x), wanted) < 1e-10
    # once more with other weights, which the graph has to be told
    wanted = walk(make_engine(modules[0], 3, "reference"), modules[::-1], x)
    assert apart(walk(own, modules[::-1], x), wanted) < 1e-10


def test_a_graph_is_captured_once_for_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ebm_core.langevin._NOISE_BLOCK_CPU", 8 * CHAINS * 64)
    modules, x = pack("mlp", 3, torch.float64)
    own = make_engine(modules[0], 3)
    captures: list[int] = []
    own.stepper = Captured(own.kernel, replayed(captures))
    first = walk(own, modules, x)
    assert len(captures) == 2  # blocks of 8 steps, and the 4 that are left
    again = walk(own, modules, x)
    assert len(captures) == 2
    assert torch.equal(first[0], again[0])
    smaller = walk(own, modules[:2], x[:2])
    assert len(captures) == 4
    assert apart(smaller, walk(make_engine(modules[0], 2), modules[:2], x[:2])) < 1e-10


def test_what_cannot_be_captured_runs_on_eagerly() -> None:
    def refuse(program: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")

    modules, x = pack("mlp", 2, torch.float64)
    own = make_engine(modules[0], 2)
    own.stepper = Captured(own.kernel, refuse)
    with pytest.warns(UserWarning, match="steps are not captured: operation not permitted"):
        found = walk(own, modules, x)
    assert own.path == "closed_form"
    assert apart(found, walk(make_engine(modules[0], 2), modules, x)) == 0


@pytest.mark.parametrize(
    ("block", "size"), [(1, 1), (3, 3), (8, 8), (16, 8), (30, 6), (100, 8), (37, 7), (11, 5)]
)
def test_few_steps_are_left_over_from_compiled_ones(block: int, size: int) -> None:
    assert compiled_steps(block) == size


def test_what_cannot_be_compiled_runs_on_eagerly() -> None:
    class Asks(Silu):
        def forward(self, x: Tensor) -> Tensor:
            value: Tensor = self.net(x.flatten(1)).squeeze(-1)
            return value if value.sum().item() > 0 else 2 * value

    torch.manual_seed(0)
    modules = [Asks()]
    own = make_engine(modules[0], 1, "loop+compile")
    x = torch.randn(1, CHAINS, 3, 3)
    with pytest.warns(UserWarning, match="steps are not compiled"):
        found = walk(own, modules, x)
    assert own.path == "loop"
    assert apart(found, walk(make_engine(modules[0], 1, "loop"), modules, x)) == 0


def test_a_compiled_path_equals_the_reference() -> None:
    modules, x = pack("user's", 2, torch.float64)
    own = make_engine(modules[0], 2, "vmap+compile")
    found = walk(own, modules, x)
    assert own.path == "vmap+compile"  # or it had been given up
    assert isinstance(own.stepper, Compiled)
    assert apart(found, walk(make_engine(modules[0], 2, "reference"), modules, x)) < 1e-10


# -- exact laws ----------------------------------------------------------------------------------


def absolute_value(a: float) -> Mlp:
    """F = a |x| as a perceptron."""
    net = Mlp(1, (2,), slope=0.0)
    with torch.no_grad():
        net.hidden[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        net.hidden[0].bias.zero_()
        net.output.weight.fill_(a)
        net.output.bias.zero_()
    return net


def absolute_values(a: float) -> Vanilla:
    """F = a sum |x_i| as a convolutional network: every pixel and its negative, summed up."""
    net = Vanilla(1, 8, width=2)
    with torch.no_grad():
        for value in net.parameters():
            value.zero_()
        first, _, second, _ = net.body
        first.weight[:, 0, 1, 1] = torch.tensor([1.0, -1.0])
        second.weight[:, :, 1:3, 1:3] = 1 / 4  # each pixel lies in the middle of one window
        net.output.weight.fill_(a / 0.95)  # lrelu(x) + lrelu(-x) = 0.95 |x| at slope 0.05
    return net


def variance_of_absolute_value(a: float, epsilon: float, steps: int, sd: float) -> float:
    """Variance of one coordinate after some steps x - a sign(x) + epsilon z, on a fine grid."""
    x = np.linspace(-4, 4, 1_601)
    p = np.exp(-(x**2) / (2 * sd**2))
    moves = np.exp(-((x[:, None] - (x - a * np.sign(x))[None]) ** 2) / (2 * epsilon**2))
    moves /= moves.sum(0)
    for _ in range(steps):
        p = moves @ (p / p.sum())
    return float((p * x**2).sum() / p.sum())


def sampled_variance(own: Engine, module: nn.Module, shape: tuple[int, ...], n: int) -> float:
    generator = torch.Generator().manual_seed(5)
    x = 0.5 * torch.randn(1, n, *shape, generator=generator, dtype=torch.float64)
    noise = partial(torch.Tensor.normal_, generator=generator)
    epsilon = torch.full((1,), 0.2, dtype=torch.float64)
    moved, _ = own.short_run(stack_parameters([module]), x, epsilon, [noise], STEPS)
    return float(moved.var(correction=0) + moved.mean() ** 2)


@pytest.mark.parametrize("path", ["closed_form", "vmap", "loop", "reference"])
@pytest.mark.parametrize("kind", ["perceptron", "vanilla"])
def test_the_law_of_an_absolute_value(kind: str, path: str) -> None:
    """Exact by recursion of the density; 4 standard errors of 32,000 coordinates."""
    a, numbers = 0.05, 32_000
    build, shape = (absolute_value, (1,)) if kind == "perceptron" else (absolute_values, (1, 8, 8))
    module = build(a).double()
    own = make_engine(module, 1, path)
    found = sampled_variance(own, module, shape, numbers // math.prod(shape))
    wanted = variance_of_absolute_value(a, 0.2, STEPS, 0.5)
    error = wanted * math.sqrt(3 / numbers)  # of a variance, at the kurtosis of such tails
    assert abs(found - wanted) < 4 * error
    # negative controls: the law of no drift, and of twice the drift, are seen
    assert abs(found - (0.25 + STEPS * 0.04)) > 20 * error
    assert abs(found - variance_of_absolute_value(2 * a, 0.2, STEPS, 0.5)) > 20 * error


@pytest.mark.parametrize("path", ["vmap", "loop", "reference", "vmap+graph", "vmap+compile"])
def test_the_law_of_a_quadratic_energy(path: str) -> None:
    """v <- (1 - c)^2 v + epsilon^2, exactly."""
    module = Quadratic().double()
    kernel, _, how = path.partition("+")
    own = make_engine(module, 1, kernel if how == "graph" else path)
    if how == "graph":
        own.stepper = Captured(own.kernel, replayed())
    wanted = 0.25
    for _ in range(STEPS):
        wanted = 0.9**2 * wanted + 0.04
    found = sampled_variance(own, module, (4,), 8_000)
    assert own.path == path
    error = wanted * math.sqrt(2 / 32_000)
    assert abs(found - wanted) < 4 * error
    assert abs(found - (0.25 + STEPS * 0.04)) > 20 * error


# -- reduced precision ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "vanilla", "nonlocal", "user's"])
def test_reduced_precision_is_near_and_its_states_are_not_reduced(name: str) -> None:
    modules, x = pack(name, 2, torch.float32)
    precision: Precision = "bfloat16"
    wanted = walk(make_engine(modules[0], 2), modules, x)
    found = walk(make_engine(modules[0], 2, precision=precision), modules, x)
    assert found[0].dtype == found[1].gradient_magnitude.dtype == torch.float32
    assert 1e-7 < apart(found, wanted) < 0.1
