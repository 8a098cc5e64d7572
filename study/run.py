"""Runs a study: ``python -m study.run FILE``.

The same command again continues a study that was interrupted; one that is finished says so.
Exit codes: 0 when the study finished (diverged trainings are results), 1 when a training failed to
run, 2 for a study that cannot be run as asked, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ebm_core.document import dump_yaml
from ebm_core.errors import ConfigError, Problem
from study.spec import StudySpec, load_study, warnings

if TYPE_CHECKING:
    from study.ledger import Ledger
    from study.plan import Plan
    from study.progress import Progress
    from study.searcher import Listener
    from study.tracking import Tracker

# Where the ledger notes with how many trainings it was last reported on.
_CONCLUDED = "concluded"
FINISHED, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = _arguments(argv)
    try:
        spec = _read(given)
        return dry_run(spec, given.workers) if given.dry_run else run(spec, given)
    except ConfigError as error:
        # what only a rehearsal shows does not know its file
        print(ConfigError(error.problems, error.source or given.file), file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print(f"\nInterrupted; {_again(given)}", file=sys.stderr)
        return INTERRUPTED


def _read(given: argparse.Namespace) -> StudySpec:
    """The study that is asked for; a fresh one under the first free name: NAME, NAME-2 ..."""
    changes = _overrides(given)
    spec = load_study(given.file, changes)
    name, n = spec.name, 1
    while given.fresh and spec.folder.exists():
        n += 1
        spec = load_study(given.file, {**changes, "name": json.dumps(f"{name}-{n}")})
    given.name = spec.name if given.fresh else None
    return spec


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
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="other values for keys of the file, such as base.updates=4000; may be repeated",
    )
    parser.add_argument("--fresh", action="store_true", help="begin anew as NAME-2 beside NAME")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the study, its cost and warnings; run nothing",
    )
    parser.add_argument("--no-progress", action="store_true", help="say nothing before the end")
    # the name that a fresh study was given
    parser.set_defaults(name=None)
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


def dry_run(spec: StudySpec, wanted_workers: int | None) -> int:
    """Prints the resolved study, what it will cost, and what may surprise; writes nothing."""
    from study.estimate import narrow_directions, narrowest, prepare, rehearse
    from study.plan import Wanted
    from study.probes import ProbeError
    from study.progress import described, duration

    rehearse(spec)
    wanted, trainings = Wanted(spec.resources, wanted_workers), spec.trials * spec.seeds
    print(dump_yaml(spec.resolved()))
    try:
        plan, cost = prepare(spec, wanted, trainings)
    except ProbeError as error:
        print(f"{described(wanted.plan(trainings), trainings)}; {_unknown(error)}")
    else:
        check = (
            f" and {duration(cost.check_seconds)} for its long run" if spec.long_run.steps else ""
        )
        print(
            f"{described(plan, trainings)}: about {duration(cost.study_seconds)} "
            f"({duration(cost.training_seconds)} a training{check}; any that diverge end sooner), "
            f"and about {cost.worker_bytes / 1e9:.1f} GB of memory a worker"
        )
    for warning in [*warnings(spec), *narrow_directions(spec, narrowest(spec))]:
        print(f"warning: {warning}")
    return FINISHED


def _unknown(error: Exception) -> str:
    return f"how long it takes is not known, since a trial of it failed: {error}"


def run(spec: StudySpec, given: argparse.Namespace) -> int:
    """Trains what is left of a study, and writes what it leaves."""
    with ExitStack() as lock:
        return _run(spec, given, lock)


def _run(spec: StudySpec, given: argparse.Namespace, lock: ExitStack) -> int:
    from study.ledger import LedgerError
    from study.lock import LockedError
    from study.mlflow_store import TrackingError
    from study.tracking import Tracker

    folder = spec.folder.absolute()
    experiment = spec.tracking.experiment or spec.name
    tracker = Tracker(spec.tracking.uri, experiment, spec.name, folder)
    try:
        ledger = _open_ledger(spec, tracker, lock)
        finished, told = ledger.complete, ledger.study.user_attrs.get(_CONCLUDED)
        # a finished study leaves MLflow alone, unless it was cut off just before its end
        concluded = finished and told == len(ledger.rows())
        if concluded:
            lock.close()  # it is only looked at
        else:
            tracker.open(spec.resolved())
    except LedgerError as error:
        advice = "Give it another name, or begin anew with --fresh."
        print(f"{given.file}: {error}\n{advice}", file=sys.stderr)
        return REFUSED
    except (LockedError, TrackingError) as error:
        print(f"{given.file}: {error}", file=sys.stderr)
        return REFUSED
    if finished:
        _say_finished(spec, ledger)
    else:
        (folder / "study.json").write_text(json.dumps(spec.resolved(), indent=2) + "\n")
        _train(spec, ledger, tracker, given)
    return _conclude(spec, ledger, None if concluded else tracker, given)


def _open_ledger(spec: StudySpec, tracker: Tracker, lock: ExitStack) -> Ledger:
    """The ledger, made last: a study that cannot be run leaves no trace of itself."""
    from study.estimate import rehearse
    from study.ledger import FILE
    from study.lock import hold
    from study.mlflow_store import artifact_root, connect

    folder = spec.folder.absolute()
    if (folder / FILE).exists():
        lock.enter_context(hold(folder))
        ledger = _read_ledger(spec, folder)
        if not ledger.complete:
            rehearse(spec)
        return ledger
    rehearse(spec)
    connect(tracker.uri, artifact_root(tracker.uri, folder))
    lock.enter_context(hold(folder))
    return _read_ledger(spec, folder)


def _read_ledger(spec: StudySpec, folder: Path) -> Ledger:
    import sqlite3

    from study.ledger import FILE, Ledger

    try:
        return Ledger(spec, folder)
    # The libraries above the database raise their own errors, from what it said
    except Exception as error:
        reason: BaseException | None = error
        while reason is not None and not isinstance(reason, sqlite3.Error):
            reason = reason.__cause__
        if reason is None:
            raise
        rule = f"{folder / FILE} cannot be used ({reason}); restore it, or begin anew with --fresh"
        raise ConfigError([Problem("storage", rule)]) from error


def _train(spec: StudySpec, ledger: Ledger, tracker: Tracker, given: argparse.Namespace) -> None:
    from study.launch import run_trainings
    from study.progress import Progress
    from study.recorder import Recorder

    folder = spec.folder.absolute()
    # Ray ends on the first Ctrl-C by itself; a second one is in a hurry, and loses no more
    with suppress(KeyboardInterrupt), Progress(ledger, not given.no_progress) as progress:
        plan = _planned(spec, ledger, progress, given)
        if not given.no_progress:
            for warning in warnings(spec):
                print(f"warning: {warning}", file=sys.stderr)
        listeners: list[Listener] = [Recorder(tracker, ledger, folder), progress]
        run_trainings(spec, ledger, folder, plan, listeners)


def _planned(
    spec: StudySpec, ledger: Ledger, progress: Progress, given: argparse.Namespace
) -> Plan:
    """How the rest of a study runs; says so, and how long it will take."""
    from study import plan as plans
    from study.estimate import prepare
    from study.probes import ProbeError

    asked, left = (
        plans.Wanted(spec.resources, given.workers),
        ledger.trainings - len(ledger.rows()),
    )
    begun_with = plans.kept(ledger.study.user_attrs, asked, left)
    wanted = asked.settled(begun_with) if begun_with else asked
    plan, seconds = wanted.plan(left), None
    # the time is for those who look on; what is to be chosen is needed by all
    if not (wanted.fixed and given.no_progress):
        try:
            plan, cost = prepare(spec, wanted, left, progress.measuring)
            seconds = cost.study_seconds
            if not asked.fixed:
                ledger.study.set_user_attr(plans.KEY, plans.keep(plan, asked))
        except ProbeError as error:
            print(f"warning: {_unknown(error)}", file=sys.stderr)
    progress.announce(plan, seconds)
    return plan


def _conclude(
    spec: StudySpec, ledger: Ledger, tracker: Tracker | None, given: argparse.Namespace
) -> int:
    """Writes table and report, closes the MLflow run, and prints the answer."""
    from study import table
    from study.report import build
    from study.reporting.answer import summarize

    folder = spec.folder.absolute()
    frame = table.write(ledger.rows(), folder)
    answer = summarize(frame, spec.parameters)
    report = build(spec, frame, folder)
    if tracker is not None:
        files = [report, folder / "results.csv", folder / "study.json", *folder.glob("*.png")]
        tracker.close(
            metrics={"trainings": len(frame), **answer.configurations},
            tags={"answer": answer.headline},
            artifacts=files,
            description="\n\n".join(answer.sentences),
            status="FINISHED" if ledger.complete else "KILLED",
        )
        ledger.study.set_user_attr(_CONCLUDED, len(frame))
    print("", *answer.sentences, "", sep="\n")
    failed = int((frame["status"] == "failed").sum())
    if failed:
        print(f"{failed} of {len(frame)} trainings failed to run; the report says why.")
    if not ledger.complete:
        print(f"Stopped after {len(frame)} of {ledger.trainings} trainings; {_again(given)}")
    _say_where(spec)
    if not ledger.complete:
        return INTERRUPTED
    return FAILED if failed else FINISHED


def _say_finished(spec: StudySpec, ledger: Ledger) -> None:
    print(f"{spec.name} is finished: its {len(ledger.rows())} trainings are in {spec.folder}.")
    # a grid has no more points than it has
    more = (
        "Begin anew with" if spec.method == "grid" else "Ask for more with --trials, or anew with"
    )
    print(f"{more} --fresh.")


def _say_where(spec: StudySpec) -> None:
    """Where the results lie, and the command that opens MLflow."""
    print(f"Table   {spec.folder / 'results.csv'}")
    print(f"Report  {spec.folder / 'report.html'}")
    shown = spec.name if spec.storage == "studies" else str(spec.folder)
    print(f"MLflow  python -m study.ui {shlex.quote(shown)}")


def _again(given: argparse.Namespace) -> str:
    """How an interrupted study is continued."""
    if given.name:
        return f"the same command with --set name={given.name} in place of --fresh continues."
    return "the same command continues."


if __name__ == "__main__":
    sys.exit(main())
