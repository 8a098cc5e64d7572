"""`StudySpec`: all that a study depends on, read from YAML and checked before anything is written.

Imports none of torch, ray, mlflow, optuna and numpy.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebm_core.config import TrainConfig, make_config
from ebm_core.document import read_document
from ebm_core.errors import ConfigError, Problem, did_you_mean
from study import space
from study.schema import base, checks, early_stop, places, sections
from study.schema.cautions import warnings as warnings
from study.schema.distributions import Distribution, Scalar, parse_distribution
from study.schema.early_stop import EarlyStop as EarlyStop
from study.schema.sections import Constraint as Constraint
from study.schema.sections import Engine, Method, Resources, Tracking
from study.schema.sections import LongRunSpec as LongRunSpec
from study.schema.sections import Metric as Metric
from study.space import Point

_LARGEST = 2**31 - 1
# A study file is read in a fraction of a second, whatever it holds.
_MOST_BYTES, _MOST_VALUES = 64_000, 4_000


@dataclass(frozen=True)
class StudySpec:
    """A validated study. Every point of its space gives a legal `TrainConfig`.

    Attributes:
        name: Of the study, and of its folder.
        base: `TrainConfig` values that the trainings share, the preset expanded.
        parameters: What is searched, in file order.
        method: How configurations are proposed.
        metrics: What is optimized.
        constraints: What a configuration must satisfy to be best.
        trials: Configurations. A grid has as many as it has points; fewer are the first of them.
        seeds: Trainings of each configuration; repeat k has the seed of the base + k.
        seed: Of whatever proposes configurations.
        first_points: Points that are tried first, complete.
        early_stop: Which trainings end before their last update; None for none.
        long_run: The check after each training.
        resources: Of one Tune trial.
        engine: How members are run; ``reference`` for plain autograd, to compare with.
        tracking: Where MLflow keeps its records.
        storage: Folder that holds the folders of studies.
    """

    name: str
    base: dict[str, Any]
    parameters: dict[str, Distribution]
    method: Method
    metrics: tuple[Metric, ...]
    constraints: tuple[Constraint, ...]
    trials: int
    seeds: int
    seed: int
    first_points: tuple[Point, ...]
    early_stop: EarlyStop | None
    long_run: LongRunSpec
    resources: Resources
    engine: Engine
    tracking: Tracking
    storage: str

    def config(self, point: Mapping[str, Scalar], repeat: int = 0) -> TrainConfig:
        """The configuration of one training.

        A searched `gamma_start_ratio` replaces a `gamma_start` of the base, and the other way
        round.

        Args:
            point: A value for every parameter that varies.
            repeat: Which of the `seeds` trainings, from 0.
        """
        point = space.snap(self.parameters, point)
        return make_config(base.values_at(self.base, point, repeat))

    @property
    def folder(self) -> Path:
        """Where the study leaves its results."""
        return Path(self.storage).expanduser() / self.name

    @property
    def engine_path(self) -> str | None:
        """How the members of a pack are run, see `ebm_core.engine`; None to choose."""
        return None if self.engine == "auto" else self.engine

    def resolved(self) -> dict[str, Any]:
        """The study as plain values, nothing left to a default: again a study document."""
        return {
            "name": self.name,
            "base": copy.deepcopy(self.base),
            "parameters": {
                name: each.model_dump(mode="json", exclude_none=True)
                for name, each in self.parameters.items()
            },
            "method": self.method,
            "metric": [metric.model_dump() for metric in self.metrics],
            "constraints": [constraint.text for constraint in self.constraints],
            "trials": self.trials,
            "seeds": self.seeds,
            "seed": self.seed,
            "first_points": [dict(point) for point in self.first_points],
            "early_stop": self.early_stop and self.early_stop.model_dump(exclude_none=True),
            "long_run": self.long_run.model_dump(),
            "resources": self.resources.model_dump(),
            "engine": self.engine,
            "tracking": self.tracking.model_dump(),
            "storage": self.storage,
        }


def load_study(path: str | Path, overrides: Mapping[str, str] | None = None) -> StudySpec:
    """Reads a study file and checks it, the disk included; writes nothing.

    Args:
        path: The file.
        overrides: Dotted keys to YAML text, for example ``{"parameters.epsilon.max": "0.3"}``.

    Raises:
        ConfigError: With every problem of the file.
    """
    try:
        document = read_document(path, overrides, _MOST_BYTES, _MOST_VALUES)
        return _study(document, (*_CHECKS, *_DISK_CHECKS))
    except ConfigError as error:
        raise ConfigError(error.problems, str(path)) from None


def from_resolved(document: Mapping[str, Any]) -> StudySpec:
    """The study that `StudySpec.resolved` tells of; the disk is not looked at.

    Raises:
        ConfigError: If the document was changed, and is no study any more.
    """
    return _study(document, _CHECKS)


# Section: how it is read, and what it is where the file does not say.
_REQUIRED = object()
_SECTIONS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "name": (sections.read_name, _REQUIRED),
    "base": (base.expand, _REQUIRED),
    "parameters": (sections.read_mapping, _REQUIRED),
    "method": (sections.read_method, _REQUIRED),
    "metric": (sections.read_metrics, {"name": "convergence_score", "goal": "maximize"}),
    "constraints": (sections.read_constraints, []),
    "trials": (sections.whole(1, 1_000_000), None),
    "seeds": (sections.whole(1, 10_000), 1),
    "seed": (sections.whole(0, _LARGEST), 0),
    "first_points": (sections.read_first_points, []),
    "early_stop": (sections.section(EarlyStop), None),
    "long_run": (sections.section(LongRunSpec), {}),
    "resources": (sections.section(Resources), {}),
    "engine": (sections.read_engine, "auto"),
    "tracking": (sections.section(Tracking), {}),
    "storage": (sections.read_storage, "studies"),
}

_Check = Callable[..., Iterable[Problem]]
_CHECKS: tuple[_Check, ...] = (
    checks.base_problems,
    checks.parameter_problems,
    checks.point_problems,
    checks.method_problems,
    checks.first_point_problems,
    checks.pack_problems,
    checks.metric_problems,
    places.cluster_problems,
    early_stop.early_stop_problems,
    early_stop.grace_problems,
)
_DISK_CHECKS: tuple[_Check, ...] = (
    places.data_file_problems,
    places.storage_problems,
    places.tracking_problems,
)


def _study(document: Mapping[Any, Any], wanted: Iterable[_Check]) -> StudySpec:
    problems = list(_unknown_keys(document))
    found = _read_sections(document, problems)
    for check in wanted:
        needs = inspect.signature(check).parameters.keys()
        if needs <= found.keys():
            problems += check(**{name: found[name] for name in needs})
    if problems:
        raise ConfigError(problems)
    return _assembled(found)


def _unknown_keys(document: Mapping[Any, Any]) -> Iterator[Problem]:
    for key, value in document.items():
        if key not in _SECTIONS:
            hint = did_you_mean(str(key), list(_SECTIONS))
            yield Problem(str(key) or "''", "unknown key", value, hint)


def _read_sections(document: Mapping[Any, Any], problems: list[Problem]) -> dict[str, Any]:
    """Every section that can be read; what is wrong with the others goes to `problems`."""
    found: dict[str, Any] = {}
    for key, (read, default) in _SECTIONS.items():
        raw = default if document.get(key) is None else document[key]
        if raw is _REQUIRED:
            problems.append(Problem(key, "required, but not given"))
        elif raw is None:
            found[key] = None
        else:
            try:
                found[key] = read(raw)
            except ConfigError as error:
                problems += [problem.under(key) for problem in error.problems]
    if "parameters" in found:
        _read_parameters(found, problems)
    return found


def _read_parameters(found: dict[str, Any], problems: list[Problem]) -> None:
    """Splits `parameters` into those that can be read and, as `broken`, the names of the rest."""
    good: dict[str, Distribution] = {}
    for name, raw in found["parameters"].items():
        try:
            good[name] = parse_distribution(raw)
        except ConfigError as error:
            problems += [problem.under(f"parameters.{name}") for problem in error.problems]
    found["broken"] = [name for name in found["parameters"] if name not in good]
    found["parameters"] = good


def _assembled(found: dict[str, Any]) -> StudySpec:
    """The study of sections that fit together."""
    parameters, tracking, stop = found["parameters"], found["tracking"], found["early_stop"]
    trials = found["trials"]
    if trials is None:
        trials = space.grid_size(parameters)
    if tracking.experiment is None:
        tracking = tracking.model_copy(update={"experiment": found["name"]})
    if stop is not None:
        stop = early_stop.with_interval(stop, found["base"], parameters)
    return StudySpec(
        name=found["name"],
        base=found["base"],
        parameters=parameters,
        method=found["method"],
        metrics=found["metric"],
        constraints=found["constraints"],
        trials=trials,
        seeds=found["seeds"],
        seed=found["seed"],
        first_points=tuple(space.snap(parameters, point) for point in found["first_points"]),
        early_stop=stop,
        long_run=found["long_run"],
        resources=found["resources"],
        engine=found["engine"],
        tracking=tracking,
        storage=found["storage"],
    )
