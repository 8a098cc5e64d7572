"""What is said of an agreement between quantities and long run: sentences, tables, plain lines."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from study.reporting.agreement import KINDS, LEAST, Comparison, Performance, Row
from study.reporting.discrimination import Confusion, Estimate
from study.reporting.sentences import counted, listed, number

HEADINGS = (
    "",
    "called holding",
    "of those that hold",
    "of those that depart",
    "sensitivity",
    "specificity",
    "AUROC",
    "within thirds",
)
# Of a line of text in a terminal; tables are as wide as they are.
WIDTH = 99

# What a reader of a table calls the rows of a kind.
GROUPS = {
    "combination": "Requirements together",
    "indicator": "Each indicator",
    "hyperparameter": "Each hyperparameter alone",
}
_ALREADY = {"nothing": "", "limit": " *", "all": " **"}


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what it says, and the interval beside it."""

    text: str
    interval: str = ""


@dataclass(frozen=True)
class Group:
    """Rows of one kind, under a heading."""

    heading: str
    rows: tuple[tuple[Cell, ...], ...]


def counts_sentence(found: Comparison) -> str:
    """How many trainings are compared, and what became of the others."""
    total = found.holds + found.departs + sum(found.apart.values())
    compared = found.holds + found.departs
    sentence = (
        f"{compared} of {counted(total, 'training')} are compared: {found.holds} whose long run"
        f" holds and {found.departs} whose long run departs."
    )
    if found.apart:
        others = [f"{n} {name}" for name, n in found.apart.items()]
        sentence += f" Counted apart: {'; '.join(others)}."
    return sentence


def too_few(found: Comparison) -> str:
    """That there are too few to compare; empty where there are enough."""
    if min(found.configurations) >= LEAST:
        return ""
    hold, depart = found.configurations
    return (
        f"There are too few to tell indicators apart: {counted(hold, 'configuration')} with a long"
        f" run that holds and {depart} with one that departs, where {LEAST} of each are needed."
    )


def findings(found: Comparison) -> str:
    """The first of each kind, within thirds of epsilon where there are any; empty without rows."""
    names = {"combination": "{}", "indicator": "the best indicator, {}"}
    names["hyperparameter"] = "the best hyperparameter alone, {}"
    best = [row for kind in KINDS if (row := found.best(kind))]
    if not best:
        return ""
    where = "within thirds of epsilon" if found.edges else "over all of them"
    told = [f"{_told(row.held_out.area)} for {names[row.kind].format(row.name)}" for row in best]
    leads = [
        f"{each.name} leads {each.other} by {_told(each.area)}"
        for each in found.leads
        if not math.isnan(each.area.value)
    ]
    sentence = f"On the half of the configurations that chose nothing, AUROC {where} is"
    sentence += f" {listed(told)}."
    if leads:
        sentence += f" On both halves, each by the rules of the other, {listed(leads)}."
    return sentence


def choices(found: Comparison) -> str:
    """How much was chosen, and on what."""
    return (
        f"Unmarked rows have nothing to choose: a margin of 0 is the verdict's own limit. Of a row"
        f" with * the limit, and the centre if open, of one with ** the direction as well, are"
        f" chosen on one half"
        f" of the configurations ({counted(found.chosen_on, 'training')}): the centre is the"
        f" median of those that hold, the limit makes sensitivity + specificity largest, the"
        f" direction AUROC. All rows show the other half"
        f" ({counted(found.shown_on, 'training')}), so that they compare. Repeats of a"
        f" configuration stay in the same half, and only as many trainings as configurations"
        f" count as independent."
    )


def held_out(found: Comparison) -> list[Group]:
    """The half that chose nothing, by the rules of the other."""
    return _groups(
        (row, row.held_out.overall, row.held_out.within, f"{row.rule}{_ALREADY[row.chosen]}")
        for row in found.rows
    )


def both(found: Comparison) -> list[Group]:
    """Both halves, each by the rules of the other."""
    return _groups(
        (row, row.both.overall, row.both.within, _kept(row)) for row in found.rows if row.both
    )


def each_third(found: Comparison) -> list[tuple[str, list[Group]]]:
    """A heading and a table for each third of epsilon, both halves; empty without thirds."""
    if not found.edges:
        return []
    first, second = map(number, found.edges)
    names = (f"epsilon under {first}", f"from {first}, under {second}", f"epsilon from {second}")
    return [
        (
            name,
            _groups(
                (row, row.both.thirds[place], None, _kept(row)) for row in found.rows if row.both
            ),
        )
        for place, name in enumerate(names)
    ]


def lines(found: Comparison) -> list[str]:
    """The section for a terminal, a blank line last; empty where no training has a long run."""
    if not found.holds + found.departs:
        return []
    said = ["What foretells the long run", *textwrap.wrap(counts_sentence(found), WIDTH)]
    if few := too_few(found):
        return [*said, few, ""]
    shown = held_out(found)
    heads = ["", "called holding", "hold", "depart", *HEADINGS[4:]]
    texts = [[_plain(cell) for cell in row] for group in shown for row in group.rows]
    widths = [max(map(len, column)) for column in zip(heads, *texts, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip()

    said += ["", line(heads)]
    for group in shown:
        said += [f"{group.heading}:"]
        said += [line([_plain(cell) for cell in row]) for row in group.rows]
    notes = f"Counts are right / wrong, intervals 95 %. {choices(found)}"
    return [*said, "", *textwrap.wrap(notes, WIDTH), *textwrap.wrap(findings(found), WIDTH), ""]


def _groups(
    rows: Iterable[tuple[Row, Performance, Estimate | None, str]],
) -> list[Group]:
    rows = list(rows)
    made = []
    for kind, heading in GROUPS.items():
        cells = [_cells(*each) for each in rows if each[0].kind == kind]
        if cells:
            made.append(Group(heading, tuple(cells)))
    return made


def _cells(row: Row, seen: Performance, within: Estimate | None, rule: str) -> tuple[Cell, ...]:
    estimates = [seen.sensitivity, seen.specificity, seen.auroc]
    estimates += [] if within is None else [within]
    return (
        Cell(row.name),
        Cell(rule),
        *_counts(seen.confusion),
        *(Cell(_share(each.value), _interval(each)) for each in estimates),
    )


def _counts(table: Confusion) -> tuple[Cell, Cell]:
    return (
        Cell(f"{table.hits} / {table.misses}"),
        Cell(f"{table.rejections} / {table.false_alarms}"),
    )


def _kept(row: Row) -> str:
    """A rule that is the same in both halves."""
    return str(row.rule) if row.chosen == "nothing" else "by the other half"


def _told(estimate: Estimate) -> str:
    interval = _interval(estimate)
    return f"{_share(estimate.value)} [{interval}]" if interval else "unknown"


def _plain(cell: Cell) -> str:
    return f"{cell.text} [{cell.interval}]" if cell.interval else cell.text


def _interval(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return ""
    return f"{estimate.low:.2f} to {estimate.high:.2f}".replace("-", "−")


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "−")
