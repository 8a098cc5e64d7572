"""How the pictures of a study are drawn: inks, markers, axes, and SVG that takes a page's colours.

No pyplot and no global setting: every colour is given where it is used.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from study.reporting.outcomes import LONG_RUNS, OUTCOMES
from study.reporting.sentences import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# CSS name and value on white; told apart by colour-blind readers, and by shape as well.
INKS = {
    "ink": "#20252b",
    "muted": "#6b7480",
    "rule": "#dfe2e6",
    "band": "#e4efe9",
    "paper": "#fdfcfa",
    "convergent": "#1f7a5c",
    "nonconvergent": "#c06a12",
    "diverged": "#b3263e",
    "collapsed": "#7a4aa8",
    "unassessed": "#78818d",
    "failed": "#3d434b",
}
MARKERS = dict(zip(OUTCOMES, "osXvDP", strict=True))
LONG_RUN_OF = ("convergent", "nonconvergent")
# Size and opacity of markers that are drawn more and more weakly.
GRADES = ((1.0, 1.0), (0.8, 0.75), (0.62, 0.5), (0.48, 0.32))
# What the id of a group of markers begins with; then the rows that they stand for.
_MARKS = "marks-"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(h_pad=0.08, w_pad=0.02)
    return figure


def dress(ax: Axes) -> None:
    """Two spines, a faint grid, the page's inks."""
    ax.set_facecolor("none")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(INKS["muted"])
    ax.spines[["left", "bottom"]].set_linewidth(0.7)
    ax.tick_params(which="both", color=INKS["muted"], labelcolor=INKS["ink"], labelsize=8.5)
    ax.tick_params(which="minor", length=0)
    ax.grid(color=INKS["rule"], lw=0.6)
    ax.set_axisbelow(True)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set(color=INKS["ink"], fontsize=9)


def title(ax: Axes, text: str, note: str = "") -> None:
    """A heading at the left above a panel, and a note in grey at the right."""
    ax.set_title(text, loc="left", fontsize=9.5, fontweight="bold", color=INKS["ink"])
    if note:
        ax.set_title(note, loc="right", fontsize=8.5, color=INKS["muted"])


def points(
    ax: Axes,
    x: pd.Series,
    y: pd.Series,
    frame: pd.DataFrame,
    grade: pd.Series | None = None,
) -> None:
    """One marker a row: shape and ink by outcome; full, hollow or small by long run.

    In a page each says which row it stands for: `to_svg` gives it the index of the row.

    Args:
        ax: The panel.
        x, y: Where the markers stand.
        frame: Outcome and long run of each; its index is what markers are known by.
        grade: How strongly each is drawn, an index of `GRADES`; the strongest if not given.
    """
    drawn = frame.assign(_x=x, _y=y, _grade=0 if grade is None else grade)
    drawn = drawn[np.isfinite(x) & np.isfinite(y)]
    groups = drawn.groupby(["_grade", "outcome", "long_run"])
    # The strongest and the convergent last, on top of others at the same place
    order = sorted(groups.groups, key=lambda key: (-key[0], -OUTCOMES.index(key[1])))
    for strength, outcome, long_run in order:
        each = groups.get_group((strength, outcome, long_run))
        style = marker(outcome, long_run)
        if grade is not None:
            style = _graded(style, *GRADES[strength])
        [line] = ax.plot(each["_x"], each["_y"], **style)
        line.set_gid(f"{_MARKS}{'.'.join(map(str, each.index))}")


def _graded(style: dict[str, Any], size: float, opacity: float) -> dict[str, Any]:
    """A marker on a coloured ground: hollow ones hide it, full ones have a rim of paper."""
    hollow = style["markerfacecolor"] == "none"
    return style | {
        "markersize": style["markersize"] * size,
        "alpha": opacity,
        "markerfacecolor": INKS["paper"] if hollow else style["markerfacecolor"],
        "markeredgecolor": style["markeredgecolor"] if hollow else INKS["paper"],
        "markeredgewidth": style["markeredgewidth"] * size if hollow else 0.5,
    }


def marker(outcome: str, long_run: str) -> dict[str, Any]:
    """How a training is marked, as keywords of a line."""
    ink, departs = INKS[outcome], long_run == "departs"
    # Only where a long run would have told something is its absence worth a sign
    unchecked = outcome in LONG_RUN_OF and long_run not in LONG_RUNS
    return {
        "linestyle": "",
        "marker": MARKERS[outcome],
        "markersize": 3.5 if unchecked else 7,
        "markerfacecolor": "none" if departs else ink,
        "markeredgecolor": ink,
        "markeredgewidth": 1.4 if departs else 0.8,
        "clip_on": False,
        "zorder": 3,
    }


