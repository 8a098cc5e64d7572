"""A reference between r* and the floor: what a mixture of a few Gaussians at the data demands."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_AXES = 64
_LARGEST_SET = 8_192
_ROUNDS = 20
_QUERIES = 512


@dataclass(frozen=True)
class ClusteredSamples:
    """Samples in clusters; all in coordinates along the leading principal axes.

    Attributes:
        x: Samples, shape (n, axes).
        share: Of the samples in each cluster, shape (k,).
        centres: Shape (k, axes).
        covariances: Within each cluster, shape (k, axes, axes).
        rest: Variances along all other axes, where one Gaussian stands for all.
    """

    x: Tensor
    share: Tensor
    centres: Tensor
    covariances: Tensor
    rest: Tensor


def cluster(samples: Tensor, clusters: int) -> ClusteredSamples:
    """Clusters samples of shape (n, *shape) by Lloyd's algorithm from a fixed seed."""
    flat = samples.flatten(1)[:: -(-len(samples) // _LARGEST_SET)].double()
    flat = flat - flat.mean(0)
    variances, axes = torch.linalg.eigh(flat.T @ flat / len(flat))
    leading = min(_AXES, len(variances))
    x, rest = flat @ axes[:, -leading:], variances[:-leading].clamp(min=0)
    rng = torch.Generator().manual_seed(0)
    centres = x[torch.randperm(len(x), generator=rng)[:clusters]]
    for _ in range(_ROUNDS):
        nearest = torch.cdist(x, centres).argmin(1)
        centres = torch.stack([x[nearest == k].mean(0) for k in nearest.unique()])
    nearest = torch.cdist(x, centres).argmin(1)
    own = [x[nearest == k] - centres[k] for k in range(len(centres))]
    share = torch.tensor([len(each) / len(x) for each in own], dtype=torch.float64)
    covariances = torch.stack([each.T @ each / max(1, len(each)) for each in own])
    return ClusteredSamples(x, share, centres, covariances, rest)


def mixture_magnitude(data: ClusteredSamples, epsilon: float, data_epsilon: float) -> float:
    r"""Mean gradient that chains need to keep a mixture of Gaussians, one at each cluster.

    .. math:: g(x) = \sum_k w_k(x) \left(1 - \sqrt{1 - \varepsilon^2 S_k^{-1}}\right) (x - m_k)

    with :math:`S_k` the covariance of cluster k plus ``data_epsilon**2`` and w the posterior of
    the clusters at x. It is exact for clusters far apart; one cluster gives the floor, and as many
    clusters as samples give r*.

    Args:
        data: The clusters.
        epsilon: Langevin noise sd, units of x.
        data_epsilon: sd of the noise on positives, units of x.

    Returns:
        Mean over noised samples, units of x.
    """
    values, vectors = torch.linalg.eigh(data.covariances)
    values = values.clamp(min=0) + data_epsilon**2

    def along_axes(scaled: Tensor) -> Tensor:
        return vectors @ (scaled[:, :, None] * vectors.transpose(1, 2))

    rng = torch.Generator().manual_seed(0)
    which = torch.randint(len(data.x), (_QUERIES,), generator=rng)
    noise = torch.randn(_QUERIES, data.x.shape[1], generator=rng, dtype=torch.float64)
    offset = (data.x[which] + data_epsilon * noise)[:, None] - data.centres
    distance = torch.einsum("nki,kij,nkj->nk", offset, along_axes(1 / values), offset)
    log_weight = data.share.log() - (values.log().sum(1) + distance) / 2
    needed = 1 - (1 - (epsilon**2 / values).clamp(max=1)).sqrt()
    gradient = torch.einsum("nk,kij,nkj->ni", log_weight.softmax(1), along_axes(needed), offset)
    sd = (data.rest + data_epsilon**2).sqrt()
    rest = (sd - (sd**2 - epsilon**2).clamp(min=0).sqrt()).square().sum()
    return float((gradient.square().sum(1) + rest).sqrt().mean())
