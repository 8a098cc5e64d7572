r"""What the data demand of the gradient: r*, the magnitude at convergence, and its floor.

A chain that leaves the law q unchanged must be pushed back as hard as its noise spreads it. Along
a Gaussian direction of sd s the unadjusted chain needs a gradient of rms :math:`s - \sqrt{s^2 -
\varepsilon^2}`, which is :math:`\varepsilon^2 / 2` times the score to leading order in epsilon.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ebm_core.data import Dataset, PlaneLaw, is_plane_law
from ebm_core.mapped import Rows, allocate, only

_QUERIES = 1024
# Queries times samples that distances are held of, 0.5 GB: of more samples some stand for all.
_PAIRS = 2**26
_QUERY_BLOCK = 64
_DATA_BLOCK = 2048
_GRID_BLOCK = 65_536
# A million samples left out shift a mean by a millionth of their distance at most.
_LEAST_WEIGHT = 1e-12
# Up to here the covariance itself is decomposed; beyond, the Gram matrix of as many samples.
_LARGEST_MATRIX = 4096


class MatchedGradient(NamedTuple):
    """Gradient magnitudes to compare r with, units of x.

    Attributes:
        r_star: Mean magnitude of the gradient whose unadjusted chains keep the law of the noised
            data. For a finite set that law has a mode at every sample; a network that does not
            memorise may rightly have less.
        floor: Least root-mean-square magnitude of any energy whose unadjusted chains have the
            covariance of the noised data; infinite where some direction has an sd under epsilon,
            so that no energy can match the data.
    """

    r_star: float
    floor: float


def matched_gradient(dataset: Dataset, epsilon: float, data_epsilon: float) -> MatchedGradient:
    r"""r* and floor of a data set.

    .. math::
        r^* = \frac{\varepsilon^2}{2}\, E_q\!\left[c(\varepsilon^2 k)\, \|\nabla \log q\|\right],
        \quad c(y) = \frac{2}{y}\left(1 - \sqrt{1 - y}\right), \quad
        k = -u^\top \nabla^2 \log q\; u

    with u the direction of the score: c turns the leading order in epsilon into the exact value
    for a Gaussian of sd :math:`1/\sqrt{k}` along u, so that an isolated mode of sd s in the plane
    gives ``1.2533 (s - sqrt(s**2 - epsilon**2))``. q is exact for laws in the plane and otherwise
    the mixture at the samples (5A), over which some hundred draws from a fixed seed are averaged.
    Of over 65,536 samples, or four times as many in over 256 dimensions, so many stand for all.

    Args:
        dataset: The clean data.
        epsilon: Langevin noise sd, units of x.
        data_epsilon: sd of the noise on positives, units of x; over 0 for a finite set.

    Raises:
        ValueError: If epsilon is not over 0, or a finite set has no noise.
    """
    if not epsilon > 0:
        raise ValueError(f"`epsilon > 0` must hold, but got epsilon={epsilon!r}")
    if is_plane_law(dataset):
        return _of_law(dataset, epsilon, data_epsilon)
    if not data_epsilon > 0:
        rule = "`data_epsilon > 0` must hold for a finite data set"
        raise ValueError(f"{rule}, but got data_epsilon={data_epsilon!r}")
    return _of_samples(dataset.x, epsilon, data_epsilon)  # type: ignore[attr-defined]


def spread_correction(y: Tensor) -> Tensor:
    r"""c(y) = 2 (1 - sqrt(1 - y)) / y: exact over leading-order gradient of a Gaussian.

    Args:
        y: (epsilon / s)**2 for the local sd s; negative where the log density is locally convex.
            Over 1 there is no solution, and the value at 1 is taken.
    """
    # the same as 2 / (1 + sqrt(1 - y)), which has no cancellation at 0
    return 2 / (1 + (1 - y.clamp(max=1)).sqrt())


def gaussian_floor(variances: Tensor, epsilon: float) -> float:
    r"""Floor for data of given principal variances, :math:`\sqrt{\sum_i (s_i - \sqrt{s_i^2 -
    \varepsilon^2})^2}`; infinite where some variance is under epsilon**2."""
    # an sd that equals epsilon but for rounding is matched, barely
    rest = variances.double() - epsilon**2
    rest = torch.where(rest.abs() <= 1e-12 * epsilon**2, torch.zeros_like(rest), rest)
    if (rest < 0).any():
        return math.inf
    return float((variances.double().sqrt() - rest.sqrt()).square().sum().sqrt())


def plane_grid(extent: float, points: int, device: torch.device | str = "cpu") -> Tensor:
    """Centres of a square grid over [-extent, extent]^2, shape (points**2, 2), y slowest."""
    edge = 2 * extent / points
    axis = torch.arange(points, dtype=torch.float64, device=device) * edge - extent + edge / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def _of_law(law: PlaneLaw, epsilon: float, data_epsilon: float) -> MatchedGradient:
    sd = math.hypot(law.sd, data_epsilon)
    extent = law.extent + 6 * (sd - law.sd)
    points = min(2000, max(200, math.ceil(10 * extent / sd)))
    x = plane_grid(extent, points, law.device)
    parts = [_law_magnitudes(law, b, sd, epsilon) for b in torch.split(x, _GRID_BLOCK)]
    log_q, magnitude = (torch.cat(each) for each in zip(*parts, strict=True))
    weight = torch.softmax(log_q, dim=0)
    centred = x - weight @ x
    spread = centred.T @ (weight[:, None] * centred)
    floor = gaussian_floor(torch.linalg.eigvalsh(spread), epsilon)
    return MatchedGradient(float(weight @ magnitude) * epsilon**2 / 2, floor)


def _law_magnitudes(law: PlaneLaw, x: Tensor, sd: float, epsilon: float) -> tuple[Tensor, Tensor]:
    """log q and c(epsilon**2 k) |score| at x, both of shape (len(x),)."""
    x = x.clone().requires_grad_()
    log_q = law.log_density(x, sd)
    (score,) = torch.autograd.grad(log_q.sum(), x, create_graph=True)
    magnitude = score.norm(dim=1).detach()
    unit = score.detach() / magnitude.clamp(min=1e-300)[:, None]
    (bend,) = torch.autograd.grad((score * unit).sum(), x)
    curvature = -(bend * unit).sum(1)
    return log_q.detach(), spread_correction(epsilon**2 * curvature) * magnitude


class _Geometry(NamedTuple):
    """What r* and floor of a finite set need at every noise level, found once a set.

    A query is a sample x_i with noise n_i; at noise sd s its squared distance from sample x_j is
    ``squared[i, j] + 2 s along[i, j] + s**2 |n_i|**2``. Distances that matter to the weights are
    within some s, so that the rounding of float32 is small beside s**2.

    Attributes:
        among: Which of the samples stand for all, shape (n,); None for all of them.
        which: Index among these of the sample of each query, shape (queries,).
        noise: n_i, shape (queries, N), float64.
        squared: |x_i - x_j|**2, shape (queries, n), float32.
        along: n_i . (x_i - x_j), likewise.
        variances: Principal variances of the set, shape (N,), float64.
    """

    among: Tensor | None
    which: Tensor
    noise: Tensor
    squared: Tensor
    along: Tensor
    variances: Tensor


# A study asks for one set at many epsilons; forgotten with the samples themselves.
_geometries = WeakIdKeyDictionary()


def _of_samples(x: Rows, epsilon: float, data_epsilon: float) -> MatchedGradient:
    if x not in _geometries:
        _geometries[x] = _geometry(x)
    geometry: _Geometry = _geometries[x]
    x = x if geometry.among is None else only(x, geometry.among)
    blocks = torch.split(torch.arange(len(geometry.which), device=x.device), _QUERY_BLOCK)
    sums = [_mixture_magnitudes(geometry, rows, x, epsilon, data_epsilon).sum() for rows in blocks]
    r_star = float(torch.stack(sums).sum()) / len(geometry.which) * epsilon**2 / 2
    return MatchedGradient(r_star, gaussian_floor(geometry.variances + data_epsilon**2, epsilon))


def _geometry(x: Rows) -> _Geometry:
    dimensions = math.prod(x.shape[1:])
    generator = torch.Generator(device=x.device).manual_seed(0)
    # a norm over many dimensions hardly varies, and costs more
    n = _QUERIES if dimensions <= 256 else _QUERIES // 4
    variances, among = _variances(x), None
    if len(x) > (most := _PAIRS // n):
        # evenly spaced: a set sorted by class is still covered
        among = torch.arange(most, device=x.device) * len(x) // most
        x = only(x, among)
    which = torch.randint(len(x), (n,), generator=generator, device=x.device)
    shape = (n, dimensions)
    noise = torch.randn(shape, generator=generator, device=x.device, dtype=torch.float64)
    own = _flat(x, which)
    both = torch.cat([own, noise])
    squared, along = allocate((2, n, len(x)), torch.float32, x.device)
    for block in _blocks(x):
        there = _flat(x, block)
        products = both @ there.T
        distance = own.square().sum(1, keepdim=True) - 2 * products[:n] + there.square().sum(1)
        squared[:, block] = distance.clamp(min=0).float()
        along[:, block] = ((noise * own).sum(1, keepdim=True) - products[n:]).float()
    return _Geometry(among, which, noise, squared, along, variances)


def _blocks(x: Rows) -> list[slice]:
    """All rows in order; float64 copies live for one block only."""
    return [slice(start, start + _DATA_BLOCK) for start in range(0, len(x), _DATA_BLOCK)]


def _flat(x: Rows, rows: Tensor | slice) -> Tensor:
    """Some samples as vectors, shape (n, N), float64."""
    return x[rows].flatten(1).double()


def _mixture_magnitudes(
    geometry: _Geometry, rows: Tensor, x: Rows, epsilon: float, sd: float
) -> Tensor:
    """c(epsilon**2 k) |score| at some queries for equal Gaussians of this sd at all samples.

    Args:
        geometry: Of queries and samples.
        rows: Which queries, shape (n,).
        x: The samples, shape (m, *shape).
        epsilon: Langevin noise sd, units of x.
        sd: Of the noise on the samples, units of x.

    Returns:
        Shape (n,).
    """
    squared = geometry.squared[rows].double().add_(geometry.along[rows].double(), alpha=2 * sd)
    weight = torch.softmax(squared.div_(-2 * sd**2), dim=1)
    # in many dimensions nearly all of a query's weight is on its own sample
    used = (weight > _LEAST_WEIGHT).any(0).nonzero()[:, 0]
    weight = weight[:, used]
    blocks = torch.split(used, _DATA_BLOCK)  # float64 copies live for one block only
    parts = torch.split(weight, _DATA_BLOCK, dim=1)
    y = _flat(x, geometry.which[rows]) + sd * geometry.noise[rows]
    mean = torch.zeros_like(y)
    for w, block in zip(parts, blocks, strict=True):
        mean += w @ _flat(x, block)
    score = (mean - y) / sd**2
    magnitude = score.norm(dim=1)
    unit = score / magnitude.clamp(min=1e-300)[:, None]
    along = torch.cat([unit @ _flat(x, block).T for block in blocks], dim=1)
    centred = along - (weight * along).sum(1, keepdim=True)
    # Hessian of the log mixture: -1 / sd^2 + (variance of the modes under the weights) / sd^4
    curvature = 1 / sd**2 - (weight * centred.square()).sum(1) / sd**4
    corrected: Tensor = spread_correction(epsilon**2 * curvature) * magnitude
    return corrected


def _variances(x: Rows) -> Tensor:
    """Principal variances of samples of shape (n, *shape); all N of them, zeros included."""
    n, dimensions = len(x), math.prod(x.shape[1:])
    if dimensions <= _LARGEST_MATRIX:
        zero = torch.zeros((), dtype=torch.float64, device=x.device)
        mean = sum((_flat(x, block).sum(0) for block in _blocks(x)), zero) / n
        scatter = torch.zeros(dimensions, dimensions, dtype=torch.float64, device=x.device)
        for block in _blocks(x):
            centred = _flat(x, block) - mean
            scatter.addmm_(centred.T, centred)
        values: Tensor = torch.linalg.eigvalsh(scatter / n).clamp(min=0)
        return values
    # evenly spaced samples: a folder sorted by class is still covered
    picked = x[:: math.ceil(n / _LARGEST_MATRIX)].flatten(1)
    gram = torch.zeros(len(picked), len(picked), dtype=torch.float64, device=x.device)
    for columns in torch.split(picked, _DATA_BLOCK, dim=1):
        centred = columns.double()
        centred -= centred.mean(0)
        gram.addmm_(centred, centred.T)
    values = torch.linalg.eigvalsh(gram / len(picked)).clamp(min=0)
    rest = torch.zeros(dimensions - len(values), dtype=values.dtype, device=values.device)
    return torch.cat([values, rest])
