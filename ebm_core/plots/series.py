"""The four diagnostic panels of the source, for a training or for any two series."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ebm_core.config import Band, TrainConfig
from ebm_core.plots import panels
from ebm_core.plots.style import GREEN, GREY, RED, head, new_figure
from ebm_core.verdict import PAPER_BAND, Assessment, assess

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ebm_core.result import RunResult

_VERDICT_COLOURS = {"convergent": GREEN, "unassessed": GREY}


def diagnostics(result: RunResult) -> Figure:
    """The four diagnostic panels of one training, see `diagnostics_from_series`."""
    config = result.config
    # where the cause is the verdict's own, the title says it already
    told = result.cause in result.assessment.summary()
    ending = "" if told else f" · {result.status.replace('_', ' ')}: {result.cause}"
    return diagnostics_from_series(
        result.d,
        result.r,
        epsilon=config.epsilon,
        dimensions=math.prod(result.chains.shape[1:]),
        band=config.band,
        assessment=result.assessment,
        description=describe(config) + ending,
    )


def describe(config: TrainConfig) -> str:
    """What matters of a configuration for its diagnostics, in one line."""
    rate = f"{config.gamma_0:.4g}"
    if config.annealing_active:
        rate = f"{config.start_rate:.4g} → {rate} over {config.anneal_updates:,} updates"
    parts = (
        f"ε = {config.epsilon:.4g}",
        f"ρ = {config.eps_data_ratio:.4g}",
        f"γ₀ = {rate}" + ("" if config.annealing_active else ", not annealed"),
        {"sgd": "SGD", "adam": "Adam"}[config.optimizer],
        f"L = {config.langevin_steps}",
        f"{config.data.name}, {config.network.name}",
        f"seed {config.seed}",
    )
    return " · ".join(parts)


def diagnostics_from_series(
    d: ArrayLike,
    r: ArrayLike,
    *,
    epsilon: float,
    dimensions: int,
    eps_data_ratio: float | None = None,
    r_star: float | None = None,
    band: Band | None = None,
    assessment: Assessment | None = None,
    description: str = "",
) -> Figure:
    """The four diagnostic panels for any two series.

    Upper row: d and r over the whole run, with the window that is assessed in full colour and the
    bands in units of x. Lower row: cross-correlation of d and r, and autocorrelation of each, over
    the window, with white-noise bounds for one lag and for all lags together. A panel that has no
    answer, for a diverged, constant or short series, says why.

    Args:
        d: Energy differences, nats, one an update.
        r: Gradient magnitudes, units of x, same length.
        epsilon: Langevin noise sd, units of x.
        dimensions: N, numbers of one sample.
        eps_data_ratio: Noise on the data in units of epsilon, if known.
        r_star: Gradient magnitude that the score of the data demands, units of x, if known.
        band: Where r is expected; as in `verdict.assess` if None.
        assessment: The verdict on these series; that of `verdict.assess` if None.
        description: A line on what was run, for the head of the figure.

    Raises:
        ValueError: If the series differ in length, or a constant is out of range.

    Source: Nijkamp et al. 2020, appendix, figures 1 and 2.
    """
    x, y = np.asarray(d, dtype=np.float64), np.asarray(r, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"d and r must be series of one length, got {x.shape} and {y.shape}")
    if assessment is None:
        assessment = assess(
            x,
            y,
            epsilon=epsilon,
            dimensions=dimensions,
            eps_data_ratio=eps_data_ratio,
            r_star=r_star,
            band=band,
        )
    r_star = assessment.evidence["r_star"]
    if band is None:
        band = Band() if r_star > 0 else PAPER_BAND
    window = slice(*assessment.window)
    with new_figure(height=7.6) as figure:
        head(figure, *title_of(assessment, description))
        (upper_left, upper_right), (lower_left, lower_right) = figure.subplots(2, 2)
        panels.draw_d(upper_left, x, assessment)
        panels.draw_r(upper_right, y, assessment, band, epsilon, dimensions, r_star)
        panels.draw_cross_correlation(lower_left, x[window], y[window])
        panels.draw_autocorrelation(lower_right, x[window], y[window])
    return figure


def title_of(assessment: Assessment, description: str) -> tuple[str, list[str], str]:
    """Title, lines below it and colour of a figure, for `style.head`."""
    swing = assessment.oscillation
    lines = [f"{swing.type} oscillation: {swing.reason}", description]
    colour = _VERDICT_COLOURS.get(assessment.verdict, RED)
    return assessment.summary().replace("_", " "), lines, colour
