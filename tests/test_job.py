"""The work of one Tune trial, without Tune: a pack from its assignment to rows and files."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_core.config import TrainConfig, make_config
from ebm_core.document import read_document
from ebm_core.matched import MatchedGradient
from ebm_core.pack import read_pack
from ebm_core.trainer import Trainer
from study.assignment import Assignment, Unit
from study.job import CURVE_POINTS, Curve, Job, Point
from study.schema.sections import LongRunSpec
from study.table import (
    CAUSE,
    CHECK_COLUMNS,
    COLUMNS,
    EVIDENCE_COLUMNS,
    PLANE_COLUMNS,
    WORTH_COLUMNS,
    Row,
    frame,
)

REPOSITORY = Path(__file__).parents[1]
TINY = make_config(
    {
        "data": "gmm",
        "network": {"name": "toy", "widths": [16, 16]},
        "epsilon": 0.1,
        "eps_data_ratio": 1.0,
        "gamma_0": 0.02,
        "gamma_start": 0.05,
        "anneal_updates": 10,
        "langevin_steps": 6,
        "batch_size": 12,
        "bank_size": 30,
        "bank_start": "gaussian",
        "updates": 130,
        "window": 110,
        "report_interval": 20,
        "checkpoint_interval": 25,
        "device": "cpu",
    }
)
WILD = TINY.with_(gamma_0=2.5, gamma_start=None, anneal_updates=0, seed=1)
IMAGES = TINY.with_(
    data="digits", network={"name": "mlp", "widths": [16]}, epsilon=0.08, eps_data_ratio=2.0
)
FILES = {
    "traces.npz",
    "config.yaml",
    "pack.yaml",
    "diagnostics.png",
    "long_run.yaml",
    "checkpoint",
}
CURVES = {"update", "d", "gamma", "r", "r_scaled", "r_matched", "r_band_adherence"}


@pytest.fixture(autouse=True, scope="module")
def threads() -> Iterator[None]:
    """A job sets torch's threads; they are set back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def assignment(folder: Path, *configs: TrainConfig) -> Assignment:
    units = (
        Unit(2, seed, {"epsilon": config.epsilon, "langevin_steps": 6}, config.model_dump())
        for seed, config in enumerate(configs)
    )
    return Assignment(tuple(units), str(folder), 1, long_run_steps=10, long_run_chains=8)


class Done(NamedTuple):
    """What a job came to."""

    folder: Path
    rows: list[Row]
    curves: list[list[Point]]

    def files(self, member: int) -> Path:
        return self.folder / "trials/0002" / f"seed-{member}"

    def trace(self, member: int, name: str) -> np.ndarray:
        with np.load(self.files(member) / "traces.npz") as traces:
            return traces[name]


def work(folder: Path, *configs: TrainConfig) -> Done:
    return finish(Job(assignment(folder, *configs)))


def finish(job: Job) -> Done:
    curves: list[list[Point]] = [[] for _ in job.assignment.units]
    while not job.finished:
        for curve, points in zip(curves, job.advance(), strict=True):
            curve.extend(points)
    return Done(job.folder, job.conclude(), curves)


def test_long_chains_on_the_way_are_points_of_a_curve_and_change_nothing(tmp_path: Path) -> None:
    told = replace(assignment(tmp_path / "watched", TINY, WILD), long_run_every=40)
    watched, plain = finish(Job(told)), work(tmp_path / "plain", TINY, WILD)
    found = [[p for p in points if "long_run_departure" in p] for points in watched.curves]
    assert [point["update"] for point in found[0]] == [40, 80, 120]
    assert all(math.isfinite(point["long_run_departure"]) for point in found[0])
    assert found[1] == []  # which diverged before
    np.testing.assert_array_equal(watched.trace(0, "d"), plain.trace(0, "d"))
    assert watched.rows[0]["long_run_departure"] == plain.rows[0]["long_run_departure"]


def test_no_check_on_the_way_repeats_that_of_the_end(tmp_path: Path) -> None:
    told = replace(assignment(tmp_path, TINY), long_run_every=65)
    (curve,) = finish(Job(told)).curves
    assert [point["update"] for point in curve if "long_run_departure" in point] == [65]
    assert LongRunSpec(every=65).before_the_end(TINY.updates) == 1
    assert LongRunSpec(every=40).before_the_end(TINY.updates) == 3
    assert LongRunSpec().before_the_end(TINY.updates) == 0


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Done:
    """Three in the plane, the one in the middle of which diverges."""
    return work(tmp_path_factory.mktemp("pack"), TINY, WILD, TINY.with_(epsilon=0.2, seed=2))


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Done:
    return work(tmp_path_factory.mktemp("single"), IMAGES)


