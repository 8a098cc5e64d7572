"""The published runs, parameter for parameter, and the two on digits."""

from __future__ import annotations

from typing import Any

import pytest

from ebm_core.config import TrainConfig
from ebm_core.errors import ConfigError
from ebm_core.presets import preset, preset_names, preset_values, presets

# As published: data, its shape or parameters, network, epsilon, data epsilon, L, start, optimizer,
# rate at the start, rate at the end, updates. Batches hold 100, banks 10,000.
GMM = {"name": "gmm", "modes": 8, "radius": 1.0, "sd": 0.15}
RINGS = {"name": "rings", "rings": 4, "sd": 0.15}


def images(folder: str, channels: int) -> dict[str, Any]:
    size = {"size": 32, "channels": channels, "held_out": 0.0}
    return {"name": "image_folder", "path": f"data/{folder}", **size}


PUBLISHED: dict[str, tuple[Any, ...]] = {
    "gmm_convergent": (*(GMM, "toy", 0.125, 0, 500, "persistent", "sgd", 0.1, 0.1, 200_000),),
    "rings_convergent": (*(RINGS, "toy", 0.125, 0, 500, "persistent", "sgd", 0.1, 0.1, 200_000),),
    "gmm_nonconvergent": (*(GMM, "toy", 0.01, 0, 100, "gaussian", "adam", 1e-4, 1e-4, 100_000),),
    "rings_nonconvergent": (
        *(RINGS, "toy", 0.01, 0, 100, "gaussian", "adam", 1e-4, 1e-4, 100_000),
    ),
    "mnist_convergent": (
        *(images("mnist", 1), "nonlocal", 0.0075, 0.015, 500, "persistent"),
        *("sgd", 0.01, 0.01, 100_000),
    ),
    "flowers_convergent": (
        *(images("flowers", 3), "nonlocal", 0.0075, 0.015, 500, "persistent"),
        *("sgd", 0.1, 0.0005, 200_000),
    ),
    "flowers_nonconvergent": (
        *(images("flowers", 3), "vanilla", 0.01, 0.03, 150, "uniform"),
        *("adam", 1e-4, 1e-4, 100_000),
    ),
    "cifar10_nonconvergent": (
        *(images("cifar10", 3), "vanilla", 0.01, 0.03, 150, "uniform"),
        *("adam", 1e-4, 1e-4, 100_000),
    ),
    "cifar10_oscillating": (
        *(images("cifar10", 3), "vanilla", 0.01, 0.03, 500, "persistent"),
        *("adam", 1e-4, 1e-4, 100_000),
    ),
}
START_SCALE = {"rings_convergent": 2.0, "rings_nonconvergent": 2.0}


def parameters(config: TrainConfig) -> tuple[Any, ...]:
    return (
        config.data.model_dump(),
        config.network.name,
        config.epsilon,
        config.data_epsilon,
        config.langevin_steps,
        config.chain_start,
        config.optimizer,
        config.start_rate,
        config.gamma_0,
        config.updates,
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_run(name: str) -> None:
    config = preset(name)
    assert parameters(config) == PUBLISHED[name]
    assert config.batch_size == 100
    assert config.bank_size == 10_000
    assert config.start_scale == START_SCALE.get(name, 1.0)
    assert config.window == 2_000
    assert config.reinit_share == 0
    assert config.init_scale == 1


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_their_published_form(name: str) -> None:
    network = preset(name).network.model_dump()
    forms: dict[str, dict[str, Any]] = {
        "toy": {"widths": (32, 64, 64, 64)},
        "vanilla": {"width": 32},
        "nonlocal": {"widths": (32, 64, 128)},
    }
    leaky = {"activation": "leaky_relu", "slope": 0.05}
    assert network == {"name": network["name"], **leaky, **forms[network["name"]]}


def test_annealing_has_the_published_factor_an_update() -> None:
    config = preset("flowers_convergent")
    factor = (config.gamma_0 / config.start_rate) ** (1 / config.anneal_updates)
    assert factor == pytest.approx(0.99995, abs=1e-9)
    assert [c.annealing_active for n, c in presets().items() if n in PUBLISHED].count(True) == 1


def digits(**changes: Any) -> dict[str, Any]:
    return {
        "data": {"name": "digits", "size": 8, "held_out": 0.0},
        "network": {
            "name": "mlp",
            "widths": (96, 96),
            "slope": 0.05,
            "activation": "leaky_relu",
        },
        "epsilon": 0.08,
        "eps_data_ratio": 2.0,
        "batch_size": 64,
        "bank_size": 1_797,
        "chain_start": "persistent",
        **changes,
    }


RUNS_ON_DIGITS = {
    "digits": digits(
        optimizer="sgd",
        gamma_start=0.1,
        gamma_0=0.005,
        anneal_updates=1_000,
        langevin_steps=30,
        updates=2_000,
        window=800,
    ),
    "digits_strong": digits(
        optimizer="adam",
        gamma_start=None,
        gamma_0=0.01,
        anneal_updates=0,
        langevin_steps=40,
        updates=4_000,
        window=1_500,
    ),
}


@pytest.mark.parametrize("name", RUNS_ON_DIGITS)
def test_run_on_digits(name: str) -> None:
    values = preset(name).model_dump()
    expected = RUNS_ON_DIGITS[name]
    assert {key: values[key] for key in expected} == expected


def test_every_preset_is_in_a_table_above() -> None:
    assert set(preset_names()) == {*PUBLISHED, *RUNS_ON_DIGITS}
    assert list(presets()) == preset_names()


def test_changes() -> None:
    config = preset("digits", epsilon=0.2, gamma_start_ratio=10)
    assert (config.epsilon, config.gamma_start, config.start_rate) == (0.2, None, 0.05)
    with pytest.raises(
        ConfigError, match=r"^preset digits: epsilon: must be greater than 0, got 0"
    ):
        preset("digits", epsilon=0)


def test_raw_values_are_the_callers_own() -> None:
    preset_values("digits")["epsilon"] = 5
    assert preset("digits").epsilon == 0.08


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(
        ConfigError, match=r"preset: must be one of gmm_conv.*did you mean `digits`"
    ):
        preset("digit")
