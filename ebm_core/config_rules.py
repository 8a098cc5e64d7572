"""Rules between the fields of a configuration. Imports neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ebm_core.errors import Problem
from ebm_core.sections import network_problems

if TYPE_CHECKING:
    from ebm_core.config import TrainConfig

# Half the square of any less is no normal number, and that of any more none at all.
_LEAST_EPSILON = {"float32": 1e-18, "tf32": 1e-18, "bfloat16": 1e-18, "float64": 1e-153}
_MOST_EPSILON = {"float32": 1e18, "tf32": 1e18, "bfloat16": 1e18, "float64": 1e153}


def _one_start_rate(config: TrainConfig) -> Iterator[Problem]:
    if config.gamma_start is not None and config.gamma_start_ratio is not None:
        rule = "give `gamma_start` or `gamma_start_ratio`, not both"
        yield Problem("gamma_start_ratio", rule, config.gamma_start_ratio)


def _temperature_is_a_number(config: TrainConfig) -> Iterator[Problem]:
    least, most = _LEAST_EPSILON[config.precision], _MOST_EPSILON[config.precision]
    type_name = "float64" if config.precision == "float64" else "float32"
    if config.epsilon < least:
        rule = f"must be at least {least:g}, since its square must not vanish in {type_name}"
        yield Problem("epsilon", rule, config.epsilon)
    elif config.epsilon > most:
        rule = f"must be at most {most:g}, since its square must be finite in {type_name}"
        yield Problem("epsilon", rule, config.epsilon)


def _law_has_density(config: TrainConfig) -> Iterator[Problem]:
    if config.eps_data_ratio == 0 and config.data.name not in ("gmm", "rings"):
        rule = "must be over 0 for a finite data set, whose law has no density without noise"
        yield Problem("eps_data_ratio", rule, config.eps_data_ratio)


def _window_after_annealing(config: TrainConfig) -> Iterator[Problem]:
    if config.window > config.updates:
        rule = f"`window <= updates` must hold (updates={config.updates})"
        yield Problem("window", rule, config.window)
    elif config.anneal_updates + config.window > config.updates:
        rule = (
            "`anneal_updates + window <= updates` must hold "
            f"(window={config.window}, updates={config.updates})"
        )
        yield Problem("anneal_updates", rule, config.anneal_updates)


def _bank_holds_a_batch(config: TrainConfig) -> Iterator[Problem]:
    if config.chain_start == "persistent" and config.bank_size < config.batch_size:
        rule = (
            f"must be at least batch_size ({config.batch_size}), "
            "since a batch is drawn without replacement"
        )
        yield Problem("bank_size", rule, config.bank_size)


def _network_fits(config: TrainConfig) -> Iterator[Problem]:
    if config.data.shape is not None:
        yield from network_problems(config.network, config.data.shape)


# Rules between fields, each with the fields that it looks at.
RULES: tuple[tuple[frozenset[str], Callable[[TrainConfig], Iterator[Problem]]], ...] = (
    (frozenset({"gamma_start", "gamma_start_ratio"}), _one_start_rate),
    (frozenset({"epsilon", "precision"}), _temperature_is_a_number),
    (frozenset({"data", "eps_data_ratio"}), _law_has_density),
    (frozenset({"anneal_updates", "window", "updates"}), _window_after_annealing),
    (frozenset({"chain_start", "bank_size", "batch_size"}), _bank_holds_a_batch),
    (frozenset({"data", "network"}), _network_fits),
)
