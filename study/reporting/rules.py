"""How a column of the table becomes a call on the long run: which way it speaks, and its limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from study.reporting.discrimination import Labels, Scores, auroc, youden_limit
from study.reporting.outcomes import is_numeric
from study.reporting.sentences import number

Way = Literal["larger", "smaller", "near", "words"]


@dataclass(frozen=True)
class Rule:
    """What a value of a column says of the long run.

    Attributes:
        way: What speaks for holding: a ``larger`` or a ``smaller`` value, one ``near`` a centre,
            or one of some ``words``.
        limit: The least score that is called holding; NaN where it is still to be chosen.
        centre: Of ``near``; NaN where it is still to be chosen.
        log: Whether distances from the centre are those of logarithms.
        shares: Of ``words``: how often each of them holds.
    """

    way: Way
    limit: float = math.nan
    centre: float = math.nan
    log: bool = False
    shares: tuple[tuple[str, float], ...] = ()

    def scores(self, values: pd.Series) -> Scores:
        """The larger, the more a value speaks for holding; NaN where it says nothing.

        Args:
            values: Shape (n,).

        Returns:
            Shape (n,).
        """
        if self.way == "words":
            shares = dict(self.shares)
            return np.array([shares.get(str(value), math.nan) for value in values], np.float64)
        x = pd.to_numeric(values).to_numpy("float64", na_value=np.nan)
        x = np.where(np.isfinite(x), x, np.nan)
        if self.way == "near":
            return -np.abs(self._scale(x) - self._scale(np.asarray(self.centre)))
        return x if self.way == "larger" else -x

    def __str__(self) -> str:
        """Which values are called holding."""
        if self.way == "words":
            return " or ".join(word for word, share in self.shares if share >= self.limit)
        if self.way == "larger":
            return f"≥ {_signed(self.limit)}"
        if self.way == "smaller":
            return f"≤ {_signed(-self.limit)}"
        reach = math.exp(-self.limit) if self.log else -self.limit
        c = self.centre
        low, high = (c / reach, c * reach) if self.log else (c - reach, c + reach)
        return f"{_signed(low)} to {_signed(high)}"

    def _scale(self, x: Scores) -> Scores:
        if not self.log:
            return x
        return np.log(x, out=np.full(x.shape, np.nan), where=x > 0)


def fit(rule: Rule, values: pd.Series, labels: Labels) -> Rule | None:
    """The rule with its centre and its limit, where they are open, chosen on these trainings.

    The centre is the median of those that hold; the limit is `youden_limit`.

    Args:
        rule: What is known beforehand.
        values: Shape (n,).
        labels: Whether the long run holds, shape (n,).

    Returns:
        None where the values do not differ, or a label does not occur among them.
    """
    if rule.way == "near" and math.isnan(rule.centre):
        held = pd.to_numeric(values[labels]).dropna()
        rule = replace(rule, centre=float(held.median()) if len(held) else math.nan)
    scores = rule.scores(values)
    known = np.isfinite(scores)
    scores, labels = scores[known], labels[known]
    if not labels.any() or labels.all() or np.ptp(scores) == 0:
        return None
    return rule if np.isfinite(rule.limit) else replace(rule, limit=youden_limit(scores, labels))


def choose(values: pd.Series, labels: Labels) -> Rule | None:
    """The rule for a quantity of which nothing is known beforehand.

    Larger, smaller or near a centre, whichever has the largest area on these trainings; for words,
    how often each holds among them.

    Args:
        values: Shape (n,).
        labels: Whether the long run holds, shape (n,).

    Returns:
        None as for `fit`.
    """
    if not is_numeric(values):
        held = pd.Series(labels, values.index).groupby(values.astype(str)).mean()
        shares = tuple((str(word), float(share)) for word, share in held.items())
        return fit(Rule("words", shares=shares), values, labels)
    log = bool((pd.to_numeric(values).dropna() > 0).all())
    tried = [fit(Rule(way, log=log), values, labels) for way in ("larger", "smaller", "near")]
    return _best([rule for rule in tried if rule], values, labels)


def _best(rules: Sequence[Rule], values: pd.Series, labels: Labels) -> Rule | None:
    def area(rule: Rule) -> float:
        scores = rule.scores(values)
        known = np.isfinite(scores)
        return auroc(scores[known], labels[known]).value

    return max(rules, key=area, default=None)


def _signed(value: float) -> str:
    return number(value).replace("-", "−")
