"""What a fitted map says, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.reporting import symbols
from study.reporting.sentences import counted, number
from study.schema.distributions import Choice, Range

if TYPE_CHECKING:
    from study.region.map import ConvergenceMap, Crossing, Edge
    from study.schema.distributions import Distribution


def answer(found: ConvergenceMap) -> str:
    """From where to where learning converges along one axis; empty where no axis has numbers."""
    name = told_axis(found)
    return crossing_sentence(found, found.crossing(name)) if name else ""


def told_axis(found: ConvergenceMap) -> str:
    """The axis that the answer is told along: epsilon, or else the first of numbers."""
    numbers = [name for name in found.axes if _has_numbers(found.parameters[name])]
    return "epsilon" if "epsilon" in numbers else next(iter(numbers), "")


def crossing_sentence(found: ConvergenceMap, crossing: Crossing) -> str:
    """What converges along an axis, the others held."""
    name = crossing.name
    sign = symbols.sign(name)
    others = [each for each in found.axes if each != name]
    held = f" at {symbols.setting(crossing.at, others)}" if others else ""
    level = f"{100 * crossing.level:.0f}\u00a0% interval"
    low, high = _ends(found.parameters[name])
    tried = f"from {number(low)} to {number(high)}"
    if crossing.side == "everywhere":
        return f"Learning converges for every {sign} {tried}{held}."
    if crossing.side == "nowhere":
        return f"Learning is likely to converge for no {sign} {tried}{held}."
    lower, upper = crossing.lower, crossing.upper
    if lower and upper:
        return (
            f"Learning converges for {sign} between {number(lower.value)} and"
            f" {number(upper.value)}{held} ({level}s {_interval(lower)} and {_interval(upper)})."
        )
    edge = lower or upper
    if edge is None:
        raise ValueError(f"a crossing to one side must have an edge, got {crossing}")
    side = "over" if lower else "under"
    where = f"{sign} {side} {number(edge.value)}{held}"
    return f"Learning converges for {where} ({level} {_interval(edge)})."


def quality(found: ConvergenceMap) -> str:
    """How much of the space converges, and how much of it may be misjudged."""
    return (
        f"Of the space, {percent(found.share)} is estimated to converge. The map rests on"
        f" {counted(found.trained, 'training')} and is estimated to put"
        f" {percent(found.misclassified)} of the space on the wrong side of P = 1/2."
    )


def slice_caption(found: ConvergenceMap) -> str:
    """Where the slices of the map are taken."""
    where = symbols.setting(found.reference, found.axes)
    return f"Each panel holds the axes that it does not show at {where}: {found.reference_is}."


def percent(share: float) -> str:
    """A share for people."""
    return "under 1\u00a0%" if 0 < share < 0.01 else f"{100 * share:.0f}\u00a0%"


def _interval(edge: Edge) -> str:
    low = f"{number(edge.low)}{' or less' if edge.low_open else ''}"
    return f"{low} to {number(edge.high)}{' or more' if edge.high_open else ''}"


def _ends(distribution: Distribution) -> tuple[float, float]:
    if isinstance(distribution, Range):
        return float(distribution.min), float(distribution.top)
    values = [float(value) for value in distribution.grid()]
    return min(values), max(values)


def _has_numbers(distribution: Distribution) -> bool:
    if isinstance(distribution, Choice):
        return not any(isinstance(value, str) for value in distribution.values)
    return isinstance(distribution, Range)
