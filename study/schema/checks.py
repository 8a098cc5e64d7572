"""What must hold between the sections of a study file.

A check names the sections that it looks at as its arguments, so that it can run whenever these
could be read, whatever is wrong with the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ebm_core.config import MEMBER_FIELDS, TrainConfig, make_config, problems_of
from ebm_core.errors import ConfigError, Problem, did_you_mean
from study import space
from study.schema.base import SEARCHABLE, WHOLE, values_at
from study.schema.distributions import Choice, Range
from study.schema.sections import Constraint, LongRunSpec, Metric, Resources
from study.space import Parameters, Point
from study.table import CHECK_COLUMNS, HELD_OUT_COLUMNS, PLANE_COLUMNS, WORTH_COLUMNS

_LARGEST_GRID = 100_000
# Of all choices together: each is tried with the other parameters at their ends.
_MOST_VALUES = 500
# After so many, more of them help nobody.
_ENOUGH_PROBLEMS = 50


def base_problems(base: Mapping[str, Any]) -> Iterator[Problem]:
    """What repeats cannot count on or a stored study not keep; `point_problems` has the rest."""
    if not _countable_seed(base):
        yield Problem("base.seed", "must be a whole number", base["seed"])
    network = base.get("network")
    arguments = network.get("arguments") if isinstance(network, Mapping) else None
    if not _plain(arguments):
        rule = "must be made of numbers, words, lists and mappings"
        yield Problem("base.network.arguments", rule, arguments)


def parameter_problems(parameters: Parameters, broken: Sequence[str]) -> Iterator[Problem]:
    """Which parameters cannot be searched, alone or together."""
    for name in [*parameters, *broken]:
        if name not in TrainConfig.model_fields:
            rule = f"must be one of {', '.join(SEARCHABLE)}"
            yield Problem(f"parameters.{name}", rule, name, did_you_mean(name, SEARCHABLE))
        elif name not in SEARCHABLE:
            rule = f"cannot be searched; these can be: {', '.join(SEARCHABLE)}"
            yield Problem(f"parameters.{name}", rule, name)
    varying = space.searched(parameters)
    if not varying and not broken:
        rule = "at least one must vary; `python -m ebm_core train` runs a single configuration"
        yield Problem("parameters", rule, list(parameters))
    if (count := _values(parameters)) > _MOST_VALUES:
        rule = f"must not hold more than {_MOST_VALUES:,} values in all"
        yield Problem("parameters", rule, count)
    if {"gamma_0", "gamma_start"} <= set(varying):
        rule = "must not vary together with gamma_0; search gamma_start_ratio in its place"
        yield Problem("parameters.gamma_start", rule, parameters["gamma_start"].describe())
    for name in sorted(_fractional(parameters)):
        rule = "must give whole numbers: use randint, or quniform with a whole q"
        kind = parameters[name].distribution
        yield Problem(f"parameters.{name}.distribution", rule, kind)


def point_problems(
    base: Mapping[str, Any], parameters: Parameters, broken: Sequence[str], seeds: int
) -> list[Problem]:
    """Why not every point of the space is a legal `TrainConfig`, each cause once.

    Looked at are the corners of the space and a point inside it. A problem belongs to the
    parameter of its name, and to the base if there is none. Values of the base that every point
    replaces are looked at by themselves.
    """
    if _values(parameters) > _MOST_VALUES:
        return []  # which `parameter_problems` tells
    reported = {*broken, *_fractional(parameters), *(() if _countable_seed(base) else ("seed",))}
    space_ = {
        name: each
        for name, each in parameters.items()
        if name in SEARCHABLE and name not in reported
    }
    found: dict[tuple[str, str], Problem] = {}
    for point in space.probe_points(space_):
        try:
            make_config(values_at(base, point, seeds - 1))
        except ConfigError as error:
            for problem in error.problems:
                name = problem.key.split(".")[0]
                if name not in reported:
                    where = "parameters" if name in space_ else "base"
                    found.setdefault((problem.key, problem.rule), problem.under(where))
            if len(found) > _ENOUGH_PROBLEMS:
                break
    problems = list(found.values())
    told = {(problem.key, problem.rule) for problem in problems}
    own = [problem.under("base") for problem in _own_problems(base)]
    return problems + [each for each in own if (each.key, each.rule) not in told]


def method_problems(
    method: str, parameters: Parameters, broken: Sequence[str], trials: int | None
) -> Iterator[Problem]:
    """Whether the method knows which points, and how many, to take."""
    if method != "grid":
        if trials is None:
            rule = f"required for method {method}: how many configurations to try"
            yield Problem("trials", rule)
        for name, each in parameters.items():
            if isinstance(each, Choice) and each.distribution == "grid":
                rule = f"grid needs `method: grid`; choice is the same for method {method}"
                yield Problem(f"parameters.{name}.distribution", rule, "grid")
        return
    open_ranges = [
        name
        for name, each in parameters.items()
        if isinstance(each, Range) and each.points is None
    ]
    for name in open_ranges:
        rule = "required for method grid: how many values to take, ends included"
        yield Problem(f"parameters.{name}.points", rule)
    if open_ranges or broken:
        return
    size = space.grid_size(parameters)
    if size > _LARGEST_GRID:
        rule = f"a grid must not have more than {_LARGEST_GRID:,} points"
        yield Problem("parameters", rule, size)
    elif trials is not None and trials > size:
        rule = f"must not be more than the grid has points ({size}); leave it out for all of them"
        yield Problem("trials", rule, trials)


def first_point_problems(
    method: str,
    parameters: Parameters,
    broken: Sequence[str],
    first_points: Sequence[Point],
    trials: int | None,
) -> Iterator[Problem]:
    """Whether the first points are complete, different, and points of the space."""
    if first_points and method == "grid":
        rule = "a grid takes all its points anyway; leave first_points out"
        yield Problem("first_points", rule, list(first_points))
        return
    if trials is not None and len(first_points) > trials:
        rule = f"must not be more than `trials` ({trials})"
        yield Problem("first_points", rule, len(first_points))
    for index, point in enumerate(first_points):
        where = f"first_points.{index}"
        if point in first_points[:index]:
            yield Problem(where, "must not repeat an earlier one", point)
        for name, value in point.items():
            if name in broken:
                continue
            if name not in parameters:
                hint = did_you_mean(name, list(parameters))
                rule = "not a parameter of this study"
                yield Problem(f"{where}.{name}", rule, value, hint)
            elif not parameters[name].contains(value):
                rule = f"must lie in the space ({parameters[name].describe()})"
                yield Problem(f"{where}.{name}", rule, value)
        for name in space.searched(parameters):
            if name not in point:
                rule = "required, as every parameter that varies"
                yield Problem(f"{where}.{name}", rule)


def pack_problems(
    parameters: Parameters, resources: Resources, base: Mapping[str, Any]
) -> Iterator[Problem]:
    """Whether what runs together fits together."""
    members = resources.members_per_trial
    apart = [
        name
        for name in space.searched(parameters)
        if name in SEARCHABLE and name not in MEMBER_FIELDS
    ]
    if members != 1 and apart:
        rule = f"must be 1, since the members of a pack cannot differ in {', '.join(apart)}"
        yield Problem("resources.members_per_trial", rule, members)
    if str(base.get("device")).startswith("cuda") and not resources.gpus_per_trial:
        rule = f"must be over 0 where base.device is {base['device']}"
        yield Problem("resources.gpus_per_trial", rule, resources.gpus_per_trial)


def metric_problems(
    metric: Sequence[Metric],
    constraints: Sequence[Constraint],
    base: Mapping[str, Any],
    long_run: LongRunSpec,
) -> Iterator[Problem]:
    """Whether the trainings will have the numbers that steer the study."""
    named = [("metric", each.name) for each in metric]
    named += [(f"constraints.{index}", each.name) for index, each in enumerate(constraints)]
    data = base.get("data")
    kind = data.get("name") if isinstance(data, Mapping) else data
    for key, name in named:
        if name in PLANE_COLUMNS and kind not in ("gmm", "rings", None):
            yield Problem(key, "needs data of known density (gmm or rings)", name)
        if name in (*WORTH_COLUMNS, *HELD_OUT_COLUMNS) and kind in ("gmm", "rings"):
            yield Problem(key, "needs a finite data set, not gmm or rings", name)
        elif name in HELD_OUT_COLUMNS and kind is not None and not _holds_out(data):
            yield Problem(key, "needs base.data.held_out over 0", name)
        if name in ("long_run_departure", *CHECK_COLUMNS) and long_run.steps == 0:
            yield Problem(key, "needs long_run.steps over 0", name)
        elif name.startswith("discretization") and long_run.adjusted_steps == 0:
            yield Problem(key, "needs long_run.adjusted_steps over 0", name)


def _holds_out(data: Any) -> bool:
    """Whether a data section keeps samples from learning."""
    given = data if isinstance(data, Mapping) else {}
    return bool(given.get("held_out") or given.get("held_out_split"))


def _own_problems(base: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with values of the base alone, whatever else a configuration has."""
    stand_ins = {"data": "gmm", "network": "toy", "epsilon": 1.0}
    values = {name: base[name] for name in SEARCHABLE if name in base}
    try:
        # no rule between fields: where a point replaces a value, it never meets the others
        all_fields = frozenset(TrainConfig.model_fields)
        TrainConfig.model_validate({**stand_ins, **values}, context={"wrong": all_fields})
    except ValidationError as error:
        return problems_of(error, TrainConfig)
    return []


def _values(parameters: Parameters) -> int:
    return sum(len(each.values) for each in parameters.values() if isinstance(each, Choice))


def _fractional(parameters: Parameters) -> set[str]:
    """Parameters whose fields take whole numbers, and whose ranges give others."""
    return {
        name
        for name, each in parameters.items()
        if name in WHOLE and isinstance(each, Range) and not each.whole
    }


def _countable_seed(base: Mapping[str, Any]) -> bool:
    """Whether repeats can count up from the seed; a `TrainConfig` alone would also take "5"."""
    return type(base.get("seed", 0)) is int


def _plain(value: Any) -> bool:
    """Whether a value comes back the same from JSON, as a stored study does."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False
