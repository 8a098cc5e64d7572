"""Rows are plain and complete; the table is sorted, typed and the same in both of its files."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ebm_core.evaluate import DensityDivergence, LongRun
from ebm_core.presets import preset
from ebm_core.verdict import Divergence, assess
from study import table

ROOT = Path(__file__).parents[1]
# What a study promises to leave, in this order
PROMISED = [
    "trial",
    "seed",
    "epsilon",
    "eps_data_ratio",
    "data_epsilon",
    "gamma_0",
    "gamma_start",
    "anneal_updates",
    "optimizer",
    "status",
    "verdict",
    "reasons",
    "oscillation",
    "r_band_adherence",
    "r_paper_band_adherence",
    "r_1",
    "r",
    "r_scaled",
    "r_matched",
    "d_balance",
    "acf_min",
    "acf_min_lag",
    "corr_d_r",
    "convergence_score",
    "convergence_margin",
    "long_run",
    "long_run_departure",
    "updates",
    "seconds",
    "mlflow_run_id",
]
PLANE = DensityDivergence(kl=0.1, tv=0.05, kl_floor=0.03, tv_floor=math.nan)


def long_run(outcome: Any = "holds", departure: float = -0.06) -> LongRun:
    fields = {field.name: None for field in dataclasses.fields(LongRun)}
    return LongRun(**{**fields, "outcome": outcome, "departure": departure})


def result(level: float = 1.0, n: int = 1000, **changes: Any) -> Any:
    """A training whose r lies at `level` times r*, d balanced and without memory."""
    rng = np.random.default_rng(0)
    config = preset("digits", epsilon=0.1)
    d = rng.standard_normal(n)
    r = level * 0.3 * (1 + 0.05 * rng.standard_normal(n))
    assessment = assess(
        d,
        r,
        epsilon=config.epsilon,
        dimensions=64,
        r_star=0.3,
        window=800,
        divergence=changes.pop("divergence", None),
    )
    fields = {"status": "finished", "cause": "", "seconds": np.float64(7.5), **changes}
    return SimpleNamespace(config=config, assessment=assessment, d=d, r=r, **fields)


def test_the_columns_are_those_promised() -> None:
    assert list(table.COLUMNS) == PROMISED
    assert not set(table.NUMERIC_NAMES) & set(table.TEXT_COLUMNS)
    assert set(table.NUMERIC_NAMES) == {
        *set(PROMISED) - set(table.TEXT_COLUMNS),
        *table.EVIDENCE_COLUMNS,
        *set(table.CHECK_COLUMNS) - set(table.TEXT_COLUMNS),
        *table.PLANE_COLUMNS,
        *table.WORTH_COLUMNS,
        *table.HELD_OUT_COLUMNS,
        "diverged",
    }


def test_a_row_holds_settings_verdict_and_numbers() -> None:
    row = table.row(result(), long_run(), None, 3, 1)
    assert list(row) == [*PROMISED, *table.EVIDENCE_COLUMNS, *table.CHECK_COLUMNS, "cause"]
    assert {name: row[name] for name in ("trial", "seed", "epsilon", "data_epsilon")} == {
        "trial": 3,
        "seed": 1,
        "epsilon": 0.1,
        "data_epsilon": 0.2,
    }
    assert (row["verdict"], row["reasons"], row["oscillation"]) == ("convergent", "", "weak")
    assert (row["long_run"], row["long_run_departure"]) == ("holds", -0.06)
    assert (row["gamma_start"], row["updates"], row["seconds"]) == (0.1, 1000, 7.5)
    assert row["r_matched"] == pytest.approx(1.0, abs=0.01)
    assert row["r_scaled"] == pytest.approx(0.3 / (0.1 * 8), abs=0.01)
    assert -0.2 < row["acf_min"] < 0  # type: ignore[operator]
    assert (row["mlflow_run_id"], row["cause"]) == (None, None)


def test_reasons_are_joined() -> None:
    low = result(level=0.3)
    low.assessment = dataclasses.replace(low.assessment, reasons=("r_below_band", "d_unbalanced"))
    row = table.row(low, None, None, 0, 0)
    assert row["reasons"] == "r_below_band;d_unbalanced"
    assert (row["verdict"], row["long_run"]) == ("nonconvergent", "not_run")
    assert row["long_run_departure"] is None


def test_a_row_is_made_of_plain_values_without_nan() -> None:
    gone = result(
        divergence=Divergence(12, "d is not finite"), status="stopped_early", cause="diverged"
    )
    row = table.row(gone, long_run("departs", math.inf), PLANE, 0, 0)
    assert row["verdict"] == "diverged"
    assert (row["convergence_score"], row["convergence_margin"]) == (0.0, -3.0)
    assert (row["long_run_departure"], row["kl"], row["tv_floor"]) == (None, 0.1, None)
    assert all(type(value) in (int, float, str, type(None)) for value in row.values())
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_the_cause_is_why_a_training_broke_off_or_what_is_missing() -> None:
    gone = result(divergence=Divergence(12, "d is not finite"), cause="d is not finite")
    assert table.row(gone, None, None, 0, 0)["cause"] == "d is not finite"
    short = table.row(result(n=30), None, None, 0, 0)
    assert short["verdict"] == "unassessed"
    assert "too few updates" in str(short["cause"])
    assert (short["convergence_score"], short["convergence_margin"]) == (None, None)


def test_chains_that_are_lost_have_a_cause_beside_the_empty_cell() -> None:
    lost = dataclasses.replace(long_run("departs", math.inf), reason="chains leave the finite")
    row = table.row(result(), lost, None, 0, 0)
    assert (row["long_run"], row["long_run_departure"]) == ("departs", None)
    assert row["cause"] == "chains leave the finite"
    both = str(table.row(result(n=30), lost, None, 0, 0)["cause"])
    assert both.startswith("too few updates")
    assert both.endswith("; chains leave the finite")
    # negative controls: a departure that is a number, and a check that was not made
    for told in (dataclasses.replace(lost, departure=-3.0), LongRun.not_run("no steps")):
        assert table.row(result(), told, None, 0, 0)["cause"] is None


def test_what_was_searched_without_a_column_gets_one() -> None:
    point: table.Row = {"epsilon": 0.1, "langevin_steps": 40, "network": "mlp"}
    for row in (
        table.row(result(), None, PLANE, 0, 0, point),
        table.failed_row(preset("digits", epsilon=0.1), 0, 0, "killed", point),
    ):
        assert (row["langevin_steps"], row["network"]) == (40, "mlp")
        assert list(row).count("epsilon") == 1
        assert list(row)[-1] == "cause"


def test_a_failed_training_has_settings_and_a_cause() -> None:
    row = table.failed_row(preset("digits", epsilon=0.1, anneal_updates=0), 5, 2, "worker died")
    assert list(row) == [*PROMISED, "cause"]
    assert (row["trial"], row["seed"], row["epsilon"]) == (5, 2, 0.1)
    assert (row["status"], row["verdict"], row["cause"]) == ("failed", None, "worker died")
    # nothing was annealed, so that the rate at the start is that at the end
    assert row["gamma_start"] == row["gamma_0"] == 0.005
    assert (row["updates"], row["convergence_score"], row["long_run"]) == (None, None, "not_run")


def test_numbers_of_a_row() -> None:
    row = table.row(result(), long_run(), None, 3, 0)
    assert table.number(row, "trial") == 3.0
    assert table.number(row, "kl") is None
    assert table.number(row, "diverged") == 0.0
    assert table.number({**row, "verdict": "diverged"}, "diverged") == 1.0
    assert table.number(table.failed_row(preset("digits"), 0, 0, "x"), "diverged") is None


def rows() -> list[table.Row]:
    """Three trainings out of order, one of them failed, one with a fit in the plane."""
    return [
        table.row(result(level=0.3), long_run("departs", -1.0), None, 1, 1),
        table.failed_row(preset("digits"), 1, 0, "killed, twice"),
        table.row(result(), long_run(), PLANE, 0, 0, {"langevin_steps": 30}),
    ]


def test_the_table_is_sorted_and_typed() -> None:
    frame = table.frame(rows())
    further = (table.EVIDENCE_COLUMNS, table.CHECK_COLUMNS, table.PLANE_COLUMNS)
    offered = [*(name for names in further for name in names), "langevin_steps", "cause"]
    assert list(frame.columns) == [*PROMISED, *offered]
    assert list(zip(frame["trial"], frame["seed"], strict=True)) == [(0, 0), (1, 0), (1, 1)]
    assert frame["epsilon"].dtype == "float64"
    assert frame["kl"].isna().tolist() == [False, True, True]
    # missing whole numbers do not turn the others into fractions
    assert str(frame["updates"].dtype) == "Int64"
    assert frame["updates"].isna().tolist() == [False, True, False]


def test_a_table_without_rows_has_its_columns() -> None:
    assert list(table.frame([]).columns) == [*PROMISED, "cause"]


def test_both_files_hold_the_table(tmp_path: Path) -> None:
    written = table.write(rows(), tmp_path / "new" / "study")
    folder = tmp_path / "new" / "study"
    assert sorted(path.name for path in folder.iterdir()) == ["results.csv", "results.parquet"]
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "results.parquet"), written)
    read = pd.read_csv(folder / "results.csv")
    assert list(read.columns) == list(written.columns)
    for name in ("epsilon", "r_matched", "kl", "updates"):
        np.testing.assert_array_equal(read[name], written[name].astype("float64"))
    assert read["cause"].tolist()[1] == "killed, twice"


def test_writing_replaces_what_was_there(tmp_path: Path) -> None:
    table.write(rows()[:1], tmp_path)
    table.write(rows(), tmp_path)
    assert len(pd.read_csv(tmp_path / "results.csv")) == 3
    assert len(pd.read_parquet(tmp_path / "results.parquet")) == 3


def test_a_write_that_fails_leaves_the_old_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.write(rows()[:1], tmp_path)

    def full_disk(self: pd.DataFrame, path: Path, **options: Any) -> None:
        Path(path).write_text("half")
        raise OSError("no space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full_disk)
    with pytest.raises(OSError, match="no space left"):
        table.write(rows(), tmp_path)
    monkeypatch.undo()
    assert len(pd.read_csv(tmp_path / "results.csv")) == 1
    assert len(pd.read_parquet(tmp_path / "results.parquet")) == 1


def test_rows_and_files_are_made_without_torch() -> None:
    code = """
import sys
from ebm_core.presets import preset
from study import table
assert not {"pandas", "numpy"} & set(sys.modules), "pandas is loaded to build the table only"
row = table.failed_row(preset("digits"), 0, 0, "killed")
table.frame([row])
assert "pandas" in sys.modules
assert not {"torch", "ray", "mlflow", "optuna"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
