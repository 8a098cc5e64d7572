"""The report as a page: complete, self-contained, escaped, small, and rebuilt from the folder."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from agreement_study import FOUR, labelled_frame
from fake_study import EPSILON, digits_frame, frame_of, mixed_frame, row, spec_of, write_files
from PIL import Image

from study import table
from study.report import build, main, read_study
from study.reporting import exhibits, page
from study.reporting.agreement import compare
from study.reporting.answer import summarize
from study.reporting.outcomes import tidy

SECTIONS = [
    "Where learning converges",
    "One training of each kind",
    "What these models sample",
    "All trainings",
    "The sharpest convergent settings",
    "Verdict against long run",
    "What foretells the long run",
    "Cost",
    "Trainings that broke off, or have no verdict",
    "What each verdict means, and what to try next",
    "How to repeat it",
]


class Page(HTMLParser):
    """What a browser would load, show and nest."""

    VOID = frozenset({"meta", "img", "link", "br", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.headings: list[str] = []
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [v or "" for name, v in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)
        if "td" in self.open:
            self.rows[-1][-1] += data


def built(folder: Path, frame: pd.DataFrame) -> str:
    return build(spec_of(), frame, folder).page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of which the report was written."""
    folder = tmp_path_factory.mktemp("studies") / "eps_sweep"
    folder.mkdir()
    write_files(folder, mixed_frame())
    pack = folder / "trials" / "0007" / "seed-0" / "pack.yaml"
    pack.write_text("members: []\n")
    table.write(mixed_frame().to_dict("records"), folder)
    (folder / "study.json").write_text(json.dumps(spec_of().resolved()))
    build(spec_of(), mixed_frame(), folder)
    return folder


def text_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_answers_first_and_has_every_section_in_order(mixed: Path) -> None:
    text = text_of(mixed)
    assert Page(text).headings == SECTIONS
    question = text.index("For which epsilon does learning converge on digits?</h1>")
    # between 0.075, which did not converge, and 0.105
    answer = text.index(
        "Learning converges for ε over 0.0984 (90\u00a0% interval 0.0726 to 0.151)"
    )
    assert question < answer < text.index("Learning converged for epsilon from 0.09 to 0.4")
    assert answer < text.index("<h2>")
    assert "Sharpest convergent setting: epsilon 0.105, data_epsilon 0.21" in text


def test_the_page_needs_nothing_else(mixed: Path) -> None:
    text = text_of(mixed)
    found = Page(text)
    assert found.sources
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in found.sources)
    assert not {"link", "iframe", "object", "embed"} & set(found.tags)
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"|"http://www.w3.org/2000/svg"', "", text)
    assert not re.search(r"https?:|@import|fetch\(", without_names)


def test_every_training_has_its_row(mixed: Path) -> None:
    rows = [cells for cells in Page(text_of(mixed)).rows if len(cells) > 10]
    assert [int(cells[0]) for cells in rows] == list(range(17))
    assert rows[0][1:3] == ["0.01", "0.02"]
    assert rows[0][3:5] == ["■ nonconvergentr_below_band, d_unbalanced", "○ departs −0.90"]
    assert rows[7][3:5] == ["● convergent", "● holds −0.06"]
    assert rows[14][3:5] == ["✖ diverged", "· not run"]


def test_pictures_of_each_kind_are_inside(mixed: Path) -> None:
    text = text_of(mixed)
    assert text.count('alt="Diagnostics of trial') == 6
    assert text.count('alt="Samples of trial') == 6
    # the map, four panels, a curve of each kind, the front
    assert text.count("<svg") == 1 + 4 + 6 + 1


def test_what_users_wrote_is_escaped(mixed: Path) -> None:
    text = text_of(mixed)
    assert "RuntimeError: &lt;out of memory&gt; &amp; more" in text
    assert "<out of memory>" not in text


def test_the_page_says_how_to_repeat_it(mixed: Path) -> None:
    text = text_of(mixed)
    assert f"python -m study.run {mixed}/study.json --fresh" in text
    pack = mixed / "trials" / "0007" / "seed-0" / "pack.yaml"
    assert f"python -m ebm_core train --pack {pack}" in text
    assert "torch " in text[text.index("<footer>") :]
    assert "17 trainings made 32,732 updates in 2.72 min" in text


def test_light_dark_and_paper_are_provided_for(mixed: Path) -> None:
    text = text_of(mixed)
    assert "@media screen and (prefers-color-scheme: dark)" in text
    assert "@media print" in text
    dark = text[text.index("prefers-color-scheme: dark)") :]
    for ink in ("ink", "rule", "band", "convergent", "failed"):
        assert f"--{ink}: #" in dark[:900]


def test_pictures_lie_beside_the_page_and_nothing_else_new(mixed: Path) -> None:
    names = {path.name for path in mixed.iterdir()}
    pictures = {"overview.png", "map.png", "map.svg", "front.png", "front.svg"}
    stored = {"results.csv", "results.parquet", "study.json", "trials"}
    assert names == {"report.html", *pictures, *stored}
    for name in ("overview.png", "map.png"):
        with Image.open(mixed / name) as picture:
            assert picture.width > 1000


