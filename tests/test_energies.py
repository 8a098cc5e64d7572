"""Networks: their size, their shapes, their gradients before learning, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from ebm_core.config import make_config
from ebm_core.energies import (
    Mlp,
    Nonlocal,
    NonlocalBlock,
    Vanilla,
    build_energy,
    check_energy,
    scale_output,
)
from ebm_core.engine import make_engine
from ebm_core.errors import ConfigError, EnergyError
from ebm_core.presets import preset
from ebm_core.sections import (
    Activation,
    CustomNetwork,
    MlpNetwork,
    NonlocalNetwork,
    ToyNetwork,
    VanillaNetwork,
)


def parameter_count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def vanilla_count(channels: int, size: int, width: int = 32) -> int:
    """3x3 in, 4x4 at stride 2 down to 4x4, 4x4 to one number; weights and biases."""
    count = channels * width * 9 + width
    while size > 4:
        count += width * 2 * width * 16 + 2 * width
        width, size = 2 * width, size // 2
    return count + width * 16 + 1


def nonlocal_count(channels: int, size: int) -> int:
    """Three 3x3 convolutions, two blocks of four 1x1 convolutions, two dense layers."""
    count = 0
    for fan_in, fan_out in ((channels, 32), (32, 64), (64, 128)):
        count += fan_in * fan_out * 9 + fan_out
    for width in (32, 64):
        count += 3 * (width * width // 2 + width // 2) + width // 2 * width + width
    return count + 128 * (size // 8) ** 2 * 256 + 256 + 256 + 1


@pytest.mark.parametrize(
    ("network", "shape", "count"),
    [
        (ToyNetwork(), (2,), 10_593),
        (MlpNetwork(widths=(96, 96)), (1, 8, 8), 15_649),
        (MlpNetwork(widths=(5,)), (3,), 26),
        (MlpNetwork(widths=(5, 4)), (2, 3, 2), 12 * 5 + 5 + 5 * 4 + 4 + 5),
        *[(VanillaNetwork(), (3, s, s), vanilla_count(3, s)) for s in (8, 16, 32, 64)],
        (VanillaNetwork(), (3, 32, 32), 693_569),
        (VanillaNetwork(width=4), (1, 16, 16), vanilla_count(1, 16, 4)),
        *[(NonlocalNetwork(), (1, s, s), nonlocal_count(1, s)) for s in (8, 24, 32, 64)],
        (NonlocalNetwork(), (3, 32, 32), 628_529),
    ],
)
def test_size_and_shape(network: object, shape: tuple[int, ...], count: int) -> None:
    torch.manual_seed(0)
    energy = build_energy(network, shape)
    assert parameter_count(energy) == count
    x = torch.randn(2, *shape)
    with torch.no_grad():
        assert energy(x).shape == (2,)
        assert energy(x[:1]).shape == (1,)
        torch.testing.assert_close(energy(x)[1:], energy(x[1:]))
    check_energy(energy, shape, torch.float32)


def test_vanilla_has_the_published_stages() -> None:
    convolutions = [m for m in Vanilla(3, 32).modules() if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in convolutions] == [
        (32, 3, 1),
        (64, 4, 2),
        (128, 4, 2),
        (256, 4, 2),
        (1, 4, 1),
    ]


@pytest.mark.parametrize(
    ("build", "shape", "low", "high"),
    [
        (lambda: Mlp(2, (32, 64, 64, 64)), (2,), 0.013, 0.016),
        (lambda: Vanilla(3, 32), (3, 32, 32), 0.013, 0.015),
        (lambda: Nonlocal(3, 32), (3, 32, 32), 0.023, 0.030),
        (lambda: Mlp(64, (96, 96)), (1, 8, 8), 0.085, 0.105),
    ],
)
def test_gradient_before_learning(
    build: Callable[[], nn.Module], shape: tuple[int, ...], low: float, high: float
) -> None:
    """|grad F| at uniform noise, as measured; single seeds scatter, so their mean is looked at."""
    norms = []
    for seed in range(8):
        torch.manual_seed(seed)
        energy = build()
        x = (2 * torch.rand(8, *shape) - 1).requires_grad_()
        (slope,) = torch.autograd.grad(energy(x).sum(), x)
        norms.append(float(slope.flatten(1).norm(dim=1).mean()))
    assert low <= sum(norms) / len(norms) <= high


def test_mlp_is_its_formula() -> None:
    torch.manual_seed(1)
    energy = Mlp(2, (3,), slope=0.1)
    x = torch.randn(4, 2)
    z = x @ energy.hidden[0].weight.T + energy.hidden[0].bias
    h = torch.where(z > 0, z, 0.1 * z)
    torch.testing.assert_close(energy(x), h @ energy.output.weight[0] + energy.output.bias)


@pytest.mark.parametrize("network", ["mlp", "vanilla", "nonlocal"])
@pytest.mark.parametrize("activation", get_args(Activation))
def test_activations_are_by_name_and_smooth_but_for_the_leaky_relu(
    network: str, activation: str
) -> None:
    config = preset("digits", network={"name": network, "activation": activation}).network
    torch.manual_seed(4)
    energy = build_energy(config, (1, 8, 8)).double()
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    toward = torch.randn_like(x)

    def along(step: Tensor) -> Tensor:
        return energy(x + step * toward).sum()

    bend = torch.autograd.functional.hessian(along, torch.zeros((), dtype=torch.float64))
    # attention bends by itself, though by nothing before its last layer has learned
    assert (abs(float(bend)) > 1e-9) == (activation != "leaky_relu")
    closed = make_engine(energy, 1).path == "closed_form"
    assert closed == (activation == "leaky_relu" and network != "nonlocal")


def test_a_nonlocal_block_is_the_identity_at_first() -> None:
    torch.manual_seed(2)
    block, x = NonlocalBlock(4), torch.randn(2, 4, 4, 4)
    assert torch.equal(block(x), x)
    nn.init.normal_(block.output.weight)
    assert not torch.allclose(block(x), x, atol=0.1)


def test_a_nonlocal_block_is_attention() -> None:
    """Against the embedded-Gaussian form written out, a position at a time."""
    torch.manual_seed(3)
    block, x = NonlocalBlock(4).double(), torch.randn(1, 4, 4, 4, dtype=torch.float64)
    nn.init.normal_(block.output.weight)
    key = nn.functional.max_pool2d(block.key(x), 2)[0].flatten(1)
    value = nn.functional.max_pool2d(block.value(x), 2)[0].flatten(1)
    weight, bias = block.output.parameters()
    expected = x.clone()
    for i in range(4):
        for j in range(4):
            weights = (block.query(x)[0, :, i, j] @ key).softmax(0)
            mixed = value @ weights
            expected[0, :, i, j] += weight[:, :, 0, 0] @ mixed + bias
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (ToyNetwork(), (3,), r"toy takes data of shape \(2,\), not \(3,\); use mlp"),
        (VanillaNetwork(), (3, 24, 24), "vanilla takes square images of 8, 16, 32, 64 pixels"),
        (VanillaNetwork(), (3, 32, 16), "got '32x16'"),
        (NonlocalNetwork(), (2,), r"takes images, but a sample has shape \(2,\)"),
    ],
)
def test_a_shape_that_does_not_fit(network: object, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_energy(network, shape)


CUSTOM = """
import torch

