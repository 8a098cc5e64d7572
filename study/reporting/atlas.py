"""What the pictures of a fitted map show: P over pairs of axes, and the trainings behind it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from study import space
from study.reporting.outcomes import ASSESSED, axes_of, configurations
from study.reporting.scale import Scale, of_parameter
from study.space import Parameters, Point

if TYPE_CHECKING:
    from study.region.map import ConvergenceMap, Line, Pair

Array = np.ndarray

# Trainings to train next that are told.
NEXT = 3
BROKEN = ("diverged", "collapsed")
# Where the most of so many nearest trainings broke off, breaking off is to be expected.
NEAREST = 5
# Off a slice by at most so much of the range of any other axis; an index of `drawing.GRADES`.
_STEPS_OFF = (1 / 8, 1 / 4, 1 / 2)
# Of more pairs than this each is drawn more coarsely; points of the other axes averaged over.
_FINE_PAIRS, _OTHERS = 6, 16


class NoMap(ValueError):  # noqa: N818  # says what there is, not that it is wrong
    """There is no map; the message is a sentence."""


@dataclass(frozen=True)
class Sheet:
    """P over two axes.

    Attributes:
        pair: The map's.
        broken: Where the most of the nearest trainings broke off, shape (len(y), len(x)).
        averaged: Whether the other axes are averaged over; held at the reference if not.
    """

    pair: Pair
    broken: Array
    averaged: bool


@dataclass(frozen=True)
class Atlas:
    """A fitted map and what is drawn with it.

    Attributes:
        found: The map.
        trained: Configurations, by the first row of each in the table of trainings.
        scales: Of each axis.
        next: The points to train next.
    """

    found: ConvergenceMap
    trained: pd.DataFrame
    scales: Mapping[str, Scale]
    next: Sequence[Point]
    _sheets: dict[tuple[str, str, bool], Sheet] = field(default_factory=dict, repr=False)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every pair of axes."""
        return list(itertools.combinations(self.found.axes, 2))

    def sheet(self, first: str, second: str, averaged: bool = False) -> Sheet:
        """P over two axes, reckoned once."""
        key = first, second, averaged
        if key not in self._sheets:
            coarser = math.sqrt(min(1.0, _FINE_PAIRS / len(self.pairs)))
            cells = round((17 if averaged else 41) * coarser)
            pair = self.found.pair(first, second, averaged, resolution=cells)
            others = (
                self.found.coordinates.sobol(_OTHERS, seed=0)
                if averaged
                else [self.found.reference]
            )
            points = [
                {**other, first: x, second: y} for other in others for y in pair.y for x in pair.x
            ]
            share = self.broken(points).reshape(len(others), len(pair.y), len(pair.x))
            self._sheets[key] = Sheet(pair, share.mean(axis=0) > 0.5, averaged)
        return self._sheets[key]

    @cached_property
    def line(self) -> Line:
        """P along the only axis."""
        return self.found.line(self.found.axes[0])

    def broken(self, points: Sequence[Mapping[str, Any]]) -> Array:
        """Share of the nearest trainings that broke off, shape (n,)."""
        tree, broke = self._neighbours
        nearest = min(NEAREST, len(broke))
        _, which = tree.query(self.found.coordinates.place(points), k=range(1, nearest + 1))
        return np.asarray(broke[which].mean(axis=1))

    def grades(self, shown: Sequence[str]) -> pd.Series:
        """How far each configuration lies off the slice of some axes, as `drawing.GRADES`.

        By the axis that is off most, in shares of its range; another word is off by all of it.
        """
        off = np.zeros(len(self.trained))
        for name in set(self.found.axes) - set(shown):
            scale = self.scales[name]
            apart = scale.shares(self.trained[name])
            apart = np.abs(apart - scale.shares([self.found.reference[name]]))
            if any(isinstance(word, str) for word in scale.words):
                apart = np.where(apart > 0, 1.0, apart)
            off = np.maximum(off, apart)
        return pd.Series(np.digitize(off, _STEPS_OFF, right=True), self.trained.index)

    @cached_property
    def _neighbours(self) -> tuple[Any, Array]:
        from scipy.spatial import KDTree

        assessed = self.trained[self.trained["outcome"].isin(ASSESSED)]
        points = [
            {name: self.found.parameters[name].snap(row[name]) for name in self.found.axes}
            for row in assessed.to_dict("records")
        ]
        broke = assessed["outcome"].isin(BROKEN).to_numpy(float)
        return KDTree(self.found.coordinates.place(points)), broke


def draw_up(frame: pd.DataFrame, parameters: Parameters) -> Atlas:
    """Fits a map to a table of results.

    Args:
        frame: A tidy table; its words are those of the parameters, see `as_searched`.
        parameters: Of the study.

    Raises:
        NoMap: If there is none, with the reason.
    """
    from study.region.map import TooFew, fit

    axes = axes_of(frame, parameters)
    if not axes or axes != space.searched(parameters):
        raise NoMap("There is no map: nothing varies that the table tells.")
    try:
        found = fit(frame, parameters)
    except TooFew as error:
        raise NoMap(f"There is no map. {error}") from None
    trained = configurations(frame, axes)
    trained.index = frame.drop_duplicates("trial").index
    scales = {name: of_parameter(parameters[name]) for name in axes}
    return Atlas(found, trained, scales, found.next_points(NEXT))


def as_searched(frame: pd.DataFrame, parameters: Parameters) -> pd.DataFrame:
    """The table with choices as the study file gives them, whatever a file of results made."""
    frame = frame.copy()
    for name in axes_of(frame, parameters):
        distribution = parameters[name]
        if isinstance(distribution, space.Choice):
            scale = of_parameter(distribution)
            ranks = scale.place(frame[name])
            frame[name] = [
                value if math.isnan(rank) else scale.words[int(rank)]
                for value, rank in zip(frame[name], ranks, strict=True)
            ]
    return frame
