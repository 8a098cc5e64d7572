"""A study whose driver, or whose workers, are killed again and again, beside the same left alone.

    python tests/benchmarks/test_kill_campaign.py --kills 20 --members 4 --what driver

Twelve trainings by a deterministic method. The driver gets SIGKILL at moments uniform over 30 s
after each start, and is started again at once; or workers get it, at moments uniform over 6 s
after each other, while one driver runs. Then the study is left alone, and must hold what the
undisturbed one does: see `same_study`. Every second start tries out how long the study will take,
as the command does unless it is told ``--no-progress``.

Training that is lost by a kill is counted in updates: from those in the last checkpoint to the
last that the driver was told of. Where an attempt had not come further than one before it, that is
too much; what a worker had not told yet, a hundredth of a training at most, is not in it. Seconds
are those of an update of the undisturbed study.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import pandas as pd
import pytest
from same_study import LOG, Comparison, compared
from survivors import Started

from ebm_core import checkpoint
from ebm_core.document import dump_yaml
from ebm_core.errors import CheckpointError

ROOT = Path(__file__).parents[2]
NAME = "killed"
# The driver is killed this soon after its start at the latest, a worker after the one before.
DRIVER_SECONDS, WORKER_SECONDS = 30.0, 6.0
# A process that outlives its driver by more than this is one too many.
SURVIVAL_SECONDS = 30.0
# No start takes longer.
PATIENCE_SECONDS = 900.0


def study(members: int, trials: int, updates: int) -> dict[str, Any]:
    """A study of trainings that save ten times each."""
    return {
        "name": NAME,
        "base": {
            "data": "gmm",
            "network": {"name": "toy", "widths": [32]},
            "epsilon": 0.1,
            "eps_data_ratio": 1.0,
            "gamma_0": 0.01,
            "gamma_start": 0.05,
            "anneal_updates": updates // 5,
            "langevin_steps": 40,
            "batch_size": 100,
            "bank_size": 1000,
            "updates": updates,
            "window": updates // 5,
            "report_interval": 10,
            "checkpoint_interval": updates // 10,
            "device": "cpu",
        },
        "parameters": {"epsilon": {"distribution": "loguniform", "min": 0.05, "max": 0.3}},
        "method": "sobol",
        "trials": trials,
        "long_run": {"steps": 200, "chains": 64},
        "resources": {"retries": 10, "members_per_trial": members},
    }


@dataclass
class Tally:
    """What was done to a study, and what it cost.

    Attributes:
        kills: How many.
        starts: Of the driver.
        at_work: Killed while a pack was trained or judged.
        lost: Seconds of training lost by each kill, see above.
        survived: The longest that a process outlived its driver, seconds.
        wall: From the first start to the end, seconds.
    """

    kills: int = 0
    starts: int = 0
    at_work: int = 0
    lost: list[float] = field(default_factory=list)
    survived: float = 0.0
    wall: float = 0.0


class Disturbed:
    """A study in a folder of its own, which is started and killed.

    Args:
        folder: Working directory.
        document: The study.
        pace: Seconds an update of each configuration.
    """

    def __init__(self, folder: Path, document: dict[str, Any], pace: dict[int, float]) -> None:
        self.folder, self.study = folder, folder / "studies" / NAME
        self.tally = Tally()
        self._document, self._pace = document, pace
        self._watchers: list[_Watcher] = []
        write(folder, document)

    def start(self) -> Started:
        self.tally.starts += 1
        return start(self.folder, *["--no-progress"][: self.tally.starts % 2])

    def kill_driver(self, run: Started) -> None:
        """Kills it, and has its processes watched until they are gone."""
        logs = [log for log in run.workers().values() if log]
        run.kill()
        self._note(logs)
        self._watchers.append(_Watcher(run))

    def kill_worker(self, run: Started, rng: random.Random, at_work: bool = False) -> None:
        """Kills one of Ray's workers, or of those at work, if there is one."""
        workers = {number: log for number, log in run.workers().items() if log or not at_work}
        if not workers:
            return
        number = rng.choice(sorted(workers))
        run.kill_one(number)
        log = workers[number]
        self._note([log] if log else [])

    def finish(self, run: Started) -> None:
        """Leaves it alone to its end."""
        code = run.wait(PATIENCE_SECONDS)
        assert code == 0, f"exit code {code}: {said(self.folder)}"
        watchers = [*self._watchers, _Watcher(run)]
        self.tally.survived = max(watcher.seconds() for watcher in watchers)

    def _note(self, logs: Sequence[Path]) -> None:
        self.tally.kills += 1
        self.tally.at_work += bool(logs)
        self.tally.lost.append(sum(self._lost(log.with_suffix(".pt")) for log in logs))

    def _lost(self, saved: Path) -> float:
        """Seconds of training since the last checkpoint of a pack."""
        first, count = int(saved.parent.name), int(saved.stem.rpartition("-")[2])
        trials = range(first, first + count)
        told = max(last_told(self.study / "outbox" / f"{trial:04d}-0.jsonl") for trial in trials)
        try:
            made = checkpoint.load_newest(saved)[0]["update"] if checkpoint.exists(saved) else 0
        except CheckpointError:
            # its rows were recorded at this moment, so that it is gone
            return 0.0
        return max(0, told - made) * sum(self._pace[trial] for trial in trials)


