"""The record of a study in MLflow, which only this module and `mlflow_store` touch.

A study is one parent run, each (configuration, seed) a child of it. Runs are found again by their
tags, so that a study that goes on after an interruption writes into the runs it had. Whatever is
told twice is there once: it does not matter whether a request whose answer was lost was performed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ebm_core.config import flatten
from study import mlflow_notes as notes
from study.curves import Curve, Values, final_values, finite, new_values, now
from study.mlflow_store import (
    absolute_uri,
    artifact_root,
    connect,
    identity,
    naming,
    open_experiment,
)
from study.mlflow_view import SHOWN
from study.table import CAUSE

OUTCOMES = ("status", "verdict", "reasons", "oscillation", "long_run")

# What MLflow shows of a run or an experiment as its description.
_NOTE = "mlflow.note.content"
# Updates a batch: up to ten curves fit in MLflow's 1,000 values, and no update is written in part
_BATCH = 100
# Characters that every version of MLflow takes
_LONGEST_TAG = 5_000


class Tracker:
    """Writes one study into MLflow, from one thread at a time.

    Any call may fail because the store is away, and can be made again. Times are milliseconds
    since 1970; of a value that was taken at one time, MLflow keeps one.

    Args:
        uri: A database (``sqlite:///mlflow.db`` is relative to the working directory), a
            server, or a folder as ``file:///…``.
        experiment: Its name; created where there is none.
        study: The name of the study.
        folder: The study's own folder, absolute. A file there keeps the identity of the study,
            so that another of the same name, begun after it was deleted, gets runs of its own.
    """

    def __init__(self, uri: str, experiment: str, study: str, folder: Path) -> None:
        self.uri = absolute_uri(uri)
        self.experiment = experiment
        self.study = study
        self.folder = folder
        self.run_id = ""
        self._client: Any = None
        self._experiment_id = ""
        self._curves: dict[str, Curve] = {}

    def open(self, params: Mapping[str, Any]) -> str:
        """Find or create database, experiment and the run of the study, and set that running.

        Args:
            params: What the study was asked, nested or flat. MLflow lets nobody change a param:
                one that differs from the time before (more trials, say) goes to a tag
                ``changed.KEY``.

        Returns:
            The id of the run.

        Raises:
            TrackingError: If the store cannot be reached, read or written.
        """
        artifacts = artifact_root(self.uri, self.folder)
        self._client = connect(self.uri, artifacts)
        with naming(self.uri):
            self._experiment_id = open_experiment(self._client, self.experiment, artifacts, SHOWN)
        study_id = identity(self.folder, self.uri, self._experiment_id)
        with naming(self.uri):
            self.run_id = self._open_study({"role": "study", "study_id": study_id}, _flat(params))
        return self.run_id

    def _open_study(self, tags: Mapping[str, str], values: Mapping[str, str]) -> str:
        run_id, stored = self._open_run(tags, name=self.study, more={"study": self.study})
        changed = {key for key, value in values.items() if stored.get(key, value) != value}
        self._log(
            run_id,
            params={key: value for key, value in values.items() if key not in stored},
            tags={f"changed.{key}": values[key] for key in changed},
        )
        return run_id

    def child(self, trial: int, seed: int, params: Mapping[str, Any], name: str) -> str:
        """The run of one (configuration, seed), found or created, and set running.

        Args:
            trial: Number of the configuration.
            seed: Seed of this repeat.
            params: The full configuration, nested or flat, with its planned `updates`.
            name: Shown in MLflow, for example ``ε=0.080 ρ=2 seed=0``.

        Returns:
            The id of the run.

        Raises:
            MlflowException: If the run is there with another configuration.
        """
        run_id, stored = self._open_run(
            {"mlflow.parentRunId": self.run_id, "trial": str(trial), "seed": str(seed)},
            name=name,
            more={"role": "training", "study": self.study, _NOTE: notes.training({})},
        )
        values = _flat(params)
        new = {key: value for key, value in values.items() if stored.get(key) != value}
        self._log(run_id, params=new)
        return run_id

    def log_curve(
        self,
        run_id: str,
        points: Sequence[Mapping[str, float]],
        row: Mapping[str, Any] | None = None,
    ) -> None:
        """Log values over updates, thinned to at most `MAX_POINTS` points a curve.

        Whatever is not later than what the run has already is skipped, after a restart too. NaN
        and infinity are left out: a gap in the curve.

        Args:
            run_id: A child.
            points: In order, each an `update`, the `time` at which it was taken (now if there is
                none), and values by name.
            row: Its row of the table, once the training is over: where that has the last value
                of a curve, the last update is left to `finish_child`.
        """
        # known again once the store has answered: a request that fails may have been performed
        curve = self._curves.pop(run_id, None) or _curve(self._client.get_run(run_id).data)
        values = [value for point in points if (value := new_values(curve, point, row))]
        for start in range(0, len(values), _BATCH):
            self._log(run_id, values[start : start + _BATCH])
        self._curves[run_id] = curve

    def finish_child(
        self, run_id: str, row: Mapping[str, Any], artifacts: Path, at: int | None = None
    ) -> None:
        """Log the outcome of one training, and close its run. Doing it again changes nothing.

        Every number in the row becomes a metric at step `updates`, what was searched included,
        since MLflow sorts and compares params as text only. For a curve (r, r_scaled, r_matched,
        r_band_adherence) this is one last point, so that what MLflow shows as its value is the
        table's. Where the table has none, the curve stays as it is: MLflow hides a curve that
        ends in NaN. So do all curves of a training that failed to run.

        Args:
            run_id: A child.
            row: Its row of the table.
            artifacts: A folder; every file below it is uploaded. A training that failed to run
                may lack it.
            at: When it ended; now if None.

        Raises:
            FileNotFoundError: If there is no such folder, which MLflow would overlook.
        """
        failed = row["status"] == "failed"
        if artifacts.is_dir():
            self._client.log_artifacts(run_id, str(artifacts))
        elif not failed:
            raise FileNotFoundError(f"{artifacts}: a finished training must leave its files here")
        # what follows may fail half-way
        self._curves.pop(run_id, None)
        shown = self._client.get_run(run_id).data
        step = max(0, _curve(shown).last, 0 if failed else int(row["updates"]))
        tags = {name: _text(row.get(name)) for name in OUTCOMES}
        if cause := _text(row.get(CAUSE)):
            tags[CAUSE] = cause
        page = notes.RunPage(self._experiment_id, run_id)
        picture = self._picture(page, [artifacts / "diagnostics.png"])
        tags[_NOTE] = notes.training(tags, picture)
        self._log_final(run_id, shown, Values(step, at or now(), final_values(row)), tags)
        self._client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def close(
        self,
        metrics: Mapping[str, Any],
        tags: Mapping[str, Any],
        artifacts: Iterable[Path],
        description: str,
        status: str,
        at: int | None = None,
    ) -> None:
        """Log the outcome of the study and close its run, and children left running as KILLED.

        Args:
            metrics: Numbers; what is not finite is left out.
            tags: Texts by name.
            artifacts: Files, or folders that keep their name.
            description: Markdown whose first line is the answer; shown on the page of the run,
                and on that of the experiment unless somebody has described that.
            status: FINISHED, FAILED or KILLED.
            at: When it ended; now if None.
        """
        artifacts = list(artifacts)
        for path in artifacts:
            if path.is_dir():
                self._client.log_artifacts(self.run_id, str(path), path.name)
            else:
                self._client.log_artifact(self.run_id, str(path))
        page = notes.RunPage(self._experiment_id, self.run_id)
        names = {path.name for path in artifacts}
        found = notes.study(description, page, names, self._picture(page, artifacts))
        numbers = {name: value for name, value in metrics.items() if finite(value)}
        shown = self._client.get_run(self.run_id).data
        final = Values(0, at or now(), numbers)
        self._log_final(self.run_id, shown, final, {**tags, _NOTE: found})
        # an experiment of several studies tells of the one that ended last
        experiment = self._client.get_experiment(self._experiment_id)
        if notes.replaceable(experiment.tags.get(_NOTE, "")):
            told = notes.experiment(self.study, found, page)
            self._client.set_experiment_tag(self._experiment_id, _NOTE, told)
        self._close_children()
        self._client.set_terminated(self.run_id, status)

    def _picture(self, page: notes.RunPage, files: Iterable[Path]) -> str:
        """Adds a small copy of one of the files to a run; returns what shows it, if any does."""
        with TemporaryDirectory() as folder:
            picture = notes.preview(files, Path(folder))
            if picture:
                self._client.log_artifact(page.run_id, f"{folder}/{notes.PREVIEW}")
        return page.picture(picture) if picture else ""

    def _close_children(self) -> None:
        """Children left running become KILLED, and of two of one training only one stays."""
        known: dict[tuple[str, str], list[Any]] = {}
        for run in self._search({"mlflow.parentRunId": self.run_id, "role": "training"}):
            known.setdefault((run.data.tags["trial"], run.data.tags["seed"]), []).append(run)
        for runs in known.values():
            run = self._only(runs)
            if run.info.status == "RUNNING":
                self._client.set_terminated(run.info.run_id, "KILLED")

    def _open_run(
        self, tags: Mapping[str, str], name: str, more: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """The run with these tags, running, and its params; a new one gets `more` tags."""
        if found := list(self._search(tags)):
            run = self._only(found)
            self._client.update_run(run.info.run_id, status="RUNNING")
            return run.info.run_id, run.data.params
        run = self._client.create_run(self._experiment_id, tags={**tags, **more}, run_name=name)
        return str(run.info.run_id), {}

    def _only(self, runs: Sequence[Any]) -> Any:
        """Of runs with the same tags the one that was written to, or the oldest; others go.

        A slow server may create a run after its client gave up on it and asked for another.
        """
        run = max(
            runs,
            key=lambda run: (len(run.data.params) + len(run.data.metrics), -run.info.start_time),
        )
        for other in runs:
            if other is not run:
                self._client.delete_run(other.info.run_id)
        return run

    def _search(self, tags: Mapping[str, str]) -> Iterator[Any]:
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        token = None
        while True:
            page = self._client.search_runs([self._experiment_id], query, page_token=token)
            yield from page
            if not (token := page.token):
                return

    def _log_final(self, run_id: str, shown: Any, final: Values, tags: Mapping[str, Any]) -> None:
        """Log values that the run does not show yet, so that a repeat adds no points."""
        there = shown.metrics
        new = {name: value for name, value in final.values.items() if there.get(name) != value}
        # MLflow takes the later of two values at one step for the run's
        self._log(run_id, [Values(final.step, final.time + 1, new)], tags=tags)

    def _log(
        self,
        run_id: str,
        points: Sequence[Values] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run_id,
            metrics=[
                Metric(name, float(value), point.time, point.step)
                for point in points
                for name, value in point.values.items()
            ],
            params=[Param(key, value) for key, value in (params or {}).items()],
            tags=[RunTag(key, str(value)[:_LONGEST_TAG]) for key, value in (tags or {}).items()],
        )


def _curve(shown: Any) -> Curve:
    """How far the curves of a run are, from what MLflow has of it."""
    steps = {metric.key: metric.step for metric in shown.to_proto().metrics}
    last = max(steps.values(), default=-1)
    names = {name for name, step in steps.items() if step == last}
    return Curve(int(shown.params["updates"]), last, names)


def _flat(tree: Mapping[str, Any]) -> dict[str, str]:
    """Nested values as texts by dotted key."""
    return {name: str(value) for name, value in flatten(tree).items()}


def _text(value: Any) -> str:
    """A cell of the table; None and NaN are empty ones."""
    return value if isinstance(value, str) else ""
