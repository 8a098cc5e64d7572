"""The kernel of a margin: how rough it is and how noisy, what is likely beforehand, what after.

Logarithms of its parameters (signal, a length a column, noise) have normal priors, without which a
handful of points is explained as noise, or by one column alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

Array = np.ndarray

# Middle, sd of the logarithm, and bounds. Lengths are in units of the cube, signal and noise are
# shares of the variance of the values.
_SIGNAL, _SIGNAL_SD, _SIGNAL_BOUNDS = 1.0, 1.0, (0.05, 20.0)
_LENGTH, _LENGTH_SD, _LENGTH_BOUNDS = 0.5, 0.8, (0.05, 20.0)
_NOISE, _NOISE_SD, _NOISE_BOUNDS = 0.02, 1.5, (1e-5, 1.0)
# A fit starts at these lengths, and the best end is taken.
_STARTS = (0.25, 1.0)
# Of the logarithms, for differences of the gradient.
_STEP = 1e-3


def prior(columns: int) -> Any:
    """The kernel to begin with: a Matern of smoothness 5/2, and white noise."""
    smooth = Matern([_LENGTH] * columns, _LENGTH_BOUNDS, nu=2.5)
    return ConstantKernel(_SIGNAL, _SIGNAL_BOUNDS) * smooth + WhiteKernel(_NOISE, _NOISE_BOUNDS)


def most_probable(
    objective: Callable[[Array], tuple[float, Array]], initial: Array, bounds: Array
) -> tuple[Array, float]:
    """The most probable parameters, from several starts; an optimizer of scikit-learn's.

    Args:
        objective: Negative log likelihood and its gradient, of the logarithms of the parameters.
        initial: Shape (parameters,).
        bounds: Shape (parameters, 2).
    """
    middles, widths = _beliefs(len(initial) - 2)

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


def variants(
    process: GaussianProcessRegressor, count: int, random: np.random.Generator
) -> list[Any]:
    """Kernels drawn from the posterior about the most probable one, in Laplace's approximation.

    Args:
        process: Fitted.
        count: How many.
        random: Draws them.
    """
    mode, bounds = process.kernel_.theta, process.kernel_.bounds
    middles, widths = _beliefs(len(mode) - 2)

    def slope(theta: Array) -> Array:
        _, gradient = process.log_marginal_likelihood(theta, eval_gradient=True)
        return np.asarray((theta - middles) / widths**2 - gradient)

    steps = _STEP * np.eye(len(mode))
    curvature = np.array([(slope(mode + s) - slope(mode - s)) / (2 * _STEP) for s in steps])
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    # the data never make a parameter less known than beforehand
    values = np.maximum(values, widths.max() ** -2)
    drawn = random.standard_normal((count, len(mode))) / np.sqrt(values)
    thetas = np.clip(mode + drawn @ vectors.T, *bounds.T)
    return [process.kernel_.clone_with_theta(theta) for theta in thetas]


def _beliefs(columns: int) -> tuple[Array, Array]:
    """Middle and sd of the logarithm of each parameter."""
    middles = np.log([_SIGNAL, *[_LENGTH] * columns, _NOISE])
    return middles, np.array([_SIGNAL_SD, *[_LENGTH_SD] * columns, _NOISE_SD])