def test_every_member_has_its_row(pack: Done) -> None:
    assert [(row["trial"], row["seed"]) for row in pack.rows] == [(2, 0), (2, 1), (2, 2)]
    assert [row["epsilon"] for row in pack.rows] == [0.1, 0.1, 0.2]
    assert [row["status"] for row in pack.rows] == ["finished", "stopped_early", "finished"]
    assert [row["verdict"] == "diverged" for row in pack.rows] == [False, True, False]
    for row in pack.rows:
        assert tuple(row)[: len(COLUMNS)] == COLUMNS
        assert row["langevin_steps"] == 6
        assert row["seconds"] > 0  # type: ignore[operator]
        assert row["conclusion_seconds"] > 0.01  # type: ignore[operator]


def test_extra_columns_follow_those_of_the_contract(pack: Done) -> None:
    extra = tuple(frame(pack.rows).columns[len(COLUMNS) :])
    further = (*EVIDENCE_COLUMNS, *CHECK_COLUMNS, *PLANE_COLUMNS)
    assert extra == (*further, "langevin_steps", "conclusion_seconds", CAUSE)


def test_a_diverged_member_is_not_checked_and_does_not_touch_the_others(pack: Done) -> None:
    calm, lost, other = pack.rows
    assert lost["long_run"] == "not_run"
    assert lost["long_run_departure"] is None
    assert "kl" not in lost
    assert lost["convergence_score"] == 0
    assert lost["updates"] == 6
    assert str(lost[CAUSE]).startswith("chains left any reasonable range at update 5")
    for row in (calm, other):
        assert row["long_run"] in ("holds", "departs")
        assert row["updates"] == 130
        assert 0 <= row["tv"] <= 1  # type: ignore[operator]
        assert row["kl"] > 0  # type: ignore[operator]


def test_what_samples_are_worth_is_told_of_finite_sets(pack: Done, single: Done) -> None:
    (row,) = single.rows
    assert all(row[name] > 0 for name in ("nearest_ratio", "sharpness"))  # type: ignore[operator]
    assert 0 <= row["close_share"] <= 1  # type: ignore[operator]
    assert not any(set(each) & set(WORTH_COLUMNS) for each in pack.rows)


def test_images_have_no_density_in_the_plane(single: Done) -> None:
    (row,) = single.rows
    assert not row.keys() & set(PLANE_COLUMNS)
    assert row["long_run"] in ("holds", "departs")


@pytest.mark.parametrize("member", range(3))
def test_every_member_leaves_its_files(pack: Done, member: int) -> None:
    files = pack.files(member)
    assert {path.name for path in files.iterdir()} == FILES | {"landscape.png"}
    record = read_pack(files / "pack.yaml")
    assert record.index == member
    assert record.threads == 1
    assert [config.seed for config in record.members] == [0, 1, 2]
    assert read_document(files / "config.yaml")["seed"] == member
    alone = Trainer.resume(files / "checkpoint/checkpoint.pt")
    assert alone.configs == [record.members[member]]
    assert np.array_equal(alone.d(), pack.trace(member, "d"), equal_nan=True)


def test_images_leave_samples(single: Done) -> None:
    assert {path.name for path in single.files(0).iterdir()} == FILES | {"samples.png"}


@pytest.mark.parametrize("member", range(3))
def test_curves_hold_what_the_traces_hold(pack: Done, member: int) -> None:
    points = pack.curves[member]
    updates = [point["update"] for point in points]
    # fewer updates than `CURVE_POINTS`: every one of them
    assert updates == list(range(1, pack.rows[member]["updates"] + 1))  # type: ignore[operator]
    assert all(type(update) is int and set(p) == CURVES for update, p in zip(updates, points))  # noqa: B905
    for name in ("d", "r", "gamma"):
        told = [point[name] for point in points]
        np.testing.assert_array_equal(told, pack.trace(member, name))
    matched = [point["r"] / point["r_matched"] for point in points[:5]]
    scaled = [point["r"] / point["r_scaled"] for point in points[:5]]
    epsilon = float(pack.rows[member]["epsilon"])  # type: ignore[arg-type]
    assert scaled == pytest.approx([epsilon * math.sqrt(2)] * 5)
    assert matched == pytest.approx([matched[0]] * 5)


def test_a_member_lost_at_the_end_of_a_chunk_still_tells_its_last_update(tmp_path) -> None:
    """The sixth update is the last of WILD; of 600 updates one in four is told."""
    longer = {"updates": 600, "report_interval": 6}
    job = Job(assignment(tmp_path, TINY.with_(**longer), WILD.with_(**longer)))
    told = [[point["update"] for point in points] for points in job.advance()]
    assert told == [[1, 5], [1, 5, 6]]
    assert [point["update"] for point in job.advance()[0]] == [9]
    assert job.advance()[1] == []


def running(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("pack-*.pt") if "previous" not in path.name]


