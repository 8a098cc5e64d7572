"""Diagnostics of d and r: known numbers, no answer where there is none, and error rates."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.sandbox.stats.runs import runstest_1samp

from ebm_core.diagnostics import (
    Array,
    Oscillation,
    autocorrelation,
    balance,
    band_adherence,
    band_clearance,
    longest_repeat,
    oscillation,
    relative_drift,
    sign_change_share,
    sign_changes_by_chance,
    skewness,
    span_decades,
    white_noise_bound,
)


def noise(n: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=n)


def recursion(n: int, seed: int, first: float, second: float = 0.0) -> Array:
    """x_t = first x_{t-1} + second x_{t-2} + noise, settled, of unit sample variance."""
    x = np.zeros(n + 200)
    kicks = noise(n + 200, seed)
    for t in range(2, n + 200):
        x[t] = first * x[t - 1] + second * x[t - 2] + kicks[t]
    return x[200:] / x[200:].std()


def slow_r(n: int, seed: int) -> Array:
    """r as the source shows it for weak oscillation: level 1, autocorrelation from 0.93 down."""
    return 1 + 0.05 * recursion(n, seed + 5_000, 0.93)


def following_r(d: Array, seed: int, share: float) -> Array:
    """r of a given correlation with d, on top of slow noise."""
    rest = recursion(d.size, seed + 7_000, 0.93)
    return 1 + 0.05 * (share * (d - d.mean()) / d.std() + math.sqrt(1 - share**2) * rest)


def figure_2(n: int, seed: int) -> Array:
    """d shaped like the source's figure 2: period 10, autocorrelation down to about -0.4."""
    damping = 0.835
    return recursion(n, seed, 2 * damping * math.cos(2 * math.pi / 10), -(damping**2))


# -- single numbers ------------------------------------------------------------------------------


def test_longest_repeat() -> None:
    assert longest_repeat([1, 2, 2, 2, 3, 3]) == 3
    assert longest_repeat([1, 2, 3]) == 1
    assert longest_repeat([7] * 9) == 9
    assert longest_repeat([3, 3, 1, 1, 1, 1]) == 4
    assert longest_repeat([]) == 0
    assert longest_repeat([math.nan] * 5) == 1
    assert longest_repeat([math.inf] * 5) == 5


def test_sign_change_share() -> None:
    assert sign_change_share([1, -1, 1, -1]) == 1
    assert sign_change_share([1, 2, 3, -1]) == pytest.approx(1 / 3)
    assert sign_change_share(noise(10_000)) == pytest.approx(0.5, abs=5 * 0.005)
    # the pattern of figure 2 has a positive first lag, which the sign test takes for memory
    assert sign_change_share(figure_2(10_000, 0)) < 0.45


@pytest.mark.parametrize("shift", [0.0, 0.8, -2.0])
def test_sign_changes_by_chance_are_those_of_the_runs_test(shift: float) -> None:
    x = recursion(400, 3, 0.3) + shift
    expected, bound = sign_changes_by_chance(x)
    z = (sign_change_share(x) - expected) / (bound / stats.norm.ppf(0.975))
    oracle, _ = runstest_1samp(x, cutoff=0, correction=False)
    assert z == pytest.approx(oracle, rel=1e-9)


def test_sign_changes_by_chance_of_few_signs() -> None:
    assert sign_changes_by_chance(np.ones(50)) == (0, 0)
    assert sign_changes_by_chance([1.0, -1.0]) == (1, 0)
    for values in ([1.0], [], [1.0, math.nan, 2.0]):
        assert all(math.isnan(number) for number in sign_changes_by_chance(values))


def test_white_noise_keeps_to_its_sign_changes_also_off_centre() -> None:
    outside = 0
    for seed in range(400):
        x = noise(300, seed) + 0.7
        expected, bound = sign_changes_by_chance(x)
        assert expected < 0.45
        outside += abs(sign_change_share(x) - expected) > bound
    # 5 % of 400: 20 +- 4.4
    assert 6 <= outside <= 36


def test_balance() -> None:
    assert balance([1.0, 3.0]) == pytest.approx(2 / math.sqrt(2))
    assert balance(noise(10_000) - 0.5) == pytest.approx(-0.5, abs=0.06)
    assert balance([1e308, 1.1e308, 0.9e308]) == pytest.approx(10)


def test_skewness_is_that_of_scipy() -> None:
    x = np.random.default_rng(0).gamma(2.0, size=300)
    assert skewness(x) == pytest.approx(stats.skew(x), rel=1e-10)
    assert skewness(-x) == pytest.approx(-stats.skew(x), rel=1e-10)


