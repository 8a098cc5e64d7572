"""F before the first update: r_1 is where it is expected, by a factor that repeats exactly."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ebm_core import checkpoint, preset, train
from ebm_core.__main__ import main
from ebm_core.config import TrainConfig, make_config
from ebm_core.data import Samples
from ebm_core.energies import Mlp, build_energy, scale_output
from ebm_core.errors import EnergyError
from ebm_core.initialization import find_factor, first_magnitude
from ebm_core.trainer import Trainer
from ebm_core.verdict import band_scale

TINY = make_config(
    {
        "data": "gmm",
        "network": {"name": "toy", "widths": [16, 16]},
        "epsilon": 0.1,
        "eps_data_ratio": 1.0,
        "gamma_0": 0.02,
        "langevin_steps": 6,
        "batch_size": 12,
        "bank_size": 30,
        "bank_start": "gaussian",
        "updates": 60,
        "window": 20,
        "device": "cpu",
    }
)
IMAGES = {"name": "array", "path": "not/there.npy"}


# -- the search for a factor ---------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(
    st.floats(-25, 25), st.floats(-3, 3), st.floats(1.0, 3), st.sampled_from([0.7, 1.0, 1.5, 2.0])
)
def test_a_magnitude_comes_into_its_range(
    size: float, low: float, width: float, power: float
) -> None:
    low, high = 10**low, 10 ** (low + width)
    factor = find_factor(lambda f: 10**size * f**power, low, high)
    assert low <= 10**size * factor**power <= high
    assert math.log2(factor).is_integer()


@pytest.mark.parametrize("r", [0.1, 0.3, 1.0])
def test_f_is_left_alone_where_r_1_is_in_range(r: float) -> None:
    asked: list[float] = []

    def magnitude(factor: float) -> float:
        asked.append(factor)
        return r * factor

    assert find_factor(magnitude, 0.1, 1.0) == 1
    assert asked == [1]


@pytest.mark.parametrize("beyond", [math.nan, math.inf, 1e30])
def test_chains_that_are_lost_at_first_are_no_obstacle(beyond: float) -> None:
    def magnitude(factor: float) -> float:
        return 1e4 * factor if factor < 1e-3 else beyond

    factor = find_factor(magnitude, 0.1, 1.0)
    assert 0.1 <= 1e4 * factor <= 1.0


def test_a_band_without_a_low_end() -> None:
    assert find_factor(lambda f: 1e-9 * f, 0.0, 1.0) == 1
    assert 0 < find_factor(lambda f: 1e3 * f, 0.0, 1.0) <= 1e-3


@pytest.mark.parametrize(
    ("magnitude", "message"),
    [
        (lambda f: 0.0, r"F is flat where the chains start \(r_1 is 0\)"),
        (lambda f: math.nan, "no factor on F was found .* between 0.1 and 1; it is nan"),
        (lambda f: 5.0, "no factor on F was found .*; it is 5"),
        (lambda f: 1e-3 if f <= 8 else 5.0, "no factor on F was found"),
    ],
    ids=["dead", "nan", "stubborn", "jump"],
)
def test_what_no_factor_helps(magnitude: Callable[[float], float], message: str) -> None:
    with pytest.raises(EnergyError, match=f"init_scale=auto: {message}"):
        find_factor(magnitude, 0.1, 1.0)


# -- in training ---------------------------------------------------------------------------------


def bad(config: TrainConfig, factor: float) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        module = build_energy(config.network, (2,))
        scale_output(module, factor)
        return module

    return build


def in_range(trainer: Trainer, member: int = 0) -> bool:
    config = trainer.configs[member]
    r_star = trainer.matched(member).r_star
    unit = band_scale(config.band.unit, config.epsilon, trainer.dimensions, r_star)
    return config.band.low / 10 <= trainer.r(member)[0] / unit <= config.band.high


@pytest.mark.parametrize("factor", [1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("unit", ["matched", "scaled", "absolute"])
@pytest.mark.parametrize("chain_start", ["persistent", "uniform"])
def test_r_1_comes_into_range_from_any_network(factor: float, unit: str, chain_start: str) -> None:
    config = TINY.with_(band={"unit": unit}, chain_start=chain_start)
    plain = Trainer([config], energy=bad(config, factor))
    scaled = Trainer([config.with_(init_scale="auto")], energy=bad(config, factor))
    plain.run(1)
    scaled.run(1)
    assert in_range(scaled)
    assert float(scaled.init_factors) == scaled.result().init_factor
    if in_range(plain):
        assert scaled.result().init_factor == 1
        assert np.array_equal(plain.d(), scaled.d())
    else:
        assert scaled.result().init_factor != 1


def test_a_number_is_used_as_it_is() -> None:
    results = [train(TINY.with_(init_scale=scale)) for scale in (1, 2.5)]
    assert [result.init_factor for result in results] == [1, 2.5]
    assert results[1].r[0] / results[0].r[0] == pytest.approx(2.5, rel=0.3)


def test_what_is_measured_is_r_of_the_first_update() -> None:
    trainer = Trainer([TINY])
    expected = first_magnitude(trainer.module, TINY, trainer.dataset, trainer.states[0])
    trainer.run(1)
    assert trainer.r()[0] == pytest.approx(expected, rel=1e-6)


AUTO = [
    TINY.with_(init_scale="auto", epsilon=0.01),
    TINY.with_(init_scale="auto", epsilon=0.3, seed=3),
    TINY.with_(init_scale=0.5, epsilon=0.02, band={"unit": "scaled"}),
]


def test_a_member_is_scaled_in_a_pack_as_alone() -> None:
    pack = Trainer(AUTO)
    factors = [float(Trainer([config]).init_factors) for config in AUTO]
    assert pack.init_factors.tolist() == factors
    assert len(set(factors)) == 3
    again = Trainer(AUTO)
    pack.run(10)
    again.run(10)
    assert np.array_equal(pack.d(0), again.d(0))


def test_a_resumed_training_goes_on_exactly_with_its_factor(tmp_path) -> None:
    whole, begun = Trainer(AUTO), Trainer(AUTO)
    whole.run(20)
    begun.run(7)
    resumed = Trainer.resume(begun.save(tmp_path / "checkpoint.pt"))
    resumed.run(13)
    for member in range(3):
        assert np.array_equal(whole.d(member), resumed.d(member))
        assert resumed.result(member).init_factor == whole.result(member).init_factor
    alone = Trainer.resume(begun.save(tmp_path / "member.pt", member=1))
    assert alone.result().init_factor == whole.result(1).init_factor
    # it is the factor of the checkpoint, whatever was found while the trainer was built
    state = checkpoint.load(tmp_path / "member.pt")
    alone.load_state({**state, "init_factors": torch.tensor([7.0])})
    assert alone.result().init_factor == 7


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    Trainer([AUTO[0]])
    assert torch.equal(before, torch.get_rng_state())


def flat() -> nn.Module:
    module = Mlp(2, (8,), slope=0.0)
    nn.init.constant_(module.hidden[0].bias, -1e3)
    return module


class Bowl(nn.Module):
    """An energy without a last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.size = nn.Parameter(torch.tensor(0.4))

    def forward(self, x: Tensor) -> Tensor:
        return self.size * x.square().sum(-1)