class Bowl(torch.nn.Module):
    def __init__(self, steepness=1.0):
        super().__init__()
        self.steepness = torch.nn.Parameter(torch.tensor(float(steepness)))

    def forward(self, x):
        return self.steepness * x.flatten(1).square().sum(1)

def word():
    return "no module"

def broken():
    raise RuntimeError("out of ideas")
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "user_network_for_this_test"
    (tmp_path / f"{name}.py").write_text(CUSTOM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_a_network_of_the_users_own(user_module: str) -> None:
    network = {"name": f"{user_module}:Bowl", "arguments": {"steepness": 3}}
    config = make_config(
        {"data": "gmm", "network": network, "epsilon": 0.1, "updates": 100, "window": 50}
    )
    energy = build_energy(config.network, (2,))
    assert energy(torch.tensor([[1.0, 2.0]])).tolist() == [15.0]


@pytest.mark.parametrize(
    ("attribute", "arguments", "message"),
    [
        ("Bowel", {}, "cannot be imported: module .* has no attribute 'Bowel'"),
        ("word", {}, "gives str, not a module"),
        ("broken", {}, "cannot be built: out of ideas"),
        ("Bowl", {"steep": 1}, "cannot be built: .*unexpected keyword argument 'steep'"),
    ],
)
def test_a_users_network_that_cannot_be_built(
    user_module: str, attribute: str, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(EnergyError, match=message):
        build_energy(CustomNetwork(name=f"{user_module}:{attribute}", arguments=arguments), (2,))


def test_a_users_module_that_is_not_there() -> None:
    with pytest.raises(EnergyError, match=r"'no\.such:thing' cannot be imported: No module named"):
        build_energy(CustomNetwork(name="no.such:thing"), (2,))


class Net(nn.Module):
    """A linear energy behind some other layer."""

    def __init__(self, layer: nn.Module, flat: bool = True) -> None:
        super().__init__()
        self.layer = layer
        self.linear = nn.Linear(4, 1)
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.linear(self.layer(x))
        return value.squeeze(-1) if self.flat else value


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).sum(1)


@pytest.mark.parametrize(
    ("energy", "message"),
    [
        (
            Net(nn.BatchNorm1d(4)),
            r"buffer 'layer\.running_mean' of BatchNorm1d changes in a forward pass.*\.eval\(\)",
        ),
        (
            Net(nn.BatchNorm1d(4, track_running_stats=False)),
            "gives a sample another value in another batch or at another time",
        ),
        (Net(nn.Dropout()), "gives a sample another value in another batch or at another time"),
        (
            Net(nn.Identity(), flat=False),
            r"must map samples of shape \(n, 4\) to n numbers of shape \(n,\); for n=3 it gave "
            r"\(3, 1\)",
        ),
        (Net(nn.Linear(5, 4)), r"Net fails on samples of shape \(n, 4\): .*cannot be multiplied"),
        (Fixed(), "Fixed has no parameters to learn"),
        (nn.Linear(4, 1).requires_grad_(False), "Linear has no parameters to learn"),
    ],
)
def test_a_module_that_cannot_serve_is_refused(energy: nn.Module, message: str) -> None:
    with pytest.raises(EnergyError, match=message):
        check_energy(energy, (4,), torch.float32)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.Dropout()])
