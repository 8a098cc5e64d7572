"""The command of a study: what it refuses, prints, writes and returns; trainings are made up."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import fake_study
import optuna
import pandas as pd
import pytest
from made_up_probes import MadeUpProbes
from tiny_study import IMAGES, PLANE, document

from ebm_core.config import make_config
from ebm_core.document import dump_yaml, parse_yaml
from study import estimate, launch, memory, mlflow_store, report
from study.assignment import Unit
from study.ledger import Ledger
from study.lock import hold
from study.plan import Plan
from study.probes import ProbeError
from study.reporting.answer import summarize
from study.run import main
from study.searcher import Listener
from study.spec import StudySpec, from_resolved
from study.stopping import Stopping
from study.table import Row, failed_row

REPOSITORY = Path(__file__).parents[1]
# Of a study of the plane: what is set, and what the message must say
BAD = {
    "unknown key": (["base.epsilom=0.1"], "base.epsilom: unknown key, got 0.1; did you mean"),
    "wrong type": (["base.updates=many"], "base.updates: must be a valid integer, got 'many'"),
    "low >= high": (["parameters.epsilon.min=0.5"], "`min < max` must hold"),
    "unknown preset": (["base={preset: digit}"], "base.preset: "),
    "no data file": (
        ["base.data={name: array, path: none.npy}", "base.network=mlp"],
        "base.data.path: ",
    ),
    "storage": (["storage=file/studies"], "storage: must lie in a folder, but "),
    "pack": (
        [
            "parameters.network={distribution: choice, values: [toy, mlp]}",
            "resources.members_per_trial=2",
        ],
        "resources.members_per_trial: must be 1, since the members of a pack cannot differ in",
    ),
    "image size": (
        ["base.data={name: image_folder, path: ., size: 24}", "base.network=vanilla"],
        "base.data.size: vanilla takes square images of 8, 16, 32, 64 pixels, got '24x24'",
    ),
    "annealing": (["base.anneal_updates=50"], "base.anneal_updates: "),
    "number of trials": (["trials=none"], "trials: must be a whole number from 1 to 1,000,000"),
    "no value": (["base.updates"], "--set: must read KEY=VALUE, got 'base.updates'"),
}
# What shows only once the data are read and the network is built
UNFIT = {
    "size of stored images": (
        ["base.data={name: array, path: small.npy}", "base.network=vanilla"],
        "vanilla takes square images of 8, 16, 32, 64 pixels, got '5x5'",
    ),
    "data": (["base.data={name: array, path: file}", "base.network=mlp"], "base.data: "),
    "no GPU": (["resources.gpus_per_trial=64"], "resources.gpus_per_trial: must not be more than"),
}


class Fake:
    """Stands in for `launch.run_trainings`: what a training of epsilon gives is made up.

    Args:
        stop_after: Packs until an interruption.
        broken: Trials that fail to run.
    """

    def __init__(self, stop_after: int = -1, broken: Sequence[int] = ()) -> None:
        self.stop_after, self.broken = stop_after, broken
        self.trained: list[tuple[int, int]] = []
        self.plans: list[Plan] = []

    def __call__(
        self,
        spec: StudySpec,
        ledger: Ledger,
        folder: Path,
        plan: Plan,
        listeners: Sequence[Listener],
        stopping: Stopping,
    ) -> None:
        self.plans.append(plan)
        packs = 0
        while packs != self.stop_after and (units := ledger.next_pack(plan.members)):
            packs += 1
            self.trained += [(unit.trial, unit.seed) for unit in units]
            rows = [self._row(unit, folder) for unit in units]
            points = [{"update": update, "d": 1.0, "r": 0.1} for update in (1, 20)]
            for listener in listeners:
                listener.started(units)
            for listener in listeners:
                listener.progressed(units, 20, [points for _ in units])
            for listener in listeners:
                listener.ended(units, rows)

    def _row(self, unit: Unit, folder: Path) -> Row:
        if unit.trial in self.broken:
            cause = "Traceback\nRuntimeError: out of memory"
            return failed_row(make_config(unit.config), unit.trial, unit.seed, cause, unit.point)
        files = folder / unit.folder
        files.mkdir(parents=True, exist_ok=True)
        (files / "config.yaml").write_text(dump_yaml(dict(unit.config)))
        epsilon = unit.config["epsilon"]
        made_up = fake_study.row(
            unit.trial, seed=unit.seed, epsilon=epsilon, updates=60, mlflow_run_id=None
        )
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in made_up.items()
        }


@pytest.fixture(autouse=True)
def probes(monkeypatch: pytest.MonkeyPatch) -> MadeUpProbes:
    """Nothing is measured here."""
    made_up = MadeUpProbes()
    monkeypatch.setattr(estimate, "Probes", lambda count, gpus: made_up)
    return made_up


class Interrupted(Fake):
    """A second Ctrl-C, after some packs."""

    def __call__(self, *arguments: Any) -> None:
        super().__call__(*arguments)
        raise KeyboardInterrupt


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a study, data that fit no network, and a file in the way."""
    import numpy as np

    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(dump_yaml(document()))
    Path("file").write_text("not a folder")
    np.save("small.npy", np.zeros((20, 1, 5, 5), dtype=np.float32))
    return tmp_path


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database of MLflow, which takes seconds to make."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow_store.connect(f"sqlite:///{path}", path.parent / "mlartifacts")
    return path


