"""Runs a study: ``python -m study.run FILE``.

The same command again continues a study that was interrupted; one that is finished says so.
Exit codes: 0 when the study finished (diverged trainings are results), 1 when a training failed to
run, 2 for a study that cannot be run as asked, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebm_core.document import dump_yaml
from ebm_core.errors import ConfigError, Problem
from study.spec import StudySpec, load_study, warnings

if TYPE_CHECKING:
    from study.answer import Answer
    from study.searcher import Listener

FINISHED, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = _arguments(argv)
    try:
        spec = load_study(given.file, _overrides(given))
        if given.fresh:
            spec = _renamed(spec)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return REFUSED
    if given.dry_run:
        return dry_run(spec, given.workers)
    return run(spec, given)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m study.run",
        description="Trains the energy-based models of a study and says where learning converges.",
    )
    parser.add_argument("file", metavar="FILE", help="a study file, see search_spaces/")
    parser.add_argument("--trials", metavar="N", help="configurations, instead of the file's")
    parser.add_argument(
        "--workers", type=_positive, metavar="N", help="trials side by side; default: by the cores"
    )
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value for a key of the file, such as base.updates=4000; may be repeated",
    )
    parser.add_argument("--fresh", action="store_true", help="begin anew as NAME-2 beside NAME")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the study, its cost and warnings; run nothing",
    )
    parser.add_argument("--no-progress", action="store_true", help="say nothing before the end")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number over 0, got {text!r}")
    return int(text)


def _overrides(given: argparse.Namespace) -> Mapping[str, str]:
    changes = {}
    for text in given.changes:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise ConfigError([Problem("--set", "must read KEY=VALUE", text)])
        changes[key] = value
    if given.trials is not None:
        changes["trials"] = given.trials
    return changes


def _renamed(spec: StudySpec) -> StudySpec:
    """The study under the first free name: NAME, or NAME-2 ..."""
    numbers = range(1, sys.maxsize)
    names = (spec.name if n == 1 else f"{spec.name}-{n}" for n in numbers)
    return replace(
        spec, name=next(name for name in names if not replace(spec, name=name).folder.exists())
    )


def dry_run(spec: StudySpec, wanted_workers: int | None) -> int:
    """Prints the resolved study, what it will cost, and what may surprise; writes nothing."""
    from study.estimate import estimate
    from study.launch import members_per_pack, worker_count
    from study.progress import duration

    print(dump_yaml(spec.resolved()))
    workers = worker_count(spec, wanted_workers)
    members = members_per_pack(spec, workers)
    cost = estimate(spec, workers, members)
    trainings = spec.trials * spec.seeds
    print(
        f"{trainings} trainings in packs of {members} on {workers} workers: about "
        f"{duration(cost.study_seconds)} ({duration(cost.training_seconds)} a training, "
        f"{duration(cost.check_seconds)} its long-run check), "
        f"about {cost.worker_bytes / 1e9:.1f} GB of memory a worker"
    )
    for warning in [*warnings(spec), *narrow_directions(spec, cost.narrowest)]:
        print(f"warning: {warning}")
    return FINISHED


def narrow_directions(spec: StudySpec, narrowest: float) -> list[str]:
    """A warning where chains are wider than the noised data along some direction of the data."""
    from study.space import probe_points

    probes = [spec.config(point, 0) for point in probe_points(spec.parameters)]
    bad = [c for c in probes if c.data_epsilon**2 + narrowest**2 < c.epsilon**2]
    if not bad:
        return []
    worst = max(bad, key=lambda config: config.epsilon)
    return [
        f"some direction of the data has an sd of {narrowest:.2g}, which with its noise stays "
        f"under epsilon={worst.epsilon:g}: there chains are wider than the data, and no energy "
        "can match them (appendix C)"
    ]


def run(spec: StudySpec, given: argparse.Namespace) -> int:
    """Trains what is left of a study, and writes what it leaves."""
    from study.ledger import Ledger, LedgerError
    from study.mlflow_store import TrackingError
    from study.tracking import Tracker

    folder = spec.folder.absolute()
    try:
        ledger = Ledger(spec, folder)
        tracker = Tracker(
            spec.tracking.uri, spec.tracking.experiment or spec.name, spec.name, folder
        )
        if ledger.complete:
            print(
                f"{spec.name} is finished: its {ledger.trainings} trainings are in {spec.folder}. "
                "Ask for more with --trials, or begin anew with --fresh.\n"
            )
            return _conclude(spec, ledger, None, folder)
        (folder / "study.json").write_text(json.dumps(spec.resolved(), indent=2) + "\n")
        tracker.open(spec.resolved())
    except (LedgerError, TrackingError) as error:
        print(f"{given.file}: {error}", file=sys.stderr)
        return REFUSED
    _train(spec, ledger, tracker, folder, given)
    return _conclude(spec, ledger, tracker, folder)


def _train(
    spec: StudySpec, ledger: Any, tracker: Any, folder: Path, given: argparse.Namespace
) -> None:
    from study.launch import run_trainings, worker_count
    from study.progress import Progress
    from study.recorder import Recorder

    workers = worker_count(spec, given.workers)
    with Progress(ledger, enabled=not given.no_progress) as progress:
        progress.announce(workers)
        listeners: list[Listener] = [Recorder(tracker, ledger, folder), progress]
        run_trainings(spec, ledger, folder, workers, listeners)


def _conclude(spec: StudySpec, ledger: Any, tracker: Any | None, folder: Path) -> int:
    """Writes table and report, closes the MLflow run, and prints the answer."""
    from study import table
    from study.answer import summarize
    from study.report import build

    frame = table.write(ledger.rows(), folder)
    answer = summarize(frame, spec.parameters)
    report = build(spec, frame, folder)
    complete = ledger.complete
    if tracker is not None:
        pictures = sorted(folder.glob("*.png"))
        files = [report, folder / "results.csv", folder / "study.json", *pictures]
        tracker.close(
            metrics={"trainings": len(frame), **answer.configurations},
            tags={"answer": answer.headline},
            artifacts=files,
            description="\n\n".join(answer.sentences),
            status="FINISHED" if complete else "KILLED",
        )
    failed = int((frame["status"] == "failed").sum())
    _say(spec, answer, report, complete, failed, len(frame), ledger.trainings)
    if not complete:
        return INTERRUPTED
    return FAILED if failed else FINISHED


def _say(
    spec: StudySpec,
    answer: Answer,
    report: Path,
    complete: bool,
    failed: int,
    done: int,
    trainings: int,
) -> None:
    print()
    for sentence in answer.sentences:
        print(sentence)
    print()
    if failed:
        print(f"{failed} of {done} trainings failed to run; the report says why.")
    if not complete:
        print(f"Stopped after {done} of {trainings} trainings; the same command continues.")
    shown = spec.folder
    print(f"Table   {shown / 'results.csv'}")
    print(f"Report  {shown / report.name}")
    print(f"MLflow  python -m study.ui {shown if spec.storage != 'studies' else spec.name}")


if __name__ == "__main__":
    sys.exit(main())