def test_the_same_layers_are_fine_in_eval_mode(layer: nn.Module) -> None:
    check_energy(Net(layer).eval(), (4,), torch.float32)


def test_checking_changes_nothing() -> None:
    energy, random = Net(nn.BatchNorm1d(4)), Net(nn.Dropout())
    before = {name: value.clone() for name, value in energy.state_dict().items()}
    state = torch.random.get_rng_state()
    with pytest.raises(EnergyError, match="running_mean"):
        check_energy(energy, (4,), torch.float32)
    with pytest.raises(EnergyError, match="another value"):
        check_energy(random, (4,), torch.float32)
    after = energy.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("energy", "shape"),
    [(Mlp(3, (5, 4)), (3,)), (Vanilla(1, 8, 4), (1, 8, 8)), (Nonlocal(1, 8), (1, 8, 8))],
)
def test_scale_output(energy: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = energy(x)
        scale_output(energy, 2.5)
        torch.testing.assert_close(energy(x), 2.5 * before)
        scale_output(energy, 1 / 2.5)
        torch.testing.assert_close(energy(x), before)


def test_scale_output_needs_a_last_layer() -> None:
    energy = Net(nn.Identity())
    scale_output(energy, 1)
    with pytest.raises(EnergyError, match=r"init_scale needs Net\.output, .* multiply F by 2;"):
        scale_output(energy, 2)
