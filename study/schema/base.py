"""The base of a study, `TrainConfig` values, and how a point of the space changes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ebm_core.config import TrainConfig, override
from ebm_core.errors import ConfigError, Problem
from ebm_core.presets import preset_values
from study.space import Scalar

# Fields that a study may search: what decides how one training goes. Left out are seeds, which
# `seeds` repeats, and what judges or runs a training.
SEARCHABLE = (
    "epsilon",
    "eps_data_ratio",
    "gamma_0",
    "gamma_start",
    "gamma_start_ratio",
    "anneal_updates",
    "optimizer",
    "data",
    "network",
    "langevin_steps",
    "chain_start",
    "bank_size",
    "bank_start",
    "start_scale",
    "reinit_share",
    "batch_size",
    "updates",
    "init_scale",
)
WHOLE = frozenset(name for name in SEARCHABLE if TrainConfig.model_fields[name].annotation is int)


def expand(raw: Any) -> dict[str, Any]:
    """The values of a base, with those of its preset below them.

    A mapping that does not name another kind, such as ``data: {path: …}``, changes that of the
    preset and does not replace it.

    Raises:
        ConfigError: If this is not a mapping, or there is no such preset.
    """
    if not isinstance(raw, Mapping):
        rule = "must be a mapping such as {preset: digits, updates: 3000}"
        raise ConfigError([Problem("", rule, raw)])
    given = {str(key): value for key, value in raw.items()}
    if "preset" not in given:
        return given
    name = given.pop("preset")
    if not isinstance(name, str):
        raise ConfigError([Problem("preset", "must be the name of a preset", name)])
    below = preset_values(name)
    return override(below, {key: _merged(below.get(key), value) for key, value in given.items()})


def values_at(
    base: Mapping[str, Any], point: Mapping[str, Scalar], repeat: int = 0
) -> dict[str, Any]:
    """`TrainConfig` values of one training: base, then point; the seed is the base's + repeat."""
    seed = base.get("seed", 0)
    values = override(base, point)
    # A seed of another type is left for the validation to refuse
    values["seed"] = seed + repeat if type(seed) is int else seed
    return values


def _merged(below: Any, value: Any) -> Any:
    below = {"name": below} if isinstance(below, str) else below
    if not isinstance(below, Mapping) or not isinstance(value, Mapping):
        return value
    if value.get("name", below.get("name")) != below.get("name"):
        return value
    return {**below, **value}
