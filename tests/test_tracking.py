"""What a study leaves in MLflow, against a real SQLite store through MLflow's own client."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from study import mlflow_store
from study.curves import ASSESSED, MAX_POINTS
from study.mlflow_store import TrackingError, absolute_uri, artifact_root, database_path
from study.tracking import Tracker

CURVES = ("d", "r", "r_scaled", "r_matched", "r_band_adherence", "gamma")
CONFIG = {"epsilon": 0.08, "updates": 2000, "band": {"low": 0.75, "high": None}}
ROW = {
    "trial": 3,
    "seed": 1,
    "epsilon": 0.08,
    "optimizer": "sgd",
    "status": "finished",
    "verdict": "nonconvergent",
    "reasons": "r_below_band;d_unbalanced",
    "oscillation": "weak",
    "r_band_adherence": 0.5,
    "r": 0.25,
    "r_scaled": 0.125,
    "r_matched": 0.625,
    "d_balance": -0.75,
    "convergence_score": None,
    "long_run": "departs",
    "updates": 2000,
    "mlflow_run_id": None,
    "cause": None,
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, created once; each test works in an experiment of its own."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow_store.connect(f"sqlite:///{path}", path.parent / "mlartifacts")
    return path


@pytest.fixture
def again(database: Path, tmp_path: Path, request: pytest.FixtureRequest):
    """Makes a tracker of the same study, as each process that continues it does."""
    folder = tmp_path / "studies" / "eps_sweep"
    name = request.node.name
    return lambda: Tracker(f"sqlite:///{database}", name, "eps_sweep", folder)


@pytest.fixture
def tracker(again) -> Tracker:
    tracker = again()
    tracker.open({"method": "tpe", "trials": 16})
    return tracker


@pytest.fixture
def client(database: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{database}")


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """What one training leaves."""
    folder = tmp_path / "seed-1"
    (folder / "checkpoint").mkdir(parents=True)
    for name in ("diagnostics.png", "config.yaml", "checkpoint/state.pt"):
        (folder / name).write_text(name)
    return folder


def draw(path: Path, width: int, height: int) -> None:
    Image.new("RGB", (width, height), "teal").save(path)


def points(*updates: int, **values: float) -> list[dict[str, float]]:
    return [
        {"update": update, **dict.fromkeys(CURVES, update / 7), **values} for update in updates
    ]


def curve(client: Any, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)]


def runs(client: Any, tracker: Tracker) -> list[Any]:
    experiment = client.get_experiment_by_name(tracker.experiment)
    return client.search_runs([experiment.experiment_id], max_results=1000)


def files(client: Any, run_id: str, folder: str | None = None) -> set[str]:
    return {
        path
        for each in client.list_artifacts(run_id, folder)
        for path in (files(client, run_id, each.path) if each.is_dir else {each.path})
    }


def test_a_study_is_one_parent_and_its_children(tracker, client):
    child = tracker.child(3, 1, CONFIG, "ε=0.080 seed=1")
    other = tracker.child(3, 2, CONFIG, "ε=0.080 seed=2")
    found = {run.info.run_id: run for run in runs(client, tracker)}
    assert found.keys() == {tracker.run_id, child, other}
    parent = found[tracker.run_id]
    assert parent.info.run_name == "eps_sweep"
    assert parent.data.params == {"method": "tpe", "trials": "16"}
    assert parent.data.tags.items() >= {("role", "study"), ("study", "eps_sweep")}
    assert found[child].info.run_name == "ε=0.080 seed=1"
    tags = {"mlflow.parentRunId": tracker.run_id, "trial": "3", "seed": "1", "study": "eps_sweep"}
    assert found[child].data.tags.items() >= tags.items()
    assert {run.info.status for run in found.values()} == {"RUNNING"}


def test_params_are_flat_and_may_be_many(tracker, client):
    many = {f"layer_{index}": index for index in range(130)}
    child = tracker.child(0, 0, {**CONFIG, "network": many}, "one")
    params = client.get_run(child).data.params
    assert len(params) == 134
    assert params["network.layer_129"] == "129"
    assert (params["epsilon"], params["band.low"], params["band.high"]) == ("0.08", "0.75", "None")


def test_files_lie_beside_the_database(tracker, client, database):
    experiment = client.get_experiment_by_name(tracker.experiment)
    assert experiment.artifact_location == (database.parent / "mlartifacts").as_uri()


def test_the_view_that_the_ui_opens_with_names_what_is_logged(tracker, client, outputs):
    child = tracker.child(0, 0, CONFIG, "one")
    tracker.finish_child(child, {**ROW, "convergence_score": 0.5}, outputs)
    data = client.get_run(child).data
    experiment = client.get_experiment_by_name(tracker.experiment)
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{mlflow_store.VIEW}"])
    named = {*view["selectedColumns"], view["orderByKey"]}
    assert named <= {f"metrics.`{name}`" for name in data.metrics} | {
        f"tags.`{name}`" for name in data.tags
    }
    matching = client.search_runs([experiment.experiment_id], view["searchFilter"])
    assert [run.info.run_id for run in matching] == [child]


@pytest.mark.parametrize("interval", [1, 7, 10, 300])
def test_curves_are_thinned_and_end_with_the_value_of_the_table(
    tracker, client, outputs, interval
):
    child = tracker.child(0, 0, CONFIG, "one")
    updates = [*range(interval, 2000, interval), 2000]
    for start in range(0, len(updates), 13):
        part = updates[start : start + 13]
        tracker.log_curve(child, points(*part), ROW if part[-1] == 2000 else None)
    tracker.finish_child(child, ROW, outputs)
    data = client.get_run(child).data
    for name in CURVES:
        logged = curve(client, child, name)
        steps = [step for step, _ in logged]
        assert len(updates) > MAX_POINTS or len(steps) == len(updates)
        assert min(len(updates), MAX_POINTS // 2) <= len(steps) <= MAX_POINTS
        assert steps == sorted(set(steps))
        assert all(type(step) is int for step in steps)
        assert steps[-1] == 2000
        # Nothing but the last point differs from what was measured at that update
        assert all(value == step / 7 for step, value in logged[:-1])
        assert logged[-1] == (2000, ROW[name] if name in ASSESSED else 2000 / 7)
        assert data.metrics[name] == logged[-1][1]


def test_the_value_of_the_table_also_counts_where_a_training_broke_off(tracker, client, outputs):
    child = tracker.child(0, 0, CONFIG, "one")
    # Below the curve's own value at the same step, and none at all
    row = {**ROW, "verdict": "diverged", "updates": 500, "r": 0.25, "r_matched": None}
    tracker.log_curve(child, points(100, 500, r=9.0), row)
    tracker.finish_child(child, row, outputs)
    metrics = client.get_run(child).data.metrics
    assert metrics["r"] == 0.25
    assert metrics["r_matched"] == 500 / 7
    assert metrics["updates"] == 500
    assert curve(client, child, "r") == [(100, 9.0), (500, 0.25)]
    assert [step for step, _ in curve(client, child, "d")] == [100, 500]


def test_the_value_of_the_table_counts_beside_one_of_the_same_moment(tracker, client, outputs):
    # MLflow takes the larger value for the later one
    child = tracker.child(0, 0, CONFIG, "one")
    tracker.log_curve(child, [{"update": 500, "r": 9.0, "time": 1_800_000_000_000}])
    row = {**ROW, "updates": 500, "r": 0.25}
    tracker.finish_child(child, row, outputs, at=1_800_000_000_000)
    assert client.get_run(child).data.metrics["r"] == 0.25


def test_values_that_are_not_finite_are_gaps(tracker, client):
    child = tracker.child(0, 0, CONFIG, "one")
    tracker.log_curve(child, points(10, 20) + points(30, d=math.nan, r=math.inf) + points(40))
    assert [step for step, _ in curve(client, child, "d")] == [10, 20, 40]
    assert [step for step, _ in curve(client, child, "r")] == [10, 20, 40]
    assert [step for step, _ in curve(client, child, "gamma")] == [10, 20, 30, 40]


def test_the_outcome_is_in_metrics_tags_and_files(tracker, client, outputs):
    child = tracker.child(3, 1, CONFIG, "one")
    tracker.finish_child(child, ROW, outputs)
    run = client.get_run(child)
    numbers = {name: value for name, value in ROW.items() if isinstance(value, int | float)}
    assert run.data.metrics == numbers
    assert all(curve(client, child, name) == [(2000, numbers[name])] for name in numbers)
    assert run.info.status == "FINISHED"
    outcome = {name: ROW[name] for name in ("verdict", "reasons", "oscillation", "long_run")}
    assert run.data.tags.items() >= {**outcome, "status": "finished"}.items()
    assert "cause" not in run.data.tags
    assert files(client, child) == {"diagnostics.png", "config.yaml", "checkpoint/state.pt"}


def test_a_training_that_failed_to_run_says_why(tracker, client, tmp_path):
    child = tracker.child(0, 0, CONFIG, "one")
    tracker.log_curve(child, points(10, 20))
    row = {"trial": 0, "status": "failed", "verdict": None, "r": 0.5, "cause": "out of memory"}
    tracker.finish_child(child, row, tmp_path / "nothing")
    run = client.get_run(child)
    assert run.info.status == "FAILED"
    assert run.data.tags.items() >= {("cause", "out of memory"), ("verdict", "")}
    assert run.data.metrics["r"] == 20 / 7
    with pytest.raises(FileNotFoundError, match="nothing: a finished training must leave"):
        tracker.finish_child(child, {**ROW, "updates": 20}, tmp_path / "nothing")


def test_a_restart_finds_its_runs_and_doubles_nothing(tracker, again, client, outputs):
    child = tracker.child(3, 1, CONFIG, "one")
    tracker.log_curve(child, points(*range(10, 1000, 10)))
    second = again()
    assert second.open({"method": "tpe", "trials": 16}) == tracker.run_id
    assert second.child(3, 1, CONFIG, "one") == child
    second.log_curve(child, points(*range(900, 2001, 10)), ROW)
    second.finish_child(child, ROW, outputs)
    before = {name: curve(client, child, name) for name in client.get_run(child).data.metrics}
    assert all(len({step for step, _ in each}) == len(each) for each in before.values())
    assert [step for step, _ in before["d"]] == list(range(10, 2001, 10))
    third = again()
    third.open({"method": "tpe", "trials": 16})
    third.child(3, 1, CONFIG, "one")
    assert client.get_run(child).info.status == "RUNNING"
    third.log_curve(child, points(*range(10, 2001, 10)), ROW)
    for _ in range(2):
        third.finish_child(child, ROW, outputs)
    assert {name: curve(client, child, name) for name in before} == before
    assert client.get_run(child).info.status == "FINISHED"
    assert len(runs(client, tracker)) == 2


def test_a_study_may_change_what_it_asks_but_a_training_may_not(tracker, again, client):
    tracker.child(0, 0, CONFIG, "one")
    second = again()
    second.open({"method": "tpe", "trials": 32, "seeds": 2})
    data = client.get_run(second.run_id).data
    assert data.params == {"method": "tpe", "trials": "16", "seeds": "2"}
    assert data.tags["changed.trials"] == "32"
    assert "changed.method" not in data.tags
    with pytest.raises(Exception, match="Changing param values is not allowed"):
        second.child(0, 0, {**CONFIG, "epsilon": 0.09}, "one")


def test_a_study_begun_anew_has_runs_of_its_own(tracker, again):
    tracker.child(0, 0, CONFIG, "one")
    (tracker.folder / mlflow_store.RECORD).unlink()
    second = again()
    assert second.open({}) != tracker.run_id
    record = mlflow_store.recorded(second.folder)
    assert record is not None
    assert record["uri"] == second.uri


def test_the_end_closes_what_was_left_open(tracker, again, client, outputs, tmp_path):
    done = tracker.child(0, 0, CONFIG, "done")
    tracker.finish_child(done, ROW, outputs)
    left = {tracker.child(1, seed, CONFIG, "left") for seed in range(3)}
    report = tmp_path / "report.html"
    report.write_text("<html>")
    left_behind = [report, outputs]
    end = {"convergent": 5, "best": math.nan}, {"answer": "ε ≥ 0.1"}, left_behind
    for _ in range(2):
        tracker.close(*end, description="# eps_sweep", status="FINISHED")
    status = {run.info.run_id: run.info.status for run in runs(client, tracker)}
    expected = {tracker.run_id: "FINISHED", done: "FINISHED"} | dict.fromkeys(left, "KILLED")
    assert status == expected
    parent = client.get_run(tracker.run_id)
    assert parent.data.metrics == {"convergent": 5}
    assert len(client.get_metric_history(tracker.run_id, "convergent")) == 1
    assert parent.data.tags["answer"] == "ε ≥ 0.1"
    assert files(client, tracker.run_id) >= {"report.html", "seed-1/checkpoint/state.pt"}
    second = again()
    second.open({})
    assert client.get_run(second.run_id).info.status == "RUNNING"


def described(client: Any, run_id: str) -> str:
    note: str = client.get_run(run_id).data.tags["mlflow.note.content"]
    return note


def test_a_training_shows_what_became_of_it(tracker, client, outputs, tmp_path):
    child = tracker.child(0, 0, CONFIG, "one")
    curves = described(client, child)
    assert curves.startswith("Curves: ")
    draw(outputs / "diagnostics.png", 1012, 506)
    for _ in range(2):
        tracker.finish_child(child, ROW, outputs)
    experiment = client.get_run(child).info.experiment_id
    picture = (
        f"[![d and r over the updates](get-artifact?path=preview.png&run_uuid={child})]"
        f"(#/experiments/{experiment}/runs/{child}/artifacts/diagnostics.png"
        "?workflowType=machine_learning)"
    )
    said = "**nonconvergent** (r_below_band, d_unbalanced); oscillation weak; long run departs."
    assert described(client, child).split("\n\n") == [said, picture, curves]
    with Image.open(client.download_artifacts(child, "preview.png", str(tmp_path))) as small:
        # as it is put beside the numbers, which a wider one would push off the page
        assert small.size == (600, 300)
    failed = tracker.child(1, 0, CONFIG, "two")
    row = {"status": "failed", "cause": "Traceback\n  in `f`\nValueError: <x> in `f`"}
    tracker.finish_child(failed, row, tmp_path / "nothing")
    assert described(client, failed).split("\n\n") == [
        "**failed**.",
        "`ValueError: <x> in 'f'`",
        curves,
    ]


def test_a_study_shows_its_answer_and_its_map(tracker, client, tmp_path):
    for name in ("report.html", "results.csv"):
        (tmp_path / name).touch()
    for name in ("map.png", "overview.png"):
        draw(tmp_path / name, 900, 300)
    names = ("report.html", "overview.png", "map.png", "results.csv")
    kept = [tmp_path / name for name in names]
    tracker.close({}, {}, kept, "**Over 0.1.**\n\n*For which?*", "FINISHED")
    note = described(client, tracker.run_id)
    experiment = client.get_experiment_by_name(tracker.experiment)
    run = f"#/experiments/{experiment.experiment_id}/runs/{tracker.run_id}"
    query = "?workflowType=machine_learning"
    links = [
        f"[{text}]({run}/artifacts/{name}{query})"
        for text, name in (("Report", "report.html"), ("Map", "map.png"), ("Table", "results.csv"))
    ]
    shown = (
        f"![P(convergent) over the axes](get-artifact?path=preview.png&run_uuid={tracker.run_id})"
    )
    assert note.split("\n\n") == [
        "**Over 0.1.**",
        " · ".join(links),
        "*For which?*",
        f"[{shown}]({run}/artifacts/map.png{query})",
    ]
    # folded, the first line of the experiment's is all that is seen
    told = experiment.tags["mlflow.note.content"]
    assert told.splitlines()[0] == "eps_sweep: **Over 0.1.**"
    assert note in told
    assert f"]({run}{query})" in told


def test_an_experiment_tells_of_the_study_that_ended_last(tracker, again, client, tmp_path):
    def told() -> str:
        found: str = client.get_experiment_by_name(tracker.experiment).tags["mlflow.note.content"]
        return found

    tracker.close({}, {}, [], "**One.**", "FINISHED")
    other = Tracker(tracker.uri, tracker.experiment, "other", tmp_path / "studies" / "other")
    other.open({})
    other.close({}, {}, [], "**Two.** " + "long " * 2_000, "FINISHED")
    assert told().startswith("other: **Two.** long")
    assert len(told()) <= 5_000
    tracker.close({}, {}, [], "**Three.**", "FINISHED")
    assert told().startswith("eps_sweep: **Three.**")
    experiment = client.get_experiment_by_name(tracker.experiment)
    client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "Mine.")
    tracker.close({}, {}, [], "**Four.**", "FINISHED")
    assert told() == "Mine."
    assert described(client, tracker.run_id) == "**Four.**"


class Unreliable:
    """A client of which every `k`-th call fails, in turn before and after it was performed."""

    def __init__(self, client: Any, k: int) -> None:
        self.client, self.k, self.calls = client, k, itertools.count(1)
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        perform = getattr(self.client, name)

        def call(*args: Any, **options: Any) -> Any:
            fails = next(self.calls) % self.k == 0
            self.failed += fails
            if fails and self.failed % 2:
                raise ConnectionError("refused")
            answer = perform(*args, **options)
            if fails:
                raise TimeoutError("no answer")
            return answer

        return call


def insist(call: Any, *args: Any) -> Any:
    for _ in range(20):
        try:
            return call(*args)
        except (ConnectionError, TimeoutError):
            pass
    raise AssertionError("never got through")


@pytest.mark.parametrize("k", [5, 6, 7])
def test_calls_that_fail_are_made_again_and_double_nothing(tracker, client, outputs, k):
    tracker._client = unreliable = Unreliable(tracker._client, k)
    told = list(range(10, 2001, 10))
    for seed in range(2):
        child = insist(tracker.child, 3, seed, CONFIG, "one")
        for start in range(0, len(told), 50):
            insist(tracker.log_curve, child, points(*told[start : start + 50]), ROW)
        insist(tracker.finish_child, child, ROW, outputs)
    assert unreliable.failed >= 2
    found = [run for run in runs(client, tracker) if run.data.tags["role"] == "training"]
    assert len(found) == 2
    for run in found:
        assert [step for step, _ in curve(client, run.info.run_id, "d")] == told
        assert [step for step, _ in curve(client, run.info.run_id, "r")] == told
        assert run.info.status == "FINISHED"


def test_of_two_runs_of_one_training_the_one_written_to_stays(tracker, again, client, outputs):
    """A slow server may create a run after its client gave up on it and asked for another."""
    child = tracker.child(0, 0, CONFIG, "one")

    def late(of: str) -> None:
        tags = client.get_run(of).data.tags
        client.create_run(tracker._experiment_id, start_time=1, tags=tags)

    late(child)
    late(tracker.run_id)
    second = again()
    assert second.open({"method": "tpe"}) == tracker.run_id
    assert second.child(0, 0, CONFIG, "one") == child
    late(child)
    second.finish_child(child, ROW, outputs)
    second.close({}, {}, [], "", "FINISHED")
    status = {run.info.run_id: run.info.status for run in runs(client, tracker)}
    assert status == {tracker.run_id: "FINISHED", child: "FINISHED"}


def test_a_point_that_a_folder_took_in_part_is_completed(tracker, client):
    child = tracker.child(0, 0, CONFIG, "one")
    client.log_metric(child, "d", 50 / 7, timestamp=1, step=50)
    tracker.log_curve(child, points(40, 50, 60))
    assert [step for step, _ in curve(client, child, "d")] == [50, 60]
    assert [step for step, _ in curve(client, child, "r")] == [50, 60]


def test_a_deleted_experiment_is_brought_back(tracker, again, client):
    client.delete_experiment(client.get_experiment_by_name(tracker.experiment).experiment_id)
    second = again()
    second.open({})
    found = client.get_experiment_by_name(tracker.experiment)
    assert found.lifecycle_stage == "active"


CREATE = """
import sys
from pathlib import Path
from study.tracking import Tracker
name = sys.argv[1]
tracker = Tracker("sqlite:///both.db", "shared", name, Path.cwd() / "studies" / name)
tracker.open({})
(Path.cwd() / "file.txt").write_text("x")
for update in range(3):
    child = tracker.child(update, 0, {"updates": 3}, "one")
    tracker.log_curve(child, [{"update": 1, "d": 0.5}])
