"""The report of a study: one HTML file that needs nothing else.

    python -m study.report NAME|FOLDER

writes it again from what the study has stored, and prints what foretells the long run. The only
module that touches Jinja2.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ebm_core.entry import run_command
from ebm_core.errors import ConfigError, Problem
from ebm_core.files import replacing
from study.reporting import agreement_text, page
from study.reporting.agreement import compare
from study.spec import from_resolved
from study.table import CAUSE, COLUMNS, TEXT_COLUMNS

if TYPE_CHECKING:
    from study.reporting.answer import Answer
    from study.spec import StudySpec

_LEDGER = "optuna.db"
_PICTURES = ("overview.png", "map.png", "map.svg", "front.png", "front.svg")


@dataclass(frozen=True)
class Report:
    """What was written, and what it says.

    Attributes:
        page: ``report.html``.
        pictures: Those of the study, PNG and SVG.
        question: What the study asks.
        answer: What it found.
    """

    page: Path
    pictures: tuple[Path, ...]
    question: str
    answer: Answer


def build(spec: StudySpec, frame: pd.DataFrame, folder: str | Path) -> Report:
    """Writes ``report.html`` and the pictures of the study into its folder.

    The pictures are ``overview.png``, and as PNG and SVG ``map`` where there is one and ``front``
    where something converged. A reader sees the old files or the new ones, never a part of one.

    Args:
        spec: The study.
        frame: Its table, one row a (configuration, seed), columns of `study.table`.
        folder: Where ``trials/NNNN/seed-S/`` lie; pictures that are missing there are left out.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(folder)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "reporting" / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html")
    content, pictures = page.compose(spec, frame, folder)
    content["members"] = page.members(spec, frame, folder, template.render(content))
    for name in set(_PICTURES) - pictures.keys():
        (folder / name).unlink(missing_ok=True)  # of an earlier report
    written = [_replace(folder / name, pictures[name]) for name in _PICTURES if name in pictures]
    whole = _replace(folder / "report.html", template.render(content).encode())
    return Report(whole, tuple(written), content["question"], content["answer"])


def read_study(folder: str | Path) -> tuple[StudySpec, pd.DataFrame]:
    """The specification and the table that a study has left in its folder.

    Raises:
        ConfigError: If one of them is missing or is not what a study leaves.
    """
    stored, results = Path(folder) / "study.json", Path(folder) / "results.csv"
    # a table that was not written, as where the disk was full, is in the ledger
    kept = (Path(folder) / _LEDGER).is_file()
    needed = (stored,) if kept else (stored, results)
    missing = [path.name for path in needed if not path.is_file()]
    if missing:
        rule = f"must be the folder of a study, but has no {' and no '.join(missing)}"
        raise ConfigError([Problem("", rule, str(folder))])
    try:
        spec = from_resolved(json.loads(stored.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ConfigError([Problem("", "must be JSON", str(error))], str(stored)) from None
    except ConfigError as error:
        raise ConfigError(error.problems, str(stored)) from None
    if not results.is_file():
        _write_table(spec, Path(folder))
    try:
        frame = pd.read_csv(results, dtype=dict.fromkeys((*TEXT_COLUMNS, CAUSE), "string"))
    except ValueError as error:
        raise ConfigError([Problem("", "must be a table", str(error))], str(results)) from None
    lacking = [name for name in COLUMNS if name not in frame]
    if lacking:
        rule = f"must have the columns {', '.join(COLUMNS)}"
        raise ConfigError([Problem("", rule, list(frame))], str(results))
    return spec, frame


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 2 where there is no study to report on."""
    parser = argparse.ArgumentParser(
        prog="python -m study.report",
        description="Writes the report of a study again, from what the study has stored.",
    )
    parser.add_argument("study", metavar="NAME|FOLDER", help="a name under studies/, or a folder")
    given = parser.parse_args(argv).study
    folder = Path(given) if Path(given).is_dir() else Path("studies") / given
    try:
        spec, frame = read_study(folder)
        written = build(spec, frame, folder).page
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename}: cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(*agreement_text.lines(compare(frame, spec.parameters)), f"Report: {written}", sep="\n")
    return 0


def _write_table(spec: StudySpec, folder: Path) -> None:
    from study import table
    from study.ledger import Ledger
    from study.lock import LockedError, hold

    try:
        with hold(folder):
            table.write(Ledger(spec, folder).rows(), folder)
    except LockedError as error:
        raise ConfigError([Problem("", str(error))]) from error


def _replace(path: Path, content: bytes) -> Path:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


if __name__ == "__main__":
    run_command(main)
