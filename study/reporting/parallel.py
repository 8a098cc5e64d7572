"""What the page's script draws: parallel coordinates, and what a mark says of its training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from study.reporting import scale, symbols
from study.reporting.outcomes import LONG_RUNS, reasons_of
from study.reporting.sentences import number
from study.space import Parameters

MEASURED = ("data_epsilon", "convergence_margin", "long_run_departure")


def coordinates(
    frame: pd.DataFrame, axes: Sequence[str], parameters: Parameters
) -> list[dict[str, Any]]:
    """Axes for the script: what was searched, then what was measured where anything is known.

    Args:
        frame: A tidy table.
        axes: The parameters that vary.
        parameters: Of the study.

    Returns:
        For each axis its name and label, its kind and ends for reading a brush, `ticks` as (share
        of the axis, text), and `at`: the share of each training, None where it is not known.
    """
    scales: dict[str, scale.Scale] = {name: scale.of_parameter(parameters[name]) for name in axes}
    for name in MEASURED:
        varies = frame[name].nunique() > 1
        if varies and name not in scales:
            scales[name] = scale.of_column(frame[name])
    return [_axis(name, each, frame[name]) for name, each in scales.items()]


def _axis(name: str, along: scale.Scale, values: pd.Series) -> dict[str, Any]:
    places, texts = zip(*along.ticks(), strict=True)
    named = along.words or places
    symbol = symbols.SYMBOLS.get(name)
    return {
        "name": name,
        "sign": symbols.sign(name),
        "unit": symbol.unit if symbol else "",
        "kind": along.kind,
        "low": along.low,
        "high": along.high,
        "ticks": [
            (round(float(share), 4), text)
            for share, text in zip(along.shares(named), texts, strict=True)
        ],
        "at": [
            None if math.isnan(share) else round(float(share), 4) for share in along.shares(values)
        ],
    }


def trainings(frame: pd.DataFrame, axes: Sequence[str]) -> list[list[Any]]:
    """Every training for the script, in the order of the table.

    Returns:
        Trial, seed, outcome, setting, what else is known of the verdict, long run, MLflow run.
    """
    names = list(dict.fromkeys([*axes, "epsilon", "data_epsilon"]))
    return [_told(row, names) for row in frame.to_dict("records")]


def _told(row: Mapping[Any, Any], names: Sequence[str]) -> list[Any]:
    known = [name for name in names if row[name] == row[name]]
    evidence = reasons_of(row["reasons"]) if row["outcome"] == "nonconvergent" else []
    if not math.isnan(row["convergence_margin"]):
        evidence.append(f"margin {_signed(row['convergence_margin'])}")
    if row["outcome"] not in ("convergent", "nonconvergent") and row["cause"]:
        evidence.append(row["cause"][:160])
    long_run = row["long_run"] if row["long_run"] in LONG_RUNS else "not run"
    if not math.isnan(row["long_run_departure"]):
        long_run += f", departure {_signed(row['long_run_departure'])} sd of U"
    setting = symbols.setting(row, known)
    where = [row["trial"], row["seed"], row["outcome"]]
    return [*where, setting, ", ".join(evidence), long_run, row["mlflow_run_id"]]


def _signed(value: float) -> str:
    return number(value).replace("-", "−")
