r"""A model of the margins of a verdict over the search space, of scikit-learn's processes.

Learning converges at x where every requirement holds, so that its region is a level set of the
least of the margins :math:`m_i`:

.. math:: \{x : \min_i m_i(x) \ge 0\}, \qquad
          P(x) = \prod_i \Phi\!\left(\frac{\mu_i(x)}{\sigma_i(x)}\right)

with a Gaussian process for each margin, of posterior mean :math:`\mu_i` and sd :math:`\sigma_i`,
taken for independent given x. The least margin itself has kinks where one requirement takes the
place of another; the single ones are smooth.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor

from study.region import kernel

Array = np.ndarray

# Added to the diagonal, for places that coincide; what counts as no variance.
_JITTER, _TINY = 1e-9, 1e-12
# Added to the diagonal of a posterior, in shares of its largest variance.
_SINGULAR = 1e-6
# Of more values than this a kernel is fitted to as many; all of them are conditioned on.
_MOST_FITTED = 250
# Of the values so many are taken to show their noise, even if fewer do.
_LEAST_SHOWN = 0.2
# Variance of the noise of a margin of two values, and the largest of any other, in units of the
# variance of the values.
_TWO_SIDES, _MOST_NOISE = 0.3, 1.0
# Kernels that draws are made under, where there are no more trainings than these: more of them
# leave no doubt about the kernel.
_KERNELS, _DOUBTED = 24, 150


@dataclass(frozen=True)
class Gaussian:
    """The posterior of one margin at m places.

    Attributes:
        mean: Shape (m,).
        covariance: Of the margin itself, without the noise of a training, shape (m, m).
        noise: Variance of a training about it.
    """

    mean: Array
    covariance: Array
    noise: float

    def draws(self, count: int, random: np.random.Generator) -> Array:
        """Shape (count, m)."""
        # neighbours hardly differ, so that without this the matrix is singular
        tiny = _SINGULAR * max(float(self.covariance.diagonal().max()), _TINY)
        root = np.linalg.cholesky(self.covariance + tiny * np.eye(len(self.mean)))
        drawn = random.standard_normal((count, len(self.mean)))
        return np.asarray(self.mean + drawn @ root.T)


@dataclass(frozen=True)
class Margin:
    """The process of one margin, of values that are shifted and scaled to sd 1.

    Attributes:
        process: Fitted; the noise is the last term of its kernel.
        middle: What was subtracted.
        scale: What was divided by.
    """

    process: GaussianProcessRegressor
    middle: float
    scale: float

    @property
    def noise(self) -> float:
        """Variance of a training about the margin."""
        return float(self.process.kernel_.k2.noise_level) * self.scale**2

    @property
    def lengths(self) -> Array:
        """Over which the margin changes, by column, in units of the cube."""
        return np.asarray(self.process.kernel_.k1.k2.length_scale)

    def at(self, places: Array) -> tuple[Array, Array]:
        """Posterior mean and sd without the noise, shapes (m,)."""
        mean, sd = self.process.predict(places, return_std=True)
        variance = sd**2 * self.scale**2 - self.noise
        return self.middle + self.scale * mean, np.sqrt(np.maximum(variance, _TINY))

    def jointly(self, places: Array) -> Gaussian:
        """Posterior at all the places together."""
        mean, covariance = self.process.predict(places, return_cov=True)
        # scikit-learn counts the noise to what is predicted
        covariance = covariance * self.scale**2 - self.noise * np.eye(len(places))
        return Gaussian(self.middle + self.scale * mean, covariance, self.noise)

    def believing(self, places: Array) -> Margin:
        """Conditioned on further trainings that come out as predicted."""
        x = np.concatenate([self.process.X_train_, places])
        y = np.concatenate([self.process.y_train_, self.process.predict(places)])
        return replace(self, process=_conditioned(self.process.kernel_, x, y))

    def variants(self, count: int, random: np.random.Generator) -> list[Margin]:
        """The same under other kernels that may be; itself where there is no doubt about it."""
        x, y = self.process.X_train_, self.process.y_train_
        if len(x) > _DOUBTED:
            return [self]
        kernels = kernel.variants(self.process, count, random)
        return [replace(self, process=_conditioned(each, x, y)) for each in kernels]


@dataclass(frozen=True)
class Field:
    """Margins over the unit cube, fitted to trainings.

    Attributes:
        margins: By requirement.
    """

    margins: Mapping[str, Margin]

    def at(self, places: Array) -> tuple[Array, Array]:
        """Posterior mean and sd of each margin, shapes (requirements, m)."""
        means, deviations = zip(*(each.at(places) for each in self.margins.values()), strict=True)
        return np.array(means), np.array(deviations)

    def jointly(self, places: Array) -> list[Gaussian]:
        """Each margin at places of shape (m, columns), jointly."""
        return [each.jointly(places) for each in self.margins.values()]

    def probability(self, places: Array) -> Array:
        """P that all margins are 0 or more at places of shape (m, columns); shape (m,)."""
        mean, deviation = self.at(places)
        return np.asarray(norm.cdf(mean / deviation).prod(axis=0))

    def draws(self, places: Array, count: int, seed: int) -> Array:
        """The least margin at m places in draws from the posterior, shape (count, m).

        Where trainings are few, the kernels are drawn as well: an interval under the most probable
        ones alone is too narrow.
        """
        random = np.random.default_rng(seed)
        least = np.full((count, len(places)), np.inf)
        for each in self.margins.values():
            kernels = each.variants(_KERNELS, random)
            shares = np.array_split(np.arange(count), len(kernels))
            drawn = [
                variant.jointly(places).draws(len(share), random)
                for variant, share in zip(kernels, shares, strict=True)
            ]
            # which kernel of one margin meets which of another is chance
            least = np.minimum(least, random.permutation(np.concatenate(drawn)))
        return least

    def believing(self, places: Array) -> Field:
        """The field if trainings at further places came out as it predicts.

        What is known grows there, what is expected stays: so those that still run are reckoned
        with.
        """
        if not len(places):
            return self
        return Field({name: each.believing(places) for name, each in self.margins.items()})


def fit(places: Array, margins: Mapping[str, Array]) -> Field:
    """Fits a field to trainings.

    Repeats are rows with the same place; what they differ by is their noise, of the same variance
    everywhere. A margin of NaN is not known, and left out.

    Args:
        places: Of n trainings in the unit cube, shape (n, columns).
        margins: Shape (n,) each, by requirement.

    Raises:
        ValueError: If no margin is known anywhere.
    """
    found = {}
    for name, values in margins.items():
        known = np.isfinite(values)
        if known.any():
            found[name] = _fitted(places[known], values[known])
    if not found:
        raise ValueError("at least one margin must be known of one training")
    return Field(found)


def _fitted(x: Array, y: Array) -> Margin:
    middle, scale = float(y.mean()), float(y.std())
    # of constant values nothing is known of how far they may move elsewhere: by a tolerance
    scale = scale if scale > _TINY else 1.0
    y = (y - middle) / scale
    chosen = spread(len(x), _MOST_FITTED)
    process = GaussianProcessRegressor(
        kernel.prior(x.shape[1]), alpha=_JITTER, optimizer=kernel.most_probable
    )
    with warnings.catch_warnings():
        # a length at its bound is an answer: the margin is level along that column, or rough
        warnings.filterwarnings("ignore", "The optimal value found for dimension")
        process.fit(x[chosen], y[chosen])
    under = process.kernel_
    under.k2.noise_level = _noise(under.k2.noise_level, y)
    return Margin(_conditioned(under, x, y), middle, scale)


def _noise(found: float, y: Array) -> float:
    """Variance of the noise at the edge of a region, in units of the variance of the values.

    Values that are cut off, at the largest or the smallest, show no noise, and what is most
    probable for all is too small where none is cut off: intervals would be too narrow. Where there
    are two values only, as of breaking off, a process sees no noise at all, and would put the edge
    half way between the two sides, and that for sure. With noise it may be anywhere between them;
    on designed fields 0.3 has edges in their 90 % intervals 8 times in 10, and none 5 times.
    """
    shown = 1 - float(np.isin(y, [y.min(), y.max()]).mean())
    if not shown:
        return _TWO_SIDES if np.ptp(y) > _TINY else found
    return min(found / max(shown, _LEAST_SHOWN), _MOST_NOISE)


def _conditioned(under: Any, x: Array, y: Array) -> GaussianProcessRegressor:
    return GaussianProcessRegressor(under, alpha=_JITTER, optimizer=None).fit(x, y)


def spread(count: int, most: int) -> Array:
    """Which of `count` rows to take where only so many are quick: evenly from first to last."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)