def test_relative_drift() -> None:
    assert relative_drift(np.full(10, 0.1)) == pytest.approx(0, abs=1e-12)
    assert relative_drift(np.linspace(0.9, 1.1, 200)) == pytest.approx(0.2)
    assert relative_drift(np.linspace(1.1, 0.9, 7)) == pytest.approx(-0.2)
    slope, *_ = stats.linregress(np.arange(50.0), x := 5 + noise(50))
    assert relative_drift(x) == pytest.approx(49 * slope / x.mean())


def test_span_decades() -> None:
    assert span_decades([0.01, 0.1, 1.0]) == pytest.approx(2)
    assert span_decades([0.3]) == 0
    assert span_decades([1e-300, 1e300]) == pytest.approx(600)


@given(st.lists(st.floats(0, 3) | st.just(math.nan), min_size=1, max_size=30), st.floats(0.01, 1))
def test_band_clearance_has_the_sign_of_adherence(r: list[float], share: float) -> None:
    inside = round(len(r) * band_adherence(r, 1.0, 2.0))
    clear = band_clearance(r, 1.0, 2.0, share)
    assert (clear >= 0) == (inside >= math.ceil(share * len(r)))


def test_band_clearance() -> None:
    assert band_clearance([1.2, 1.5, 1.9], 1.0, 2.0, 0.5) == pytest.approx(0.2)
    assert band_clearance([0.1, 0.2, 0.3], 1.0, 2.0, 0.5) == pytest.approx(-0.8)
    assert band_clearance([1.5, math.nan], 1.0, 2.0, 1.0) == -math.inf
    assert math.isnan(band_clearance([], 1.0, 2.0, 0.5))
    with pytest.raises(ValueError, match="share"):
        band_clearance([1.0], 0.0, 2.0, 0.0)


def test_band_adherence() -> None:
    assert band_adherence([0.5, 1.0, 2.0, 3.0], 1.0, 2.0) == 0.5
    assert band_adherence([1.5, math.nan, math.inf, 1.2], 1.0, 2.0) == 0.5
    assert math.isnan(band_adherence([], 1.0, 2.0))
    with pytest.raises(ValueError, match=r"`low < high` must hold, but got low=2\.0, high"):
        band_adherence([1.0], 2.0, 2.0)


ANSWERLESS: dict[str, tuple[Callable[[Array], float], list[Array]]] = {
    "balance": (balance, [np.ones(9), np.zeros(9), np.ones(1)]),
    "skewness": (skewness, [np.ones(9), np.ones(2)]),
    "relative_drift": (
        relative_drift,
        [np.zeros(9), np.array([1.0, -1.0, 1.0, -1.0]), np.ones(2)],
    ),
    "span_decades": (span_decades, [np.zeros(9), np.array([-1.0, 1.0])]),
    "sign_change_share": (sign_change_share, [np.ones(1)]),
}


@pytest.mark.parametrize("name", ANSWERLESS)
def test_numbers_without_an_answer(name: str) -> None:
    function, series = ANSWERLESS[name]
    not_finite = [np.array([1.0, 2.0, bad, 4.0]) for bad in (math.nan, math.inf, -math.inf)]
    for values in (*series, *not_finite, np.empty(0)):
        assert math.isnan(function(values))
    assert math.isfinite(function(np.array([1.0, 2.0, 4.0, 3.0])))


# -- oscillation: the decision -------------------------------------------------------------------


def of(d: Array, r: Array, **limits: float) -> str:
    return oscillation(d, r, **limits).type  # type: ignore[arg-type]


def test_white_noise_is_weak_and_figure_2_strong() -> None:
    d = figure_2(2_000, 0)
    found = oscillation(d, following_r(d, 0, 0.8))
    assert found.type == "strong"
    assert found.acf_min == pytest.approx(-0.4, abs=0.08)
    assert 3 <= found.acf_min_lag <= 6
    assert found.acf_r_at_lag < 0
    assert found.corr_d_r == pytest.approx(0.8, abs=0.05)
    assert found.n == 2_000
    assert "r follows d" in found.reason
    weak = oscillation(noise(2_000), slow_r(2_000, 0))
    assert weak.type == "weak"
    assert abs(weak.corr_d_r) < 0.2
    assert weak.sign_changes == pytest.approx(0.5, abs=0.06)
    assert weak.bound == pytest.approx(white_noise_bound(2_000, 15), rel=0.05)


def test_alternation_that_r_does_not_follow_is_undetermined() -> None:
    d = figure_2(2_000, 0)
    found = oscillation(d, slow_r(2_000, 0))
    assert found.type == "undetermined"
    assert "r does not follow d" in found.reason
    assert oscillation(d, -following_r(d, 0, 0.8)).type == "undetermined"