tracker.close({}, {}, [Path.cwd() / "file.txt"], "", "FINISHED")
print(tracker.run_id)
"""


def test_two_studies_may_create_one_database_and_say_nothing(tmp_path):
    path = {"PYTHONPATH": str(Path(mlflow_store.__file__).parents[1])}
    studies = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", CREATE, name],
            cwd=tmp_path,
            env=path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name in ("first", "second")
    ]
    said = [study.communicate(timeout=100) for study in studies]
    assert [error for _, error in said] == ["", ""]
    assert [study.returncode for study in studies] == [0, 0]
    parents = {text.strip() for text, _ in said}
    assert {len(parent) for parent in parents} == {32}

    client = mlflow_store.connect(f"sqlite:///{tmp_path}/both.db", None)
    experiment = client.get_experiment_by_name("shared")
    found = client.search_runs([experiment.experiment_id])
    assert len(found) == 8
    assert parents == {run.info.run_id for run in found if run.data.tags["role"] == "study"}
    # No drafts of the database, and no folder that MLflow chose
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"both.db", "studies", "mlartifacts", "file.txt"}


@pytest.mark.parametrize(
    ("uri", "absolute", "database"),
    [
        ("sqlite:///a.db", "sqlite:////data/a.db", "/data/a.db"),
        (
            "sqlite:///a b/c%25.db?timeout=9",
            "sqlite:////data/a b/c%25.db?timeout=9",
            "/data/a b/c%.db",
        ),
        ("sqlite:////else/a.db", "sqlite:////else/a.db", "/else/a.db"),
        ("http://host:5000", "http://host:5000", None),
        ("postgresql://user@host/name", "postgresql://user@host/name", None),
        ("mlruns", "file:///data/mlruns", None),
    ],
)
def test_addresses_do_not_depend_on_the_working_directory(uri, absolute, database, monkeypatch):
    monkeypatch.setattr("os.getcwd", lambda: "/data")
    assert absolute_uri(uri) == absolute
    assert absolute_uri(absolute) == absolute
    assert database_path(absolute) == (Path(database) if database else None)


def test_only_databases_need_a_place_for_files():
    folder = Path("/studies/one")
    assert artifact_root("sqlite:////data/a.db", folder) == Path("/data/mlartifacts")
    assert artifact_root("postgresql://host/name", folder) == folder / "mlartifacts"
    assert artifact_root("http://host:5000", folder) is None
    assert artifact_root("file:///data/mlruns", folder) is None


def test_a_store_that_cannot_be_used_is_named(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no database, but long enough to look like one" * 20)
    with pytest.raises(TrackingError, match=r"notes\.txt cannot be used \(file is not a database"):
        Tracker(f"sqlite:///{text}", "e", "s", tmp_path).open({})
    with pytest.raises(TrackingError, match=r"no\.db cannot be used"):
        Tracker(f"sqlite:///{text}/no.db", "e", "s", tmp_path).open({})
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 cannot be used .*refused"):
        Tracker("http://127.0.0.1:9", "e", "s", tmp_path).open({})
    assert not (tmp_path / mlflow_store.RECORD).exists()
