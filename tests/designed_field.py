"""Fields of margins whose region is known: what a training would say, with noise, in no time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution

from study.region.observations import Observation, observation

Array = np.ndarray

# Of the real margins of digits, fitted to studies of them, between 0.1 and 0.2.
NOISE = 0.15


@dataclass(frozen=True)
class DesignedField:
    """Margins over the unit cube.

    Attributes:
        dimensions: Of the cube.
        exact: From places, shape (n, dimensions), to margins by requirement, before they are cut
            off at -3 and 1.
        breaks_off: From places to whether a training there breaks off.
        noise: Sd of a training about each margin.
    """

    dimensions: int
    exact: Callable[[Array], dict[str, Array]]
    breaks_off: Callable[[Array], Array]
    noise: float = NOISE

    @property
    def space(self) -> dict[str, BaseDistribution]:
        return {f"x{i}": FloatDistribution(0, 1) for i in range(self.dimensions)}

    def inside(self, places: Array) -> Array:
        """Whether all margins are 0 or more, shape (n,)."""
        least = np.min(list(self.exact(places).values()), axis=0)
        return (least >= 0) & ~self.breaks_off(places)

    def train(self, place: Array, random: np.random.Generator) -> Observation:
        """What one training at a place, shape (dimensions,), says."""
        if self.breaks_off(place[None])[0]:
            return observation({"verdict": "diverged"})
        return observation(
            {
                f"margin_{name}": np.clip(value[0] + self.noise * random.standard_normal(), -3, 1)
                for name, value in self.exact(place[None]).items()
            }
        )


def _plane(x: Array) -> dict[str, Array]:
    u, v = x.T
    return {
        "r_in_band": 5 * (u - 0.42 - 0.16 * np.sin(7 * v)),
        "spread_matched": 4 * (v - 0.24 - 0.14 * np.sin(8 * u)),
    }


def _four(x: Array) -> dict[str, Array]:
    u, v, w, z = x.T
    return {
        "r_in_band": 5 * (u - 0.35 + 0.4 * (v - 0.5) - 0.10 * np.sin(5 * w)),
        "spread_matched": 4 * (w - 0.42 + 0.45 * u - 0.08 * np.sin(6 * v)),
        "d_balanced": 4 * (v - 0.10 + 0.15 * u - 0.12 * z),
    }


def plane() -> DesignedField:
    """Two dimensions, a region of 0.45 with bays."""
    return DesignedField(2, _plane, lambda x: x[:, 1] > 0.92 - 0.10 * np.sin(6 * x[:, 0]))


def four() -> DesignedField:
    """Four dimensions that matter differently, a region of 0.46."""
    return DesignedField(4, _four, lambda x: x[:, 2] > 0.70 + 0.30 * x[:, 1])


def grid(dimensions: int, side: int) -> Array:
    """All points of a grid whose cells are equally large, shape (side ** dimensions, ...)."""
    ticks = (np.arange(side) + 0.5) / side
    return np.array(list(itertools.product(ticks, repeat=dimensions)))