@pytest.fixture
def store(study: Path, empty_store: Path) -> Path:
    return Path(shutil.copy(empty_store, study / "mlflow.db"))


@pytest.fixture
def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report without pictures, which take a second to draw."""

    def build(spec: StudySpec, frame: pd.DataFrame, folder: Path) -> report.Report:
        page = folder / "report.html"
        page.write_text(frame.to_html())
        return report.Report(page, (), "For which?", summarize(frame, spec.parameters))

    monkeypatch.setattr(report, "build", build)


def set_all(changes: Sequence[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def tree() -> dict[str, bytes | None]:
    """All that the working directory holds."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}


def run(monkeypatch: pytest.MonkeyPatch, fake: Fake, *arguments: str) -> int:
    monkeypatch.setattr(launch, "run_trainings", fake)
    return main(["s.yaml", "--workers", "1", *arguments])


def no_training(*_: Any) -> None:
    raise AssertionError("nothing is to be trained here")


def runs(experiment: str = "tiny") -> tuple[Any, list[Any]]:
    """Parent and children of a study in MLflow, in the order of trials."""
    client = mlflow_store.connect(mlflow_store.absolute_uri("sqlite:///mlflow.db"), None)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    (parent,) = [each for each in found if each.data.tags["role"] == "study"]
    children = [each for each in found if each is not parent]
    return parent, sorted(children, key=lambda each: int(each.data.tags["trial"]))


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: FILE"),
        (["s.yaml", "--workers", "0"], "must be a whole number over 0, got '0'"),
        (["s.yaml", "--workers", "two"], "must be a whole number over 0, got 'two'"),
        (["--set", "trials=1", "s.yaml"], "the following arguments are required: FILE"),
        (["s.yaml", "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_a_wrong_argument_ends_with_2(
    study: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = tree()
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err
    assert tree() == before


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry run"])
@pytest.mark.parametrize("case", [*BAD, *UNFIT])
def test_what_cannot_be_run_ends_with_2_and_one_message_and_leaves_nothing(
    study: Path, capsys: pytest.CaptureFixture[str], case: str, dry: list[str]
) -> None:
    changes, message = {**BAD, **UNFIT}[case]
    before = tree()
    assert main(["s.yaml", *dry, *set_all(changes)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert err.startswith("s.yaml: ")
    assert tree() == before


def test_all_problems_of_a_file_come_together(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["base.epsilom=0.1", "base.updates=many", "storage=file", "trials=0"]
    assert main(["s.yaml", *set_all(changes)]) == 2
    keys = [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()]
    assert sorted(keys) == ["base.epsilom", "base.updates", "storage", "trials"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["s.yaml", "--set", "seed=5", "trials=3"],
        ["s.yaml", "--set", "seed=5", "--set", "trials=3"],
        ["s.yaml", "--set", "seed=5", "--set", "trials=9", "trials=3"],
        ["--set", "seed=5", "trials=3", "--workers", "1", "s.yaml"],
        ["--set", "seed=5", "trials=3", "--", "s.yaml"],
    ],
)
def test_changes_may_stand_together_or_apart(
    study: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["--dry-run", *arguments]) == 0
    spec = from_resolved(parse_yaml(capsys.readouterr().out.split("\n\n")[0]))
    assert (spec.seed, spec.trials) == (5, 3)


def test_a_missing_file_is_named(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["none.yaml"]) == 2
    assert capsys.readouterr().err.startswith("none.yaml: ")


def test_validation_imports_nothing_heavy(study: Path) -> None:
    commands = [["s.yaml", *set_all(changes)] for changes, _ in BAD.values()]
    script = (
        "import sys, json\n"
        "from study.run import main\n"
        "from study.spec import load_study\n"
        "load_study('s.yaml')\n"
        "codes = [main(command) for command in json.loads(sys.argv[1])]\n"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'pandas', 'numpy'} & set(sys.modules)\n"
        "print(json.dumps([codes, sorted(heavy)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(commands)],
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [[2] * len(BAD), []]


@pytest.mark.parametrize("path", ["file", "."], ids=["no database", "a folder"])
def test_an_mlflow_that_cannot_be_used_is_found_before_anything_is_written(
    study: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    before = tree()
    assert main(["s.yaml", "--set", f"tracking.uri=sqlite:///{path}"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("s.yaml: tracking.uri: ")
    assert ("cannot be used" if path == "file" else "must name a file") in err
    assert tree() == before


def test_a_server_that_does_not_answer_is_found_before_anything_is_written(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree()
    assert main(["s.yaml", "--set", "tracking.uri=http://127.0.0.1:9"]) == 2
    assert "http://127.0.0.1:9 cannot be used" in capsys.readouterr().err
    assert tree() == before


@pytest.mark.parametrize("arguments", [[], ["--dry-run"]], ids=["run", "dry run"])
@pytest.mark.parametrize("case", ["no answer", "too large"])
def test_a_study_that_memory_does_not_hold_is_refused_and_leaves_nothing(
    study: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    probes: MadeUpProbes,
    arguments: list[str],
    case: str,
) -> None:
    if case == "no answer":
        probes.most_members = 0
        told = "a worker with 1 training needs over 9.00 GB, and 4.00 GB are free for it"
    else:
        monkeypatch.setattr(memory, "free_bytes", lambda: 2e9)
        probes.member_bytes = 3e9
        told = "1 worker with 1 training needs 3.00 GB, and 2.00 GB of main memory are free"
    before = tree()
    assert main(["s.yaml", "--workers", "1", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"s.yaml: resources: must fit into memory: {told}; ask for less")
    assert tree() == before


def test_a_study_that_goes_on_where_memory_is_short_stays_as_it_is(
    store: Path, monkeypatch: pytest.MonkeyPatch, probes: MadeUpProbes
) -> None:
    assert run(monkeypatch, Fake(stop_after=1)) == 130
    before = set(tree())
    probes.most_members = 0
    assert run(monkeypatch, Fake()) == 2
    assert set(tree()) >= before
    probes.most_members = 1
    assert run(monkeypatch, Fake()) == 0


# -- a dry run -----------------------------------------------------------------------------------


def test_a_dry_run_prints_study_cost_and_warnings_and_writes_nothing(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree()
    changes = ["base.eps_data_ratio=0.5", "resources.members_per_trial=2", "long_run.steps=9"]
    arguments = [*set_all(changes), "--trials", "6", "--workers", "2"]
    assert main(["s.yaml", "--dry-run", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    text, said = out.split("\n\n")
    spec = from_resolved(parse_yaml(text))
    assert (spec.trials, spec.base["eps_data_ratio"]) == (6, 0.5)
    cost, *warnings = said.splitlines()
    assert cost.startswith("6 trainings in packs of 2 on 2 workers, 1 thread each: about ")
    assert " a training and " in cost
    assert cost.endswith(" GB of memory a worker")
    assert [line.split(":")[0] for line in warnings] == ["warning"] * 2
    assert "eps_data_ratio falls to 0.5" in warnings[0]
    assert "some direction of the data has an sd of " in warnings[1]
    assert tree() == before


def test_a_dry_run_of_one_training_reads_well(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["s.yaml", "--dry-run", "--trials", "1", "--workers", "8"]) == 0
    cost = capsys.readouterr().out.splitlines()[-1]
    assert cost.startswith("1 training on 1 worker, 1 thread: about ")
    assert "long run" not in cost


@pytest.mark.parametrize("arguments", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_what_is_auto_is_chosen_and_told(
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    probes: MadeUpProbes,
    arguments: list[str],
) -> None:
    probes.law = lambda workers, threads, members: max(4, members)
    fake = Fake()
    monkeypatch.setattr(launch, "run_trainings", fake)
    auto = ["resources.members_per_trial=auto", "trials=16"]
    assert main(["s.yaml", "--workers", "2", *set_all(auto), *arguments]) == 0
    plan = "16 trainings in packs of 4 on 2 workers, 1 thread each: about "
    assert plan in "".join(capsys.readouterr())
    assert fake.plans == ([] if arguments else [Plan(2, 1, 4)])


# -- a plan that is kept --------------------------------------------------------------------------

AUTO = ["--set", "resources.members_per_trial=auto", "--trials", "16"]


def packs_of_four(workers: int, threads: int, members: int) -> float:
    return max(4, members)


@pytest.mark.usefixtures("plain_report")
@pytest.mark.parametrize("silent", [[], ["--no-progress"]], ids=["told", "silent"])
def test_a_study_that_goes_on_keeps_its_plan(
    store: Path, monkeypatch: pytest.MonkeyPatch, probes: MadeUpProbes, silent: list[str]
) -> None:
    probes.law = packs_of_four
    first, second = Fake(stop_after=1), Fake()
    assert run(monkeypatch, first, *AUTO, *silent) == 130
    # now larger packs would pay
    probes.law = lambda workers, threads, members: 10.0
    probes.asked.clear()
    assert run(monkeypatch, second, *AUTO, *silent) == 0
    assert first.plans == second.plans == [Plan(1, 1, 4)]
    # what it will take is told, to whom it may concern
    assert probes.asked == ([] if silent else [(1, 1, 4)])


@pytest.mark.usefixtures("plain_report")
@pytest.mark.parametrize(
    ("arguments", "plan"),
    [
        (["--workers", "2"], Plan(2, 1, 6)),
        (["--set", "resources.members_per_trial=3"], Plan(1, 1, 3)),
        (["--set", "resources.cpus_per_trial=2"], Plan(1, 2, 12)),
    ],
    ids=["workers", "members", "cpus"],
)
def test_a_plan_changes_with_what_is_asked_for(
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    probes: MadeUpProbes,
    arguments: list[str],
    plan: Plan,
) -> None:
    probes.law = packs_of_four
    assert run(monkeypatch, Fake(stop_after=1), *AUTO) == 130
    probes.law = lambda workers, threads, members: 10.0
    second = Fake()
    assert run(monkeypatch, second, *AUTO, *arguments) == 0
    assert second.plans == [plan]


@pytest.mark.usefixtures("plain_report")
def test_without_anything_to_choose_nor_to_tell_nothing_is_measured(
    store: Path, monkeypatch: pytest.MonkeyPatch, probes: MadeUpProbes
) -> None:
    assert run(monkeypatch, Fake(), "--no-progress") == 0
    assert probes.asked == []
    assert run(monkeypatch, Fake(), "--fresh") == 0
    assert probes.asked == [(1, 1, 1)]


@pytest.mark.usefixtures("plain_report")
@pytest.mark.parametrize("arguments", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_a_probe_that_fails_leaves_the_study_alone(
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    def broken(*_: Any) -> None:
        raise ProbeError("RuntimeError: a broken network")

    monkeypatch.setattr(estimate, "Probes", broken)
    fake = Fake()
    assert run(monkeypatch, fake, *AUTO, *arguments) == 0
    said = "how long it takes is not known, since a trial of it failed: RuntimeError: a broken"
    assert said in "".join(capsys.readouterr())
    assert fake.plans == ([] if arguments else [Plan(1, 1, 1)])


# -- a study that ends ---------------------------------------------------------------------------


def test_a_study_ends_with_table_report_records_and_answer(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = Fake()
    assert run(monkeypatch, fake, "--trials", "3", "--set", "seeds=2") == 0
    assert fake.trained == [(trial, seed) for trial in range(3) for seed in range(2)]
    out, err = capsys.readouterr()
    assert "Learning converges for every ε from 0.05 to 0.3.\n" in out
    assert out.splitlines()[-3:] == [
        "Table   studies/tiny/results.csv",
        "Report  studies/tiny/report.html",
        "MLflow  python -m study.ui tiny",
    ]
    assert "[6/6]" in err
    frame = pd.read_csv("studies/tiny/results.csv")
    assert len(frame) == 6
    assert json.loads(Path("studies/tiny/study.json").read_text())["trials"] == 3
    parent, children = runs()
    assert {each.info.status for each in (parent, *children)} == {"FINISHED"}
    assert sorted(each.info.run_id for each in children) == sorted(frame["mlflow_run_id"])
    assert parent.data.metrics["trainings"] == 6
    assert parent.data.tags["answer"] in out


@pytest.mark.usefixtures("plain_report")
def test_no_progress_says_nothing_before_the_end(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Fake(), "--no-progress", "--set", "storage=my studies") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1] == "MLflow  python -m study.ui 'my studies/tiny'"


def test_a_finished_study_says_so_and_rebuilds_its_report(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Fake()) == 0
    page, table = Path("studies/tiny/report.html"), Path("studies/tiny/results.csv")
    rows, records = table.read_bytes(), store.read_bytes()
    page.unlink()
    table.unlink()
    capsys.readouterr()
    monkeypatch.setattr(launch, "run_trainings", no_training)
    assert main(["s.yaml"]) == 0
    out = capsys.readouterr().out
    assert "tiny is finished: its 2 trainings are in studies/tiny." in out
    assert "Ask for more with --trials, or anew with --fresh." in out
    assert page.stat().st_size > 0
    assert table.read_bytes() == rows
    assert store.read_bytes() == records


@pytest.mark.usefixtures("plain_report")
def test_more_trials_continue_a_finished_study(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Fake()) == 0
    more = Fake()
    assert run(monkeypatch, more, "--trials", "3") == 0
    assert more.trained == [(2, 0)]
    assert "tiny: 3 trainings, 2 of them done before, on 1 worker" in capsys.readouterr().err
    assert len(runs()[1]) == 3


@pytest.mark.usefixtures("plain_report")
def test_fresh_takes_the_first_free_name(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Fake(), "--fresh") == 0
    assert run(monkeypatch, Fake(), "--fresh") == 0
    assert run(monkeypatch, Fake(stop_after=1), "--fresh") == 130
    found = {path.name for path in Path("studies").iterdir()}
    assert found == {"tiny", "tiny-2", "tiny-3"}
    advice = "the same command with --set name=tiny-3 in place of --fresh continues."
    assert advice in capsys.readouterr().out
    rest = Fake()
    assert run(monkeypatch, rest, "--set", "name=tiny-3") == 0
    assert rest.trained == [(1, 0)]
    assert len(runs("tiny-3")[1]) == 2


@pytest.mark.usefixtures("plain_report")
def test_a_changed_file_is_refused_with_the_difference(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Fake(stop_after=1)) == 130
    before = tree()
    capsys.readouterr()
    changes = ["base.updates=80", "tracking.uri=sqlite:///other.db"]
    monkeypatch.setattr(launch, "run_trainings", no_training)
    assert main(["s.yaml", *set_all(changes)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("s.yaml: tiny was begun with another study file:\n")
    assert "  base.updates: 60 there, 80 here\n" in err
    assert "begin anew with --fresh" in err
    assert tree() == before


@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun"])
def test_a_study_that_is_being_run_is_refused_and_stays_as_it_is(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], begun: bool
) -> None:
    if begun:
        assert run(monkeypatch, Fake(stop_after=1)) == 130
    monkeypatch.setattr(launch, "run_trainings", no_training)
    with hold(Path("studies/tiny").absolute()):
        before = tree()
        capsys.readouterr()
        assert main(["s.yaml", "--trials", "7"]) == 2
        assert tree() == before
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("s.yaml: tiny is being run by another process; ")


@pytest.mark.usefixtures("plain_report")
def test_a_study_is_held_while_it_runs_and_free_afterwards(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Second(Fake):
        def __call__(self, *arguments: Any) -> None:
            assert main(["s.yaml"]) == 2
            super().__call__(*arguments)

    assert run(monkeypatch, Second(stop_after=1)) == 130
    assert run(monkeypatch, Second()) == 0


def test_a_finished_study_is_shown_to_several_at_once(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = report.build

    def show_again(*arguments: Any) -> report.Report:
        monkeypatch.setattr(report, "build", build)
        assert main(["s.yaml"]) == 0
        return build(*arguments)

    assert run(monkeypatch, Fake()) == 0
    monkeypatch.setattr(report, "build", show_again)
    assert main(["s.yaml"]) == 0
    assert report.build is build


@pytest.mark.parametrize("damage", ["garbage", "cut pages", "folder"])
def test_a_damaged_ledger_is_named_and_left_alone(
    study: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    folder = study / "studies" / "tiny"
    ledger = folder / "optuna.db"
    folder.mkdir(parents=True)
    if damage == "folder":
        ledger.mkdir()
    else:
        # the second one has the first page of a database, and nothing sound behind it
        with closing(sqlite3.connect(ledger)) as database:
            database.executescript("CREATE TABLE studies (name TEXT); CREATE TABLE t (a TEXT)")
        page = ledger.read_bytes()[:4096] if damage == "cut pages" else b""
        ledger.write_bytes(page + b"\xff" * 4096)
    (folder / ".lock").touch()
    before = tree()
    assert main(["s.yaml"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"s.yaml: storage: {ledger} cannot be used (")
    assert tree() == before


@pytest.mark.parametrize("said", [sqlite3.OperationalError("disk I/O error"), None])
def test_only_what_the_database_said_is_taken_for_damage(
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: Exception | None,
) -> None:
    def broken(*_: Any) -> None:
        raise optuna.exceptions.StorageInternalError("reading failed") from said

    monkeypatch.setattr("study.ledger.Ledger", broken)
    if said is None:
        with pytest.raises(optuna.exceptions.StorageInternalError, match="reading failed"):
            main(["s.yaml"])
    else:
        assert main(["s.yaml"]) == 2
        assert "optuna.db cannot be used (disk I/O error); restore it" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_after_all_is_named(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In /proc root may write, and nobody can."""
    assert main(["s.yaml", "--set", f"storage=/proc/{os.getpid()}/fd/9999"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("s.yaml: storage: ")


# -- a study that does not -----------------------------------------------------------------------


@pytest.mark.usefixtures("plain_report")
def test_a_training_that_fails_to_run_gives_1_and_is_recorded(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Fake(broken=[1]), "--trials", "3") == 1
    out, err = capsys.readouterr()
    assert "1 of 3 trainings failed to run; the report says why." in out
    assert "! failed (RuntimeError: out of memory)" in err
    frame = pd.read_csv("studies/tiny/results.csv")
    assert frame["status"].tolist() == ["finished", "failed", "finished"]
    assert frame["cause"][1].endswith("RuntimeError: out of memory")
    parent, children = runs()
    assert parent.info.status == "FINISHED"
    assert [each.info.status for each in children] == ["FINISHED", "FAILED", "FINISHED"]
    stored = optuna.load_study(study_name="tiny", storage="sqlite:///studies/tiny/optuna.db")
    assert [trial.state.name for trial in stored.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert stored.trials[1].user_attrs["cause"].endswith("out of memory")
    assert "out of memory" in Path("studies/tiny/report.html").read_text()


@pytest.mark.usefixtures("plain_report")
def test_diverged_trainings_are_results(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Diverging(Fake):
        def _row(self, unit: Unit, folder: Path) -> Row:
            ended = {"status": "stopped_early", "verdict": "diverged", "cause": "d is not finite"}
            lost = {"convergence_score": 0.0, "r_matched": None, "long_run": "not_run"}
            return {**super()._row(unit, folder), **ended, **lost}

    assert run(monkeypatch, Diverging()) == 0
    assert {each.info.status for each in runs()[1]} == {"FINISHED"}


@pytest.mark.usefixtures("plain_report")
@pytest.mark.parametrize(
    ("stop", "packs"),
    [(Fake, 1), (Interrupted, 0), (Interrupted, 1)],
    ids=["Ctrl-C", "Ctrl-C twice at once", "Ctrl-C twice"],
)
def test_an_interrupted_study_says_how_it_goes_on_and_does(
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stop: type[Fake],
    packs: int,
) -> None:
    assert run(monkeypatch, stop(stop_after=packs)) == 130
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    if stop is Fake:
        assert f"Stopped after {packs} of 2 trainings; the same command continues." in out
        assert len(pd.read_csv("studies/tiny/results.csv")) == packs
        assert runs()[0].info.status == "KILLED"
    else:  # at once means that nothing more is written
        assert "Interrupted; the same command continues." in err
        assert not Path("studies/tiny/results.csv").exists()
    rest = Fake()
    assert run(monkeypatch, rest) == 0
    assert rest.trained == [(trial, 0) for trial in range(packs, 2)]
    parent, children = runs()
    assert {each.info.status for each in (parent, *children)} == {"FINISHED"}
    assert len(children) == 2


def test_a_study_stopped_before_anything_was_trained_has_a_report(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, Fake(stop_after=0)) == 130
    assert "<html" in Path("studies/tiny/report.html").read_text()


@pytest.mark.usefixtures("plain_report")
def test_a_study_cut_off_at_its_very_end_is_concluded_by_the_same_command(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(report, "build", interrupted)
        assert run(monkeypatch, Fake()) == 130
    assert "Interrupted; the same command continues." in capsys.readouterr().err
    assert runs()[0].info.status == "RUNNING"
    monkeypatch.setattr(launch, "run_trainings", no_training)
    assert main(["s.yaml"]) == 0
    assert "tiny is finished" in capsys.readouterr().out
    assert runs()[0].info.status == "FINISHED"


@pytest.mark.usefixtures("plain_report")
def test_a_study_is_rehearsed_again_before_it_goes_on(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Fake(stop_after=1)) == 130
    monkeypatch.setattr(launch, "run_trainings", no_training)
    assert main(["s.yaml", "--set", "resources.gpus_per_trial=64"]) == 2
    assert "resources.gpus_per_trial: must not be more than" in capsys.readouterr().err


def test_the_made_up_study_is_one_that_could_be_trained() -> None:
    """Else the refusals above might come from something that is wrong with all of them."""
    for base in (PLANE, IMAGES):
        assert from_resolved(document(base=base)).trials == 2


@pytest.mark.usefixtures("plain_report")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_asked_to_stop_is_told_by_the_exit_code(
    store: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    class Heard(Fake):
        def __call__(self, *arguments: Any) -> None:
            super().__call__(*arguments)
            with arguments[-1].listening():
                os.kill(os.getpid(), number)

    assert run(monkeypatch, Heard(stop_after=1)) == code


@pytest.mark.parametrize("when", ["training", "writing"])
@pytest.mark.usefixtures("plain_report")
def test_a_full_disk_ends_the_study_with_one_message_and_the_same_command_goes_on(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], when: str
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "studies/tiny/results.csv")

    class Full(Fake):
        def __call__(self, *arguments: Any) -> None:
            super().__call__(*arguments)
            if when == "training":
                arguments[-1].ask(full)

    def write(*_: Any) -> None:
        raise full

    with monkeypatch.context() as patch:
        if when == "writing":
            patch.setattr("study.table.write", write)
        assert run(patch, Full(stop_after=1)) == 1
    assert capsys.readouterr().err.endswith(
        "studies/tiny cannot be written (No space left on device: studies/tiny/results.csv).\n"
        "What is recorded is safe; once there is room, the same command continues.\n"
    )
    assert run(monkeypatch, Fake()) == 0
    assert len(pd.read_csv("studies/tiny/results.csv")) == 2


@pytest.mark.usefixtures("plain_report")
def test_data_that_have_changed_are_refused(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    images = np.random.default_rng(0).random((20, 1, 5, 5))
    data = ["--set", "base.network=mlp", "--set", "base.data={name: array, path: own.npy}"]
    np.save("own.npy", images)
    assert run(monkeypatch, Fake(stop_after=1), *data) == 130
    np.save("own.npy", images + 0.01)
    assert run(monkeypatch, Fake(), *data) == 2
    err = capsys.readouterr().err
    assert "s.yaml: tiny was begun with other data:" in err
    assert "20 samples, of shape (1, 5, 5) there and here, but other ones" in err
    np.save("own.npy", images)
    assert run(monkeypatch, Fake(), *data) == 0
