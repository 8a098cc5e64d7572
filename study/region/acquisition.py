r"""Which training would tell most about where learning converges.

*Expected uncertainty* of the region after one more training at c, summed over nodes x:

.. math:: J(c) = \sum_x \mathbb{E}\,[P_{+c}(x) (1 - P_{+c}(x))]
               = \sum_x \Big[\prod_i \Phi(a_i) - \prod_i \Phi_2(a_i, a_i; \rho_i)\Big]

with :math:`a_i = \mu_i(x)/\sigma_i(x)` and :math:`\rho_i(c, x)` the share of the variance of
margin i at x that the training takes away. :math:`\Phi_2` is the bivariate normal distribution. A
training shows all margins at once, and they are independent, so that expectations of products are
products.

Source: stepwise uncertainty reduction (Bect, Ginsbourger, Li, Picheny and Vazquez 2012), in the
closed form of Chevalier et al. 2014, here for a region that several margins bound.
"""

from __future__ import annotations

import numpy as np
from scipy.special import owens_t
from scipy.stats import norm

from study.region.field import Array, Field


def uncertainty_left(field: Field, candidates: Array, nodes: Array) -> Array:
    """Expected mean of P (1 - P) over the nodes after a training at each of the candidates.

    Args:
        field: Of the margins.
        candidates: Places, shape (c, columns).
        nodes: Places where the region is to become known, shape (m, columns).

    Returns:
        Shape (c,), in [0, 1/4]; the smallest is the best.
    """
    c = len(candidates)
    inside = np.ones((c, len(nodes)))
    both = np.ones((c, len(nodes)))
    for each in field.jointly(np.concatenate([candidates, nodes])):
        variance = np.maximum(np.diag(each.covariance), 1e-12)
        cross = each.covariance[:c, c:]
        share = cross**2 / ((variance[:c, None] + each.noise) * variance[None, c:])
        share = np.clip(share, 0, 1 - 1e-9)
        a = (each.mean / np.sqrt(variance))[None, c:]
        inside *= norm.cdf(a)
        both *= _both_under(a, share)
    return np.asarray((inside - both).mean(axis=1))


def _both_under(a: Array, correlation: Array) -> Array:
    """P that two standard normal variables of this correlation are both under a."""
    angle = np.sqrt((1 - correlation) / (1 + correlation))
    return np.asarray(norm.cdf(a) - 2 * owens_t(a, angle))
