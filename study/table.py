"""The columns of the results table, and which of them are numbers.

One row stands for one (configuration, seed). What a study may optimize or constrain is a numeric
column, so that whatever steered it can be looked up afterwards.
"""

from __future__ import annotations

COLUMNS = (
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
)
TEXT_COLUMNS = (
    "optimizer",
    "status",
    "verdict",
    "reasons",
    "oscillation",
    "long_run",
    "mlflow_run_id",
)

# Offered by data in the plane, where the fitted density can be integrated on a grid.
PLANE_COLUMNS = ("kl", "tv", "kl_floor", "tv_floor")

# Not a column: 1 where the verdict is `diverged`, else 0.
DIVERGED = "diverged"

NUMERIC_COLUMNS = tuple(name for name in COLUMNS if name not in TEXT_COLUMNS) + PLANE_COLUMNS
NUMERIC_NAMES = (*NUMERIC_COLUMNS, DIVERGED)
