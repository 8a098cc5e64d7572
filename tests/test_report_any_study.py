"""Whatever a study came to, it has a page: small, whole, and soon."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from agreement_study import FOUR, labelled_frame
from fake_study import EPSILON, digits_frame, frame_of, row, spec_of, write_files
from test_report import Page

from study import table
from study.report import build, read_study

WORDS = {
    "optimizer": {"distribution": "choice", "values": ["sgd", "adam"]},
    "langevin_steps": {"distribution": "choice", "values": [10, 30, 100]},
}


def constant() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return frame_of([row(i, epsilon=float(0.02 + 0.1 * rng.random())) for i in range(12)])


def worded() -> pd.DataFrame:
    rows = [
        row(
            i,
            ("convergent", "nonconvergent")[i % 3 == 0],
            optimizer=("sgd", "adam")[i % 2],
            convergence_margin=(0.5, -0.4)[i % 3 == 0],
            langevin_steps=(10, 30, 100)[i % 3],
        )
        for i in range(18)
    ]
    return frame_of(rows)


STUDIES: dict[str, tuple[dict[str, Any], pd.DataFrame, int]] = {
    "one training": (EPSILON, frame_of([row(0)]), 1),
    "only failures": (
        FOUR,
        frame_of([row(i, "", status="failed", cause="no") for i in range(9)]),
        1,
    ),
    "only diverged": (
        EPSILON,
        frame_of([row(i, "diverged", epsilon=0.1 + i / 50) for i in range(9)]),
        1,
    ),
    "constant results": (EPSILON, constant(), 1),
    "one word axis": ({"optimizer": WORDS["optimizer"]}, worded(), 1),
    "word axes": (WORDS, worded(), 1),
    "words and numbers": (
        {**WORDS, "epsilon": FOUR["epsilon"]},
        worded().assign(epsilon=np.geomspace(0.02, 0.2, 18)),
        1,
    ),
    "several seeds": (FOUR, labelled_frame(24, seeds=3), 3),
    "two axes": ({name: FOUR[name] for name in list(FOUR)[:2]}, labelled_frame(30), 1),
    "a single value": (
        {"epsilon": FOUR["epsilon"], "gamma_0": {"distribution": "choice", "values": [0.005]}},
        digits_frame(),
        1,
    ),
}


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_page(name: str, tmp_path: Path) -> None:
    parameters, frame, seeds = STUDIES[name]
    # as a study hands it over, and as it is read again
    table.write(frame.to_dict("records"), tmp_path)
    started = time.monotonic()
    (tmp_path / "study.json").write_text(json.dumps(spec_of(parameters).resolved()))
    for each in (table.frame(frame.to_dict("records")), read_study(tmp_path)[1]):
        text = build(spec_of(parameters, seeds=seeds), each, tmp_path).page.read_text(
            encoding="utf-8"
        )
    assert time.monotonic() - started < 40
    page = Page(text)
    assert page.headings[0] == "Where learning converges"
    assert ("There is no map" in text) == (name in ("one training", "only failures"))
    assert text.count("<tr data-at=") == len(frame)


def test_a_thousand_trainings_make_a_page_under_3_mb_in_20_s(tmp_path: Path) -> None:
    frame = labelled_frame(1000)
    write_files(tmp_path, frame.head(0))
    started = time.monotonic()
    text = build(spec_of(FOUR), frame, tmp_path).page.read_bytes()
    took = time.monotonic() - started
    assert len(text) < 3_000_000
    assert Page(text.decode()).headings[0] == "Where learning converges"
    assert text.count(b"<tr data-at=") == 1000
    assert took < 20
