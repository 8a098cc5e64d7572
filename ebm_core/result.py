"""What one training leaves, and how it is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ebm_core.config import TrainConfig
from ebm_core.matched import MatchedGradient
from ebm_core.verdict import Assessment, Divergence, assess

Status = Literal["finished", "stopped_early", "failed"]
Series = NDArray[np.float64]


@dataclass
class RunResult:
    """What one training leaves.

    Attributes:
        config: Its configuration.
        energy: The trained F, a module mapping (n, *shape) to (n,).
        d: Energy differences, nats, one an update made.
        r: Mean gradient magnitudes, units of x, likewise.
        r_rms: Root-mean-square gradient magnitudes, units of x, likewise.
        assessment: Verdict and evidence.
        status: ``finished``, ``stopped_early`` or ``failed``; not a verdict.
        cause: Why it did not finish, empty if it did.
        chains: The bank, or the last negative samples without one; shape (n, *shape).
        matched: r* and floor of the data.
        seconds: Time inside the update loop, shared evenly among the members of a pack.
        init_factor: What F was multiplied by at initialization.
        restlessness: One value an update, NaN between the looks; empty if there were none.
        clipped: 1 for an update whose gradient was clipped, else 0; empty if none is to be.
        divergence: What broke it off, for the verdict; None if nothing did.
    """

    config: TrainConfig
    energy: nn.Module
    d: Series
    r: Series
    r_rms: Series
    assessment: Assessment
    status: Status
    cause: str
    chains: Tensor = field(repr=False)
    matched: MatchedGradient = field(repr=False)
    seconds: float = 0.0
    init_factor: float = 1.0
    restlessness: Series = field(default_factory=lambda: np.empty(0), repr=False)
    clipped: Series = field(default_factory=lambda: np.empty(0), repr=False)
    divergence: Divergence | None = None


def judge(
    config: TrainConfig,
    d: Series,
    r: Series,
    dimensions: int,
    matched: MatchedGradient,
    divergence: Divergence | None = None,
    r_rms: Series | None = None,
    restlessness: Series | None = None,
    chain_spread: float | None = None,
    clipped: Series | None = None,
) -> Assessment:
    """`verdict.assess` with the constants of a configuration.

    Args:
        config: Of the training.
        d: Energy differences, nats.
        r: Gradient magnitudes, units of x.
        dimensions: N.
        matched: r* and floor of the data.
        divergence: What the trainer saw that d and r do not show.
        r_rms: Root-mean-square gradient magnitudes, units of x.
        restlessness: Of the model, see `ebm_core.restlessness`.
        chain_spread: Total variance of the chains over that of the noised data.
        clipped: Whether the gradient of each update was clipped.
    """
    return assess(
        d,
        r,
        **constants(config, dimensions, matched),
        divergence=divergence,
        r_rms=r_rms,
        restlessness=restlessness,
        chain_spread=chain_spread,
        clipped=clipped,
    )


def constants(config: TrainConfig, dimensions: int, matched: MatchedGradient) -> dict[str, Any]:
    """What `verdict.assess` has to know of a training beside its series; see `judge`."""
    return {
        "epsilon": config.epsilon,
        "dimensions": dimensions,
        "eps_data_ratio": config.eps_data_ratio,
        "r_star": matched.r_star,
        "r_floor": matched.floor,
        "band": config.band,
        "window": config.window,
        "constant_from": config.constant_from,
        "burn_in_updates": config.burn_in_updates,
        "batch_size": config.batch_size,
    }
