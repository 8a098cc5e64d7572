"""How a training breaks down: d or r leave the reasonable, or d runs to minus infinity."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ebm_core.assessment import Divergence, Thresholds
from ebm_core.correlation import Array

# Far beyond what any unit makes of d or r; squares of it are still finite.
REASONABLE = 1e30


def first_unreasonable(d: Array, r: Array) -> Divergence | None:
    """Where d or r is first not finite, or beyond `REASONABLE`; None if it never is."""
    events = []
    for name, series in (("d", d), ("r", r)):
        # written so that NaN is not reasonable
        outside = ~(np.abs(series) < REASONABLE)
        if outside.any():
            update = int(np.argmax(outside))
            how = "left any reasonable range" if np.isfinite(series[update]) else "is not finite"
            events.append(Divergence(update, f"{name} {how}"))
    return min(events, key=lambda event: event.update, default=None)


def collapse_update(
    d: ArrayLike,
    dimensions: int,
    thresholds: Thresholds | None = None,
    since: int = 0,
    chunk: int = 10,
) -> int | None:
    """First update at which d is known to run to minus infinity, or None.

    Four neighbouring chunks of d must have falling medians, each by a tenth at least, the last
    three below ``-collapse_nats * N``, or below 100 / chunk times that where chunks are shorter
    than 100 updates. This is looked for on every time scale, chunks growing by twos, so that a
    slow collapse is found as well as a fast one. A burst at the start of training, when chains
    come in from noise, goes as deep but is over within a chunk: measured on digits, it lasts 3 to
    9 updates for any epsilon from 0.0005 to 0.02 (and goes to -13,000 N nats at the smallest),
    where real collapses (Adam 0.001, noise on the data of epsilon / 100, epsilon 0.08) pass
    -1,000 N within 30 updates and never come back.

    What is found in the first updates of a series does not depend on those that follow, so that a
    trainer may ask again and again with d so far.

    Args:
        d: Energy differences, nats; NaN counts as not low.
        dimensions: N.
        thresholds: Limits.
        since: Looks for no collapse that was to be seen before this update; what was asked about
            already need not be looked at again.
        chunk: Updates of the shortest chunk.
    """
    limit = -(thresholds or Thresholds()).collapse_nats * dimensions
    x = np.asarray(d, dtype=np.float64)
    found = []
    while 4 * chunk <= x.size:
        # a chunk that ends at `since` or later, and the three before it
        oldest, newest = max(0, since // chunk - 3), x.size // chunk
        if newest - oldest >= 4:
            parts = x[oldest * chunk : newest * chunk].reshape(-1, chunk)
            rows = _falling(parts, limit * max(1.0, 100 / chunk))
            found += [(oldest + last + 1) * chunk - 1 for last in rows[:1]]
        chunk *= 2
    return min(found, default=None)


def _falling(parts: Array, limit: float) -> list[int]:
    """Where a row and the three before it have medians that fall by a tenth each, three deep."""
    # over half of the values below the limit: so is the median, and this is quicker to see
    deep = 2 * np.count_nonzero(parts < limit, axis=1) > parts.shape[1]
    last = 3 + np.flatnonzero(deep[1:-2] & deep[2:-1] & deep[3:])
    medians = np.median(parts[last[:, None] + np.arange(-3, 1)], axis=2)
    falls = medians[:, 1:] < 1.1 * medians[:, :-1]
    return [int(row) for row in last[falls.all(axis=1)]]
