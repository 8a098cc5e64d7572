"""Figures of one training: this package alone touches matplotlib, and only once a figure is drawn.

Every function returns a `matplotlib.figure.Figure` that belongs to no window and no global state;
save it with ``figure.savefig(path)``. Sizes are made for a browser: about 1,000 pixels wide.
"""

from __future__ import annotations

from ebm_core.plots.long_chains import chain_curves, states_over_time
from ebm_core.plots.series import describe, diagnostics, diagnostics_from_series
from ebm_core.plots.states import is_image, landscape, samples

__all__ = [
    "chain_curves",
    "describe",
    "diagnostics",
    "diagnostics_from_series",
    "is_image",
    "landscape",
    "samples",
    "states_over_time",
]
