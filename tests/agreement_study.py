"""A study whose long runs nobody made: what decides them is known, and so is what foretells it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from fake_study import frame_of, row

FOUR: dict[str, Any] = {
    "epsilon": {"distribution": "loguniform", "min": 0.02, "max": 0.2},
    "eps_data_ratio": {"distribution": "loguniform", "min": 0.5, "max": 4.0},
    "gamma_0": {"distribution": "loguniform", "min": 0.005, "max": 0.4},
    "anneal_updates": {"distribution": "quniform", "min": 0, "max": 1000, "q": 100},
}


def labelled_frame(trials: int = 96, seeds: int = 1, seed: int = 0, **fields: Any) -> pd.DataFrame:
    """Trainings that hold where mixing and learning together suffice.

    Mixing grows with epsilon alone. Learning, which no hyperparameter tells, is what the margin
    of r sees; the margin of the balance is noise. A gamma_0 over 0.3 diverges.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for trial in range(trials):
        setting = {
            "epsilon": float(0.02 * 10 ** rng.random()),
            "eps_data_ratio": float(0.5 * 8 ** rng.random()),
            "gamma_0": float(0.005 * 80 ** rng.random()),
            "anneal_updates": int(100 * rng.integers(0, 11)),
        }
        mixing = np.log(setting["epsilon"] / 0.063) / 0.6
        for repeat in range(seeds):
            learning = float(rng.normal(0, 1))
            if setting["gamma_0"] > 0.3:
                rows.append(row(trial, "diverged", seed=repeat, **setting))
                continue
            rows.append(
                row(
                    trial,
                    **setting,
                    **_judged(rng, learning, float(mixing + learning)),
                    **fields,
                    seed=repeat,
                )
            )
    return frame_of(rows)


def _judged(rng: np.random.Generator, learning: float, quality: float) -> dict[str, Any]:
    margins = {
        "margin_r_in_band": quality / 2 + rng.normal(0, 0.2),
        "margin_d_balanced": 0.7 + rng.normal(0, 0.3),
        "margin_oscillation_weak": 0.8,
        "margin_r_level": 0.6 + rng.normal(0, 0.1),
    }
    margins = {name: float(np.clip(value, -3, 1)) for name, value in margins.items()}
    failing = {
        "r_below_band": margins["margin_r_in_band"] < 0,
        "d_unbalanced": margins["margin_d_balanced"] < 0,
    }
    least = min(margins.values())
    holds = quality > 0
    return {
        **margins,
        "verdict": "convergent" if least >= 0 else "nonconvergent",
        "reasons": ";".join(name for name, fails in failing.items() if fails),
        "convergence_margin": least,
        "convergence_score": float(
            np.mean(np.clip([0.5 + m / 2 for m in margins.values()], 0, 1))
        ),
        "long_run": "holds" if holds else "departs",
        "long_run_departure": float(rng.normal(0, 0.05)) if holds else quality - 0.3,
        "r_matched": float(0.95 * np.exp(learning / 4)),
        "d_balance": float(rng.normal(0, 0.3)),
        "acf_min": float(rng.normal(-0.05, 0.02)),
        "corr_d_r": float(rng.normal(0, 0.2)),
    }