def legend(figure: Figure, frame: pd.DataFrame) -> None:
    """What the markers mean, above the panels: outcomes, and below them long runs that occur."""
    from matplotlib.lines import Line2D

    def entry(label: str, **style: Any) -> Line2D:
        return Line2D([], [], label=label, **style)

    outcomes = [name for name in OUTCOMES if (frame["outcome"] == name).any()]
    checkable = frame[frame["outcome"].isin(LONG_RUN_OF)]["long_run"]
    long_runs = [name for name in LONG_RUNS if (checkable == name).any()]
    long_runs += ["not run"] if (~checkable.isin(LONG_RUNS)).any() else []
    rows = (
        [entry(name, **marker(name, "holds")) for name in outcomes],
        [entry(f"long run {name}", **_in_grey(marker("convergent", name))) for name in long_runs],
    )
    # A legend fills its columns downwards
    columns = max(map(len, rows))
    blank = entry("", linestyle="")
    padded = [[*row, *[blank] * (columns - len(row))] for row in rows]
    figure.legend(
        handles=[handle for pair in zip(*padded, strict=True) for handle in pair],
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=8.5,
        labelcolor=INKS["ink"],
        handletextpad=0.2,
        columnspacing=1.2,
        borderpad=0,
    )


def _in_grey(style: dict[str, Any]) -> dict[str, Any]:
    grey = INKS["muted"]
    face = "none" if style["markerfacecolor"] == "none" else grey
    return style | {"markerfacecolor": face, "markeredgecolor": grey}


def log_ticks(axis: Axis) -> None:
    """A logarithmic axis whose ticks are plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    steps = (1.0,) if high > 300 * low else (1.0, 3.0) if high > 60 * low else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_formatter(NullFormatter())


def envelope(ax: Axes, series: np.ndarray, ink: str, pieces: int = 200) -> None:
    """A long series as the mean and the range of its pieces; what is not finite is left out."""
    updates = np.flatnonzero(np.isfinite(series))
    if not updates.size:
        return
    groups = np.array_split(updates, min(pieces, updates.size))
    x = [group.mean() for group in groups]
    values = [series[group] for group in groups]
    low, high = [v.min() for v in values], [v.max() for v in values]
    ax.fill_between(x, low, high, color=ink, alpha=0.22, lw=0)
    ax.plot(x, [v.mean() for v in values], color=ink, lw=1)


def to_svg(figure: Figure, label: str) -> str:
    """The figure as an ``<svg>`` element to stand inside a page.

    Text stays text and inks become ``var(--name, #value)``. Of the ids only those are kept that
    something refers to.

    Args:
        figure: The figure.
        label: What it shows, for readers who do not see it.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    # A fixed salt, so that the same figure gives the same text
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = _tell_rows(text)
    used = set(re.findall(r"#([\w.-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda id_: id_[0] if id_[1] in used else "", text)
    text = re.sub(r'(?<= d=")[^"]*', _rounded, text)
    for name, value in INKS.items():
        text = text.replace(value, f"var(--{name}, {value})")
    escaped = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg", f'<svg role="img" aria-label="{escaped}"', 1)


def _rounded(path: re.Match[str]) -> str:
    """A path in hundredths of a point, which are finer than a screen."""
    return re.sub(r"\d+\.\d{3,}", lambda digits: f"{float(digits[0]):.2f}", path[0])


def _tell_rows(svg: str) -> str:
    """Gives the markers of `points` the row that each stands for, and their style once a group."""

    def told(group: re.Match[str]) -> str:
        rows, body = group[1].split("."), group[2]
        uses = re.findall(r'<use xlink:href="(#\w+)" x="(\S+)" y="(\S+)" style="([^"]*)"/>', body)
        # only the first group of a shape defines it
        definitions = body[: body.index("<g>")] if "<g>" in body else body[: body.index("<g ")]
        # so that a page may light up a single one
        definitions = re.sub(r' style="[^"]*"', "", definitions)
        href, style = uses[0][0], uses[0][3]
        marks = "".join(
            f'<use href="{href}" x="{float(x):.1f}" y="{float(y):.1f}" data-at="{row}"/>'
            for row, (_, x, y, _) in zip(rows, uses, strict=True)
        )
        return f'<g>{definitions}<g class="marks" style="{style}">{marks}</g></g>'

    pattern = rf'<g id="{_MARKS}([\d.]+)">(.*?</g>)\s*</g>'
    return re.sub(pattern, told, svg, flags=re.DOTALL)


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as a picture on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", transparent=False)
    return buffer.getvalue()


def to_svg_file(figure: Figure) -> bytes:
    """The figure as a file on white that stands alone; the same figure gives the same file."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "study"}):
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return buffer.getvalue()


def subplots(figure: Figure, rows: int, columns: int, **options: Any) -> np.ndarray:
    """Dressed panels, an array of shape (rows, columns)."""
    grid: np.ndarray = figure.subplots(rows, columns, squeeze=False, **options)
    for ax in grid.flat:
        dress(ax)
    return grid
