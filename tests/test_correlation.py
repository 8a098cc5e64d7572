"""Correlations against statsmodels, and what white noise gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import detrend
from statsmodels.tsa.stattools import acf, ccf, pacf

from ebm_core.correlation import (
    Array,
    as_series,
    autocorrelation,
    bartlett_bound,
    cross_correlation,
    cross_correlation_bound,
    has_answer,
    is_constant,
    partial_autocorrelation,
    rise,
    white_noise_bound,
    without_line,
)


def noise(n: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=n)


def ar(phi: float, n: int, seed: int = 0) -> Array:
    """AR(1) of unit variance, started from its law."""
    kicks = math.sqrt(1 - phi**2) * noise(n, seed)
    x = np.empty(n)
    x[0] = noise(1, seed + 10_000)[0]
    for t in range(1, n):
        x[t] = phi * x[t - 1] + kicks[t]
    return x


SERIES = {
    "white": noise(500) + 3,
    "positive memory": ar(0.9, 500),
    "alternating": ar(-0.7, 500),
    "trend": noise(500) + np.linspace(0, 5, 500),
    "heavy tails": np.random.default_rng(1).standard_t(3, size=300),
}
each_series = pytest.mark.parametrize("name", SERIES)


@each_series
def test_autocorrelation_is_that_of_statsmodels(name: str) -> None:
    x = SERIES[name]
    np.testing.assert_allclose(autocorrelation(x), acf(x, nlags=15), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(autocorrelation(x, 3), acf(x, nlags=3), rtol=1e-10, atol=1e-12)


@each_series
def test_partial_autocorrelation_is_that_of_statsmodels(name: str) -> None:
    x = SERIES[name]
    oracle = pacf(x, nlags=15, method="ldb")
    np.testing.assert_allclose(partial_autocorrelation(x), oracle, rtol=1e-9, atol=1e-11)


@each_series
def test_cross_correlation_is_that_of_statsmodels(name: str) -> None:
    x = SERIES[name]
    y = np.roll(x, 2) + noise(x.size, 5)
    found = cross_correlation(x, y)
    # statsmodels gives the correlation of its first at t + k with its second at t
    forward = ccf(y, x, adjusted=False, nlags=16)
    backward = ccf(x, y, adjusted=False, nlags=16)
    np.testing.assert_allclose(found[15:], forward, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found[15::-1], backward, rtol=1e-10, atol=1e-12)


def test_cross_correlation_says_which_follows() -> None:
    x = noise(2_000)
    follower = np.concatenate([np.zeros(3), x[:-3]])
    assert int(np.argmax(cross_correlation(x, follower))) == 15 + 3
    assert int(np.argmax(cross_correlation(follower, x))) == 15 - 3


def test_uncentred_autocorrelation_hides_negative_lags_behind_a_mean() -> None:
    x = ar(-0.7, 2_000)
    assert autocorrelation(x + 3)[1] == pytest.approx(-0.7, abs=0.05)
    assert autocorrelation(x + 3, centered=False)[1] > 0.7
    values = x + 3
    by_hand = [float(values[: x.size - k] @ values[k:]) for k in range(4)]
    found = autocorrelation(values, 3, centered=False)
    np.testing.assert_allclose(found, np.array(by_hand) / by_hand[0], rtol=1e-12)


def test_partial_autocorrelation_of_an_ar_1_ends_after_its_lag() -> None:
    partial = partial_autocorrelation(ar(0.8, 5_000))
    assert partial[0] == 1
    assert partial[1] == pytest.approx(0.8, abs=0.03)
    assert np.abs(partial[2:]).max() < white_noise_bound(5_000, 14, 0.999)


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e200, 1e308])
def test_the_unit_of_a_series_does_not_matter(scale: float) -> None:
    x = np.clip(ar(0.5, 200), -1, 1)
    # a number of few digits cannot carry a series that is scaled below the normal range
    tolerance = 1e-12 if scale > 1e-300 else 1e-3
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(autocorrelation(scale * x), autocorrelation(x), **close)
    found = cross_correlation(scale * x, x)
    np.testing.assert_allclose(found, cross_correlation(x, x), **close)


def test_correlations_of_few_numbers_by_hand() -> None:
    x, y = np.array([2.0, -1.0, 0.0, -1.0]), np.array([0.0, 1.0, -2.0, 1.0])
    np.testing.assert_allclose(autocorrelation(x, 2), np.array([6, -2, 1]) / 6, atol=1e-15)
    # x[t] y[t + k] for k = -2..2, over 6
    products = [-1, 2, -2, 4, -5]
    np.testing.assert_allclose(cross_correlation(x, y, 2), np.array(products) / 6, atol=1e-15)


# -- lines ---------------------------------------------------------------------------------------


def test_a_line_is_taken_out_as_scipy_does() -> None:
    x = noise(300) + np.linspace(-4, 9, 300)
    np.testing.assert_allclose(without_line(x) * np.abs(x).max(), detrend(x), atol=1e-12)
    np.testing.assert_allclose(without_line(1e300 * x), without_line(x), atol=1e-12)
    assert rise(np.linspace(-4, 9, 300)) == pytest.approx(13)
    assert rise(without_line(x)) == pytest.approx(0, abs=1e-12)


def test_lines_where_there_is_little_to_take_out() -> None:
    assert not without_line(np.linspace(3, 7, 100)).any()
    assert not without_line(np.full(100, 0.3)).any()
    for values in ([1.0, math.nan, 3.0, 2.0], [1.0, 5.0], []):
        np.testing.assert_array_equal(without_line(values), values)


# -- no answer -----------------------------------------------------------------------------------

ANSWERLESS = {
    "constant": np.full(100, 0.3),
    "zero": np.zeros(100),
    "constant but for rounding": 0.3 + 1e-8 * noise(100),
    "nan": np.append(noise(99), math.nan),
    "infinite": np.append(noise(99), math.inf),
    "infinities": np.full(100, -math.inf),
    "too short": noise(16),
    "empty": np.empty(0),
}


@pytest.mark.parametrize("name", ANSWERLESS)
def test_series_without_an_answer(name: str) -> None:
    x = ANSWERLESS[name]
    assert not has_answer(x, 17)
    for found in (
        autocorrelation(x),
        autocorrelation(x, centered=False),
        partial_autocorrelation(x),
    ):
        assert found.shape == (16,)
        assert np.isnan(found).all()
    for pair in ((x, noise(x.size, 3)), (noise(x.size, 3), x)):
        found = cross_correlation(*pair)
        assert found.shape == (31,)
        assert np.isnan(found).all()


def test_one_value_more_than_too_short_has_an_answer() -> None:
    assert np.isfinite(autocorrelation(noise(17))).all()
    assert np.isfinite(partial_autocorrelation(noise(17))).all()
    assert np.isfinite(cross_correlation(noise(17), noise(17, 1))).all()


@pytest.mark.parametrize(
    ("values", "constant"),
    [
        ([2.0, 2.0, 2.0], True),
        ([0.0, 0.0], True),
        ([5.0], True),
        ([1.0, 1.0 + 1e-7], True),
        ([1.0, 1.0 + 1e-5], False),
        ([1e-9, 2e-9], False),
        ([1e308, -1e308], False),
        ([5e-324, 0.0], False),
        ([1.0, math.nan], False),
        ([math.inf, math.inf], False),
        ([], False),
    ],
)
def test_what_is_constant(values: list[float], constant: bool) -> None:
    assert is_constant(values) is constant


def test_a_table_is_no_series() -> None:
    with pytest.raises(ValueError, match=r"one axis, but got shape \(2, 3\)"):
        as_series(np.zeros((2, 3)))


def test_series_of_unequal_length_have_no_cross_correlation() -> None:
    with pytest.raises(ValueError, match="equal lengths, but got 30 and 31"):
        cross_correlation(noise(30), noise(31))


# -- bounds --------------------------------------------------------------------------------------


def test_white_noise_bound_of_known_sizes() -> None:
    assert white_noise_bound(2_000) == pytest.approx(1.96 / math.sqrt(2_000), rel=1e-3)
    assert white_noise_bound(2_000, 15) == pytest.approx(0.066, abs=5e-4)
    assert white_noise_bound(1, 15) == pytest.approx(2.94, abs=0.01)
    assert math.isnan(white_noise_bound(0))


@pytest.mark.parametrize(("lags", "confidence"), [(0, 0.95), (1, 0.0), (1, 1.0), (1, math.nan)])
def test_bounds_out_of_range(lags: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="`lags >= 1` and `0 < confidence < 1` must hold"):
        white_noise_bound(100, lags, confidence)


def share_outside(bound: float, phi: float = 0.0) -> float:
    """Share of series with an autocorrelation beyond a bound at any of 15 lags."""
    found = [np.abs(autocorrelation(ar(phi, 500, seed))[1:]).max() for seed in range(400)]
    return float(np.mean(np.array(found) > bound))


def test_white_noise_stays_in_its_bound_at_the_stated_rate() -> None:
    # 5 % of 400: 20 +- 4.4
    assert 0.01 <= share_outside(white_noise_bound(500, 15)) <= 0.09
    # the bound of one lag does not hold for fifteen, nor that of white noise for memory
    assert share_outside(white_noise_bound(500)) > 0.3
    assert share_outside(white_noise_bound(500, 15), phi=0.5) > 0.9


def test_bartletts_bound_is_that_of_statsmodels() -> None:
    x = ar(0.8, 400)
    a, interval, *_ = acf(x, nlags=15, alpha=0.05 / 15, qstat=True)
    for lag in (1, 2, 7, 15):
        half_width = (interval[lag, 1] - interval[lag, 0]) / 2
        assert bartlett_bound(a, lag, 400) == pytest.approx(half_width, rel=1e-9)
    assert bartlett_bound(a, 1, 400) == white_noise_bound(400, 15)
    assert bartlett_bound(a, 15, 400) > 2 * white_noise_bound(400, 15)


def test_cross_correlation_bound_of_known_memory() -> None:
    k = np.arange(400)
    # the sum over all lags of two geometric series
    expected = 1.96 / math.sqrt(1_000) * math.sqrt((1 + 0.72) / (1 - 0.72))
    assert cross_correlation_bound(0.9**k, 0.8**k, 1_000) == pytest.approx(expected, rel=1e-4)
    assert cross_correlation_bound(0.9**k, 0.0**k, 1_000) == white_noise_bound(1_000)
    # one alternates, the other remembers: no narrower than white noise
    assert cross_correlation_bound((-0.9) ** k, 0.8**k, 1_000) == white_noise_bound(1_000)
    wider = cross_correlation_bound(0.9**k, 0.8**k, 1_000, confidence=0.99)
    assert wider == pytest.approx(expected * 2.5758 / 1.96, rel=1e-4)


@pytest.mark.parametrize("phi", [0.0, 0.9])
def test_unrelated_series_stay_in_the_cross_correlation_bound(phi: float) -> None:
    outside = outside_white = 0
    for seed in range(400):
        x, y = ar(phi, 500, seed), ar(phi, 500, seed + 50_000)
        bound = cross_correlation_bound(autocorrelation(x, 50), autocorrelation(y, 50), 500)
        correlation = abs(float(cross_correlation(x, y)[15]))
        outside += correlation > bound
        outside_white += correlation > white_noise_bound(500)
    # 5 % of 400: 20 +- 4.4
    assert 6 <= outside <= 36
    assert (outside_white > 100) == (phi > 0)