class _Watcher:
    """Waits beside all else until nothing is left of a run."""

    def __init__(self, run: Started) -> None:
        self._seconds = 0.0
        self._error: AssertionError | None = None
        self._thread = threading.Thread(target=self._watch, args=(run,))
        self._thread.start()

    def seconds(self) -> float:
        """How long that took, once it is so."""
        self._thread.join()
        if self._error:
            raise self._error
        return self._seconds

    def _watch(self, run: Started) -> None:
        try:
            self._seconds = run.outlived(SURVIVAL_SECONDS)
        except AssertionError as error:
            self._error = error
            run.kill_all()


def write(folder: Path, document: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s.yaml").write_text(dump_yaml(document))


def start(
    folder: Path, *arguments: str, environment: Mapping[str, str] = MappingProxyType({})
) -> Started:
    """The command that runs, or continues, the study of a folder."""
    command = [sys.executable, "-m", "study.run", "s.yaml", *arguments]
    return Started(command, folder, folder / LOG, {**environment, "PYTHONPATH": str(ROOT)})


def said(folder: Path) -> str:
    """The end of what the command said."""
    return (folder / LOG).read_text(errors="replace")[-4_000:]


def undisturbed(folder: Path, document: dict[str, Any]) -> tuple[dict[int, float], float]:
    """Runs a study; returns seconds an update of each configuration, and those of the whole."""
    write(folder, document)
    began = time.monotonic()
    run = start(folder, "--no-progress")
    code = run.wait(PATIENCE_SECONDS)
    wall = time.monotonic() - began
    assert code == 0, f"exit code {code}: {said(folder)}"
    run.outlived(SURVIVAL_SECONDS)
    table = pd.read_csv(folder / "studies" / NAME / "results.csv").set_index("trial")
    return (table["seconds"] / table["updates"]).to_dict(), wall


def last_told(path: Path) -> int:
    """The last update of a training that the driver was told of; 0 if there is none."""
    if not path.exists():
        return 0
    records = [json.loads(line) for line in path.read_text().splitlines(True) if line[-1] == "\n"]
    curves = [record["points"] for record in records if record["kind"] == "curve"]
    return int(curves[-1][-1]["update"]) if curves else 0


def driver_killed(disturbed: Disturbed, kills: int, rng: random.Random) -> None:
    """Kills the driver so often, then leaves it alone."""
    while disturbed.tally.kills < kills:
        run = disturbed.start()
        code = run.wait(rng.uniform(0, DRIVER_SECONDS))
        if code is None:
            disturbed.kill_driver(run)
        else:
            # it was done before its kill, so that the next one only looks at what there is
            assert code == 0, said(disturbed.folder)
    disturbed.finish(disturbed.start())


def workers_killed(disturbed: Disturbed, kills: int, rng: random.Random) -> None:
    """Kills so many workers while one driver runs, or as many as it takes until that is done."""
    run = disturbed.start()
    while disturbed.tally.kills < kills and run.wait(rng.uniform(0, WORKER_SECONDS)) is None:
        disturbed.kill_worker(run, rng)
    disturbed.finish(run)


WHAT = {"driver": driver_killed, "workers": workers_killed}
HEADER = (
    "| killed | K | kills | of them at work | starts | trainings lost | doubled"
    " | other differences | seconds of training lost a kill: mean, most"
    " | longest survivor, s | wall, s | undisturbed, s |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def line(what: str, members: int, tally: Tally, found: Comparison, undisturbed: float) -> str:
    """One row of the table, in Markdown."""
    lost = tally.lost or [0.0]
    return (
        f"| {what} | {members} | {tally.kills} | {tally.at_work} | {tally.starts}"
        f" | {found.lost} of {found.trainings} | {found.doubled} | {len(found.differences)}"
        f" | {sum(lost) / len(lost):.2f}, {max(lost):.2f} | {tally.survived:.1f}"
        f" | {tally.wall:.0f} | {undisturbed:.0f} |"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; returns 1 if anything was lost, doubled or different."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--members", type=int, default=1, help="trainings of a pack")
    parser.add_argument("--what", choices=WHAT, default="driver")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--updates", type=int, default=1_500)
    parser.add_argument("--folder", type=Path, help="keep everything there")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        document = study(given.members, given.trials, given.updates)
        pace, wall = undisturbed(folder / "undisturbed", document)
        disturbed = Disturbed(folder / "disturbed", document, pace)
        began = time.monotonic()
        WHAT[given.what](disturbed, given.kills, random.Random(given.seed))
        disturbed.tally.wall = time.monotonic() - began
        found = compared(folder / "undisturbed", folder / "disturbed", NAME)
    print(HEADER)
    print(line(given.what, given.members, disturbed.tally, found, wall))
    print(*found.differences, sep="\n")
    return 0 if found.same else 1


# -- the short form ------------------------------------------------------------------------------

# What has just been written at moments that matter
SAVED, JUDGED, TABLE = "trials/*/pack-*.pt", "trials/*/seed-0/traces.npz", "results.csv"


def written(run: Started, folder: Path, pattern: str) -> None:
    """Waits until a file is new, or newer than it was."""

    def there() -> set[tuple[Path, int]]:
        found = set()
        for path in folder.glob(pattern):
            with suppress(FileNotFoundError):
                found.add((path, path.stat().st_mtime_ns))
        return found

    before, end = there(), time.monotonic() + PATIENCE_SECONDS
    while there() <= before:
        assert run.wait(0.01) is None, "the command ended before that"
        assert time.monotonic() < end, "that did not happen in time"


@dataclass(frozen=True)
class Reference:
    """The study that is disturbed, left alone."""

    document: dict[str, Any]
    folder: Path
    pace: dict[int, float]

    def disturbed(self, folder: Path) -> Disturbed:
        return Disturbed(folder, self.document, self.pace)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    # a pack of three, and one training by itself
    document, folder = study(members=3, trials=4, updates=400), tmp_path_factory.mktemp("alone")
    pace, _ = undisturbed(folder, document)
    return Reference(document, folder, pace)


def test_a_killed_driver_costs_no_more_than_work(tmp_path: Path, reference: Reference) -> None:
    disturbed = reference.disturbed(tmp_path)
    for moment in (SAVED, JUDGED, TABLE):
        run = start(disturbed.folder, "--no-progress")
        written(run, disturbed.study, moment)
        disturbed.kill_driver(run)
    disturbed.finish(start(disturbed.folder, "--no-progress"))
    assert (disturbed.tally.kills, disturbed.tally.at_work) == (3, 2)
    assert compared(reference.folder, tmp_path, NAME) == Comparison(4, 0, 0)


def test_a_killed_worker_costs_no_more_than_work(tmp_path: Path, reference: Reference) -> None:
    disturbed = reference.disturbed(tmp_path)
    run = start(disturbed.folder, "--no-progress")
    written(run, disturbed.study, SAVED)
    disturbed.kill_worker(run, random.Random(0), at_work=True)
    disturbed.finish(run)
    assert (disturbed.tally.kills, disturbed.tally.at_work) == (1, 1)
    assert compared(reference.folder, tmp_path, NAME) == Comparison(4, 0, 0)
    # what one study holds is not what another holds
    (disturbed.study / "trials/0003/seed-0/traces.npz").unlink()
    assert compared(reference.folder, tmp_path, NAME) != Comparison(4, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