def test_networks_that_cannot_be_scaled_are_refused() -> None:
    with pytest.raises(EnergyError, match="F is flat where the chains start"):
        Trainer([AUTO[0]], energy=flat)
    with pytest.raises(EnergyError, match=r"init_scale needs Bowl\.output, the last layer"):
        Trainer([AUTO[0]], energy=Bowl)
    # left alone, it needs no such layer
    calm = AUTO[0].with_(band={"low": 0.01, "high": 1e4})
    assert Trainer([calm], energy=Bowl).init_factors.tolist() == [1]


def test_real_images_start_in_range() -> None:
    config = preset("digits", epsilon=0.02)
    plain, scaled = Trainer([config]), Trainer([config.with_(init_scale="auto")])
    plain.run(1)
    scaled.run(1)
    assert not in_range(plain)
    assert in_range(scaled)


def test_the_factor_is_told_to_the_user(tmp_path, capsys) -> None:
    arguments = "train --preset gmm_nonconvergent --quiet --set updates=20 window=20 epsilon=0.02"
    scaled = [*arguments.split(), "langevin_steps=5", "init_scale=auto", "--out", str(tmp_path)]
    assert main(scaled) == 0
    assert re.search(r"init_scale +auto: F was multiplied by 0\.\d+\n", capsys.readouterr().out)


# -- the source's figures at initialization ------------------------------------------------------


@pytest.mark.parametrize("network", ["toy", "vanilla", "nonlocal"])
def test_r_1_of_standard_initialization(network: str) -> None:
    """About 0.01 with the energy of (1A), about 1e-6 with U = F (appendix A)."""
    values: dict[str, Any] = {"network": network, "epsilon": 0.015, "chain_start": "uniform"}
    data: dict[str, Any] = {"data": "gmm"} if network == "toy" else {"data": IMAGES}
    blank = None if network == "toy" else Samples(torch.zeros(4, 3, 32, 32))
    config = TINY.with_(**values, **data, batch_size=4, langevin_steps=8)
    for seed in range(3):
        found = []
        for scale in (1.0, config.temperature):
            trainer = Trainer([config.with_(seed=seed, init_scale=scale)], dataset=blank)
            trainer.run(1)
            found.append(trainer.r()[0])
        assert 0.003 < found[0] < 0.04
        assert 3e-7 < found[1] < 5e-6
