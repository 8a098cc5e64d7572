"""Named configurations: the published runs, and two that show both regimes within minutes."""

from __future__ import annotations

from typing import Any

from ebm_core.config import TrainConfig, make_config, override
from ebm_core.errors import ConfigError, Problem, did_you_mean

# Parameters of the runs published with Nijkamp et al. 2020. The 2-D sets are sampled without end
# and carry no extra noise; banks hold 10,000 states, and the last 2,000 updates are assessed.
_TOY = {
    "network": "toy",
    "eps_data_ratio": 0.0,
    "batch_size": 100,
    "bank_start": "gaussian",
    "window": 2_000,
}
_CONVERGENT_TOY = {
    **_TOY,
    "epsilon": 0.125,
    "langevin_steps": 500,
    "chain_start": "persistent",
    "bank_size": 10_000,
    "optimizer": "sgd",
    "gamma_0": 0.1,
    "updates": 200_000,
    "checkpoint_interval": 5_000,
}
_NONCONVERGENT_TOY = {
    **_TOY,
    "epsilon": 0.01,
    "langevin_steps": 100,
    "chain_start": "gaussian",
    "optimizer": "adam",
    "gamma_0": 1e-4,
    "updates": 100_000,
    "checkpoint_interval": 5_000,
}
_IMAGES = {
    "batch_size": 100,
    "bank_size": 10_000,
    "bank_start": "uniform",
    "updates": 100_000,
    "window": 2_000,
}
_CONVERGENT_IMAGES = {
    **_IMAGES,
    "network": "nonlocal",
    "epsilon": 0.0075,
    "eps_data_ratio": 2.0,
    "langevin_steps": 500,
    "chain_start": "persistent",
    "optimizer": "sgd",
}
_NONCONVERGENT_IMAGES = {
    **_IMAGES,
    "network": "vanilla",
    "epsilon": 0.01,
    "eps_data_ratio": 3.0,
    "langevin_steps": 150,
    "chain_start": "uniform",
    "optimizer": "adam",
    "gamma_0": 1e-4,
}


def _images(folder: str, channels: int) -> dict[str, Any]:
    return {"name": "image_folder", "path": folder, "size": 32, "channels": channels}


_DIGITS = {
    "data": "digits",
    "network": {"name": "mlp", "widths": [96, 96]},
    "epsilon": 0.08,
    "eps_data_ratio": 2.0,
    "batch_size": 64,
    "bank_size": 1_797,
    "bank_start": "uniform",
    "chain_start": "persistent",
    "window": 800,
    "checkpoint_interval": 500,
    "report_interval": 100,
}

_PRESETS: dict[str, dict[str, Any]] = {
    "gmm_convergent": {**_CONVERGENT_TOY, "data": "gmm", "start_scale": 1.0},
    "rings_convergent": {**_CONVERGENT_TOY, "data": "rings", "start_scale": 2.0},
    "gmm_nonconvergent": {**_NONCONVERGENT_TOY, "data": "gmm", "start_scale": 1.0},
    "rings_nonconvergent": {**_NONCONVERGENT_TOY, "data": "rings", "start_scale": 2.0},
    "mnist_convergent": {**_CONVERGENT_IMAGES, "data": _images("data/mnist", 1), "gamma_0": 0.01},
    "flowers_convergent": {
        **_CONVERGENT_IMAGES,
        "data": _images("data/flowers", 3),
        "gamma_start": 0.1,
        "gamma_0": 0.0005,
        # a factor of 0.99995 an update from 0.1 down to 0.0005
        "anneal_updates": 105_964,
        "updates": 200_000,
    },
    "flowers_nonconvergent": {**_NONCONVERGENT_IMAGES, "data": _images("data/flowers", 3)},
    "cifar10_nonconvergent": {**_NONCONVERGENT_IMAGES, "data": _images("data/cifar10", 3)},
    "cifar10_oscillating": {
        **_NONCONVERGENT_IMAGES,
        "data": _images("data/cifar10", 3),
        "langevin_steps": 500,
        "chain_start": "persistent",
    },
    # Real images, seconds a training: weak oscillation, convergent at a large enough epsilon.
    "digits": {
        **_DIGITS,
        "langevin_steps": 30,
        "updates": 2_000,
        "optimizer": "sgd",
        "gamma_start": 0.1,
        "gamma_0": 0.005,
        "anneal_updates": 1_000,
    },
    # The same data under Adam at a high rate: strong oscillation, as in the source's figure 2.
    "digits_strong": {
        **_DIGITS,
        "langevin_steps": 40,
        "updates": 4_000,
        "optimizer": "adam",
        "gamma_0": 0.01,
        "window": 1_500,
    },
}


def preset_names() -> list[str]:
    """The names that `preset` takes."""
    return list(_PRESETS)


def preset_values(name: str) -> dict[str, Any]:
    """The raw values of a preset, for a caller that changes some before they are validated.

    Raises:
        ConfigError: If there is no such preset.
    """
    if name not in _PRESETS:
        rule = f"must be one of {', '.join(_PRESETS)}"
        raise ConfigError([Problem("preset", rule, name, did_you_mean(name, list(_PRESETS)))])
    return dict(_PRESETS[name])


def preset(name: str, **changes: Any) -> TrainConfig:
    """A named configuration, optionally with some fields changed.

    Args:
        name: One of `preset_names`.
        **changes: Fields of `TrainConfig` that differ, such as ``data`` with the user's folder.

    Raises:
        ConfigError: If there is no such preset, or the result breaks a rule.
    """
    return make_config(override(preset_values(name), changes), source=f"preset {name}")


def presets() -> dict[str, TrainConfig]:
    """Every preset by name. The image runs name folders that the user has to fill."""
    return {name: preset(name) for name in _PRESETS}
