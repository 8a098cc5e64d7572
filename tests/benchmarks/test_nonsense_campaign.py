"""Thousands of study files that nobody meant: how many are studies, and how long each takes.

    PYTHONPATH=tests python tests/benchmarks/test_nonsense_campaign.py --files 5000

Every file is a study or is refused in words that name file, key and rule; `fates.fate` fails at
anything else, and where anything is written or run. Some of both then go to the command line:
refused files must end it with exit code 2, the others must pass its dry run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from fates import SECONDS, Fate, campaign, fate
from nonsense import EVERYTHING, KINDS

ROOT = Path(__file__).parents[2]
Found = dict[str, list[tuple[bytes, Fate]]]


class Told(NamedTuple):
    """What the command said of a file."""

    code: int
    seconds: float
    text: str


def tried(files: int, path: Path) -> Found:
    """So many files in all, as many of each kind."""
    fate(path, EVERYTHING.encode())  # what is imported on first use is not timed
    return {kind: campaign(kind, -(-files // len(KINDS)), path) for kind in KINDS}


def table(found: Found) -> str:
    """One row a kind of change, in Markdown."""
    lines = [
        "| kind | files | studies | refused | median, ms | slowest, ms |",
        "|---|---|---|---|---|---|",
    ]
    for kind, fates in {
        **found,
        "all": [each for some in found.values() for each in some],
    }.items():
        seconds = [each.seconds for _, each in fates]
        valid = sum(each.valid for _, each in fates)
        lines.append(
            f"| {kind} | {len(fates)} | {valid} | {len(fates) - valid} |"
            f" {1e3 * median(seconds):.1f} | {1e3 * max(seconds):.0f} |"
        )
    return "\n".join(lines)


def sample(found: Found, valid: bool, count: int) -> list[bytes]:
    """Files of all kinds in turn, the same at every call."""
    rows = [[content for content, each in some if each.valid is valid] for some in found.values()]
    depth = max(map(len, rows))
    turns = [row[turn] for turn in range(depth) for row in rows if turn < len(row)]
    return list(dict.fromkeys(turns))[:count]


def told(content: bytes, *options: str, seconds: float = 600) -> Told:
    """Runs the command in a folder of its own.

    Raises:
        AssertionError: If it wrote anything, or ended with a traceback.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "s.yaml").write_bytes(content)
        command = [sys.executable, "-m", "study.run", "s.yaml", *options]
        began = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        took = time.perf_counter() - began
        assert os.listdir(folder) == ["s.yaml"], os.listdir(folder)
    assert "Traceback" not in done.stderr, done.stderr
    return Told(done.returncode, took, done.stderr or done.stdout)


def refusals(found: Found, count: int) -> list[float]:
    """Seconds in which the command refuses files."""
    answers = [told(content) for content in sample(found, False, count)]
    assert all(answer.code == 2 for answer in answers), answers
    assert all(answer.text.startswith("s.yaml: ") for answer in answers), answers
    return [answer.seconds for answer in answers]


# What a dry run trains a little of, to tell the time: made small where a file asks for much.
SMALL = ("--set", "base.updates=3000", "base.batch_size=20", "base.bank_size=200")


def dry_runs(found: Found, count: int) -> list[Told]:
    """What the dry run says of files that are studies; some are not, once they are made small."""
    answers = [told(content, "--dry-run", *SMALL) for content in sample(found, True, count)]
    assert all(answer.code in (0, 2) for answer in answers), answers
    return answers


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--commands", type=int, default=16, help="refused files for the command")
    parser.add_argument("--dry-runs", type=int, default=8, help="studies for a dry run")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        found = tried(given.files, Path("s.yaml"))
    print(table(found))
    if given.commands:
        seconds = refusals(found, given.commands)
        print(
            f"\nThe command refused {len(seconds)} files with exit code 2 in"
            f" {median(seconds):.2f} s (median), {max(seconds):.2f} s at the most."
        )
    if given.dry_runs:
        answers = dry_runs(found, given.dry_runs)
        went = sum(answer.code == 0 for answer in answers)
        print(
            f"{len(answers)} dry runs: {went} went through, {len(answers) - went} were refused;"
            f" {median(answer.seconds for answer in answers):.1f} s (median)."
        )


# -- the short form ------------------------------------------------------------------------------


def test_some_of_the_files_end_as_all_do(tmp_path: Path) -> None:
    found = tried(160, tmp_path / "s.yaml")
    rows = table(found).splitlines()
    assert len(rows) == 2 + len(KINDS) + 1
    assert rows[-1].startswith("| all | 160 | ")
    fates = [each for some in found.values() for _, each in some]
    assert max(each.seconds for each in fates) < SECONDS
    assert any(each.valid for each in fates)
    # three seconds on a machine of its own; here others share it
    assert median(refusals(found, 3)) < 10


if __name__ == "__main__":
    main()
