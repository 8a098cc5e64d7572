"""Statistics of several chains against formulas and processes that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from ebm_core.mixing import Array, batch_means_error, effective_sample_size, split_r_hat


def autoregressive(phi: float, chains: int, readings: int, seed: int = 0) -> Array:
    """AR(1) of unit variance, in its steady state from the first reading."""
    rng = np.random.default_rng(seed)
    x = np.empty((chains, readings))
    x[:, 0] = rng.standard_normal(chains)
    for t in range(1, readings):
        x[:, t] = phi * x[:, t - 1] + math.sqrt(1 - phi**2) * rng.standard_normal(chains)
    return x


@pytest.mark.parametrize("phi", [-0.4, 0.0, 0.5, 0.9])
def test_effective_sample_size_of_an_autoregressive_process(phi: float) -> None:
    x = autoregressive(phi, chains=8, readings=5_000)
    exact = x.size * (1 - phi) / (1 + phi)
    assert effective_sample_size(x) == pytest.approx(exact, rel=0.1)


def test_effective_sample_size_does_not_depend_on_the_scale_of_the_values() -> None:
    x = autoregressive(0.5, 4, 500)
    assert effective_sample_size(np.exp(x)) == pytest.approx(effective_sample_size(x))
    assert effective_sample_size(3 - 1e3 * x) == pytest.approx(effective_sample_size(x))


def test_an_alternating_chain_has_no_more_than_the_bound() -> None:
    x = np.tile([1.0, -1.0], (4, 100)) + 1e-3 * autoregressive(0.0, 4, 200)
    assert effective_sample_size(x) == pytest.approx(x.size * math.log10(x.size))


def test_chains_that_stay_apart_count_about_once_each() -> None:
    x = np.arange(4.0)[:, None] * 100 + autoregressive(0.0, 4, 500)
    assert effective_sample_size(x) < 10


@pytest.mark.parametrize(("phi", "chains"), [(0.0, 1), (0.0, 64), (0.5, 4), (0.9, 2), (0.9, 64)])
def test_standard_error_of_the_mean(phi: float, chains: int) -> None:
    readings = 400
    errors, means = [], []
    for seed in range(300):
        x = autoregressive(phi, chains, readings, seed)
        errors.append(batch_means_error(x))
        means.append(x.mean())
    # batches of sqrt n see somewhat too little of long memory, and the larger of two is too large
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.25)


def test_chains_that_never_move_err_by_their_scatter() -> None:
    levels = np.random.default_rng(0).standard_normal(50)
    x = np.repeat(levels[:, None], 100, axis=1)
    assert batch_means_error(x) == pytest.approx(levels.std(ddof=1) / math.sqrt(50))


def test_a_single_chain_has_the_error_of_its_batches() -> None:
    x = np.arange(16.0)[None]
    means = np.array([1.5, 5.5, 9.5, 13.5])
    assert batch_means_error(x) == pytest.approx(means.std(ddof=1) / 2)


def test_r_hat_by_hand() -> None:
    x = np.array([[3.0, 1.0, 4.0, 1.5, 5.0, 9.0], [2.0, 6.0, 5.5, 3.5, 8.0, 7.0]])
    halves = np.concatenate([x[:, :3], x[:, 3:]])
    found = []
    for y in (halves, np.abs(halves - np.median(halves))):
        z = norm.ppf((rankdata(y).reshape(4, 3) - 0.375) / 12.25)
        within = np.mean([row.var(ddof=1) for row in z])
        between = 3 * np.var([row.mean() for row in z], ddof=1)
        found.append(math.sqrt((2 / 3 * within + between / 3) / within))
    assert split_r_hat(x) == pytest.approx(max(found))


def test_ties_share_a_rank() -> None:
    x = np.random.default_rng(0).integers(0, 3, (4, 100)).astype(float)
    assert split_r_hat(x) == pytest.approx(1.0, abs=0.02)
    assert split_r_hat(x) == split_r_hat(np.exp(x) ** 2)


def test_r_hat_tells_sound_chains_from_others() -> None:
    sound = autoregressive(0.3, 4, 1_000)
    assert split_r_hat(sound) < 1.01
    shifted = sound + np.array([0, 0, 0, 1.0])[:, None]
    wider = sound * np.array([1, 1, 1, 3.0])[:, None]
    drifting = sound + np.linspace(0, 2, 1_000)
    heavy = np.random.default_rng(1).standard_cauchy((4, 1_000))
    assert split_r_hat(shifted) > 1.05
    assert split_r_hat(wider) > 1.05
    assert split_r_hat(drifting) > 1.05
    assert split_r_hat(heavy) < 1.02


def test_chains_that_stand_still_apart_have_infinite_r_hat() -> None:
    assert split_r_hat(np.repeat([[1.0], [2.0]], 10, axis=1)) == math.inf


@pytest.mark.parametrize("statistic", [split_r_hat, effective_sample_size, batch_means_error])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_have_no_answer(statistic, value: float) -> None:  # type: ignore[no-untyped-def]
    x = autoregressive(0.0, 4, 50)
    assert math.isfinite(statistic(x))
    x[2, 7] = value
    assert math.isnan(statistic(x))


def test_constant_and_short_traces() -> None:
    constant = np.full((3, 20), 2.0)
    assert math.isnan(split_r_hat(constant))
    assert math.isnan(effective_sample_size(constant))
    assert batch_means_error(constant) == 0
    short = autoregressive(0.0, 3, 3)
    assert math.isnan(split_r_hat(short))
    assert math.isnan(effective_sample_size(short))
    assert batch_means_error(short) > 0
    assert math.isnan(batch_means_error(np.ones((1, 1))))
    assert math.isnan(batch_means_error(np.ones((0, 5))))


def test_one_axis_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(chains, readings\), but got \(5,\)"):
        split_r_hat(np.ones(5))