def test_pictures_of_an_earlier_report_do_not_stay(tmp_path: Path) -> None:
    build(spec_of(), digits_frame(), tmp_path)
    assert (tmp_path / "map.svg").read_bytes().startswith(b"<?xml")
    build(spec_of(), frame_of([row(0, "diverged")]), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"overview.png", "report.html"}


def test_large_pictures_do_not_make_a_large_page(tmp_path: Path) -> None:
    frame = mixed_frame()
    write_files(tmp_path, frame)
    noise = np.random.default_rng(0).integers(0, 255, (500, 500, 3), dtype=np.uint8)
    for path in tmp_path.glob("trials/*/*/diagnostics.png"):
        Image.fromarray(noise).save(path)
    one = path.stat().st_size * 4 / 3
    text = built(tmp_path, frame)
    assert 6 * one > page.PICTURE_BUDGET
    assert text.count('alt="Diagnostics of trial') == page.PICTURE_BUDGET // one
    assert len(text.encode()) < 3_000_000


def test_a_study_without_files_or_failures_leaves_those_sections_out(tmp_path: Path) -> None:
    assert Page(built(tmp_path, digits_frame())).headings == [
        name for name in SECTIONS if name not in (*SECTIONS[1:3], SECTIONS[8])
    ]


def test_an_empty_study_has_a_page(tmp_path: Path) -> None:
    text = built(tmp_path, table.frame([]))
    assert "No training has ended yet." in text
    assert "0 trainings made 0 updates" in text
    Page(text)


def test_the_numbers_to_read_first() -> None:
    def told(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
        return page.tiles(summarize(frame, spec_of().parameters), tidy(frame))

    assert told(digits_frame()) == [
        ("5", "of 12", "assessed configurations converged"),
        ("12", "of 12", "verdicts that the long run confirms"),
        ("0.21", "", "data_epsilon of the setting to take"),
        ("115", "s", "in 12 trainings"),
    ]
    # nothing to choose, nothing checked
    same = frame_of([row(i, long_run="not_run") for i in range(2)])
    assert [value for value, *_ in told(same)] == ["2", "19.2"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(9.6, "9.6 s"), (119, "119 s"), (720, "12 min"), (12600, "3.5 h")]
)
def test_durations_have_the_unit_that_fits(seconds: float, text: str) -> None:
    assert page.duration(seconds) == text


def test_seeds_and_words_get_columns(tmp_path: Path) -> None:
    parameters = {"optimizer": {"distribution": "choice", "values": ["sgd", "adam"]}}
    frame = frame_of([row(0, "nonconvergent", seed=seed, optimizer="<b>") for seed in range(2)])
    build(spec_of(parameters, seeds=2), frame, tmp_path)
    text = text_of(tmp_path)
    rows = [cells for cells in Page(text).rows if len(cells) > 10]
    assert [cells[:3] for cells in rows] == [["0", "0", "<b>"], ["0", "1", "<b>"]]
    assert "optimizer in sgd and adam; 1 configuration by tpe with 2 seeds each." in text


