"""Pictures of long chains: their energies and gradients, and some of their states over time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from ebm_core.plots.series import describe
from ebm_core.plots.states import draw_images, is_image
from ebm_core.plots.style import BLUE, GREEN, GREY, RED, head, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ebm_core.sampling import LongChains
    from ebm_core.worth import Worth

_COLOURS = {"bank": BLUE, "data": GREEN, "noise": RED}


def chain_curves(chains: LongChains, worth: Mapping[str, Worth | None], title: str) -> Figure:
    """Energy and gradient magnitude along the chains: mean and middle 80 % from each start.

    Where the long run is judged, a grey band shows the same of the short-run samples; a line the
    mean energy of data that learning has not seen, where some are held out.

    Args:
        chains: With at least one portion made.
        worth: What they came to be worth, from each start.
        title: What was found, for the head.
    """
    with new_figure(height=4.6) as figure:
        head(figure, title, [describe(chains.result.config)])
        left, right = figure.subplots(1, 2)
        steps = np.array(chains.read_at)
        middles = (steps[1:] + steps[:-1]) / 2
        if chains.judged:
            low, high = np.nanquantile(chains.reference[0], (0.1, 0.9))
            left.axhspan(low, high, color=GREY, alpha=0.25, lw=0, label="short-run samples")
        for found in worth.values():
            if found is not None and found.held_out is not None:
                unseen = found.held_out.unseen
                left.axhline(unseen, color="black", linestyle="--", lw=1, label="held-out data")
                break  # the same data beside the chains from all starts
        pairs = ((left, steps, chains.energies()), (right, middles, chains.magnitudes()))
        for ax, at, by_start in pairs:
            for start, values in by_start.items():
                # of a reading where no chain is finite any more nothing is drawn
                some = np.isfinite(values).any(axis=0)
                shown = np.where(np.isfinite(values), values, np.nan)[:, some]
                colour, label = _COLOURS[start], f"from {start}"
                if some.any():
                    low, high = np.nanquantile(shown, (0.1, 0.9), axis=0)
                    ax.fill_between(at[some], low, high, color=colour, alpha=0.15, linewidth=0)
                mean = np.nanmean(shown, axis=0) if some.any() else []
                ax.plot(at[some], mean, color=colour, label=label)
            ax.set_xlabel("step")
            legend(ax)
        left.set(title="Energy U = F/T", ylabel="U, nats")
        right.set(title="Gradient magnitude |∇F|", ylabel="units of x")
        _limit(left, chains)
    return figure


def _limit(ax: Axes, chains: LongChains) -> None:
    """Chains from noise begin far above all others, which would flatten everything else."""
    values = [each[:, len(each[0]) // 20 :] for each in chains.energies().values()]
    values += [chains.reference[:1]] if chains.judged else []
    together = np.concatenate([each[np.isfinite(each)] for each in values])
    if not len(together):
        return
    low, high = np.quantile(together, (0.005, 0.995))
    margin = 0.15 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)


def states_over_time(chains: LongChains, title: str) -> Figure:
    """Some chains from each start, a row, after more and more steps, a column.

    The same chains stand in the same places, clipped to [-1, 1]. In the plane they are dots over
    the data.

    Args:
        chains: With at least one portion made.
        title: What was found, for the head.

    Raises:
        ValueError: If states are neither images nor points of the plane.
    """
    shape = tuple(chains.x.shape[1:])
    if not (is_image(shape) or shape == (2,)):
        raise ValueError(f"states must be images or points of the plane, but have shape {shape}")
    shown, starts = chains.shown(), chains.wanted.starts
    with new_figure(height=0.8 + 2.05 * len(starts)) as figure:
        head(figure, title, [describe(chains.result.config)])
        axes = figure.subplots(len(starts), len(shown), squeeze=False)
        for row, start in zip(axes, starts, strict=True):
            for ax, (step, by_start) in zip(row, shown, strict=True):
                states = by_start[start]
                if is_image(shape):
                    draw_images(ax, states, math.isqrt(len(states)))
                else:
                    _draw_points(ax, states, chains)
                word = "step" if step == 1 else "steps"
                ax.set_title(f"{step:,} {word}" if step else f"from {start}")
    return figure


def _draw_points(ax: Axes, states: torch.Tensor, chains: LongChains) -> None:
    rng = torch.Generator(chains.device).manual_seed(0)
    data = chains.dataset.draw(500, rng).cpu().numpy()
    ax.plot(*data.T, ".", color=GREY, markersize=1.5, alpha=0.5, markeredgewidth=0)
    ax.plot(*states.numpy().T, ".", color=RED, markersize=5, markeredgewidth=0)
    extent = 1.2 * float(np.abs(data).max())
    ax.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", xticks=[], yticks=[])