def test_a_correlation_inside_its_bound_is_not_shared() -> None:
    """Two long-lived oscillations of one period are often correlated over 0.3 by chance."""
    damping = 0.99
    first = 2 * damping * math.cos(2 * math.pi / 10)
    by_chance = 0
    for seed in range(60):
        d, r = (recursion(300, seed + k, first, -(damping**2)) for k in (0, 9_000))
        found = oscillation(d, r)
        if 0.3 <= found.corr_d_r < found.corr_bound:
            by_chance += 1
            assert found.type == "undetermined"
            assert f"inside the bound of {found.corr_bound:.2f}" in found.reason
    assert by_chance > 5


def test_an_r_that_follows_late_is_not_shared() -> None:
    d = figure_2(2_001, 0)
    found = oscillation(d[1:], following_r(d, 0, 0.9)[:-1])
    assert found.corr_d_r > 0.5
    assert found.cross_peak_lag == 1
    assert found.type == "undetermined"
    assert "higher at lag 1 than at 0" in found.reason
    early = oscillation(d[:-1], following_r(d, 0, 0.9)[1:])
    assert (early.type, early.cross_peak_lag) == ("undetermined", -1)
    # late by half a period r is as far from d as it can be
    assert oscillation(d[5:], following_r(d, 0, 0.9)[:-5]).corr_d_r < -0.2


def test_statistics_beside_the_rule() -> None:
    d = figure_2(2_000, 0)
    found = oscillation(d, following_r(d, 0, 0.8))
    assert found.cross_peak_lag == 0
    assert white_noise_bound(2_000) < found.corr_bound < 0.1
    assert found.sign_changes_expected == pytest.approx(0.5, abs=0.01)
    assert found.sign_changes_bound == pytest.approx(0.98 / math.sqrt(2_000), rel=0.01)
    # period 10 changes sign every fifth update: fewer changes than white noise, yet strong
    assert found.sign_changes < 0.3 < found.sign_changes_expected - found.sign_changes_bound


def swing(period: int) -> Array:
    """A slow swing that fades to a fifth in a period."""
    damping = 0.2 ** (1 / period)
    return recursion(5_000, 1, 2 * damping * math.cos(2 * math.pi / period), -(damping**2))


def test_a_slow_swing_is_reported_and_not_judged() -> None:
    d = swing(60)
    found = oscillation(d, following_r(d, 0, 0.8))
    assert found.type == "weak"
    assert found.slow_acf_min < -max(0.25, found.slow_bound)
    assert 20 <= found.slow_acf_min_lag <= 40
    assert found.reason.endswith(
        f"; a slower swing ({found.slow_acf_min:.2f} at lag {found.slow_acf_min_lag}) "
        "is not judged"
    )
    white = oscillation(noise(5_000), slow_r(5_000, 0))
    assert -white.slow_bound < white.slow_acf_min < 0
    assert "swing" not in white.reason


def test_a_short_window_has_no_lags_for_slow_swings() -> None:
    for n, some in ((159, False), (160, True)):
        found = oscillation(noise(n), slow_r(n, 0))
        assert (found.slow_acf_min_lag == 16) is some
        assert math.isnan(found.slow_acf_min) is not some
        assert math.isnan(found.slow_bound) is not some


def test_significance_is_not_size() -> None:
    d = recursion(5_000, 0, -0.12)
    found = oscillation(d, following_r(d, 0, 0.8))
    assert found.acf_min < -found.bound
    assert found.type == "weak"
    assert "over -0.25" in found.reason
    assert of(d, following_r(d, 0, 0.8), effect=0.08) == "strong"


def test_size_is_not_significance() -> None:
    """Fifteen autocorrelations of a hundred white numbers often dip below -0.25."""
    dips = 0
    for seed in range(200):
        d = noise(100, seed)
        found = oscillation(d, following_r(d, seed, 0.8))
        if -found.bound < found.acf_min <= -0.25:
            dips += 1
            assert found.type == "weak"
            assert "inside the bound" in found.reason
    assert dips > 5


def test_a_drift_does_not_hide_an_oscillation() -> None:
    d = figure_2(2_000, 0)
    drifting = d + np.linspace(-3, 3, 2_000)
    assert autocorrelation(drifting)[1:].min() > -0.25
    assert of(drifting, following_r(d, 0, 0.8)) == "strong"


def test_drifts_of_both_do_not_pass_for_a_correlation() -> None:
    line = np.linspace(-3, 3, 2_000)
    d = recursion(2_000, 0, -0.5)
    r = 1 + 0.05 * (recursion(2_000, 1, 0.5) + line)
    assert np.corrcoef(d + line, r)[0, 1] > 0.3
    assert oscillation(d + line, r).corr_d_r == pytest.approx(0, abs=0.1)
    assert of(d + line, r) == "undetermined"


