"""Pictures of what was learned: landscapes in the plane, and grids of images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm_core.data import Dataset, PlaneLaw, positive_samples
from ebm_core.evaluate import density_grid
from ebm_core.plots.series import describe, title_of
from ebm_core.plots.style import RED, head, new_figure, say
from ebm_core.randomness import Stream, generator
from ebm_core.result import RunResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Energies are shown up to this far above the lowest of the data: exp(-10) of the highest density.
_NATS = 10
_POINTS = 1_000


def landscape(result: RunResult, law: PlaneLaw) -> Figure:
    """Learned beside true: energies in nats, and densities with samples, each at one scale.

    The model is ``exp(-F / T)`` normalised over the square that is shown; the truth is the law of
    the data under its noise, ``q * N(0, data_epsilon**2)``. Energies are clipped 10 nats above the
    lowest true one, densities at 1.5 times the highest true one.

    Args:
        result: A training in the plane.
        law: Law of its clean data, on the device of the chains.
    """
    config = result.config
    grid = density_grid(result.energy, law, config.epsilon, config.data_epsilon)
    log_p, log_q = grid.log_p.numpy(), grid.log_q.numpy()
    lowest, highest = math.floor(-log_q.max()), 1.5 * math.exp(log_q.max())
    half_nats = np.arange(lowest, lowest + _NATS + 0.5, 0.5)
    energies: dict[str, Any] = {"levels": half_nats, "cmap": "viridis_r", "extend": "both"}
    densities: dict[str, Any] = {
        "levels": _round_levels(highest),
        "cmap": "Greys",
        "extend": "max",
    }
    chains, data = result.chains[:_POINTS], _noised_data(result, law, _POINTS)
    noised = f", blurred by ε_data = {config.data_epsilon:.3g}" if config.data_epsilon else ""
    with new_figure(height=9.4) as figure:
        head(figure, *title_of(result.assessment, describe(config)))
        (learned, true), (model, truth) = figure.subplots(2, 2, sharex=True, sharey=True)
        learned.set_title("Learned energy U = F/T, normalised")
        true.set_title("True energy −log q" + noised)
        model.set_title(f"Learned density, {len(chains):,} chains")
        truth.set_title(f"True density, {len(data):,} samples")
        for row, values, colours, label in (
            ((learned, true), (-log_p, -log_q), energies, "nats"),
            ((model, truth), (np.exp(log_p), np.exp(log_q)), densities, "density"),
        ):
            for ax, z in zip(row, values, strict=True):
                filled = _contours(ax, z, grid.extent, colours)
            # the truth, drawn last, is finite always
            ticks = colours["levels"][::2]
            figure.colorbar(filled, ax=row, label=label, aspect=25, pad=0.02, ticks=ticks)
        _scatter(model, chains, grid.extent)
        _scatter(truth, data, grid.extent)
    return figure


def _contours(ax: Axes, z: NDArray[np.float64], extent: float, colours: dict[str, Any]) -> Any:
    points = len(z)
    axis = (np.arange(points) + 0.5) * 2 * extent / points - extent
    ax.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal")
    if not np.isfinite(z).all():
        say(ax, "the learned energy is not finite")
        return None
    return ax.contourf(axis, axis, z, **colours)


def _round_levels(highest: float) -> NDArray[np.float64]:
    from matplotlib.ticker import MaxNLocator

    return np.asarray(MaxNLocator(14).tick_values(0, highest))


def _scatter(ax: Axes, x: Tensor, extent: float) -> None:
    """Samples as dots; how many there are beyond the picture stands in the title."""
    points = x.detach().double().cpu().numpy()
    outside = np.count_nonzero(~(np.abs(points) <= extent).all(1))
    if outside:
        ax.set_title(f"{ax.get_title(loc='left')}, {outside:,} outside", loc="left")
    ax.plot(*points.T, ".", color=RED, markersize=3, alpha=0.6, markeredgewidth=0)


def samples(result: RunResult, n: int = 64, data: Dataset | None = None) -> Figure:
    """Images that the chains hold, beside noised data (5A) as learning saw them.

    Args:
        result: A training on images of 1 or 3 channels, scaled to [-1, 1].
        n: How many of each to show, rounded down to a full square.
        data: The data set, on the device of the chains; the chains stand alone without it.

    Raises:
        ValueError: If the states are no images.
    """
    shape = tuple(result.chains.shape[1:])
    if not is_image(shape):
        raise ValueError(f"states must have shape (1 or 3, height, width), but got {shape}")
    side = math.isqrt(min(n, len(result.chains)))
    # any states will do, since the order of the bank means nothing
    panels = [(f"Chains after {len(result.d):,} updates", result.chains[: side**2])]
    if data is not None:
        title = f"Data with noise of sd {result.config.data_epsilon:.3g}"
        panels.append((title, _noised_data(result, data, side**2)))
    with new_figure(height=5.6) as figure:
        head(figure, *title_of(result.assessment, describe(result.config)))
        axes = figure.subplots(1, 2)
        for ax in axes:
            ax.set_axis_off()
        for ax, (title, states) in zip(axes, panels, strict=False):
            draw_images(ax, states, side)
            ax.set_title(f"{title}{_clipped(states.detach().float().cpu())}")
    return figure


def draw_images(ax: Axes, states: Tensor, side: int) -> None:
    """The first side**2 states, shape (n, channels, h, w), as a square of images."""
    x = states[: side**2].detach().float().cpu()
    ax.set_axis_off()
    ax.imshow(_montage(x, side), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether samples of this shape can be shown as images."""
    return len(shape) == 3 and shape[0] in (1, 3)


def _noised_data(result: RunResult, data: Dataset, n: int) -> Tensor:
    rng = generator(result.config.seed, Stream.EVALUATION, 4, result.chains.device)
    return positive_samples(data, n, result.config.data_epsilon, rng, result.chains.dtype)


def _clipped(x: Tensor) -> str:
    """What a picture of these states does not show."""
    broken = int((~x.isfinite().flatten(1).all(1)).sum())
    if broken:
        return f": {broken:,} of {len(x):,} not finite"
    share = float((x.abs() > 1).float().mean())
    return f": {share:.0%} of values clipped" if share >= 0.005 else ""


def _montage(x: Tensor, side: int) -> NDArray[np.float32]:
    """Images (side**2, channels, h, w) in one, shape (H, W) or (H, W, 3), values in [0, 1].

    White lines part them; what is not finite is grey.
    """
    x = torch.nan_to_num(x, nan=0.0, posinf=1.0, neginf=-1.0).clamp(-1, 1) / 2 + 0.5
    gap = max(1, x.shape[-1] // 8)
    x = torch.nn.functional.pad(x, (0, gap, 0, gap), value=1.0)
    _, channels, height, width = x.shape
    rows = x.reshape(side, side, channels, height, width).permute(0, 3, 1, 4, 2)
    picture: NDArray[np.float32] = rows.reshape(side * height, side * width, channels).numpy()
    picture = picture[:-gap, :-gap]
    return picture[..., 0] if channels == 1 else picture
