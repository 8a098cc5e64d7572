"""What foretells the long run: each indicator, their combination, and each hyperparameter alone.

The long run is the label. What a rule has to choose, its direction, centre and limit, it chooses
on one half of the configurations and shows on the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from ebm_core.requirements import STEADY
from study.reporting.discrimination import (
    UNKNOWN,
    Confusion,
    Estimate,
    Labels,
    Scores,
    auroc,
    confusion,
    lead,
)
from study.reporting.outcomes import axes_of, tidy
from study.reporting.parts import choosing_half, thirds
from study.reporting.rules import Rule, choose, fit
from study.space import Parameters

# Configurations with a training of each label, under which nothing is compared.
LEAST = 10

Chosen = Literal["nothing", "limit", "all"]
KINDS = ("combination", "indicator", "hyperparameter")

# The least margin of what speaks of the steady state, as the label does; that of the verdict,
# which asks for more; both with the verdict's own limits; and the score made of all margins.
COMBINATIONS = {
    "steady_margin": Rule("larger", limit=0.0),
    "convergence_margin": Rule("larger", limit=0.0),
    "convergence_score": Rule("larger"),
}
# What each is said to mean: r where it should be, d balanced, oscillation weak, r level. A margin
# is told by its name; its limit is the verdict's own.
MARGIN = "margin_"
STEADY_MARGINS = tuple(f"{MARGIN}{name}" for name in STEADY)
INDICATORS = {
    "r_matched": Rule("near", log=True),
    "r_scaled": Rule("near", log=True),
    "r_over_floor": Rule("near", log=True),
    "r_band_adherence": Rule("larger"),
    "r_paper_band_adherence": Rule("larger"),
    "d_balance": Rule("near", centre=0.0),
    "acf_min": Rule("larger"),
    "corr_d_r": Rule("smaller"),
    "r_drift": Rule("near", centre=0.0),
    "restlessness": Rule("smaller"),
    "chain_spread": Rule("near", centre=1.0, log=True),
}
HYPERPARAMETERS = ("epsilon", "eps_data_ratio", "data_epsilon", "gamma_0", "anneal_updates")


@dataclass(frozen=True)
class Performance:
    """How well a rule foretells the long run of some trainings."""

    confusion: Confusion
    sensitivity: Estimate
    specificity: Estimate
    auroc: Estimate


@dataclass(frozen=True)
class Report:
    """A rule on a set of trainings.

    Attributes:
        overall: On all of them.
        within: Area over the pairs that lie in the same third of epsilon.
        thirds: On each third of epsilon alone, from the smallest; empty where there are none.
    """

    overall: Performance
    within: Estimate
    thirds: tuple[Performance, ...]

    @property
    def area(self) -> Estimate:
        """Within thirds of epsilon where there are any, else overall."""
        return self.within if self.thirds else self.overall.auroc


@dataclass(frozen=True)
class Row:
    """What one quantity foretells.

    Attributes:
        name: Its column in the table.
        kind: One of `KINDS`.
        rule: Which of its values are called holding.
        chosen: What of the rule had to be chosen: nothing, its limit or its whole.
        held_out: On the half that chose nothing.
        both: On both halves, each by what the other has chosen; None where the other could not.
        scores: Of both halves, each by the other; n of them, NaN where a value is missing.
    """

    name: str
    kind: str
    rule: Rule
    chosen: Chosen
    held_out: Report
    both: Report | None
    scores: Scores = field(compare=False, repr=False)


@dataclass(frozen=True)
class Lead:
    """How far a combination is ahead of a hyperparameter alone.

    Attributes:
        name: The combination.
        other: The hyperparameter with the largest area.
        area: Difference of their areas on both halves, within thirds if there are any.
    """

    name: str
    other: str
    area: Estimate


@dataclass(frozen=True)
class Comparison:
    """What foretells the long run in a study.

    Attributes:
        holds: Trainings compared whose long run holds.
        departs: Trainings compared whose long run departs.
        apart: Trainings that are not compared, by what became of them: outcome, and label if any.
        configurations: With a training that holds, and with one that departs.
        chosen_on: Trainings of the half on which rules are chosen.
        shown_on: Trainings of the other half.
        edges: Smallest epsilon of the second and of the third third; empty without thirds.
        rows: The combination, then indicators and hyperparameters, best within thirds first;
            empty where there are fewer than `LEAST` configurations of a label.
        leads: Of each combination over the best hyperparameter; empty without either.
        detectable: Departure in energy that these long runs find 95 times in 100, sd of U: the
            median over trainings; NaN where it is not known.
        wrong: Trainings compared of which the verdict says otherwise than the long run: those that
            depart first, the larger departures before; a part of the tidy table.
    """

    holds: int
    departs: int
    apart: Mapping[str, int]
    configurations: tuple[int, int]
    chosen_on: int
    shown_on: int
    edges: tuple[float, ...]
    rows: tuple[Row, ...]
    leads: tuple[Lead, ...]
    detectable: float
    wrong: pd.DataFrame

    def best(self, kind: str) -> Row | None:
        """The first row of a kind."""
        return next((row for row in self.rows if row.kind == kind), None)


def compare(frame: pd.DataFrame, parameters: Parameters) -> Comparison:
    """Measures every quantity of a table against the long run.

    Args:
        frame: One row a (configuration, seed), columns of `study.table`.
        parameters: The distributions of the study, by name.
    """
    frame = tidy(frame)
    labelled = frame["long_run"].isin(("holds", "departs"))
    judged = frame["outcome"].isin(("convergent", "nonconvergent"))
    apart = frame[~(labelled & judged)]
    frame = frame[labelled & judged].reset_index(drop=True)
    if steady := [name for name in STEADY_MARGINS if name in frame]:
        frame["steady_margin"] = frame[steady].min(axis=1)
    labels = (frame["long_run"] == "holds").to_numpy(bool)
    enough = (frame["trial"][labels].nunique(), frame["trial"][~labels].nunique())
    chosen = choosing_half(frame)
    third, edges = thirds(frame)
    rows: tuple[Row, ...] = ()
    if min(enough) >= LEAST:
        rows = _rows(frame, labels, chosen, third, axes_of(frame, parameters))
    return Comparison(
        holds=int(labels.sum()),
        departs=int((~labels).sum()),
        apart=_apart(apart),
        configurations=enough,
        chosen_on=int(chosen.sum()),
        shown_on=int((~chosen).sum()),
        edges=edges,
        rows=rows,
        detectable=_median(frame, "long_run_detectable"),
        leads=_leads(rows, labels, 3 * chosen + third, _repeats(frame)),
        wrong=_wrong(frame, labels),
    )


def _median(frame: pd.DataFrame, name: str) -> float:
    return float(frame[name].median()) if name in frame else math.nan


def _rows(
    frame: pd.DataFrame, labels: Labels, chosen: Labels, third: np.ndarray, axes: Sequence[str]
) -> tuple[Row, ...]:
    known = COMBINATIONS | INDICATORS
    margins = [name for name in map(str, frame) if name.startswith(MARGIN)]
    known |= {name: Rule("larger", limit=0.0) for name in margins}
    names = dict.fromkeys([*known, *axes, *HYPERPARAMETERS])
    base = pd.DataFrame(
        {"trial": frame["trial"], "label": labels, "chosen": chosen, "third": third}
    )
    rows = [_row(name, frame[name], known.get(name), base) for name in names if name in frame]
    return tuple(sorted(filter(None, rows), key=_order))


def _row(name: str, values: pd.Series, known: Rule | None, base: pd.DataFrame) -> Row | None:
    """What a quantity foretells; None where it does not vary in the half that chooses.

    Args:
        name: Its column.
        values: Its values, n of them.
        known: What is known of it beforehand; None for a hyperparameter.
        base: Columns trial, label, chosen and third, n rows.
    """
    labels, chosen = base["label"].to_numpy(bool), base["chosen"].to_numpy(bool)

    def rule_of(part: Labels) -> Rule | None:
        if known is None:
            return choose(values[part], labels[part])
        if np.isfinite(known.limit):
            return fit(known, values, labels)  # nothing to choose: asks only whether it varies
        return fit(known, values[part], labels[part])

    rule, other = rule_of(chosen), rule_of(~chosen)
    if rule is None:
        return None
    scores, limits = rule.scores(values), np.full(len(values), rule.limit)
    if other is not None:
        scores[chosen], limits[chosen] = other.scores(values)[chosen], other.limit
    judged = base.assign(score=scores, call=scores >= limits)[np.isfinite(scores)]
    several = bool(base["third"].any())
    held_out = _report(judged[~judged["chosen"]], several)
    both = None if other is None else _report(judged, several)
    kind = "combination" if name in COMBINATIONS else "indicator" if known else "hyperparameter"
    chosen_there: Chosen = "all"
    if known is not None:
        chosen_there = "limit" if math.isnan(known.limit) else "nothing"
    return Row(name, kind, rule, chosen_there, held_out, both, scores)


def _leads(
    rows: Sequence[Row], labels: Labels, places: np.ndarray, repeats: float
) -> tuple[Lead, ...]:
    """Leads over the best hyperparameter; pairs count within the same place only."""
    others = {
        row.both.area.value: row
        for row in rows
        if row.kind == "hyperparameter" and row.both and np.isfinite(row.both.area.value)
    }
    if not others:
        return ()
    best = others[max(others)]
    leads = []
    for row in rows:
        if row.kind != "combination" or row.both is None:
            continue
        known = np.isfinite(row.scores) & np.isfinite(best.scores)
        strata = [known & (places == place) for place in np.unique(places)]
        found = lead(row.scores, best.scores, labels, strata, repeats)
        leads.append(Lead(row.name, best.name, found))
    return tuple(leads)


def _order(row: Row) -> tuple[int, float]:
    """The combinations as they are, the others by their area, within thirds if there are any."""
    area = row.held_out.area.value
    ranked = row.kind != "combination" and np.isfinite(area)
    return KINDS.index(row.kind), -area if ranked else 0.0


def _report(data: pd.DataFrame, several: bool) -> Report:
    """How calls and scores do on some trainings.

    Scores of two halves come from two rules, so that pairs count within the same half only.

    Args:
        data: Columns trial, label, chosen, third, score and call.
        several: Whether there are thirds.
    """
    repeats = _repeats(data)

    def area(part: pd.DataFrame, by_third: bool) -> Estimate:
        places = 3 * part["chosen"].to_numpy(int) + by_third * part["third"].to_numpy(int)
        strata = [places == place for place in np.unique(places)]
        return auroc(part["score"].to_numpy(), part["label"].to_numpy(bool), strata, repeats)

    def on(part: pd.DataFrame) -> Performance:
        table = confusion(part["call"].to_numpy(bool), part["label"].to_numpy(bool))
        return Performance(
            table,
            table.sensitivity(repeats),
            table.specificity(repeats),
            area(part, by_third=False),
        )

    if not several:
        return Report(on(data), UNKNOWN, ())
    each = tuple(on(data[data["third"] == place]) for place in range(3))
    return Report(on(data), area(data, by_third=True), each)


def _repeats(data: pd.DataFrame) -> float:
    """Trainings a configuration, on average."""
    return len(data) / max(1, data["trial"].nunique())


def _apart(frame: pd.DataFrame) -> dict[str, int]:
    label = frame["long_run"].where(frame["long_run"].isin(("holds", "departs")), "")
    judged = frame["outcome"].isin(("convergent", "nonconvergent"))
    # of a verdict it only matters here that no long run is beside it
    name = frame["outcome"].mask(judged, "without a long run")
    name += (", long run " + label).where(label != "", "")
    return {str(text): int(n) for text, n in name.value_counts(sort=False).sort_index().items()}


def _wrong(frame: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    convergent = frame["outcome"] == "convergent"
    size = frame["long_run_departure"].abs().fillna(np.inf)
    found = frame.assign(_holds=labels, _size=size)[convergent != labels]
    ordered = found.sort_values(["_holds", "_size"], ascending=[True, False], kind="stable")
    return ordered.drop(columns=["_holds", "_size"])
