"""The answer of a study, in sentences and numbers: functions of the table of results alone.

What a fitted map says is added where there is one, see `Answer.mapped`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from study.reporting import sentences
from study.reporting.outcomes import (
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
        mapped: Where learning converges by the fitted map; empty where there is none.
        quality: How much of the space that is, and how much may be misjudged; empty likewise.
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
    mapped: str = ""
    quality: str = ""

    @property
    def lead(self) -> str:
        """The answer in a sentence: the map's, or else what was seen."""
        return self.mapped or self.headline

    @property
    def sentences(self) -> list[str]:
        """Everything there is to say, in order."""
        seen = () if self.mapped else self.details
        said = (self.lead, *seen, self.sharpest_sentence, self.quality)
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
        headline=sentences.headline(table, axis_answers, reasons),
        sharpest_sentence=sentences.sharpest_sentence(table, axes, sharpest),
        details=tuple(each.sentence for each in axis_answers if several and converged),
        counts_sentence=sentences.counts_sentence(table, len(frame)),
        agreement_sentence=sentences.agreement_sentence(agreement),
        suggestion=sentences.suggestion(table, axis_answers, reasons),
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
        sentence=sentences.axis_sentence(name, inside, below, above),
    )


def _sharpest(table: pd.DataFrame) -> pd.Series | None:
    sound = table[(table["outcome"] == "convergent") & (table["long_run"] != "departs")]
    if sound.empty:
        return None
    order = sound.sort_values(["data_epsilon", "epsilon", "score"], ascending=[True, True, False])
    return order.iloc[0]


def _agreement(frame: pd.DataFrame) -> Agreement:
    def both(verdict: str, long_run: str) -> int:
        return int(((frame["outcome"] == verdict) & (frame["long_run"] == long_run)).sum())

    return Agreement(
        convergent_holds=both("convergent", "holds"),
        convergent_departs=both("convergent", "departs"),
        nonconvergent_holds=both("nonconvergent", "holds"),
        nonconvergent_departs=both("nonconvergent", "departs"),
    )