def test_an_interrupted_job_goes_on_to_the_same_end(
    pack: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.job.write_artifacts", lambda *_: [])  # slow, and looked at above
    given = assignment(tmp_path, *read_pack(pack.files(0) / "pack.yaml").members)
    job, before = Job(given), []
    for _ in range(3):
        before += job.advance()[0]
        # reports come every 20 updates, checkpoints every 25
        assert [path.name for path in running(tmp_path)] == ["pack-0-3.pt"] * (len(before) > 20)
    assert len(before) == 60
    assert Trainer.resume(running(tmp_path)[0]).update == 50
    job = Job(given)
    assert job.trainer.update == 50
    done = finish(job)
    # whoever records the rows removes it: until then the end can be reached again
    assert Job(given).finished
    timed = {"seconds", "conclusion_seconds"}
    for row, same in zip(done.rows, pack.rows, strict=True):
        assert {k: v for k, v in row.items() if k not in timed} == {
            k: v for k, v in same.items() if k not in timed
        }
    # all is told again, so that nothing is missing that was lost on the way
    np.testing.assert_equal(done.curves, pack.curves)
    assert done.curves[0][:60] == before


def test_a_checkpoint_of_other_trainings_is_left_alone(tmp_path: Path) -> None:
    job = Job(assignment(tmp_path, TINY))
    job.advance(), job.advance()
    assert Job(assignment(tmp_path, TINY)).trainer.update == 25
    assert Job(assignment(tmp_path, TINY.with_(epsilon=0.11))).trainer.update == 0


@pytest.mark.parametrize(("asked", "path"), [(None, "closed_form"), ("reference", "reference")])
def test_members_are_run_as_the_assignment_says(
    tmp_path: Path, asked: str | None, path: str
) -> None:
    given = assignment(tmp_path, TINY)
    job = Job(Assignment(**{**vars(given), "engine_path": asked}))
    while not job.finished:
        job.advance()
    (row,) = job.conclude()
    assert row["status"] == "finished"
    assert read_pack(tmp_path / "trials/0002/seed-0/pack.yaml").engine_path == path


def test_threads_are_those_of_the_assignment(tmp_path: Path) -> None:
    given = assignment(tmp_path, TINY)
    job = Job(Assignment(**{**vars(given), "threads": 2}))
    assert torch.get_num_threads() == 2
    Job(given)
    assert torch.get_num_threads() == 1
    # an interrupted pack keeps those that it began with, or its bits could not be repeated
    job.advance(), job.advance()
    assert Job(given).threads == 2
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def trained(folder: Path, *options: str) -> Path:
    arguments = ["train", *options, "--out", str(folder), "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "ebm_core", *arguments],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        timeout=120,
    )
    return folder


@pytest.mark.parametrize(("source", "member"), [("single", 0), ("pack", 2)])
def test_a_pack_is_repeated_by_the_command_bit_for_bit(
    source: str, member: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    done: Done = request.getfixturevalue(source)
    file = str(done.files(member) / "pack.yaml")
    folder = trained(tmp_path, "--pack", file, "--member", str(member))
    (path,) = folder.rglob("traces.npz")
    with np.load(path) as again:
        for name in ("d", "r"):
            assert again[name].tobytes() == done.trace(member, name).tobytes()
    assert len(done.trace(member, "d")) == 130


class FakeTrainer:
    """What a curve asks of a trainer, for a series that nobody trained."""

    device, dimensions = torch.device("cpu"), 2

    def __init__(self, updates: int, death: int) -> None:
        self.configs = [TINY.with_(updates=updates, window=20, anneal_updates=0)]
        self.update, self.death = 0, death
        self.series = np.linspace(0.1, 0.2, updates)

    @property
    def alive(self) -> torch.Tensor:
        return torch.tensor([self.update < self.death])

    @property
    def finished(self) -> bool:
        return self.update >= self.configs[0].updates

    def matched(self, member: int) -> MatchedGradient:
        return MatchedGradient(0.1, 0.01)

    def d(self, member: int) -> np.ndarray:
        return self.series[: min(self.update, self.death)]

    r = d

    def learning_rates(self, at: torch.Tensor) -> torch.Tensor:
        return at * 1e-3


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_curve_has_first_and_last_update_no_double_and_no_gap(data: Any) -> None:
    updates = data.draw(st.integers(20, 3000))
    death = data.draw(st.integers(1, updates) | st.just(updates + 1))
    trainer = FakeTrainer(updates, death)
    curve, told = Curve(trainer, 0), []  # type: ignore[arg-type]
    while not trainer.finished:
        trainer.update = min(updates, trainer.update + data.draw(st.integers(1, updates)))
        told += [int(point["update"]) for point in curve.new_points(trainer.finished)]
    assert told[0] == 1
    assert told[-1] == min(updates, death)
    assert len(told) <= CURVE_POINTS
    stride = math.ceil(updates / (CURVE_POINTS - 1))
    steps = np.diff(told)
    assert (steps[:-1] == stride).all()
    assert steps.size == 0 or 1 <= steps[-1] <= stride
    assert curve.new_points(trainer.finished) == []
