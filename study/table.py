"""The results table: its columns, its rows, and its two files.

One row stands for one (configuration, seed). What a study may optimize or constrain is a number of
the table, so that whatever steered it can be looked up afterwards. Imports pandas, and only to
build the table; rows are made from whatever has the attributes that they need.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebm_core.config import TrainConfig
from ebm_core.files import replacing

if TYPE_CHECKING:
    import pandas as pd

Cell = int | float | str | None
Row = dict[str, Cell]

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
    "long_run_summary",
    "mlflow_run_id",
)

# The rest of the evidence behind a verdict.
EVIDENCE_COLUMNS = (
    "r_rms",
    "r_over_floor",
    "r_drift",
    "margin_r_in_band",
    "margin_d_balanced",
    "margin_oscillation_weak",
    "margin_r_level",
    "margin_model_at_rest",
    "margin_spread_matched",
    "restlessness",
    "chain_spread",
    "clipped_share",
)

# Of the long-run check, beside its outcome: what its departure is a departure of, and the like.
CHECK_COLUMNS = (
    "long_run_summary",
    "long_run_error",
    "long_run_r_hat",
    "long_run_effective_samples",
    "long_run_detectable",
    "long_run_noise",
    "discretization_gap",
    "discretization_error",
)

# Offered by data in the plane, where the fitted density can be integrated on a grid.
PLANE_COLUMNS = (
    "kl",
    "tv",
    "kl_floor",
    "tv_floor",
    "kl_short_run",
    "tv_short_run",
    "kl_short_run_floor",
    "tv_short_run_floor",
)

# Offered by finite data sets: what short-run samples are worth beside the data. Ratios are 1, and
# differences 0, where samples are as the noised data are.
WORTH_COLUMNS = (
    "nearest_ratio",
    "close_share",
    "sharpness",
)

# The same where some of the data are held out, see `data.held_out`.
HELD_OUT_COLUMNS = (
    "held_out_over_training",
    "held_out_over_training_error",
    "held_out_over_samples",
    "held_out_over_samples_error",
)

# Why a training broke off, which evidence is missing, or how long chains were lost where their
# departure is not a number; the last column.
CAUSE = "cause"

# Not a column: 1 where the verdict is `diverged`, else 0.
DIVERGED = "diverged"

NUMERIC_COLUMNS = (
    *(name for name in COLUMNS if name not in TEXT_COLUMNS),
    *EVIDENCE_COLUMNS,
    *(name for name in CHECK_COLUMNS if name not in TEXT_COLUMNS),
    *PLANE_COLUMNS,
    *WORTH_COLUMNS,
    *HELD_OUT_COLUMNS,
)
NUMERIC_NAMES = (*NUMERIC_COLUMNS, DIVERGED)

_WHOLE = ("trial", "seed", "anneal_updates", "acf_min_lag", "updates")
_FROM_EVIDENCE = (
    "r_band_adherence",
    "r_paper_band_adherence",
    "r_1",
    "r",
    "r_scaled",
    "r_matched",
    "d_balance",
)


def row(
    result: Any,
    long_run: Any | None,
    plane: Any | None,
    trial: int,
    seed: int,
    point: Mapping[str, Cell] | None = None,
    worth: Any | None = None,
) -> Row:
    """The row of one training; what is missing or not finite is None.

    Args:
        result: Of the training, as `ebm_core.result.RunResult`.
        long_run: Of its check, as `ebm_core.evaluate.LongRun`; None if there was none.
        plane: Fit in the plane, as `ebm_core.evaluate.DensityDivergence`; None elsewhere.
        trial: Number of the configuration.
        seed: Which of its repeats, from 0.
        point: What was searched; parameters without a column of their own get one.
        worth: Of its samples, as `ebm_core.worth.Worth`; None where nothing is known of it.
    """
    assessment = result.assessment
    swing = assessment.oscillation
    found = {
        **_settings(result.config, trial, seed),
        "status": result.status,
        "verdict": assessment.verdict,
        "reasons": ";".join(assessment.reasons),
        "oscillation": swing.type,
        **{name: assessment.evidence.get(name) for name in _FROM_EVIDENCE},
        "acf_min": swing.acf_min,
        # Lags start at 1: 0 says that there is no lowest autocorrelation
        "acf_min_lag": swing.acf_min_lag or None,
        "corr_d_r": swing.corr_d_r,
        "convergence_score": assessment.convergence_score,
        "convergence_margin": assessment.convergence_margin,
        "long_run": "not_run" if long_run is None else long_run.outcome,
        "long_run_departure": None if long_run is None else long_run.departure,
        "updates": len(result.d),
        "seconds": result.seconds,
    }
    offered = {**_further_evidence(assessment), **_checked(long_run), **_plane(plane)}
    offered |= _worth(worth)
    causes = [result.cause or "; ".join(assessment.missing), _lost(long_run)]
    return _complete(found, {**offered, **(point or {})}, "; ".join(filter(None, causes)))


def failed_row(
    config: TrainConfig,
    trial: int,
    seed: int,
    cause: str,
    point: Mapping[str, Cell] | None = None,
) -> Row:
    """The row of a training that failed to run: its settings and the cause, no verdict."""
    found = {**_settings(config, trial, seed), "status": "failed", "long_run": "not_run"}
    return _complete(found, point or {}, cause)


def number(row: Mapping[str, Cell], name: str) -> float | None:
    """One of `NUMERIC_NAMES` in a row; None where it is missing, or there is no verdict."""
    if name == DIVERGED:
        verdict = row.get("verdict")
        return None if verdict is None else float(verdict == "diverged")
    value = row.get(name)
    return None if value is None else float(value)


def frame(rows: Iterable[Mapping[str, Cell]]) -> pd.DataFrame:
    """The table, sorted by trial and seed; missing numbers are NaN, missing words empty cells."""
    import pandas as pd

    rows = list(rows)
    extra = [name for name in dict.fromkeys(n for r in rows for n in r) if name not in COLUMNS]
    further = (
        *EVIDENCE_COLUMNS,
        *CHECK_COLUMNS,
        *PLANE_COLUMNS,
        *WORTH_COLUMNS,
        *HELD_OUT_COLUMNS,
    )
    offered = [name for name in further if name in extra]
    own = [name for name in extra if name not in (*further, CAUSE)]
    names = [*COLUMNS, *offered, *own, CAUSE]
    table = pd.DataFrame([dict(each) for each in rows], columns=names)
    for name in names:
        if name in _WHOLE:
            table[name] = table[name].astype("Int64")
        elif name in NUMERIC_COLUMNS:
            table[name] = table[name].astype("float64")
        elif name in TEXT_COLUMNS or name == CAUSE:
            table[name] = table[name].astype("string")
    return table.sort_values(["trial", "seed"], ignore_index=True)


def write(rows: Iterable[Mapping[str, Cell]], folder: str | Path) -> pd.DataFrame:
    """Writes ``results.csv`` and ``results.parquet``; a reader sees the old ones or the new ones.

    Returns:
        The table that was written.
    """
    table = frame(rows)
    folder = Path(folder)
    for name, save in (("results.csv", table.to_csv), ("results.parquet", table.to_parquet)):
        with replacing(folder / name) as temporary:
            save(temporary, index=False)
    return table


def _further_evidence(assessment: Any) -> dict[str, Any]:
    margins = {f"margin_{name}": value for name, value in assessment.margins.items()}
    found = {**assessment.evidence, **margins}
    return {name: found.get(name) for name in EVIDENCE_COLUMNS}


def _checked(long_run: Any | None) -> dict[str, Any]:
    if long_run is None:
        return {}
    found = (
        long_run.summary,
        long_run.standard_error,
        long_run.r_hat,
        long_run.effective_samples,
        long_run.detectable,
        long_run.noise_departure,
        long_run.discretization_gap,
        long_run.discretization_error,
    )
    return dict(zip(CHECK_COLUMNS, found, strict=True))


def _plane(plane: Any | None) -> dict[str, Any]:
    if plane is None:
        return {}
    found = {name: getattr(plane, name) for name in ("kl", "tv", "kl_floor", "tv_floor")}
    samples = plane.short_run
    for name in ("kl", "tv"):
        found[f"{name}_short_run"] = getattr(samples, name, None)
        found[f"{name}_short_run_floor"] = getattr(samples, f"{name}_floor", None)
    return found


def _worth(worth: Any | None) -> dict[str, Any]:
    if worth is None:
        return {}
    copied, grain, unseen = worth.memorization, worth.sharpness, worth.held_out
    ratio = copied.median / copied.other if copied.other > 0 else None
    found = (ratio, copied.close, None if grain is None else grain.ratio)
    offered = dict(zip(WORTH_COLUMNS, found, strict=True))
    if unseen is not None:
        held_out = (
            unseen.over_seen,
            unseen.over_seen_error,
            unseen.over_samples,
            unseen.over_samples_error,
        )
        offered |= dict(zip(HELD_OUT_COLUMNS, held_out, strict=True))
    return offered


def _lost(long_run: Any | None) -> str:
    """What the empty cell of an infinite departure cannot say; empty for any other."""
    if long_run is None or long_run.outcome != "departs" or math.isfinite(long_run.departure):
        return ""
    return long_run.reason or ""


def _settings(config: TrainConfig, trial: int, seed: int) -> dict[str, Any]:
    return {
        "trial": trial,
        "seed": seed,
        "epsilon": config.epsilon,
        "eps_data_ratio": config.eps_data_ratio,
        "data_epsilon": config.data_epsilon,
        "gamma_0": config.gamma_0,
        "gamma_start": config.start_rate,
        "anneal_updates": config.anneal_updates,
        "optimizer": config.optimizer,
    }


def _complete(found: Mapping[str, Any], more: Mapping[str, Any], cause: str) -> Row:
    """Every column in order, then what else is offered, then the cause; values are plain."""
    rest = {name: value for name, value in more.items() if name not in COLUMNS}
    values = {**dict.fromkeys(COLUMNS), **found, **rest, CAUSE: cause or None}
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Cell:
    """A scalar without numpy and without NaN or infinity, which JSON does not have."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, int | float | str) else str(value)
