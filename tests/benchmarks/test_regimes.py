"""The regimes of learning on real images, each from one real training of some seconds."""

from __future__ import annotations

from statistics import median

import pytest

from ebm_core import preset, train, train_members
from ebm_core.evaluate import check

KEPT = {"gamma_start": None, "anneal_updates": 0}


def test_a_small_epsilon_does_not_converge_and_the_long_run_departs() -> None:
    result = train(preset("digits", epsilon=0.02))
    assert result.assessment.verdict == "nonconvergent"
    assert {"r_below_band", "d_unbalanced"} <= set(result.assessment.reasons)
    assert check(result).outcome == "departs"


def test_a_large_epsilon_converges_and_the_long_run_holds() -> None:
    result = train(preset("digits", epsilon=0.2))
    assert result.assessment.verdict == "convergent"
    assert result.assessment.oscillation.type == "weak"
    assert result.assessment.evidence["r_scaled"] == pytest.approx(0.245, abs=0.015)
    assert check(result).outcome == "holds"


def test_a_low_kept_rate_oscillates_weakly() -> None:
    swing = train(preset("digits", gamma_0=0.1, **KEPT)).assessment.oscillation
    assert swing.type == "weak"
    assert swing.acf_min > -0.2


def test_a_high_kept_rate_diverges_within_some_updates() -> None:
    result = train(preset("digits", gamma_0=0.7, **KEPT))
    assert result.assessment.verdict == "diverged"
    assert len(result.d) < 100


def test_adam_at_a_high_rate_oscillates_strongly() -> None:
    """Over five seeds: rounding, and so the processor, decides how deep a single run dips.

    On some processors one of them drifts over its window in place of swinging.
    """
    runs = train_members([preset("digits_strong", seed=seed) for seed in range(5)])
    swings = [run.assessment.oscillation for run in runs]
    assert [swing.type for swing in swings].count("strong") >= 4
    assert median(swing.acf_min for swing in swings) < -0.35
    assert all(swing.corr_d_r > 0.5 for swing in swings)
