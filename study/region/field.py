r"""A model of the margins of a verdict over the search space. All that touches scikit-learn's GPs.

Learning converges at x where every requirement holds, so that its region is a level set of the
least of the margins :math:`m_i`:

.. math:: \{x : \min_i m_i(x) \ge 0\}, \qquad
          P(x) = \prod_i \Phi\!\left(\frac{\mu_i(x)}{\sigma_i(x)}\right)

with a Gaussian process for each margin, of posterior mean :math:`\mu_i` and sd :math:`\sigma_i`,
taken for independent given x. The least margin itself has kinks where one requirement takes the
place of another; the single ones are smooth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

Array = np.ndarray

# Of the unit cube. Logarithms of the parameters of the kernel have normal priors, without which
# a handful of points is explained as noise, or by one column alone: middle and sd.
_LENGTH, _LENGTH_SD = 0.5, 0.8
_LENGTH_BOUNDS = (0.05, 20.0)
# Shares of the variance of the values
_SIGNAL, _SIGNAL_SD, _SIGNAL_BOUNDS = 1.0, 1.0, (0.05, 20.0)
_NOISE, _NOISE_SD, _NOISE_BOUNDS = 0.02, 1.5, (1e-5, 1.0)
# The fit starts here, and the best end is taken: lengths of the kernel.
_STARTS = (0.25, 1.0)
# Added to the diagonal, for places that coincide; what counts as no variance.
_JITTER, _TINY = 1e-9, 1e-12
# Of more values than this a kernel is fitted to as many; all of them are conditioned on.
_MOST_FITTED = 250


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
        """The least margin at m places in draws from the posterior, shape (count, m)."""
        random = np.random.default_rng(seed)
        least = np.full((count, len(places)), np.inf)
        for each in self.jointly(places):
            values, vectors = np.linalg.eigh(each.covariance)
            root = vectors * np.sqrt(np.maximum(values, 0))
            drawn = each.mean + random.standard_normal((count, len(places))) @ root.T
            least = np.minimum(least, drawn)
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
    columns = x.shape[1]
    kernel = (
        ConstantKernel(_SIGNAL, _SIGNAL_BOUNDS)
        * Matern([_LENGTH] * columns, _LENGTH_BOUNDS, nu=2.5)
        + WhiteKernel(_NOISE, _NOISE_BOUNDS)
    )  # fmt: skip
    chosen = _spread(len(x))
    process = GaussianProcessRegressor(kernel, alpha=_JITTER, optimizer=_most_probable)
    process.fit(x[chosen], y[chosen])
    if len(chosen) < len(x):
        process = _conditioned(process.kernel_, x, y)
    return Margin(process, middle, scale)


def _conditioned(kernel: Any, x: Array, y: Array) -> GaussianProcessRegressor:
    return GaussianProcessRegressor(kernel, alpha=_JITTER, optimizer=None).fit(x, y)


def _spread(count: int) -> Array:
    """Rows to fit a kernel to: all, or as many as are quick, evenly from first to last."""
    return np.unique(np.linspace(0, count - 1, min(count, _MOST_FITTED)).round().astype(int))


def _most_probable(
    objective: Callable[[Array], tuple[float, Array]], initial: Array, bounds: Array
) -> tuple[Array, float]:
    """The most probable kernel under the priors, from several starts; a scikit-learn optimizer.

    Args:
        objective: Negative log likelihood and its gradient, of the logarithms of the parameters:
            signal, lengths, noise.
        initial: Shape (parameters,).
        bounds: Shape (parameters, 2).
    """
    columns = len(initial) - 2
    middles = np.log([_SIGNAL, *[_LENGTH] * columns, _NOISE])
    widths = np.array([_SIGNAL_SD, *[_LENGTH_SD] * columns, _NOISE_SD])

    def posterior(theta: Array) -> tuple[float, Array]:
        value, gradient = objective(theta)
        away = (theta - middles) / widths
        return float(value) + 0.5 * float(away @ away), gradient + away / widths

    ends = []
    for length in _STARTS:
        start = initial.copy()
        start[1:-1] = math.log(length)
        ends.append(minimize(posterior, start, jac=True, bounds=bounds, method="L-BFGS-B"))
    best = min(ends, key=lambda end: float(end.fun))
    return best.x, float(best.fun)
