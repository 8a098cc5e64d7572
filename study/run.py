"""Runs a study: ``python -m study.run FILE``.

The same command again continues a study that was interrupted; one that is finished says so.
Exit codes: 0 when the study finished (diverged trainings are results), 1 when a training failed to
run or the disk is full, 2 for a study that cannot be run as asked, 130 after Ctrl-C (128 + n after
another signal n to end).
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ebm_core.document import dump_yaml
from ebm_core.entry import run_command
from ebm_core.errors import ConfigError, Problem
from study.spec import StudySpec, load_study, warnings

if TYPE_CHECKING:
    from study.ledger import Ledger
    from study.opening import OpenStudy
    from study.planning import Planner
    from study.searcher import Listener
    from study.stopping import Stopping

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
    from study.planning import unknown
    from study.probes import ProbeError
    from study.progress import described, duration

    rehearse(spec)
    wanted, trainings = Wanted(spec.resources, wanted_workers), spec.trials * spec.seeds
    print(dump_yaml(spec.resolved()))
    try:
        plan, cost = prepare(spec, wanted, trainings)
    except ProbeError as error:
        print(f"{described(wanted.plan(trainings), trainings)}; {unknown(error)}")
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


def run(spec: StudySpec, given: argparse.Namespace) -> int:
    """Trains what is left of a study, and writes what it leaves."""
    from study.failures import RayError, storage_trouble
    from study.ledger import LedgerError
    from study.lock import LockedError
    from study.mlflow_store import TrackingError

    try:
        with ExitStack() as held:
            return _run(spec, given, held)
    except LedgerError as error:
        advice = "Give it another name, or begin anew with --fresh."
        print(f"{given.file}: {error}\n{advice}", file=sys.stderr)
        return REFUSED
    except (LockedError, TrackingError) as error:
        print(f"{given.file}: {error}", file=sys.stderr)
        return REFUSED
    except ConfigError:
        raise  # says itself what is behind it
    except RayError as error:
        print(f"Ray could not be started ({error}); {_again(given)}", file=sys.stderr)
        return FAILED
    # whatever is between a full disk and this line, people need to know which disk
    except Exception as error:
        if not (trouble := storage_trouble(error, forbidden=True)):
            raise
        print(f"{spec.folder} cannot be written ({trouble}).", file=sys.stderr)
        print(f"What is recorded is safe; once there is room, {_again(given)}", file=sys.stderr)
        return FAILED


def _run(spec: StudySpec, given: argparse.Namespace, held: ExitStack) -> int:
    from study.ending import conclude
    from study.opening import open_study
    from study.planning import Planner
    from study.stopping import Stopping

    stopping = Stopping()
    # a cluster is left before the study is concluded, which may take a while
    with ExitStack() as training:
        planner = Planner(spec, given.workers, not given.no_progress, _note)
        opened = open_study(spec, held, training, planner.before)
        if opened.ledger.complete:
            _say_finished(spec, opened.ledger)
        else:
            _train(opened, planner, given, stopping)
    if stopping.error is not None:
        raise stopping.error
    failed = conclude(opened, patient=not stopping.asked)
    if not opened.ledger.complete:
        done, total = opened.ledger.recorded, opened.ledger.trainings
        print(f"Stopped after {done} of {total} trainings; {_again(given)}")
    _say_where(spec)
    if not opened.ledger.complete:
        return 128 + stopping.signal if stopping.signal else INTERRUPTED
    return FAILED if failed else FINISHED


def _note(line: str) -> None:
    """Says something that is no result."""
    print(line, file=sys.stderr, flush=True)


def _train(
    opened: OpenStudy, planner: Planner, given: argparse.Namespace, stopping: Stopping
) -> None:
    from study.launch import run_trainings
    from study.progress import Progress

    spec, ledger = opened.spec, opened.ledger
    plan, seconds = planner.plan(ledger, opened.room)
    with Progress(ledger, not given.no_progress, trouble=opened.trouble) as progress:
        progress.announce(plan, seconds)
        if not given.no_progress:
            for warning in warnings(spec):
                print(f"warning: {warning}", file=sys.stderr)
        listeners: list[Listener] = [opened.recorder, progress]
        run_trainings(spec, ledger, opened.folder, plan, listeners, stopping)


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
    run_command(main)
