"""The map as pictures and sentences: what is drawn is what the map says, and nothing more."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from agreement_study import FOUR, labelled_frame
from fake_study import EPSILON, digits_frame, frame_of, row, spec_of

from study.region.map import Crossing, Edge
from study.reporting import drawing, map_figure, map_text, mapped, parallel, scale, symbols
from study.reporting.atlas import Atlas, NoMap, as_searched, draw_up
from study.reporting.outcomes import tidy
from study.schema.distributions import parse_distribution

TWO = {name: FOUR[name] for name in ("epsilon", "eps_data_ratio")}
WITH_WORDS = {
    **TWO,
    "optimizer": {"distribution": "choice", "values": ["sgd", "adam"]},
}


def word_frame() -> pd.DataFrame:
    frame = labelled_frame(40)
    return frame.assign(optimizer=["sgd", "adam"] * 20)


def atlas_of(frame: pd.DataFrame, parameters: dict[str, Any]) -> Atlas:
    return draw_up(tidy(frame), spec_of(parameters).parameters)


@pytest.fixture(scope="module")
def four() -> Atlas:
    return atlas_of(labelled_frame(96), FOUR)


def marked(ax: Any) -> list[Any]:
    return [line for line in ax.lines if str(line.get_gid() or "").startswith("marks-")]


def test_a_panel_draws_every_configuration_once(four: Atlas) -> None:
    for averaged in (False, True):
        [ax] = map_figure.panel(four, "epsilon", "gamma_0", averaged).axes
        assert sum(len(line.get_xdata()) for line in marked(ax)) == 96
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("ε (epsilon), units of x", "γ₀ (gamma_0)")
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_marks_fade_with_their_distance_from_the_slice(four: Atlas) -> None:
    grades = four.grades(("epsilon", "gamma_0"))
    off = np.maximum(
        np.abs(np.log(four.trained["eps_data_ratio"] / four.found.reference["eps_data_ratio"]))
        / np.log(8),
        np.abs(four.trained["anneal_updates"] - four.found.reference["anneal_updates"]) / 1000,
    )
    assert (grades == np.digitize(off, [1 / 8, 1 / 4, 1 / 2], right=True)).all()
    assert set(grades) == {0, 1, 2, 3}
    assert (four.grades(four.found.axes) == 0).all()
    [ax] = map_figure.panel(four, "epsilon", "gamma_0", averaged=False).axes
    alphas = {line.get_alpha() for line in marked(ax)}
    assert alphas == {opacity for _, opacity in drawing.GRADES}


def test_another_word_lies_off_the_slice_altogether() -> None:
    atlas = atlas_of(word_frame(), WITH_WORDS)
    other = atlas.trained["optimizer"] != atlas.found.reference["optimizer"]
    assert set(atlas.grades(("epsilon", "eps_data_ratio"))[other]) == {3}
    [ax] = map_figure.panel(atlas, "epsilon", "optimizer", averaged=False).axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["sgd", "adam"]
    # each mark on the step of its word, and no two at one place
    places = np.concatenate([np.c_[line.get_xdata(), line.get_ydata()] for line in marked(ax)])
    assert np.abs(places[:, 1] - places[:, 1].round()).max() <= 0.3
    assert sorted(places[:, 1].round()) == sorted((atlas.trained["optimizer"] == "adam") * 1.0)
    assert len(np.unique(places, axis=0)) == len(atlas.trained)


def test_what_is_next_can_be_read_where_it_coincides() -> None:
    figure = drawing.new_figure(4, 3)
    ax = drawing.subplots(figure, 1, 1)[0, 0]
    map_figure._number(ax, np.array([1.0, 1.0, 0.5]), np.array([2.0, 2.0, 2.0]))
    assert [text.get_text() for text in ax.texts] == ["1", "2", "3"]
    assert [text.xyann[0] for text in ax.texts] == [-6, 6, 0]


def boundary_of(atlas: Atlas) -> np.ndarray:
    """Where the line P = 1/2 is drawn over epsilon and gamma_0, away from the ends of the axes."""
    from matplotlib.contour import ContourSet

    [ax] = map_figure.panel(atlas, "epsilon", "gamma_0", averaged=False).axes
    drawn = [each for each in ax.collections if isinstance(each, ContourSet) and not each.filled]
    [boundary] = [each for each in drawn if each.get_linewidth()[0] == 1.8]
    vertices = np.concatenate([path.vertices for path in boundary.get_paths()])
    inner = vertices[(vertices[:, 0] > 0.025) & (vertices[:, 0] < 0.19)]
    return inner[(inner[:, 1] > 0.006) & (inner[:, 1] < 0.35)]


def probability_at(atlas: Atlas, places: np.ndarray) -> np.ndarray:
    reference = atlas.found.reference
    points = [{**reference, "epsilon": float(x), "gamma_0": float(y)} for x, y in places]
    return atlas.found.probability(points)


def test_the_boundary_is_where_the_map_says() -> None:
    frame = labelled_frame(96)
    whole = atlas_of(frame[~frame["verdict"].isin(("diverged", "collapsed"))], FOUR)
    p = probability_at(whole, boundary_of(whole))
    assert p.size
    assert np.abs(p - 0.5).max() < 0.1


def test_where_p_jumps_the_boundary_is_in_the_cell_of_the_jump(four: Atlas) -> None:
    """Where trainings begin to break off P falls from 1 to 0 within less than a cell."""
    places = boundary_of(four)
    pair = four.sheet("epsilon", "gamma_0").pair
    cells = [pair.x[1] / pair.x[0], pair.y[1] / pair.y[0]]
    around = [
        probability_at(four, places * np.array([cells[0] ** i, cells[1] ** j]))
        for i, j in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
    ]
    assert places.size
    assert (np.min(around, axis=0) <= 0.5).all()
    assert (np.max(around, axis=0) >= 0.5).all()


def test_hatching_shows_where_most_of_the_nearest_broke_off() -> None:
    rows = [
        row(
            i,
            "diverged" if i % 10 >= 7 else "convergent",
            epsilon=0.02 * 10 ** ((i // 10 + 0.5) / 10),
            gamma_0=0.005 * 80 ** ((i % 10 + 0.5) / 10),
        )
        for i in range(100)
    ]
    parameters = {name: FOUR[name] for name in ("epsilon", "gamma_0")}
    sheet = atlas_of(frame_of(rows), parameters).sheet("epsilon", "gamma_0")
    edge = 0.005 * 80**0.7
    for y, broken in zip(sheet.pair.y, sheet.broken, strict=True):
        # within half the distance of neighbours either may be nearer
        if abs(math.log(y / edge)) > math.log(80) / 20:
            assert (broken == (y > edge)).all()
    calm = [each for each in rows if each["verdict"] != "diverged"]
    assert not atlas_of(frame_of(calm), parameters).sheet("epsilon", "gamma_0").broken.any()


def recommendations(names: list[str], parameters: dict[str, Any], adam: bool = False) -> Any:
    scales = {n: scale.of_parameter(parse_distribution(parameters[n])) for n in names}
    return map_figure.recommended(names, scales, adam)


def test_the_source_is_marked_where_the_range_holds_it() -> None:
    wide = {**FOUR, "gamma_0": {"distribution": "loguniform", "min": 0.0001, "max": 0.1}}
    both = ["eps_data_ratio", "gamma_0"]
    assert recommendations(both, FOUR) == {"eps_data_ratio": 2.0}
    assert recommendations(both, wide) == {"eps_data_ratio": 2.0, "gamma_0": 0.0005}
    assert recommendations(both, wide, adam=True) == {"eps_data_ratio": 2.0}
    assert recommendations(["epsilon", "anneal_updates"], wide) == {}
    choice = {"eps_data_ratio": {"distribution": "choice", "values": [1, 2, 4]}}
    assert recommendations(["eps_data_ratio"], choice) == {"eps_data_ratio": 2.0}
    odd = {"eps_data_ratio": {"distribution": "choice", "values": [1, 3]}}
    assert recommendations(["eps_data_ratio"], odd) == {}


def test_the_source_is_a_line_or_a_star() -> None:
    parameters = {**TWO, "gamma_0": {"distribution": "loguniform", "min": 0.0001, "max": 0.4}}
    atlas = atlas_of(labelled_frame(40), parameters)

    def drawn(first: str, second: str) -> tuple[set[str], int]:
        [ax] = map_figure.panel(atlas, first, second, averaged=False).axes
        said = {text.get_text() for text in ax.texts if "source" in text.get_text()}
        return said, sum(line.get_marker() == "*" for line in ax.lines)

    assert drawn("epsilon", "eps_data_ratio") == ({"source: ε_data = 2ε"}, 0)
    assert drawn("epsilon", "gamma_0") == ({"source: γ₀ = 0.0005"}, 0)
    assert drawn("eps_data_ratio", "gamma_0") == ({"source: ε_data = 2ε, γ₀ = 0.0005"}, 1)


def test_one_axis_has_a_line_of_p_over_rows_of_outcomes() -> None:
    atlas = atlas_of(digits_frame(), EPSILON)
    above, below = map_figure.along(atlas).axes
    line = max(above.lines, key=lambda each: len(each.get_xdata()))
    found = atlas.found.probability([{"epsilon": float(x)} for x in line.get_xdata()[1:-1]])
    assert np.abs(line.get_ydata()[1:-1] - found).max() < 1e-9
    assert [text.get_text() for text in below.get_yticklabels()] == ["convergent", "nonconvergent"]
    assert sum(len(each.get_xdata()) for each in marked(below)) == 12


def test_the_whole_map_has_every_pair(four: Atlas) -> None:
    once, again = (map_figure.whole(four, "where") for _ in range(2))
    assert len([ax for ax in once.axes if ax.axison]) == 6
    assert drawing.to_svg_file(once) == drawing.to_svg_file(again)


def edge(value: float, low: float, high: float, **more: bool) -> Edge:
    return Edge(value, low, high, more.get("low_open", False), more.get("high_open", False))


@pytest.mark.parametrize(
    ("side", "lower", "upper", "sentence"),
    [
        (
            "above",
            edge(0.09, 0.07, 0.11),
            None,
            "for ε over 0.09 at {} (90\u00a0% interval 0.07 to 0.11).",
        ),
        (
            "below",
            None,
            edge(0.3, 0.2, 0.4, high_open=True),
            "for ε under 0.3 at {} (90\u00a0% interval 0.2 to 0.4 or more).",
        ),
        (
            "between",
            edge(0.09, 0.02, 0.11, low_open=True),
            edge(0.3, 0.2, 0.35),
            "for ε between 0.09 and 0.3 at {} (90\u00a0% intervals 0.02 or less to 0.11"
            " and 0.2 to 0.35).",
        ),
        ("everywhere", None, None, "for every ε from 0.02 to 0.2 at {}."),
    ],
)
def test_the_answer_tells_edges_with_their_intervals(
    side: str, lower: Edge | None, upper: Edge | None, sentence: str
) -> None:
    at = {"epsilon": 0.1, "eps_data_ratio": 2.0, "gamma_0": 0.005, "anneal_updates": 500}
    found: Any = SimpleNamespace(axes=tuple(FOUR), parameters=spec_of(FOUR).parameters)
    told = map_text.crossing_sentence(found, Crossing("epsilon", side, lower, upper, 0.9, at))
    held = "ρ = 2, γ₀ = 0.005, anneal = 500 updates"
    assert told == "Learning converges " + sentence.format(held)
    nowhere = Crossing("epsilon", "nowhere", None, None, 0.9, at)
    assert "for no ε from 0.02 to 0.2 at ρ" in map_text.crossing_sentence(found, nowhere)


def test_the_answer_needs_an_axis_of_numbers() -> None:
    def axis(parameters: dict[str, Any]) -> str:
        found: Any = SimpleNamespace(
            axes=tuple(parameters), parameters=spec_of(parameters).parameters
        )
        return map_text.told_axis(found)

    assert axis({"gamma_0": FOUR["gamma_0"], "epsilon": FOUR["epsilon"]}) == "epsilon"
    words = {"optimizer": WITH_WORDS["optimizer"]}
    assert axis({**words, "gamma_0": FOUR["gamma_0"]}) == "gamma_0"
    assert axis(words) == ""


def test_no_map_says_why() -> None:
    spec = spec_of()
    content, files = mapped.mapped(spec, tidy(digits_frame().head(3)))
    assert content["missing"].startswith("There is no map. A map needs 5 trainings")
    assert files == {}
    unseen = {"batch_size": {"distribution": "randint", "min": 10, "max": 50}}
    with pytest.raises(NoMap, match="nothing varies"):
        draw_up(tidy(digits_frame()), spec_of(unseen).parameters)


def test_importances_are_those_of_the_map(four: Atlas) -> None:
    content, _ = mapped.mapped(spec_of(FOUR), tidy(labelled_frame(96)))
    found = four.found.importances()
    assert {each["name"]: each["total"] for each in content["importances"]} == {
        name: round(100 * each.total) for name, each in found.items()
    }
    totals = [each["total"] for each in content["importances"]]
    assert totals == sorted(totals, reverse=True)
    assert content["importances"][0]["name"] in ("epsilon", "gamma_0")
    assert len(content["next"]) == 3
    assert (
        f"{100 * four.found.misclassified:.0f}\u00a0% of the space on the wrong side"
        in (content["quality"])
    )


def test_choices_are_read_as_the_study_gives_them() -> None:
    parameters = spec_of(
        {
            "eps_data_ratio": {"distribution": "choice", "values": [4, 1, 2]},
            "optimizer": {"distribution": "choice", "values": ["sgd", "adam"]},
        }
    ).parameters
    frame = frame_of([row(0, eps_data_ratio=2.0, optimizer="adam")])
    found = as_searched(tidy(frame), parameters)
    assert found["eps_data_ratio"].tolist() == [2]
    assert type(found["eps_data_ratio"].iloc[0]) in (int, np.int64)
    assert found["optimizer"].tolist() == ["adam"]
    ordered = scale.of_parameter(parameters["eps_data_ratio"])
    assert ordered.words == (1, 2, 4)
    assert ordered.place([4.0, "2", 3]).tolist()[:2] == [2, 1]


@pytest.mark.parametrize(
    ("along", "values", "shares"),
    [
        (scale.Scale("linear", 0, 10), [0, 5, 20, None], [0, 0.5, 1, math.nan]),
        (scale.Scale("log", 0.01, 1), [0.01, 0.1, 1, -1], [0, 0.5, 1, math.nan]),
        (scale.Scale("signed", -100, 100), [-100, 0, 100, math.nan], [0, 0.5, 1, math.nan]),
        (scale.Scale("words", -0.5, 1.5, ("a", "b")), ["a", "b", "c"], [0.25, 0.75, math.nan]),
    ],
)
def test_scales_place_values(along: scale.Scale, values: list[Any], shares: list[float]) -> None:
    np.testing.assert_allclose(along.shares(values), shares)
    places = [place for place, _ in along.ticks()]
    assert places == sorted(places)
    assert 2 <= len(places) <= 9
    assert all(along.low <= place <= along.high for place in places)


def test_the_scale_of_a_column_fits_its_values() -> None:
    def kind(*values: float) -> str:
        return scale.of_column(pd.Series(values)).kind

    assert kind(0.01, 0.5) == "log"
    assert kind(0.3, 0.5) == "linear"
    assert kind(-3, 1) == "linear"
    assert kind(-80, 0.1) == "signed"
    assert kind(0.2, 0.2) == "linear"
    assert kind(math.nan) == "linear"


def test_parallel_coordinates_hold_what_was_searched_and_measured() -> None:
    frame = tidy(labelled_frame(20))
    axes = parallel.coordinates(frame, list(FOUR), spec_of(FOUR).parameters)
    measured = ["data_epsilon", "convergence_margin", "long_run_departure"]
    assert [axis["name"] for axis in axes] == [*FOUR, *measured]
    assert [axis["kind"] for axis in axes[:4]] == ["log", "log", "log", "linear"]
    assert all(len(axis["at"]) == 20 for axis in axes)
    unknown = [at is None for at in axes[-1]["at"]]
    assert unknown == frame["long_run_departure"].isna().tolist()
    alike = frame.assign(long_run_departure=np.nan, convergence_margin=0.3)
    names = [each["name"] for each in parallel.coordinates(alike, [], {})]
    assert names == ["data_epsilon"]


def test_a_mark_tells_setting_verdict_long_run_and_run() -> None:
    frame = tidy(frame_of([row(0, "nonconvergent", reasons="r_below_band"), row(1, "diverged")]))
    first, second = parallel.trainings(frame, ["epsilon", "optimizer"])
    assert first == [
        0,
        0,
        "nonconvergent",
        "ε = 0.1, optimizer = sgd, ε_data = 0.2",
        "r_below_band, margin 0.7",
        "departs, departure −1.5 sd of U",
        "0" * 32,
    ]
    assert second[4:6] == ["margin −3", "not run"]


def test_symbols_come_with_name_and_unit() -> None:
    assert symbols.label("epsilon") == "ε (epsilon), units of x"
    assert symbols.label("optimizer") == "optimizer"
    assert symbols.glossary(["gamma_0", "optimizer"]) == [("γ₀", "final learning rate (gamma_0)")]


def test_the_front_is_told_as_files_to_train() -> None:
    content, files = mapped.sharpest(spec_of(), tidy(digits_frame()))
    assert [each["trial"] for each in content["entries"]] == [7, 8, 9, 10, 11][
        : len(content["entries"])
    ]
    assert "epsilon: 0.105" in content["entries"][0]["yaml"]
    assert set(files) == {"front.png", "front.svg"}
    assert mapped.sharpest(spec_of(), tidy(frame_of([row(0, "diverged")]))) == ({}, {})