@pytest.mark.parametrize(
    ("d", "r", "reason"),
    [
        (noise(99), noise(99, 1), "99 updates are fewer than 100"),
        (np.empty(0), np.empty(0), "0 updates are fewer than 100"),
        (np.ones(500), noise(500), "d is constant"),
        (noise(500), np.ones(500), "r is constant"),
        (np.linspace(0, 1, 500), noise(500), "d is constant, a straight line"),
        (noise(500), np.linspace(1, 2, 500), "r is constant, a straight line"),
        (np.append(noise(499), math.nan), noise(500), "d is .*not finite"),
        (noise(500), np.append(noise(499), math.inf), "r is .*not finite"),
    ],
)
def test_oscillation_without_an_answer(d: Array, r: Array, reason: str) -> None:
    found = oscillation(d, r)
    assert found.type == "undetermined"
    assert re.search(reason, found.reason)
    assert found.acf_min_lag == found.slow_acf_min_lag == found.cross_peak_lag == 0
    for number in (
        found.acf_min,
        found.acf_r_at_lag,
        found.bound,
        found.corr_bound,
        found.slow_acf_min,
        found.slow_bound,
    ):
        assert math.isnan(number)


def test_few_lags_need_few_updates() -> None:
    d = recursion(40, 0, -0.9)
    assert of(d, following_r(d, 0, 0.9), max_lag=3, least_updates=5) == "strong"
    assert "fewer than 5" in oscillation(d[:4], d[:4], max_lag=3, least_updates=5).reason
    # more lags than values have no answer, whatever the caller asks for
    assert "fewer than 17" in oscillation(d[:16], d[:16], least_updates=5).reason


def test_series_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        oscillation(noise(200), noise(201))


# -- oscillation: its error rates ----------------------------------------------------------------

SERIES = 200
Maker = Callable[[int, int], tuple[Array, Array]]


def types(maker: Maker, n: int) -> dict[str, float]:
    """Share of each type over many series."""
    found = [oscillation(*maker(n, seed)).type for seed in range(SERIES)]
    return {name: found.count(name) / SERIES for name in ("weak", "strong", "undetermined")}


def independent(make_d: Callable[[int, int], Array]) -> Maker:
    return lambda n, seed: (make_d(n, seed), slow_r(n, seed))


NULLS: dict[str, Callable[[int, int], Array]] = {
    "white": noise,
    "heavy tails": lambda n, seed: np.random.default_rng(seed).standard_t(2, size=n),
    "AR(1) 0.5": lambda n, seed: recursion(n, seed, 0.5),
    "AR(1) 0.95": lambda n, seed: recursion(n, seed, 0.95),
    "AR(1) 0.8 and drift": lambda n, seed: recursion(n, seed, 0.8) + np.linspace(0, 4, n),
    "random walk": lambda n, seed: noise(n, seed).cumsum(),
}


@pytest.mark.parametrize("n", [100, 500])
@pytest.mark.parametrize("name", NULLS)
def test_series_that_do_not_oscillate_are_not_strong(name: str, n: int) -> None:
    assert types(independent(NULLS[name]), n)["strong"] <= 0.01


@pytest.mark.parametrize("name", ["white", "AR(1) 0.5"])
def test_series_that_do_not_oscillate_are_weak(name: str) -> None:
    assert types(independent(NULLS[name]), 1_000)["weak"] >= 0.95


def remembering(n: int, seed: int) -> tuple[Array, Array]:
    d = recursion(n, seed, 0.95)
    return d, following_r(d, seed, 0.8)


def test_positive_memory_is_not_strong_even_where_r_follows() -> None:
    assert types(remembering, 100)["strong"] <= 0.01
    # the bound of white noise would let far lags of a short series pass for an oscillation
    lowest = [autocorrelation(remembering(100, seed)[0])[1:].min() for seed in range(SERIES)]
    assert np.mean(np.array(lowest) < -white_noise_bound(100, 15)) > 0.01


def as_in_figure_2(n: int, seed: int) -> tuple[Array, Array]:
    d = figure_2(n, seed)
    return d, following_r(d, seed, 0.8)


def alternating(n: int, seed: int) -> tuple[Array, Array]:
    d = recursion(n, seed, -0.4)
    return d, following_r(d, seed, 0.6)


@pytest.mark.parametrize("maker", [as_in_figure_2, alternating])
def test_strong_oscillation_is_found(maker: Maker) -> None:
    assert types(maker, 1_000)["strong"] >= 0.99


def test_the_reason_is_one_sentence_with_its_numbers() -> None:
    found: Oscillation = oscillation(*as_in_figure_2(1_000, 3))
    assert f"{found.acf_min:.2f} at lag {found.acf_min_lag}" in found.reason
    assert "\n" not in found.reason
