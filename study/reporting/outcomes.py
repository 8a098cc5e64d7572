"""What became of each training and each configuration, read from the table of results.

One row of the table is one training. A *configuration* is all trainings of one trial; with
several seeds its outcome is the least favourable of theirs, so that it is convergent only when
all its seeds are. Its long run departs when one of them departs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from study.reporting.advice import ADVICE
from study.space import Parameters, searched
from study.table import CAUSE, COLUMNS, NUMERIC_COLUMNS, TEXT_COLUMNS

# What can become of a training, and of a configuration. The first four are verdicts on learning.
OUTCOMES = ("convergent", "nonconvergent", "diverged", "collapsed", "unassessed", "failed")
ASSESSED = OUTCOMES[:4]
# What a long run can say.
LONG_RUNS = ("holds", "departs")
_LEAST_FAVOURABLE = (*OUTCOMES[1:4][::-1], "unassessed", "failed", "convergent")


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with every column present and of its kind, and `outcome`, one of `OUTCOMES`.

    A training without a verdict has failed, and one that failed is not merely unassessed.
    """
    frame = frame.copy()
    for name in (*TEXT_COLUMNS, CAUSE):
        frame[name] = frame[name].fillna("").astype(str) if name in frame else ""
    for name in NUMERIC_COLUMNS:
        if name in frame:
            frame[name] = pd.to_numeric(frame[name], errors="coerce").astype("float64")
        elif name in COLUMNS:
            frame[name] = np.nan
    verdict = frame["verdict"].where(frame["verdict"].isin(OUTCOMES), "failed")
    broken = (frame["status"] == "failed") & (verdict == "unassessed")
    frame["outcome"] = verdict.mask(broken, "failed")
    frame["trial"] = frame["trial"].fillna(-1).astype(int)
    frame["seed"] = frame["seed"].fillna(0).astype(int)
    return frame.sort_values(["trial", "seed"], ignore_index=True)


def axes_of(frame: pd.DataFrame, parameters: Parameters) -> list[str]:
    """The parameters that vary and are columns of the table."""
    return [name for name in searched(parameters) if name in frame]


def reasons_of(text: str) -> list[str]:
    """The known reasons in a cell such as ``r_below_band, d_unbalanced``."""
    return [word for word in re.findall(r"\w+", text) if word in ADVICE]


def configurations(frame: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """One row a trial: its axes, epsilon, data_epsilon, mean score, outcome and long run."""
    frame = tidy(frame)
    kept = list(dict.fromkeys([*axes, "epsilon", "data_epsilon"]))
    rows = []
    for trial, seeds in frame.groupby("trial"):
        outcomes, long_runs = set(seeds["outcome"]), set(seeds["long_run"])
        outcome = next(each for each in _LEAST_FAVOURABLE if each in outcomes)
        long_run = next((each for each in ("departs", "holds") if each in long_runs), "not_run")
        first = {name: seeds[name].iloc[0] for name in kept}
        score = seeds["convergence_score"].mean()
        rows.append(
            {"trial": trial, **first, "score": score, "outcome": outcome, "long_run": long_run}
        )
    return pd.DataFrame(rows, columns=["trial", *kept, "score", "outcome", "long_run"])


def count_outcomes(outcomes: pd.Series) -> dict[str, int]:
    """How many there are of each of `OUTCOMES`."""
    return {name: int((outcomes == name).sum()) for name in OUTCOMES}


def is_numeric(values: pd.Series) -> bool:
    """Whether a column holds numbers and nothing else, gaps apart."""
    values = values.dropna()
    return not values.empty and bool(pd.to_numeric(values, errors="coerce").notna().all())


def reason_counts(frame: pd.DataFrame) -> dict[str, int]:
    """How many trainings had each reason, most frequent first; outcomes count as reasons."""
    found: Counter[str] = Counter()
    for outcome, text in zip(frame["outcome"], frame["reasons"], strict=True):
        if outcome == "nonconvergent":
            found.update(reasons_of(text))
        elif outcome != "convergent":
            found[outcome] += 1
    return dict(found.most_common())


def _telling_reason(text: str) -> str:
    """The reason that a training is an example of: oscillation if it can be, else the first."""
    reasons = reasons_of(text) or ["nonconvergent"]
    return "strong_oscillation" if "strong_oscillation" in reasons else reasons[0]


def chosen(frame: pd.DataFrame, limit: int = 6) -> pd.DataFrame:
    """The trainings worth a look: the sharpest that converged, and one of each other kind.

    Kinds are: convergent with a long run that departs, strong oscillation (the strongest), each
    first reason of the other nonconvergent (its nearest miss), and every other outcome.
    """
    frame = tidy(frame)
    departs = (frame["outcome"] == "convergent") & (frame["long_run"] == "departs")
    reason = frame["reasons"].map(_telling_reason)
    kind = frame["outcome"].mask(frame["outcome"] == "nonconvergent", reason)
    kind = kind.mask(departs, "indicators_disagree")
    # smallest first: data_epsilon of the convergent, autocorrelation of the oscillating,
    # distance to the limit of the rest
    rank = -frame["convergence_margin"]
    rank = rank.mask(kind == "strong_oscillation", frame["acf_min"])
    rank = rank.mask(frame["outcome"] == "convergent", frame["data_epsilon"])
    best = frame.assign(kind=kind, rank=rank).sort_values(["rank", "epsilon", "trial"])
    best = best.drop_duplicates("kind")
    order = {name: place for place, name in enumerate(["convergent", *ADVICE])}
    return best.sort_values("kind", key=lambda names: names.map(order))[frame.columns].head(limit)
