"""What is legal in a study and yet seldom meant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ebm_core.config import TrainConfig
from study import space
from study.samplers import ADAPTIVE, startup_trials
from study.space import Point

if TYPE_CHECKING:
    from study.spec import StudySpec


def warnings(spec: StudySpec) -> list[str]:
    """One sentence for each thing in a study that may surprise its author.

    Judged at the corners of the space and a point inside it. What needs the data, such as a
    direction that varies less than epsilon, is not looked at.
    """
    probes = [(point, spec.config(point, 0)) for point in space.probe_points(spec.parameters)]
    return [
        *_noise(probes),
        *_annealing(spec, probes),
        *_window(probes),
        *_width(probes),
        *_device(spec),
        *_early_stop(spec, probes),
    ]


_Probes = list[tuple[Point, TrainConfig]]


def _noise(probes: _Probes) -> Iterator[str]:
    # Without any noise the data law is known in closed form, and this is a choice
    least = min((c.eps_data_ratio for _, c in probes if c.eps_data_ratio > 0), default=1.0)
    if least < 1:
        yield (
            f"eps_data_ratio falls to {least:g}: under 1 the data have less noise than the chains,"
            " which cannot match a direction that varies less than epsilon (5A)"
        )
    if any(config.gamma_0 == 0 for _, config in probes):
        yield "gamma_0 falls to 0: there nothing is learned once annealing ends"


def _annealing(spec: StudySpec, probes: _Probes) -> Iterator[str]:
    if all(config.anneal_updates == 0 for _, config in probes):
        given = {
            name
            for name in ("gamma_start", "gamma_start_ratio")
            if name in spec.parameters or spec.base.get(name) is not None
        }
        if given:
            yield f"{given.pop()} has no effect: anneal_updates is 0, so that gamma_0 is kept"
        return
    for point, config in probes:
        # A searched ratio of exactly 1 is the edge of its range, and no mistake
        edge = "gamma_start_ratio" in point and config.gamma_start_ratio == 1
        if config.anneal_updates > 0 and not config.annealing_active and not edge:
            why = (
                "neither gamma_start nor gamma_start_ratio is given"
                if config.gamma_start is None and config.gamma_start_ratio is None
                else f"gamma_start is not above gamma_0={config.gamma_0:g}"
            )
            yield f"anneal_updates has no effect{_where(point)}: {why}"
            return


def _window(probes: _Probes) -> Iterator[str]:
    for point, config in probes:
        start = config.updates - config.window
        if start < config.burn_in_updates:
            yield (
                f"trainings will be unassessed{_where(point)}: the window starts at update"
                f" {start}, but the bank burns in until {config.burn_in_updates}"
            )
            return


def _width(probes: _Probes) -> Iterator[str]:
    for point, config in probes:
        widths: Any = getattr(config.network, "widths", None)
        shape = config.data.shape
        if config.network.name != "mlp" or shape is None or widths[0] >= math.prod(shape):
            continue
        yield (
            f"network{_where(point)}: the first layer of mlp has {widths[0]} units for"
            f" {math.prod(shape)} numbers, so that the energy is constant along some directions;"
            " chains wander off there without end, unseen by r and d"
        )
        return


def _device(spec: StudySpec) -> Iterator[str]:
    if spec.resources.gpus_per_trial and spec.base.get("device") == "cpu":
        yield "resources.gpus_per_trial is over 0, but base.device is cpu: the GPU will idle"


def _early_stop(spec: StudySpec, probes: _Probes) -> Iterator[str]:
    stop = spec.early_stop
    if stop is None:
        return
    if stop.startup_trials is not None and stop.startup_trials >= spec.trials:
        yield (
            f"early_stop has no effect: the median pruner waits for {stop.startup_trials} finished"
            f" trainings, and the study has {spec.trials}"
        )
    brackets = stop.brackets(max(config.updates for _, config in probes))
    if spec.method in ADAPTIVE and min(brackets) * spec.trials < startup_trials(spec):
        yield (
            f"early_stop: hyperband has {len(brackets)} brackets, and method {spec.method} learns"
            f" from one at a time: the smallest has about {min(brackets) * spec.trials:.0f} of"
            f" {spec.trials} trials"
        )
    for point, config in probes:
        known = config.burn_in_updates + config.window
        if stop.grace < known <= config.updates:
            yield (
                f"early_stop.grace is {stop.grace}, but nothing is known of a training"
                f"{_where(point)} before update {known}: its bank burns in, and a window follows"
            )
            return


def _where(point: Point) -> str:
    return f" at {', '.join(f'{name}={value}' for name, value in point.items())}"
