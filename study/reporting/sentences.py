"""What is said of a study, and how numbers are said in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from study.reporting.advice import ADVICE
from study.reporting.outcomes import ASSESSED, count_outcomes, is_numeric

if TYPE_CHECKING:
    from study.reporting.answer import Agreement, AxisAnswer


def number(value: float) -> str:
    """A number for people: three significant digits, whole numbers in full."""
    value = float(value)
    if math.isnan(value):
        return "–"
    if value.is_integer() and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def counted(n: int, noun: str) -> str:
    """A count and its noun, in the singular or the plural."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def listed(words: Iterable[str]) -> str:
    """Words joined as in a sentence."""
    *most, last = list(words)
    return f"{', '.join(most)} and {last}" if most else last


def _told(outcomes: pd.Series) -> str:
    return ", ".join(f"{n} {name}" for name, n in count_outcomes(outcomes).items() if n)


def axis_sentence(name: str, inside: pd.DataFrame, below: pd.Series, above: pd.Series) -> str:
    """Where learning converged along an axis, with all that speaks against it.

    Args:
        name: The parameter.
        inside: Configurations from the lowest to the highest convergent value.
        below: Assessed values under these.
        above: Assessed values over these.
    """
    good = inside[inside["outcome"] == "convergent"]
    others = inside[inside["outcome"].isin(ASSESSED[1:])]
    silent = len(inside) - len(good) - len(others)
    low, high = number(good[name].min()), number(good[name].max())
    where = f"{name} {low} only" if low == high else f"{name} from {low} to {high}"
    share = f"{len(good)} of {counted(len(good) + len(others), 'configuration')} there"
    if silent:
        share += f", {silent} more without a verdict"
    sentence = f"Learning converged for {where} ({share})"
    if len(others):
        places = [number(value) for value in sorted(others[name])]
        at = f" at {listed(places)}" if len(places) <= 3 else ""
        sentence += f"; {_told(others['outcome'])} among them{at}"
    if below.empty and above.empty:
        return f"{sentence}; nothing outside was tried."
    ends = [
        f"none of the {len(beyond)} at or {side} {number(nearest)} did"
        if len(beyond)
        else f"no {size} value was tried"
        for beyond, side, nearest, size in (
            (below, "below", below.max(), "smaller"),
            (above, "above", above.min(), "larger"),
        )
    ]
    return f"{sentence}; {'; '.join(ends)}."


def headline(table: pd.DataFrame, axes: Sequence[AxisAnswer], reasons: Mapping[str, int]) -> str:
    """Which region converged, or that none did and why."""
    assessed = int(table["outcome"].isin(ASSESSED).sum())
    good = int((table["outcome"] == "convergent").sum())
    if table.empty:
        return "No training has ended yet."
    if not assessed:
        return f"None of {counted(len(table), 'configuration')} could be assessed."
    if not good:
        top = [f"{name} ({n})" for name, n in list(reasons.items())[:3]]
        of = counted(assessed, "assessed configuration")
        why = f"; most frequent: {listed(top)}" if top else ""
        return f"Learning converged for none of {of}{why}."
    if len(axes) == 1:
        return axes[0].sentence
    ranges = [
        f"{axis.name} {number(axis.low)} to {number(axis.high or 0)}"
        for axis in axes
        if axis.low is not None
    ]
    where = f", within {listed(ranges)}" if ranges else ""
    return (
        f"Learning converged for {good} of {counted(assessed, 'assessed configuration')}{where}."
    )


def sharpest_sentence(table: pd.DataFrame, axes: Sequence[str], sharpest: pd.Series | None) -> str:
    """The setting to take; empty if nothing converged."""
    if sharpest is None:
        departing = int((table["outcome"] == "convergent").sum())
        return "The long run departs for every convergent configuration." if departing else ""
    alike = table["data_epsilon"].nunique() <= 1 and table["epsilon"].nunique() <= 1
    word = "Best-scored" if alike else "Sharpest"
    names = dict.fromkeys([*axes, "epsilon", "data_epsilon"])
    setting = ", ".join(
        f"{name} {number(sharpest[name]) if is_numeric(table[name]) else sharpest[name]}"
        for name in names
    )
    checked = "holds" if sharpest["long_run"] == "holds" else "was not run"
    sentence = (
        f"{word} convergent setting: {setting} (trial {sharpest['trial']}, long run {checked})"
    )
    good = table[table["outcome"] == "convergent"]
    sharper = int((good["data_epsilon"] < sharpest["data_epsilon"]).sum())
    if sharper:
        sentence += f"; for {sharper} sharper it departs"
    return f"{sentence}."


def counts_sentence(table: pd.DataFrame, trainings: int) -> str:
    """What became of the configurations."""
    if table.empty:
        return ""
    repeats = f" in {counted(trainings, 'training')}" if trainings != len(table) else ""
    return f"{counted(len(table), 'configuration')}{repeats}: {_told(table['outcome'])}."


def agreement_sentence(agreement: Agreement) -> str:
    """How verdict and long run compare, over the trainings that have both."""
    if not agreement.compared:
        return "No verdict has been checked by a long run."
    against = {
        "convergent that departs (indicators_disagree)": agreement.convergent_departs,
        "nonconvergent that holds": agreement.nonconvergent_holds,
    }
    rest = [f"{n} {name}" for name, n in against.items() if n]
    return (
        f"Verdict and long run agree for {agreement.agree} of"
        f" {counted(agreement.compared, 'training')} that have both:"
        f" {agreement.convergent_holds} convergent and holding,"
        f" {agreement.nonconvergent_departs} nonconvergent and departing"
        f"{'; but ' + listed(rest) if rest else ''}."
    )


def suggestion(table: pd.DataFrame, axes: Sequence[AxisAnswer], reasons: Mapping[str, int]) -> str:
    """What to try next; empty where nothing follows."""
    if not (table["outcome"] == "convergent").any():
        top = next(iter(reasons), None)
        return f"Try next, for {top}: {ADVICE[top].next}" if top else ""
    epsilon = next((each for each in axes if each.name == "epsilon"), None)
    if epsilon and epsilon.low is not None and epsilon.last_below is None:
        low = number(epsilon.low)
        return f"Try next: epsilon under {low}; the smallest value tried converged too."
    axis = axes[0] if len(axes) == 1 else None
    if axis is None or axis.low is None or axis.high is None:
        return ""
    if not axis.clean:
        low, high = number(axis.low), number(axis.high)
        return f"Try next: more seeds for {axis.name} from {low} to {high}, where outcomes mix."
    edges = [
        f"{number(left)} and {number(right)}"
        for left, right in ((axis.last_below, axis.low), (axis.high, axis.first_above))
        if left is not None and right is not None
    ]
    if not edges:
        return f"Try next: a wider range of {axis.name}, as every value tried converged."
    return f"Try next: {axis.name} between {' or between '.join(edges)}, where the edge lies."
