"""The answer of a study, in sentences and numbers: functions of the table of results alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from study.advice import ADVICE
from study.outcomes import (
    ASSESSED,
    axes_of,
    configurations,
    count_outcomes,
    is_numeric,
    reason_counts,
    tidy,
)
from study.space import Parameters


@dataclass(frozen=True)
class AxisAnswer:
    """Where learning converged along one axis, whatever the others were.

    Attributes:
        name: The parameter.
        low: Smallest value with a convergent configuration; None for words, or without any.
        high: Largest such value.
        convergent: Convergent configurations.
        between: Assessed configurations from `low` to `high`, the convergent ones included.
        below: Assessed configurations under `low`.
        above: Assessed configurations over `high`.
        last_below: Largest assessed value under `low`.
        first_above: Smallest assessed value over `high`.
        sentence: All of it in words.
    """

    name: str
    low: float | None
    high: float | None
    convergent: int
    between: int
    below: int
    above: int
    last_below: float | None
    first_above: float | None
    sentence: str

    @property
    def clean(self) -> bool:
        """Whether everything from `low` to `high` converged."""
        return self.low is not None and self.convergent == self.between


@dataclass(frozen=True)
class Agreement:
    """Verdict against long run, over the trainings that have both."""

    convergent_holds: int
    convergent_departs: int
    nonconvergent_holds: int
    nonconvergent_departs: int

    @property
    def compared(self) -> int:
        return self.agree + self.convergent_departs + self.nonconvergent_holds

    @property
    def agree(self) -> int:
        return self.convergent_holds + self.nonconvergent_departs

    @property
    def indicators_disagree(self) -> int:
        """Trainings that look convergent and whose long chains leave all the same."""
        return self.convergent_departs


@dataclass(frozen=True)
class Answer:
    """The answer of a study.

    Attributes:
        headline: Which region converged, or that none did.
        sharpest_sentence: The setting to take, or why there is none.
        details: One sentence an axis, where there are several.
        counts_sentence: What became of the configurations.
        agreement_sentence: How verdict and long run compare.
        suggestion: What to try next, empty where nothing follows.
        trainings: How many trainings had each of `OUTCOMES`.
        configurations: The same for configurations.
        agreement: Verdict against long run.
        axes: One for each parameter that varies.
        sharpest: Trial of the sharpest convergent setting: least data_epsilon, then least epsilon,
            then best score, among those whose long run does not depart. None if there is none.
        reasons: How many trainings had each reason not to be convergent, most frequent first.
    """

    headline: str
    sharpest_sentence: str
    details: tuple[str, ...]
    counts_sentence: str
    agreement_sentence: str
    suggestion: str
    trainings: Mapping[str, int]
    configurations: Mapping[str, int]
    agreement: Agreement
    axes: tuple[AxisAnswer, ...]
    sharpest: int | None
    reasons: Mapping[str, int]

    @property
    def sentences(self) -> list[str]:
        """Everything there is to say, in order."""
        said = (self.headline, *self.details, self.sharpest_sentence)
        said += (self.counts_sentence, self.agreement_sentence, self.suggestion)
        return [sentence for sentence in said if sentence]

    @property
    def assessed(self) -> int:
        """Configurations with a verdict on learning: convergent or not, diverged, collapsed."""
        return sum(self.configurations[name] for name in ASSESSED)


def summarize(frame: pd.DataFrame, parameters: Parameters) -> Answer:
    """The answer that a table of results gives.

    Args:
        frame: One row a (configuration, seed), columns of `study.table` and `cause`.
        parameters: The distributions of the study, by name.
    """
    frame = tidy(frame)
    axes = axes_of(frame, parameters)
    table = configurations(frame, axes)
    axis_answers = tuple(axis_answer(table, name) for name in axes)
    reasons = reason_counts(frame)
    agreement = _agreement(frame)
    sharpest = _sharpest(table)
    several = len(axes) > 1
    converged = (table["outcome"] == "convergent").any()
    return Answer(
        headline=_headline(table, axis_answers, reasons),
        sharpest_sentence=_sharpest_sentence(table, axes, sharpest),
        details=tuple(each.sentence for each in axis_answers if several and converged),
        counts_sentence=_counts_sentence(table, len(frame)),
        agreement_sentence=_agreement_sentence(agreement),
        suggestion=_suggestion(table, axis_answers, reasons),
        trainings=count_outcomes(frame["outcome"]),
        configurations=count_outcomes(table["outcome"]),
        agreement=agreement,
        axes=axis_answers,
        sharpest=None if sharpest is None else int(sharpest["trial"]),
        reasons=reasons,
    )


def axis_answer(table: pd.DataFrame, name: str) -> AxisAnswer:
    """Where learning converged along axis `name` of a table of `configurations`."""
    assessed = table[table["outcome"].isin(ASSESSED)]
    good = assessed[assessed["outcome"] == "convergent"]
    if not is_numeric(table[name]):
        shares = (
            f"{value} in {(each['outcome'] == 'convergent').sum()} of {len(each)}"
            for value, each in assessed.groupby(name)
        )
        sentence = f"Learning converged by {name}: {', '.join(shares) or 'nowhere'}."
        count = len(good)
        return AxisAnswer(name, None, None, count, len(assessed), 0, 0, None, None, sentence)
    values = pd.to_numeric(assessed[name])
    if good.empty:
        sentence = f"Learning converged nowhere along {name}."
        return AxisAnswer(name, None, None, 0, 0, 0, 0, None, None, sentence)
    low, high = float(good[name].min()), float(good[name].max())
    below, above = values[values < low], values[values > high]
    inside = table[pd.to_numeric(table[name]).between(low, high)]
    return AxisAnswer(
        name=name,
        low=low,
        high=high,
        convergent=len(good),
        between=int(inside["outcome"].isin(ASSESSED).sum()),
        below=len(below),
        above=len(above),
        last_below=None if below.empty else float(below.max()),
        first_above=None if above.empty else float(above.min()),
        sentence=_axis_sentence(name, inside, below, above),
    )


def number(value: float) -> str:
    """A number for people: three significant digits, whole numbers in full."""
    value = float(value)
    if math.isnan(value):
        return "–"
    if value.is_integer() and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def listed(words: Iterable[str]) -> str:
    """Words joined as in a sentence."""
    *most, last = list(words)
    return f"{', '.join(most)} and {last}" if most else last


def _told(outcomes: pd.Series) -> str:
    return ", ".join(f"{n} {name}" for name, n in count_outcomes(outcomes).items() if n)


def _axis_sentence(name: str, inside: pd.DataFrame, below: pd.Series, above: pd.Series) -> str:
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


def _headline(table: pd.DataFrame, axes: Sequence[AxisAnswer], reasons: Mapping[str, int]) -> str:
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


def _sharpest(table: pd.DataFrame) -> pd.Series | None:
    sound = table[(table["outcome"] == "convergent") & (table["long_run"] != "departs")]
    if sound.empty:
        return None
    order = sound.sort_values(["data_epsilon", "epsilon", "score"], ascending=[True, True, False])
    return order.iloc[0]


def _sharpest_sentence(
    table: pd.DataFrame, axes: Sequence[str], sharpest: pd.Series | None
) -> str:
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


def _counts_sentence(table: pd.DataFrame, trainings: int) -> str:
    if table.empty:
        return ""
    repeats = f" in {counted(trainings, 'training')}" if trainings != len(table) else ""
    return f"{counted(len(table), 'configuration')}{repeats}: {_told(table['outcome'])}."


def _agreement(frame: pd.DataFrame) -> Agreement:
    def both(verdict: str, long_run: str) -> int:
        return int(((frame["outcome"] == verdict) & (frame["long_run"] == long_run)).sum())

    return Agreement(
        convergent_holds=both("convergent", "holds"),
        convergent_departs=both("convergent", "departs"),
        nonconvergent_holds=both("nonconvergent", "holds"),
        nonconvergent_departs=both("nonconvergent", "departs"),
    )


def _agreement_sentence(agreement: Agreement) -> str:
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


def _suggestion(
    table: pd.DataFrame, axes: Sequence[AxisAnswer], reasons: Mapping[str, int]
) -> str:
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
