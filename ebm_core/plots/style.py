"""What the figures share: size, colours, fonts, and the strip of text above the panels."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
WIDTH = 9.2  # inches

# Okabe and Ito's palette: told apart with every kind of colour vision.
BLUE, GREEN, RED, GREY = "#0072B2", "#009E73", "#D55E00", "#6b6b6b"

_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}


@contextmanager
def new_figure(height: float) -> Iterator[Figure]:
    """An empty figure, drawn on under this style whatever the user's own settings are.

    Args:
        height: Inches.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")


def head(figure: Figure, title: str, lines: Sequence[str] = (), colour: str = "black") -> None:
    """A bold title and plain lines above the panels, in a strip as high as they need."""
    bold = textwrap.wrap(title, 95)
    plain = [part for line in lines for part in textwrap.wrap(line, 150)]
    height = figure.get_figheight()
    top = 0.1
    for texts, size, step, weight, ink in (
        (bold, 12, 0.22, "bold", colour),
        (plain, 9, 0.17, "normal", "black"),
    ):
        for text in texts:
            y = 1 - top / height
            figure.text(0.01, y, text, size=size, va="top", weight=weight, color=ink)
            top += step
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0, 0, 1, 1 - (top + 0.06) / height), w_pad=0.08, h_pad=0.06)


def say(ax: Axes, text: str) -> None:
    """Words in the middle of a panel that has nothing to draw."""
    ax.set(xticks=[], yticks=[])
    wrapped = textwrap.fill(text, 40)
    ax.text(0.5, 0.5, wrapped, transform=ax.transAxes, ha="center", va="center", size=11)


def legend(ax: Axes, columns: int = 2) -> None:
    """A legend below its panel, where it covers nothing."""
    # constrained layout keeps room for it
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=columns, borderaxespad=0)
