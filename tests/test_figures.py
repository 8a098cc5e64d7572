"""What is drawn of a study: the panels, and that no training is missing from them."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agreement_study import labelled_frame
from fake_study import EPSILON, digits_frame, frame_of, mixed_frame, row, spec_of, write_files
from matplotlib.colors import to_hex
from PIL import Image

from ebm_core.verdict import assess
from study import table
from study.reporting import drawing, figures, symbols
from study.reporting.agreement import compare
from study.reporting.agreement_figure import areas
from study.reporting.figures import curves, overview

FOUR = {
    "epsilon": {"distribution": "loguniform", "min": 0.01, "max": 0.4},
    "eps_data_ratio": {"distribution": "uniform", "min": 1.0, "max": 3.0},
    "gamma_0": {"distribution": "loguniform", "min": 0.0005, "max": 0.5},
    "optimizer": {"distribution": "choice", "values": ["sgd", "adam"]},
}


def four_axes(**fields: Any) -> Any:
    rng = np.random.default_rng(0)
    rows = [
        row(
            i,
            ("convergent", "nonconvergent", "diverged")[i % 3],
            epsilon=float(rng.uniform(0.01, 0.4)),
            eps_data_ratio=float(rng.uniform(1, 3)),
            gamma_0=float(10 ** rng.uniform(-3, -0.5)),
            optimizer=("sgd", "adam")[i % 2],
            **fields,
        )
        for i in range(12)
    ]
    return frame_of(rows)


def marks(ax: Any) -> list[Any]:
    """The lines of a panel that are marks of trainings."""
    return [line for line in ax.lines if line.get_linestyle() == "None"]


def count(ax: Any) -> int:
    return sum(len(line.get_xdata()) for line in marks(ax))


def test_one_axis_has_a_panel_a_requirement_and_the_long_run() -> None:
    figure = overview(digits_frame(), spec_of())
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [
        "Convergence margin",
        "Gradient magnitude r / r*",
        "Imbalance |mean d| / sd d",
        "Long-run departure, sd of U",
    ]
    assert [count(ax) for ax in figure.axes] == [12] * 4
    assert {ax.get_xscale() for ax in figure.axes} == {"log"}
    assert figure.axes[1].get_yscale() == "log"
    assert figure.axes[-1].get_xlabel() == "ε (epsilon), units of x"
    assert min(y for line in marks(figure.axes[2]) for y in line.get_ydata()) >= 0


def test_the_imbalance_may_be_as_large_as_the_verdict_lets_it() -> None:
    """0.2 sd of U, where d is a mean over 64 samples of each kind."""
    spec = spec_of()
    assert spec.base["batch_size"] == 64
    panel = next(p for p in figures._panels(digits_frame(), spec.base) if p.column == "d_balance")
    d, r = np.random.default_rng(0).normal(size=(2, 1_000))
    for shift, balanced in ((0.97, True), (1.03, False)):
        moved = d - d.mean() + shift * panel.well[1] * d.std(ddof=1)
        found = assess(moved, 3 + 0.1 * r, epsilon=1.0, dimensions=64, r_star=3, batch_size=64)
        assert ("d_unbalanced" not in found.reasons) == balanced


def test_trainings_without_a_margin_are_drawn_below_its_floor() -> None:
    figure = overview(mixed_frame(), spec_of())
    margin = figure.axes[0]
    assert count(margin) == len(mixed_frame())
    below = [y for line in marks(margin) for y in line.get_ydata() if y < -3]
    assert len(below) == 2
    assert margin.get_ylim()[0] < min(below)
    # what was not measured has no place elsewhere
    assert count(figure.axes[3]) == 14


def test_shape_and_ink_tell_the_verdict_and_filling_the_long_run() -> None:
    rows = [row(0), row(1, long_run="departs"), row(2, long_run="not_run"), row(3, "diverged")]
    margin = overview(frame_of(rows), spec_of()).axes[0]
    drawn = {
        (line.get_marker(), line.get_markerfacecolor(), line.get_markersize())
        for line in marks(margin)
    }
    green, red = drawing.INKS["convergent"], drawing.INKS["diverged"]
    assert drawn == {("o", green, 7), ("o", "none", 7), ("o", green, 3.5), ("X", red, 7)}


def test_the_legend_names_what_occurs() -> None:
    legend = overview(mixed_frame(), spec_of()).legends[0]
    names = {text.get_text() for text in legend.get_texts()} - {""}
    outcomes = {"convergent", "nonconvergent", "diverged", "unassessed", "failed"}
    assert names == {*outcomes, "long run holds", "long run departs"}


def test_only_a_clean_interval_is_shaded_across() -> None:
    def spans(frame: Any) -> int:
        return len(overview(frame, spec_of()).axes[-1].patches)

    assert spans(digits_frame()) == 1
    assert spans(mixed_frame()) == 0


def test_the_band_is_that_of_the_study() -> None:
    base = {"preset": "digits", "band": {"low": 0.1, "high": 0.2, "unit": "scaled"}}
    ax = overview(digits_frame(), spec_of(base=base)).axes[1]
    assert ax.get_title(loc="left") == "Gradient magnitude r / (ε√N)"
    assert ax.get_title(loc="right") == "band 0.1 to 0.2"
    unknown = digits_frame().assign(r_matched=np.nan)
    assert overview(unknown, spec_of()).axes[1].get_title(loc="right") == "band 0.0962 to 0.18"


def test_data_in_the_plane_add_their_misfit() -> None:
    figure = overview(digits_frame().assign(kl=np.geomspace(18, 0.1, 12)), spec_of())
    assert len(figure.axes) == 5
    assert figure.axes[4].get_title(loc="left").startswith("Misfit KL")
    assert figure.axes[4].get_yscale() == "log"
    assert len(overview(digits_frame().assign(kl=np.nan), spec_of()).axes) == 4


def test_several_axes_are_drawn_in_pairs() -> None:
    figure = overview(four_axes(), spec_of(FOUR))
    drawn = [ax for ax in figure.axes if ax.axison]
    pairs = [(ax.get_xlabel(), ax.get_ylabel()) for ax in drawn]
    assert len(set(pairs)) == len(pairs) == 6
    assert {name for pair in pairs for name in pair} == {symbols.label(name) for name in FOUR}
    assert [count(ax) for ax in drawn] == [12] * 6
    first = drawn[0]
    assert (first.get_xscale(), first.get_yscale()) == ("log", "linear")
    words = [label.get_text() for label in drawn[2].get_yticklabels()]
    assert words == ["adam", "sgd"]


def test_pairs_of_data_in_the_plane_add_their_misfit() -> None:
    figure = overview(four_axes(kl=0.2), spec_of(FOUR))
    drawn = [ax for ax in figure.axes if ax.axison]
    assert len(drawn) == 7
    assert drawn[6].get_xlabel() == "r / r*"
    assert count(drawn[6]) == 8  # the diverged have no r


@pytest.mark.parametrize("rows", [0, 1])
def test_few_trainings_are_drawn_all_the_same(rows: int) -> None:
    frame = frame_of([row(0)]) if rows else table.frame([])
    unseen = {"langevin_steps": {"distribution": "randint", "min": 10, "max": 50}}
    for parameters in (EPSILON, FOUR, unseen):
        figure = overview(frame, spec_of(parameters))
        assert drawing.to_png(figure, 30).startswith(b"\x89PNG")
        names = [name for name in parameters if name in frame]
        assert count(figure.axes[0]) == (rows if names else 0)


def test_words_have_their_places_on_a_single_axis() -> None:
    parameters = {"optimizer": FOUR["optimizer"]}
    figure = overview(four_axes(), spec_of(parameters))
    places = {float(x) for line in marks(figure.axes[0]) for x in line.get_xdata()}
    assert places == {0.0, 1.0}


def test_curves_have_a_figure_a_member(tmp_path: Path) -> None:
    frame = mixed_frame()
    assert curves(frame, tmp_path) == []
    write_files(tmp_path, frame)
    drawn = curves(frame, tmp_path, spec_of().base)
    assert [each.axes[0].get_title(loc="left").split("\n")[0] for each in drawn] == [
        "trial 7, convergent",
        "trial 12, convergent",
        "trial 6, nonconvergent",
        "trial 13, nonconvergent",
        "trial 14, diverged",
        "trial 15, unassessed",
    ]
    # on the same scales, so that they can be compared
    assert {each.axes[1].get_yscale() for each in drawn} == {"log"}
    assert len({each.axes[0].get_ylim() for each in drawn}) == 1
    assert len({each.axes[1].get_ylim() for each in drawn}) == 1
    # the diverged one ends where it is no longer finite
    assert drawn[4].axes[0].lines[0].get_xdata().max() < 732


def test_an_envelope_keeps_mean_and_range() -> None:
    figure = drawing.new_figure(3, 2)
    ax = drawing.subplots(figure, 1, 1)[0, 0]
    series = np.random.default_rng(1).standard_normal(5000)
    series[100] = 50.0
    series[200:210] = np.nan
    drawing.envelope(ax, series, "#000000")
    assert len(ax.lines[0].get_xdata()) == 200
    assert ax.dataLim.y1 == 50.0
    drawing.envelope(ax, np.full(5, np.nan), "#000000")
    assert len(ax.lines) == 1


def test_areas_have_a_row_a_quantity_and_a_dot_a_half() -> None:
    found = compare(labelled_frame(96), spec_of(FOUR).parameters)
    drawn = areas(found)
    [overall], [within] = (figure.axes for figure in drawn)
    names = [label.get_text() for label in overall.get_yticklabels()]
    headings = ["Requirements together", "Each indicator", "Each hyperparameter alone"]
    assert [name for name in names if name not in headings] == [each.name for each in found.rows]
    assert set(headings) <= set(names)
    for ax, area in (
        (overall, [each.held_out.overall.auroc for each in found.rows]),
        (within, [each.held_out.within for each in found.rows]),
    ):
        dots = [line for line in marks(ax) if line.get_marker() == "o"]
        assert [line.get_xdata()[0] for line in dots] == [each.value for each in area]
        assert count(ax) == 2 * len(found.rows)
        bars = [line for line in ax.lines if len(line.get_xdata()) == 2][: 2 * len(found.rows)]
        ends = {tuple(line.get_xdata()) for line in bars}
        assert {(each.low, each.high) for each in area} <= ends
    # the best stand on top
    assert overall.get_ylim()[0] > overall.get_ylim()[1]
    assert "var(--ink" in drawing.to_svg(drawn[0], "areas")


def test_areas_within_thirds_need_thirds_and_areas_need_trainings() -> None:
    alike = labelled_frame(96).assign(epsilon=0.1)
    [figure] = areas(compare(alike, spec_of(FOUR).parameters))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Overall"]
    assert areas(compare(digits_frame(), spec_of().parameters)) == []


def test_svg_stands_in_a_page_and_takes_its_colours() -> None:
    figure = overview(mixed_frame(), spec_of())
    svg = drawing.to_svg(figure, 'a < b & "c"')
    assert svg.startswith('<svg role="img" aria-label="a &lt; b &amp; &quot;c&quot;"')
    assert "var(--convergent, #1f7a5c)" in svg
    assert "<text" in svg
    assert "<metadata" not in svg
    ids = re.findall(r' id="([^"]*)"', svg)
    used = set(re.findall(r"#([\w.-]+)\)?\"", svg)) | set(re.findall(r"url\(#([\w.-]+)\)", svg))
    assert ids
    assert set(ids) <= used
    assert drawing.to_svg(overview(mixed_frame(), spec_of()), 'a < b & "c"') == svg


def test_every_ink_is_a_colour_of_its_own() -> None:
    assert [to_hex(value) for value in drawing.INKS.values()] == list(drawing.INKS.values())
    assert len(set(drawing.INKS.values())) == len(drawing.INKS)
    assert len(set(drawing.MARKERS.values())) == 6


def test_every_mark_of_a_page_says_which_row_it_is() -> None:
    """In each panel: where it is drawn, it stands where its training is."""
    frame = mixed_frame()
    figure = overview(frame, spec_of())
    svg = drawing.to_svg(figure, "marks")
    seen = re.findall(r'<use href="#\w+" x="([\d.]+)" y="([\d.]+)" data-at="(\d+)"/>', svg)
    assert len(seen) == sum(count(ax) for ax in figure.axes)
    first = seen[: len(frame)]
    assert sorted(int(at) for *_, at in first) == list(range(len(frame)))
    by_place = [int(at) for _, at in sorted((float(x), int(at)) for x, _, at in first)]
    assert by_place == list(frame.sort_values("epsilon", kind="stable").index)


def test_a_page_may_lay_out_the_panels_itself() -> None:
    one = figures.panels(digits_frame(), spec_of(), mapped=True)
    assert one[0].axes[0].get_title(loc="left") == "Convergence margin"
    assert [count(each.axes[0]) for each in one] == [12] * 4
    spec, fitted = spec_of(FOUR), four_axes(kl=0.2)
    assert len(figures.panels(fitted, spec, mapped=False)) == 7
    [misfit] = figures.panels(fitted, spec, mapped=True)
    assert misfit.axes[0].get_xlabel() == "r / r*"


def test_png_is_on_white() -> None:
    with Image.open(io.BytesIO(drawing.to_png(overview(digits_frame(), spec_of()), 50))) as image:
        assert image.width == 480
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_matplotlib_waits_until_something_is_drawn() -> None:
    code = (
        "import sys, study.report, study.reporting.figures as f\n"
        "assert not {'matplotlib', 'jinja2', 'torch', 'ray', 'mlflow'} & set(sys.modules)\n"
        "import study.reporting.drawing as d; d.to_svg(d.new_figure(1, 1), '')\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, check=True)
