"""The page in a browser: it answers the pointer and the keyboard, and asks nobody for anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from agreement_study import FOUR, labelled_frame
from fake_study import spec_of

from study.report import build
from study.reporting.outcomes import tidy

playwright = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browsed")
    return build(spec_of(FOUR), labelled_frame(60, seeds=2), folder).page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"]
        )
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, file: Path) -> Iterator[Any]:
    """The page at 1400 px, which must stay silent and alone."""
    opened = browser.new_page(viewport={"width": 1400, "height": 1000})
    trouble: list[str] = []
    opened.on("console", lambda said: trouble.append(f"{said.type}: {said.text}"))
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("request", lambda asked: trouble.append(asked.url))
    opened.goto(file.as_uri())
    opened.wait_for_selector("#parallel .grip")
    yield opened
    allowed = [each for each in trouble if each.startswith((file.as_uri(), "data:"))]
    opened.close()
    assert sorted(trouble) == sorted(allowed)


def visible_rows(page: Any) -> list[int]:
    script = "rows => rows.filter(row => !row.hidden).map(row => +row.dataset.at)"
    return page.eval_on_selector_all("#trainings tbody tr", script)


def drag(page: Any, axis: int, start: float, end: float) -> None:
    """Along an axis that stands, from one share of it to another."""
    grip = page.locator("#parallel .grip").nth(axis)
    grip.scroll_into_view_if_needed()
    box = grip.bounding_box()
    x = box["x"] + box["width"] / 2
    top, height = box["y"] + 8, box["height"] - 16
    page.mouse.move(x, top + (1 - start) * height)
    page.mouse.down()
    page.mouse.move(x, top + (1 - end) * height, steps=6)
    page.mouse.up()


def test_brushes_choose_trainings_in_plot_count_and_table(page: Any) -> None:
    frame = tidy(labelled_frame(60, seeds=2))
    assert page.inner_text("#count").startswith("60 of 60 configurations in 120 of 120 trainings:")
    drag(page, 0, 0.5, 1.0)
    first = frame[frame["epsilon"] > 0.02 * 10**0.5]
    kept = visible_rows(page)
    # a pixel is a 300th of the axis
    assert abs(len(kept) - len(first)) <= 2
    drag(page, 1, 0.0, 0.5)
    both = first[first["eps_data_ratio"] < 0.5 * 8**0.5]
    kept = visible_rows(page)
    assert abs(len(kept) - len(both)) <= 4
    assert 0 < len(kept) < len(first)
    trials = frame.loc[kept, "trial"].nunique()
    said = page.inner_text("#count")
    assert said.startswith(f"{trials} of 60 configurations in {len(kept)} of 120 trainings with ε")
    assert f"{(frame.loc[kept, 'outcome'] == 'convergent').sum()} convergent" in said
    assert page.locator("#parallel .line:not(.out)").count() == len(kept)
    page.locator("#parallel .grip").nth(1).dblclick()
    assert abs(len(visible_rows(page)) - len(first)) <= 2
    page.click("#clear")
    assert len(visible_rows(page)) == 120


def test_the_keyboard_brushes_too(page: Any) -> None:
    page.locator("#parallel .grip").nth(0).focus()
    page.keyboard.press("Enter")
    middle = visible_rows(page)
    assert 0 < len(middle) < 120
    page.keyboard.press("ArrowUp")
    assert visible_rows(page) != middle
    page.keyboard.press("Delete")
    assert len(visible_rows(page)) == 120


def test_a_mark_says_what_it_stands_for(page: Any) -> None:
    frame = tidy(labelled_frame(60, seeds=2))
    mark = page.locator("section.map svg:visible .marks use").last
    mark.scroll_into_view_if_needed()
    at, box = int(mark.get_attribute("data-at")), mark.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    said = page.inner_text("#tip")
    told = frame.loc[at]
    seeds = frame[frame["trial"] == told["trial"]]
    assert f"Trial {told['trial']}\n" in said
    assert f"ε = {told['epsilon']:.3g}" in said
    for _, each in seeds.iterrows():
        assert f"seed {each['seed']}: {each['outcome']}" in said
        assert f"MLflow run {each['mlflow_run_id']}" in said
        assert f"long run {each['long_run'].replace('_', ' ')}" in said
    page.mouse.move(2, 2)
    assert page.inner_text("#tip") == ""


def test_a_panel_is_read_with_the_keyboard(page: Any) -> None:
    page.locator("section.map svg:visible").first.focus()
    page.keyboard.press("ArrowRight")
    first = page.inner_text("#tip")
    page.keyboard.press("ArrowRight")
    assert "MLflow run" in first
    assert page.inner_text("#tip") != first
    page.keyboard.press("Escape")
    assert page.inner_text("#tip") == ""


def test_the_others_are_averaged_over_at_a_click(page: Any) -> None:
    assert page.locator("section.map .slice:visible").count() == 6
    page.check("#over-others")
    assert page.locator("section.map .slice:visible").count() == 0
    assert page.locator("section.map .averaged:visible").count() == 6


def test_a_column_sorts_the_table(page: Any) -> None:
    head = page.locator("#trainings th button", has_text="epsilon").first
    head.click()
    frame = tidy(labelled_frame(60, seeds=2))
    shown = [frame.loc[at, "epsilon"] for at in visible_rows(page)]
    # as far as the digits that are shown
    assert all(b > a * 0.99 for a, b in pairwise(shown))
    head.click()
    assert frame.loc[visible_rows(page)[0], "epsilon"] == frame["epsilon"].max()


@pytest.mark.parametrize("width", [1400, 600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_page(page: Any, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 1000})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(253, 252, 250)", "dark": "rgb(21, 24, 27)"}[scheme]
    script = """texts => Math.min(...texts.map(text => {
        const {a, b} = text.getScreenCTM();
        return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(a, b);
    }))"""
    assert page.eval_on_selector_all("section.map svg:not(.averaged svg) text", script) > 9


def test_what_is_folded_is_printed(page: Any) -> None:
    folded = "() => document.querySelectorAll('details:not([open])').length"
    before = page.evaluate(folded)
    assert before > 0
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(folded) == 0
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(folded) == before