def test_a_report_is_rebuilt_from_what_is_stored(
    mixed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def undated() -> str:
        return re.sub(r"Written .*? with", "", text_of(mixed))

    before = undated()
    (mixed / "report.html").unlink()
    assert main([str(mixed)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("What foretells the long run\n14 of 17 trainings are compared: 5")
    assert printed.endswith(f"\n\nReport: {mixed / 'report.html'}\n")
    assert undated() == before
    # by its name, from the folder that holds studies/
    (mixed / "report.html").unlink()
    monkeypatch.chdir(mixed.parent.parent)
    mixed.parent.rename("studies")
    assert main(["eps_sweep"]) == 0
    assert Path("studies/eps_sweep/report.html").is_file()
    Path("studies").rename(mixed.parent)


def lacks_everything(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def lacks_results(folder: Path) -> None:
    (folder / "results.csv").unlink()


def no_json(folder: Path) -> None:
    (folder / "study.json").write_text("{name:")


def no_study(folder: Path) -> None:
    document = {**spec_of().resolved(), "method": "tpee"}
    (folder / "study.json").write_text(json.dumps(document))


def no_table(folder: Path) -> None:
    (folder / "results.csv").write_text("")


def other_table(folder: Path) -> None:
    (folder / "results.csv").write_text("a,b\n1,2\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lacks_everything, "must be the folder of a study, but has no study.json and no results"),
        (lacks_results, "must be the folder of a study, but has no results.csv"),
        (no_json, "study.json: must be JSON"),
        (no_study, r"study.json: method: .*did you mean `tpe`"),
        (no_table, "results.csv: must be a table"),
        (other_table, r"results.csv: must have the columns trial, seed.*got \['a', 'b'\]"),
    ],
)
def test_no_study_is_told_and_ends_with_2(
    spoil: object, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.json").write_text(json.dumps(spec_of().resolved()))
    table.write(digits_frame().to_dict("records"), tmp_path)
    spoil(tmp_path)  # type: ignore[operator]
    assert main([str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err)
    assert printed.out == ""
    assert not (tmp_path / "report.html").exists()


def test_an_unknown_name_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["nowhere"]) == 2
    assert "studies/nowhere" in capsys.readouterr().err


def test_a_study_in_which_all_failed_has_a_report(tmp_path: Path) -> None:
    frame = frame_of([row(0, "", status="failed", cause="no such GPU")])
    page = build(spec_of(EPSILON), frame, tmp_path).page.read_text()
    assert "no such GPU" in page
    assert (tmp_path / "overview.png").exists()


@pytest.fixture(scope="module")
def foretold(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The section of a study with enough long runs of either kind."""
    folder = tmp_path_factory.mktemp("agreement")
    text = build(spec_of(FOUR), labelled_frame(96), folder).page.read_text(encoding="utf-8")
    Page(text)
    start = text.index("<h2>What foretells the long run</h2>")
    return text[start : text.index("</section>", start)]


def test_the_page_shows_what_foretells_the_long_run(foretold: str) -> None:
    found = compare(labelled_frame(96), spec_of(FOUR).parameters)
    tables = [Page(part + "</table>") for part in re.findall("(?s)(<table.*?)</table>", foretold)]
    shown, both, *parts, wrong = [
        [cells for cells in table.rows if len(cells) > 1] for table in tables
    ]
    names = [each.name for each in found.rows]
    assert len(parts) == 3
    for rows in (shown, both, *parts):
        assert [cells[0] for cells in rows] == names
    margin, seen = shown[0], found.rows[0].held_out
    table = seen.overall.confusion
    assert margin[1] == "≥ 0"
    assert margin[2:4] == [
        f"{table.hits} / {table.misses}",
        f"{table.rejections} / {table.false_alarms}",
    ]
    area = seen.overall.auroc
    assert margin[6] == f"{area.value:.2f} {area.low:.2f} to {area.high:.2f}"
    assert {cells[1][-2:] for cells in shown[-5:]} == {"**"}
    assert [int(cells[0]) for cells in wrong] == list(found.wrong["trial"])
    assert "<svg" in foretold


def test_the_page_says_what_the_label_cannot_see(foretold: str) -> None:
    assert "chains of 2,000 steps at the training epsilon" in foretold
    assert "Chains of this length cannot see everything" in foretold
    assert "Counted apart:" in foretold
    assert "the other half (" in foretold


def test_a_mistaken_verdict_comes_with_its_reasons(foretold: str) -> None:
    found = compare(labelled_frame(96), spec_of(FOUR).parameters).wrong
    assert "Where the verdict and the long run disagree" in foretold
    last = foretold[foretold.rindex("<table") : foretold.rindex("</table>")]
    rows = [cells for cells in Page(last + "</table>").rows if len(cells) > 1]
    missed = found[found["long_run"] == "holds"].iloc[0]
    cells = rows[list(found["trial"]).index(missed["trial"])]
    assert cells[1] == "■ nonconvergent" + missed["reasons"].replace(";", ", ")
    least = "r_in_band" if missed["reasons"].startswith("r_below") else "d_balanced"
    assert cells[2].endswith(least)
    assert cells[3].startswith("● holds")
    assert f"epsilon {missed['epsilon']:.3g}" in cells[4]


def test_too_few_long_runs_are_counted_and_nothing_else(tmp_path: Path) -> None:
    text = built(tmp_path, digits_frame())
    start = text.index("<h2>What foretells the long run</h2>")
    section = text[start : text.index("</section>", start)]
    assert "There are too few to tell indicators apart: 5 configurations" in section
    assert "<table" not in section
    assert "<svg" not in section


def test_long_lists_of_mistaken_verdicts_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    found = compare(labelled_frame(96), spec_of(FOUR).parameters)
    monkeypatch.setattr(exhibits, "LONGEST", 3)
    content = exhibits.foretelling(found, 2000, list(FOUR))
    assert content is not None
    assert [each["trial"] for each in content["wrong"]] == list(found.wrong["trial"][:3])
    assert content["more"] == len(found.wrong) - 3 > 0


def test_a_table_that_was_not_written_comes_from_the_ledger(tmp_path: Path) -> None:
    from tiny_study import outcome

    from study.ledger import Ledger

    spec = spec_of(name="sweep", trials=2)
    folder = tmp_path / "sweep"
    ledger = Ledger(spec, folder)
    for _ in range(2):
        (unit,) = ledger.next_pack(1)
        ledger.record(unit, outcome(unit, convergence_margin=0.4))
    (folder / "study.json").write_text(json.dumps(spec.resolved()))
    found, frame = read_study(folder)
    assert found == spec
    assert frame["convergence_margin"].tolist() == [0.4, 0.4]
    assert (folder / "results.csv").is_file()
