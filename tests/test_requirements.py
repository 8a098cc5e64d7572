"""Margins and score: what holds for any evidence."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebm_core.assessment import MARGIN_FLOOR, Thresholds
from ebm_core.config import Band
from ebm_core.diagnostics import oscillation
from ebm_core.requirements import margins_of, reasons_of, score_of

BAND, LIMITS, BATCH = Band(low=0.8, high=1.2), Thresholds(), 50
NOISE = np.random.default_rng(0).normal(size=(2, 1_000))
SWING = oscillation(*NOISE)
REASONS = {
    "r_in_band": "r_above_band",
    "d_balanced": "d_unbalanced",
    "oscillation_weak": "strong_oscillation",
    "r_level": "r_drifting",
    "model_at_rest": "model_restless",
    "spread_matched": "spread_unmatched",
}

# How far each requirement is missed: 0 not at all, 1 its limit.
MISSES = st.fixed_dictionaries({name: st.floats(0, 6) for name in REASONS})


def margins(missed: dict[str, float]) -> dict[str, float]:
    """Margins where r lies above the middle of its band, at every update."""
    above = missed["r_in_band"]
    dip = -missed["oscillation_weak"] * LIMITS.oscillation
    evidence = {
        "r": 1 + 0.2 * above,
        "r_band_adherence": 1.0 if above <= 1 else 0.0,
        "r_band_clearance": 0.2 * (1 - above),
        "d_balance": -missed["d_balanced"] * LIMITS.balance * math.sqrt(BATCH / 2),
        "r_drift": missed["r_level"] * LIMITS.drift,
        "restlessness": missed["model_at_rest"] * LIMITS.restlessness,
        "chain_spread": LIMITS.chain_spread ** -missed["spread_matched"],
    }
    swing = replace(SWING, acf_min=dip, type="strong" if dip < -LIMITS.oscillation else "weak")
    return margins_of(evidence, swing, BAND, 1.0, LIMITS, BATCH)


@given(MISSES)
def test_margins_are_bounded_and_their_sign_says_what_fails(missed: dict[str, float]) -> None:
    found = margins(missed)
    assert found.keys() == REASONS.keys()
    assert all(MARGIN_FLOOR <= value <= 1 for value in found.values())
    named = set(reasons_of(found, False, replace(SWING, type="strong")))
    assert named == {REASONS[name] for name, value in found.items() if value < 0}
    assert (min(found.values()) >= 0) == (not named)
    for name, miss in missed.items():
        if abs(miss - 1) > 1e-6:
            assert (found[name] < 0) == (miss > 1)


@given(MISSES, st.sampled_from(sorted(REASONS)), st.floats(0, 3))
def test_margin_and_score_never_rise_as_a_requirement_is_missed_by_more(
    missed: dict[str, float], name: str, by: float
) -> None:
    before, after = margins(missed), margins({**missed, name: missed[name] + by})
    assert after[name] <= before[name]
    assert {k: v for k, v in after.items() if k != name} == pytest.approx(
        {k: v for k, v in before.items() if k != name}
    )
    assert min(after.values()) <= min(before.values()) + 1e-12
    assert score_of(after) <= score_of(before) + 1e-12
    # and the score does fall between the middle and twice the limit
    if missed[name] + by < 1.9 and by > 1e-3:
        assert score_of(after) < score_of(before)


def test_the_score_ends_at_nought_and_one() -> None:
    assert score_of(margins(dict.fromkeys(REASONS, 0.0))) == 1
    assert score_of(margins(dict.fromkeys(REASONS, 5.0))) == 0
    # a margin of 0 is half of what there is to gain
    assert score_of({"a": 0.0, "b": 1.0}) == 0.75


def test_nothing_is_required_of_chains_that_are_not_known() -> None:
    unknown = {"model_at_rest", "spread_matched"}
    missed = {**dict.fromkeys(REASONS, 0.5), **dict.fromkeys(unknown, math.nan)}
    assert margins(missed).keys() == REASONS.keys() - unknown


@pytest.mark.parametrize(("below", "reason"), [(True, "r_below_band"), (False, "r_above_band")])
def test_the_band_is_missed_at_an_end(below: bool, reason: str) -> None:
    assert reasons_of({"r_in_band": -1.0}, below, SWING) == (reason,)


def test_an_oscillation_of_undetermined_type_is_no_reason() -> None:
    undetermined = replace(SWING, type="undetermined")
    assert reasons_of({"oscillation_weak": -1.0}, False, undetermined) == ()
