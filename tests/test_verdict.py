"""Verdicts: a table of series in and decisions out, and what holds for any series."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ebm_core.config import Band
from ebm_core.correlation import Array
from ebm_core.verdict import (
    MARGIN_FLOOR,
    PAPER_BAND,
    Assessment,
    Divergence,
    Thresholds,
    assess,
    band_scale,
)

EPSILON, N, RHO = 0.05, 64, 2.0
R_STAR = EPSILON * math.sqrt(N) * (RHO - math.sqrt(RHO**2 - 1))
BATCH = 18
CONSTANTS: dict[str, Any] = {
    "epsilon": EPSILON,
    "dimensions": N,
    "eps_data_ratio": RHO,
    "batch_size": BATCH,
}
# d of unit sd may lie as far from 0 as this
BALANCE = 0.2 * math.sqrt(BATCH / 2)
REQUIREMENTS = {"r_in_band", "d_balanced", "oscillation_weak", "r_level"}


def recursion(n: int, seed: int, first: float, second: float = 0.0) -> Array:
    """An autoregression, settled, of sample mean 0 and unit sample variance."""
    x = np.zeros(n + 200)
    kicks = np.random.default_rng(seed).normal(size=n + 200)
    for t in range(2, n + 200):
        x[t] = first * x[t - 1] + second * x[t - 2] + kicks[t]
    x = x[200:]
    return (x - x.mean()) / x.std(ddof=1)


def level(x: Array) -> Array:
    """A series without its trend."""
    t = np.linspace(-0.5, 0.5, x.size)
    return x - t * (t @ x) / (t @ t)


LENGTH = 1_000
D = recursion(LENGTH, 0, 0.0)
R = R_STAR * (1 + 0.05 * level(recursion(LENGTH, 1, 0.9)))
SWINGING = recursion(LENGTH, 2, 1.35, -0.7)
FOLLOWING = R_STAR * (1 + 0.05 * level(0.8 * SWINGING + 0.6 * recursion(LENGTH, 3, 0.9)))
RAMP = np.linspace(0.8, 1.2, LENGTH)
FALL = np.exp(np.arange(LENGTH) / 60)


def looks(value: float, n: int = LENGTH) -> dict[str, Any]:
    """Restlessness, looked at every 25 updates."""
    series = np.full(n, math.nan)
    series[::25] = value
    return {"restlessness": series}


def with_(series: Array, where: int | slice, value: float) -> Array:
    changed = series.copy()
    changed[where] = value
    return changed


@dataclass
class Case:
    """Series in, decision out."""

    verdict: str
    d: Array = field(default_factory=lambda: D)
    r: Array = field(default_factory=lambda: R)
    reasons: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    oscillation: str | None = None
    constants: dict[str, Any] = field(default_factory=dict)


CASES = {
    # convergent
    "healthy": Case("convergent", oscillation="weak"),
    "a little off in everything": Case(
        "convergent", d=D + 0.4, r=1.3 * R * np.linspace(0.95, 1.05, LENGTH)
    ),
    "annealed before the window": Case(
        "convergent", constants={"constant_from": 400, "burn_in_updates": 500}
    ),
    "noisy start outside the window": Case(
        "convergent",
        d=with_(D, slice(0, 100), -5_000.0),
        r=with_(R, slice(0, 100), 1e-6),
        constants={"window": 800},
    ),
    "model at rest": Case("convergent", constants=looks(0.1)),
    "model that does not learn": Case("convergent", constants=looks(0.0)),
    "chains as wide as the data": Case("convergent", constants={"chain_spread": 1.1}),
    "model at rest in the window": Case(
        "convergent",
        constants={
            "window": 800,
            "restlessness": with_(looks(0.1)["restlessness"], slice(0, 200), 9.0),
        },
    ),
    "never looked at": Case("convergent", constants={"restlessness": np.empty(0)}),
    "looked at before the window only": Case(
        "convergent",
        constants={
            "window": 800,
            "restlessness": with_(looks(9.0)["restlessness"], slice(200, None), math.nan),
        },
    ),
    # nonconvergent, reason by reason
    "r too low": Case("nonconvergent", r=0.5 * R, reasons=("r_below_band",)),
    "r too high": Case("nonconvergent", r=2 * R, reasons=("r_above_band",)),
    "chains too high": Case("nonconvergent", d=D - 1, reasons=("d_unbalanced",)),
    "data too high": Case("nonconvergent", d=D + 1, reasons=("d_unbalanced",)),
    "r rises": Case("nonconvergent", r=R * RAMP, reasons=("r_drifting",)),
    "r falls": Case("nonconvergent", r=R * RAMP[::-1], reasons=("r_drifting",)),
    "strong oscillation": Case(
        "nonconvergent",
        d=SWINGING,
        r=FOLLOWING,
        reasons=("strong_oscillation",),
        oscillation="strong",
    ),
    "everything at once": Case(
        "nonconvergent",
        d=SWINGING - 1,
        r=0.3 * FOLLOWING * RAMP,
        reasons=("r_below_band", "d_unbalanced", "strong_oscillation", "r_drifting"),
    ),
    "undetermined, and decided by something else": Case(
        "nonconvergent",
        d=SWINGING,
        r=0.3 * R,
        reasons=("r_below_band",),
        oscillation="undetermined",
    ),
    "model redraws itself": Case(
        "nonconvergent", constants=looks(0.5), reasons=("model_restless",)
    ),
    "model in pieces": Case(
        "nonconvergent", constants=looks(math.inf), reasons=("model_restless",)
    ),
    "chains too wide": Case(
        "nonconvergent", constants={"chain_spread": 1.7}, reasons=("spread_unmatched",)
    ),
    "chains too narrow": Case(
        "nonconvergent", constants={"chain_spread": 0.6}, reasons=("spread_unmatched",)
    ),
    "chains in one point": Case(
        "nonconvergent", constants={"chain_spread": 0.0}, reasons=("spread_unmatched",)
    ),
    # unassessed
    "too short": Case("unassessed", d=D[:99], r=R[:99], missing=("99 of the 100",)),
    "empty": Case("unassessed", d=D[:0], r=R[:0], missing=("0 of the 100",)),
    "shorter than the window": Case(
        "unassessed", constants={"window": 1_001}, missing=("1000 of the 1001",)
    ),
    "still annealing": Case(
        "unassessed",
        constants={"window": 500, "constant_from": 501},
        missing=("starts at update 500, but the learning rate falls until 501",),
    ),
    "bank burns in": Case(
        "unassessed",
        constants={"window": 500, "burn_in_updates": 600},
        missing=("the bank burns in until 600",),
    ),
    "both": Case(
        "unassessed",
        constants={"window": 999, "constant_from": 10, "burn_in_updates": 20},
        missing=("learning rate falls until 10", "bank burns in until 20"),
    ),
    "too little after annealing": Case(
        "unassessed", constants={"constant_from": 901}, missing=("99 of the 100",)
    ),
    "annealing beyond the end": Case(
        "unassessed", constants={"constant_from": 5_000}, missing=("0 of the 100",)
    ),
    "d constant": Case("unassessed", d=0 * D + 0.1, missing=("d is constant",)),
    "d zero": Case("unassessed", d=0 * D, missing=("d is constant",)),
    "r constant": Case("unassessed", r=0 * R + R_STAR, missing=("r is constant",)),
    "both constant": Case(
        "unassessed", d=0 * D, r=0 * R + R_STAR, missing=("d is constant", "r is constant")
    ),
    "r frozen at the end": Case(
        "unassessed", r=with_(R, slice(950, None), R_STAR), missing=("r is frozen",)
    ),
    "d frozen in the middle": Case(
        "unassessed", d=with_(D, slice(300, 320), 0.0), missing=("d is frozen",)
    ),
    "r vanishes": Case("unassessed", r=with_(R, 700, 0.0), missing=("r is not above 0",)),
    "d a straight line": Case(
        "unassessed", d=np.linspace(-1, 1, LENGTH), missing=("oscillation is undetermined",)
    ),
    "r* not known": Case(
        "unassessed",
        constants={"eps_data_ratio": 0.5, "band": Band()},
        missing=(r"r\* is not known",),
    ),
    "alternation that r does not follow": Case(
        "unassessed",
        d=SWINGING,
        missing=("undetermined: .* r does not follow d",),
        oscillation="undetermined",
    ),
    # broken off
    "d not a number": Case("diverged", d=with_(D, 600, math.nan), missing=("d is not.* 600",)),
    "d infinite": Case("diverged", d=with_(D, 3, -math.inf), missing=("d is not finite at .* 3",)),
    "r infinite": Case("diverged", r=with_(R, 999, math.inf), missing=("r is not.* 999",)),
    "nothing finite": Case("diverged", d=D * math.nan, missing=("d is not finite at update 0",)),
    "r beyond reason": Case(
        "diverged", r=with_(R, 7, 1e38), missing=("any reasonable range.* 7",)
    ),
    "seen by the trainer": Case(
        "diverged",
        constants={"divergence": Divergence(900, "chains left any reasonable range")},
        missing=("chains left any reasonable range at update 900",),
    ),
    "diverged young": Case(
        "diverged",
        d=with_(D[:5], 4, math.nan),
        r=R[:5],
        missing=("d is not finite at update 4",),
        oscillation="undetermined",
    ),
    "collapsed": Case("collapsed", d=D - FALL, missing=("minus infinity, seen at update",)),
    # order
    "collapsed while annealing": Case(
        "collapsed",
        d=D - FALL,
        constants={"constant_from": 900, "window": 500},
        missing=("minus infinity",),
    ),
    "collapsed until not finite": Case(
        "diverged", d=with_(D - FALL, -1, math.nan), missing=("d is not finite",)
    ),
}


def judged(case: Case) -> Assessment:
    return assess(case.d, case.r, **{**CONSTANTS, **case.constants})


@pytest.mark.parametrize("name", CASES)
def test_decision_table(name: str) -> None:
    case = CASES[name]
    found = judged(case)
    assert found.verdict == case.verdict
    assert found.reasons == case.reasons
    assert len(found.missing) == len(case.missing), found.missing
    for text, pattern in zip(found.missing, case.missing, strict=True):
        assert re.search(pattern, text), text
    assert case.oscillation in (None, found.oscillation.type)
    check_consistency(found)


def check_consistency(found: Assessment) -> None:
    """What holds for every assessment, whatever the series."""
    margin, score = found.convergence_margin, found.convergence_score
    if found.verdict in ("diverged", "collapsed"):
        assert (margin, score, found.censored) == (MARGIN_FLOOR, 0.0, True)
        assert found.margins == {}
        assert len(found.missing) == 1
    elif found.verdict == "unassessed":
        assert (margin, score, found.censored) == (None, None, False)
        assert found.margins == {}
        assert found.missing
        assert not found.reasons
    else:
        assert margin is not None
        assert score is not None
        further = {"model_at_rest": "restlessness", "spread_matched": "chain_spread"}
        known = {name for name, of in further.items() if not math.isnan(found.evidence[of])}
        assert found.margins.keys() == REQUIREMENTS | known
        assert all(-3 <= value <= 1 for value in found.margins.values())
        assert margin == min(found.margins.values())
        by_hand = [min(1, max(0, 0.5 + value / 2)) for value in found.margins.values()]
        assert score == pytest.approx(sum(by_hand) / len(by_hand))
        assert (margin >= 0) == (found.verdict == "convergent")
        assert (not found.reasons) == (found.verdict == "convergent")
        assert not found.missing
        assert not found.censored
        assert np.isfinite([found.evidence[name] for name in ("r", "r_drift", "d_balance")]).all()


def test_the_table_covers_every_verdict_and_reason() -> None:
    assert {case.verdict for case in CASES.values()} == {
        "convergent",
        "nonconvergent",
        "unassessed",
        "collapsed",
        "diverged",
    }
    assert {reason for case in CASES.values() for reason in case.reasons} == {
        "strong_oscillation",
        "r_below_band",
        "r_above_band",
        "r_drifting",
        "d_unbalanced",
        "model_restless",
        "spread_unmatched",
    }


# -- margins and score ---------------------------------------------------------------------------


def margin_of(requirement: str, d: Array = D, r: Array = R, **constants: Any) -> float:
    return assess(d, r, **{**CONSTANTS, **constants}).margins[requirement]


def test_margins_are_distances_to_the_limit_in_units_of_the_tolerance() -> None:
    band = Band(low=0.8, high=1.2)
    assert margin_of("r_in_band", band=band) == pytest.approx(1, abs=1e-9)
    assert margin_of("r_in_band", r=1.1 * R, band=band) == pytest.approx(0.5)
    assert margin_of("r_in_band", r=0.6 * R, band=band) == pytest.approx(-1)
    assert margin_of("d_balanced", d=D - BALANCE / 2) == pytest.approx(0.5)
    assert margin_of("d_balanced", d=D + 2 * BALANCE) == pytest.approx(-1)
    ramp = R * (1 + 0.1 * np.linspace(-0.5, 0.5, LENGTH))
    assert margin_of("r_level", r=ramp) == pytest.approx(0.5, abs=0.05)
    swing = assess(SWINGING, FOLLOWING, **CONSTANTS)
    expected = 1 + swing.oscillation.acf_min / Thresholds().oscillation
    assert swing.margins["oscillation_weak"] == pytest.approx(expected)
    assert expected < -0.5


def test_margins_end_at_minus_three_and_one() -> None:
    assert margin_of("d_balanced", d=D + 100) == -3
    assert margin_of("r_in_band", r=100 * R) == -3
    assert margin_of("oscillation_weak", d=recursion(LENGTH, 4, 0.9)) <= 1


STEPS = np.linspace(0, 4, 9)
WORSE: dict[str, Callable[[float], tuple[Array, Array]]] = {
    "d_balanced": lambda by: (D + by, R),
    "r_in_band": lambda by: (D, R * (1 + by)),
    "r_level": lambda by: (D, R * (1 + by / 4 * np.linspace(-0.9, 0.9, LENGTH))),
}


def test_the_margin_of_a_model_at_rest() -> None:
    limit = Thresholds().restlessness
    for value in (0.0, 0.1, limit, 0.3):
        found = margin_of("model_at_rest", **looks(value))
        assert found == pytest.approx(1 - value / limit)
    assert margin_of("model_at_rest", **looks(9.0)) == -3


def test_the_margin_of_the_spread_is_the_same_either_way() -> None:
    limit = Thresholds().chain_spread
    for share in (0.0, 0.5, 1.5):
        for sign in (-1, 1):
            found = margin_of("spread_matched", chain_spread=limit ** (sign * share))
            assert found == pytest.approx(1 - share)


@pytest.mark.parametrize("requirement", WORSE)
def test_score_and_margin_fall_as_a_requirement_is_missed_by_more(requirement: str) -> None:
    found = [assess(*WORSE[requirement](by), **CONSTANTS) for by in STEPS]
    margins = [a.margins[requirement] for a in found]
    assert margins == sorted(margins, reverse=True)
    assert margins[0] > 0 > margins[-1]
    for values in (
        [a.convergence_margin or 0 for a in found],
        [a.convergence_score or 0 for a in found],
    ):
        assert np.diff(values).max() < 1e-12
        assert values[-1] < values[0]


def test_a_dip_by_chance_is_no_failure() -> None:
    """Short windows dip below -0.25 by chance: weak, and the margin says so, too."""
    dips = 0
    for seed in range(100):
        d = recursion(100, seed, 0.0)
        found = assess(d, R[:100], **CONSTANTS, band=Band(low=0.5, high=2))
        if found.oscillation.acf_min < -0.25 and found.oscillation.type == "weak":
            dips += 1
            assert found.margins["oscillation_weak"] == 0
            assert "strong_oscillation" not in found.reasons
    assert dips > 3


@pytest.mark.parametrize("name", ["r_rms", "restlessness"])
def test_further_series_have_one_value_an_update_or_none(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must have one value an update"):
        assess(D, R, **CONSTANTS, **{name: np.ones(LENGTH // 25)})
    assert assess(D, R, **CONSTANTS, **{name: []}).verdict == "convergent"


def test_a_small_batch_tells_less_of_the_balance() -> None:
    shifted = D + 1
    verdicts = [
        assess(shifted, R, **{**CONSTANTS, "batch_size": n}).verdict for n in (10, 40, 100)
    ]
    assert verdicts == ["nonconvergent", "nonconvergent", "convergent"]
    with pytest.raises(ValueError, match=r"`batch_size >= 1` must hold, but got batch_size=0"):
        assess(D, R, **{**CONSTANTS, "batch_size": 0})


# -- bands, r* and evidence ----------------------------------------------------------------------


def test_band_units() -> None:
    assert band_scale("absolute", EPSILON, N, None) == 1
    assert band_scale("scaled", EPSILON, N, None) == pytest.approx(0.4)
    assert band_scale("matched", EPSILON, N, 0.07) == 0.07
    for unknown in (None, math.nan, 0.0, -1.0, math.inf):
        assert math.isnan(band_scale("matched", EPSILON, N, unknown))


@pytest.mark.parametrize(
    ("band", "inside"),
    [
        (Band(low=0.9, high=1.1), True),
        (Band(low=0.2, high=0.3, unit="scaled"), True),
        (Band(low=0.9, high=1.1, unit="scaled"), False),
        (Band(low=0.1, high=0.12, unit="absolute"), True),
        (Band(low=0.9, high=1.1, unit="absolute"), False),
        (PAPER_BAND, False),
    ],
)
def test_r_is_compared_in_the_unit_of_the_band(band: Band, inside: bool) -> None:
    found = assess(D, R, **CONSTANTS, band=band)
    assert (found.margins["r_in_band"] >= 0) is inside
    assert (found.evidence["r_band_adherence"] > 0.5) is inside
    assert (not found.reasons) is inside


def test_the_printed_band_belongs_to_its_epsilon_and_size() -> None:
    scaled = band_scale("scaled", 0.015, 3 * 32 * 32, None)
    assert PAPER_BAND.low * scaled == pytest.approx(0.08)
    assert PAPER_BAND.high * scaled == pytest.approx(0.15)


def test_default_band_is_matched_where_there_is_an_r_star() -> None:
    assert assess(D, R, **CONSTANTS).verdict == "convergent"
    known = assess(D, R, epsilon=EPSILON, dimensions=N, r_star=R_STAR)
    assert known.verdict == "convergent"
    assert known.evidence["r_star"] == R_STAR
    # what the caller knows of the data beats isolated modes
    assert assess(D, R, **CONSTANTS, r_star=3 * R_STAR).reasons == ("r_below_band",)
    # without either the printed band is left, in its scaled form
    plain = assess(D, R / R.mean() * 0.14 * 0.4, epsilon=EPSILON, dimensions=N)
    assert plain.verdict == "convergent"
    assert math.isnan(plain.evidence["r_matched"])
    assert plain.evidence["r_band_adherence"] == plain.evidence["r_paper_band_adherence"] == 1
    assert assess(D, R, epsilon=EPSILON, dimensions=N).reasons == ("r_above_band",)


def test_evidence() -> None:
    d, r = np.append([-50.0], D[1:] + 0.1), np.append([1e-3], R[1:])
    found = assess(d, r, **CONSTANTS, window=900, r_floor=0.09)
    evidence = found.evidence
    assert found.window == (100, 1_000)
    assert evidence["r"] == pytest.approx(r[100:].mean())
    assert evidence["r_scaled"] == pytest.approx(r[100:].mean() / (EPSILON * 8))
    assert evidence["r_matched"] == pytest.approx(r[100:].mean() / R_STAR)
    assert evidence["r_floor"] == 0.09
    assert evidence["r_1"] == 1e-3
    assert evidence["r_decades"] == pytest.approx(math.log10(r.max() / 1e-3))
    assert evidence["d_mean"] == pytest.approx(d[100:].mean())
    assert evidence["d_balance"] == pytest.approx(d[100:].mean() / d[100:].std(ddof=1))
    assert evidence["d_share_positive"] == pytest.approx((d[100:] > 0).mean())
    assert abs(evidence["d_skew"]) < 0.3
    assert found.oscillation.n == 900
    assert found.oscillation.corr_d_r == pytest.approx(
        np.corrcoef(d[100:], r[100:])[0, 1], abs=0.05
    )
    documented = set(
        re.findall(
            r"``(r|[dr]_\w+|restlessness|chain_\w+|clipped_\w+)``", Assessment.__doc__ or ""
        )
    )
    assert documented == set(evidence)


def test_evidence_of_a_divergence_is_what_came_before() -> None:
    d = np.concatenate([D[:500], np.full(500, math.nan)])
    r = np.concatenate([R[:500], np.full(500, 1e20)])
    found = assess(d, r, **CONSTANTS)
    before = assess(D[:500], R[:500], **CONSTANTS)
    assert found.window == (0, 500)
    assert found.evidence == before.evidence
    seen = assess(d, r, **CONSTANTS, divergence=Divergence(700, "seen late"))
    assert seen.missing == ("seen late at update 700",)
    assert seen.evidence == before.evidence


def test_the_default_window_is_the_last_two_thousand() -> None:
    d, r = np.tile(D, 5), np.tile(R, 5)
    assert assess(d, r, **CONSTANTS).window == (3_000, 5_000)
    assert assess(d, r, **CONSTANTS, constant_from=4_000).window == (4_000, 5_000)


def test_thresholds_are_the_callers() -> None:
    assert assess(D - 1, R, **CONSTANTS, thresholds=Thresholds(balance=2)).verdict == "convergent"
    few = Thresholds(least_updates=50)
    assert assess(D[:60], R[:60], **CONSTANTS).verdict == "unassessed"
    assert assess(D[:60], R[:60], **CONSTANTS, thresholds=few).verdict != "unassessed"
    with pytest.raises(ValueError, match="`balance > 0` must hold, but got balance=0"):
        Thresholds(balance=0)


# -- series from anywhere ------------------------------------------------------------------------


@pytest.mark.parametrize("form", [list, tuple, torch.tensor, np.float32])
def test_plain_series_need_no_trainer(form: Callable[[Any], Any]) -> None:
    found = assess(form(D), form(R), epsilon=EPSILON, dimensions=N, eps_data_ratio=RHO)
    assert found.verdict == found.summary() == "convergent"
    assert assess(form(D - 1), form(R), **CONSTANTS).summary() == "nonconvergent: d_unbalanced"


def test_summary_names_what_is_missing() -> None:
    found = assess([], [], epsilon=EPSILON, dimensions=N)
    assert found.summary() == "unassessed: too few updates: 0 of the 100 to be judged"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": R[:-1]}, r"series of one length, but got \(1000,\) and \(999,\)"),
        ({"d": D.reshape(2, -1), "r": R.reshape(2, -1)}, "series of one length"),
        ({"epsilon": 0.0}, r"`0 < epsilon < inf` and .* got epsilon=0\.0"),
        ({"epsilon": math.nan}, "got epsilon=nan"),
        ({"dimensions": 0}, "dimensions=0"),
        ({"window": 0}, "`window >= 1` must hold, but got window=0"),
    ],
)
def test_constants_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assess(**{"d": D, "r": R, **CONSTANTS, **changes})


def spoiled(kind: str) -> list[tuple[Array, Array]]:
    """A healthy training with d, r or both of them spoiled."""
    spoil: Callable[[Array], Array] = {
        "constant": lambda x: np.full_like(x, x[0]),
        "constant but for rounding": lambda x: (0.1 + 1e-9 * x).astype(np.float32),
        "frozen": lambda x: np.concatenate([x[:900], np.full(100, x[900])]),
        "not a number": lambda x: with_(x, 500, math.nan),
        "infinite": lambda x: with_(x, 999, math.inf),
        "straight": lambda x: np.linspace(x.min(), x.max(), x.size),
        "short": lambda x: x,
    }[kind]
    size = 99 if kind == "short" else LENGTH
    pairs = [(spoil(D), R), (D, spoil(R)), (spoil(D), spoil(R))]
    return [(d[:size], r[:size]) for d, r in pairs]


@pytest.mark.parametrize(
    "kind",
    [
        "constant",
        "constant but for rounding",
        "frozen",
        "straight",
        "not a number",
        "infinite",
        "short",
    ],
)
def test_dead_series_never_read_as_healthy(kind: str) -> None:
    assert assess(D, R, **CONSTANTS).verdict == "convergent"
    for d, r in spoiled(kind):
        # bad series of other kinds around them do not help
        for other_d, other_r in ((d, r), (d - 1, r), (d, 3 * r)):
            found = assess(other_d, other_r, **CONSTANTS)
            assert found.verdict in ("unassessed", "diverged")
            assert not found.convergence_score


# -- any series at all ---------------------------------------------------------------------------

any_float = st.floats(allow_nan=True, allow_infinity=True, width=64)
tame_float = st.floats(-1e6, 1e6)


@st.composite
def any_pair(draw: st.DrawFn) -> tuple[Array, Array]:
    n = draw(st.one_of(st.integers(0, 60), st.sampled_from([100, 450])))
    elements = draw(st.sampled_from([any_float, tame_float]))
    d, r = (draw(arrays(np.float64, n, elements=elements, fill=elements)) for _ in "dr")
    return d, r


@settings(max_examples=200, deadline=None)
@given(
    pair=any_pair(),
    window=st.one_of(st.none(), st.integers(1, 500)),
    constant_from=st.integers(0, 500),
    r_star=st.one_of(st.none(), st.floats(1e-9, 1e9), st.just(math.nan)),
    unit=st.sampled_from(["matched", "scaled", "absolute", None]),
    least=st.sampled_from([1, 20, 100]),
)
def test_there_is_a_verdict_on_any_series(
    pair: tuple[Array, Array],
    window: int | None,
    constant_from: int,
    r_star: float | None,
    unit: Any,
    least: int,
) -> None:
    band = None if unit is None else Band(low=0.1, high=1.0, unit=unit)
    found = assess(
        *pair,
        epsilon=EPSILON,
        dimensions=2,
        r_star=r_star,
        band=band,
        window=window,
        constant_from=constant_from,
        thresholds=Thresholds(least_updates=least),
    )
    check_consistency(found)
    if not np.isfinite(pair).all():
        assert found.verdict == "diverged"


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    phi=st.floats(-0.95, 0.95),
    offset=st.floats(-3, 3),
    share=st.floats(-1, 1),
    factor=st.floats(0.01, 10),
    rise=st.floats(-0.5, 0.5),
    n=st.sampled_from([100, 300]),
)
def test_margins_and_reasons_agree_on_living_series(
    seed: int, phi: float, offset: float, share: float, factor: float, rise: float, n: int
) -> None:
    d = recursion(n, seed, phi)
    r = 1 + 0.05 * (share * d + recursion(n, seed + 1, 0.9)) + rise * np.linspace(-0.5, 0.5, n)
    found = assess(d + offset, factor * R_STAR * r, **CONSTANTS)
    check_consistency(found)
    failing = {name for name, margin in found.margins.items() if margin < 0}
    words = {
        "r_below_band": "r_in_band",
        "r_above_band": "r_in_band",
        "d_unbalanced": "d_balanced",
        "strong_oscillation": "oscillation_weak",
        "r_drifting": "r_level",
    }
    named = {words[reason] for reason in found.reasons}
    if found.oscillation.type == "undetermined":
        failing.discard("oscillation_weak")
    assert named == failing
    assert ("strong_oscillation" in found.reasons) == (
        found.oscillation.type == "strong" and found.verdict == "nonconvergent"
    )


def test_the_same_series_in_other_units_get_the_same_verdict() -> None:
    """x in other units: r and epsilon scale alike, d in nats does not change."""
    for r in (R, 0.5 * R, R * RAMP):
        small, large = (
            assess(D, r * unit, epsilon=EPSILON * unit, dimensions=N, eps_data_ratio=RHO)
            for unit in (1e-3, 1e4)
        )
        assert small.reasons == large.reasons
        assert small.convergence_score == pytest.approx(large.convergence_score)


@pytest.mark.parametrize("period", [20, 40])
def test_an_r_that_jumps_over_its_band_is_not_in_it(period: int) -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(size=800)
    low = (np.arange(800) // (period // 2)) % 2 == 0
    r = np.where(low, 0.03, 0.17) * (1 + 0.01 * rng.normal(size=800))
    found = assess(d, r, epsilon=0.1, dimensions=64, r_star=0.1)
    assert 0.075 < found.evidence["r"] < 0.14
    assert found.verdict == "nonconvergent"
    assert {"r_below_band", "r_above_band"} & set(found.reasons)


def test_a_d_whose_spread_explodes_has_no_verdict() -> None:
    rng = np.random.default_rng(0)
    d, r = rng.normal(size=800), 0.1 * (1 + 0.05 * rng.normal(size=800))
    constants = {"epsilon": 0.1, "dimensions": 64, "r_star": 0.1}
    assert assess(d, r, **constants).verdict == "convergent"
    d[400:] *= 1e4
    found = assess(d, r, **constants)
    assert found.verdict == "unassessed"
    assert found.missing[0].startswith("the spread of d changes from sd ")
