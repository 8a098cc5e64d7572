"""How parameters are called in the report: symbol, meaning, unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from study.reporting.sentences import number


@dataclass(frozen=True)
class Symbol:
    """A parameter or a measured quantity, named.

    Attributes:
        sign: As it is written in a formula, or a short word.
        meaning: What it is.
        unit: Of its values; empty where there is none.
    """

    sign: str
    meaning: str
    unit: str = ""


SYMBOLS: Mapping[str, Symbol] = {
    "epsilon": Symbol("ε", "noise of a Langevin step", "units of x"),
    "eps_data_ratio": Symbol("ρ", "noise on the data over ε, ε_data/ε"),
    "data_epsilon": Symbol("ε_data", "noise on the data", "units of x"),
    "gamma_0": Symbol("γ₀", "final learning rate"),
    "gamma_start": Symbol("γ_start", "learning rate of the first update"),
    "gamma_start_ratio": Symbol("γ_start/γ₀", "first learning rate over the final one"),
    "anneal_updates": Symbol("anneal", "length of annealing", "updates"),
    "langevin_steps": Symbol("L", "Langevin steps of an update"),
    "batch_size": Symbol("batch", "positive samples of an update"),
    "convergence_margin": Symbol("margin", "least margin of the verdict, convergent over 0"),
    "long_run_departure": Symbol("departure", "how far long chains leave", "sd of U"),
}


def sign(name: str) -> str:
    """The symbol of a parameter; its name where it has none."""
    return SYMBOLS[name].sign if name in SYMBOLS else name


def label(name: str) -> str:
    """An axis label: symbol, name and unit."""
    if name not in SYMBOLS:
        return name
    symbol = SYMBOLS[name]
    return f"{symbol.sign} ({name})" + (f", {symbol.unit}" if symbol.unit else "")


def setting(point: Mapping[str, Any], names: Iterable[str]) -> str:
    """Values of parameters as in a sentence: ``ρ = 2, γ₀ = 0.005, anneal = 500 updates``."""
    return ", ".join(f"{sign(name)} = {value_of(name, point[name])}" for name in names)


def value_of(name: str, value: Any) -> str:
    """A value, with its unit where the unit is a count."""
    if isinstance(value, str):
        return value
    return number(value) + (" updates" if name == "anneal_updates" else "")


def glossary(names: Iterable[str]) -> list[tuple[str, str]]:
    """Symbol, and name with its meaning, of those parameters that have a symbol."""
    return [
        (SYMBOLS[name].sign, f"{SYMBOLS[name].meaning} ({name})")
        for name in names
        if name in SYMBOLS
    ]
