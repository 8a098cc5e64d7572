"""Langevin chains against exact laws, each law with a control that breaks it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ebm_core.langevin import (
    Gradient,
    autograd_gradient,
    langevin_path,
    matching_variance,
    noise_blocks,
    run_langevin,
    stationary_variance,
    variance_after,
)

# (epsilon, sigma): strongly discretized, that of a mode of the ring, nearly continuous
PAIRS = ((1.0, 0.7), (0.125, 0.15), (0.5, 2.0))
CHAINS = 20_000
SHORT, LONG = 3, 300
INITIAL_SD = 0.4


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def gaussian(epsilon: Tensor, sigma: Tensor) -> Gradient:
    """Gradient of the F whose target is N(0, sigma^2), for every member."""
    slope = (epsilon.square() / (2 * sigma.square())).reshape(-1, 1, 1)
    return lambda x: slope * x


def standard_errors(x: Tensor, variance: float) -> float:
    """How far the mean square of normal numbers of mean 0 is from a variance."""
    return (float(x.square().mean()) / variance - 1) / math.sqrt(2 / x.numel())


# -- the law of unadjusted chains ----------------------------------------------------------------


def end_points(
    pairs: tuple[tuple[float, float], ...], steps: int, noise_factor: float = 1.0
) -> Tensor:
    """States of all members after some steps from N(0, INITIAL_SD^2), shape (M, n, 1)."""
    epsilon, sigma = (column(*values) for values in zip(*pairs, strict=True))
    shape = (len(pairs), CHAINS, 1)
    noise = (noise_factor * block for block in noise_blocks(steps, shape, rng(1), torch.float64))
    x, _ = langevin_path(gaussian(epsilon, sigma), INITIAL_SD * normal(*shape), epsilon, noise)
    return x


def laws(steps: int) -> list[float]:
    if steps == LONG:
        return [stationary_variance(sigma**2, epsilon) for epsilon, sigma in PAIRS]
    return [variance_after(steps, sigma**2, epsilon, INITIAL_SD**2) for epsilon, sigma in PAIRS]


@pytest.mark.parametrize("steps", [SHORT, LONG], ids=["short run", "stationary"])
def test_variance_law_of_a_pack(steps: int) -> None:
    for x, variance in zip(end_points(PAIRS, steps), laws(steps), strict=True):
        assert abs(standard_errors(x, variance)) < 5
    for x, variance in zip(end_points(PAIRS, steps, 0.5), laws(steps), strict=True):
        assert standard_errors(x, variance) < -5


@pytest.mark.parametrize("steps", [SHORT, LONG], ids=["short run", "stationary"])
@pytest.mark.parametrize("member", range(len(PAIRS)))
def test_variance_law_of_a_single_member(member: int, steps: int) -> None:
    pair, variance = PAIRS[member : member + 1], laws(steps)[member]
    assert abs(standard_errors(end_points(pair, steps), variance)) < 5
    assert standard_errors(end_points(pair, steps, 0.5), variance) < -5


@pytest.mark.parametrize(("epsilon", "sigma"), PAIRS)
def test_variance_law_of_run_langevin(epsilon: float, sigma: float) -> None:
    def energy(x: Tensor, factor: float = 1.0) -> Tensor:
        return factor * epsilon**2 / 4 * (x / sigma).square().sum(1)

    start = INITIAL_SD * normal(CHAINS, 2)
    variance = variance_after(SHORT, sigma**2, epsilon, INITIAL_SD**2)
    x, info = run_langevin(energy, start, epsilon, SHORT, rng(1))
    assert abs(standard_errors(x, variance)) < 5
    assert torch.equal(info.energies, energy(x))
    assert torch.equal(info.acceptance, torch.ones(CHAINS, dtype=torch.float64))
    # half the noise at the same drift
    halved, _ = run_langevin(energy, start, epsilon / 2, SHORT, rng(1))
    assert standard_errors(halved, variance) < -5


def test_members_with_a_neighbours_epsilon_miss_the_law() -> None:
    swapped = tuple((PAIRS[m - 1][0], sigma) for m, (_, sigma) in enumerate(PAIRS))
    for x, variance in zip(end_points(swapped, SHORT), laws(SHORT), strict=True):
        assert abs(standard_errors(x, variance)) > 5


def test_the_target_is_not_the_law() -> None:
    """At epsilon = 1, sigma = 0.7 the target's variance is 0.49 and the right answer is 1.00."""
    x = end_points(PAIRS[:1], LONG)
    assert float(x.var()) == pytest.approx(1.0, abs=0.05)
    assert standard_errors(x, 0.49) > 5


def test_a_member_runs_alone_as_it_does_in_a_pack() -> None:
    epsilon, sigma = column(1.0, 0.1, 0.5), column(1.0, 0.3, 2.0)
    x, noise = normal(3, 4, 2), normal(6, 3, 4, 2, seed=1)
    packed, info = langevin_path(gaussian(epsilon, sigma), x, epsilon, [noise.clone()])
    for m in range(3):
        one = slice(m, m + 1)
        gradient = gaussian(epsilon[one], sigma[one])
        alone, its = langevin_path(gradient, x[one], epsilon[one], [noise[:, one].clone()])
        assert torch.equal(alone, packed[one])
        assert torch.equal(its.gradient_magnitude, info.gradient_magnitude[one])


# -- isolation: noise alone, gradient alone, and where r is taken --------------------------------


def slopes(x: Tensor) -> Tensor:
    return 0.3 * x + 0.1 * torch.sin(x)


def descent(x: Tensor, steps: int) -> list[Tensor]:
    """The states of pure gradient descent, the first included."""
    states = [x]
    for _ in range(steps):
        states.append(states[-1] - slopes(states[-1]))
    return states


def test_zero_noise_is_pure_descent() -> None:
    x, epsilon = normal(2, 5, 3), column(0.5, 1.0)
    silent, _ = langevin_path(slopes, x, epsilon, [torch.zeros(7, 2, 5, 3, dtype=torch.float64)])
    torch.testing.assert_close(silent, descent(x, 7)[-1], rtol=1e-14, atol=1e-15)
    noisy, _ = langevin_path(slopes, x, epsilon, [1e-3 * normal(7, 2, 5, 3, seed=1)])
    assert not torch.allclose(noisy, descent(x, 7)[-1], rtol=1e-6)


def test_zero_gradient_is_pure_noise() -> None:
    x, epsilon, noise = normal(2, 5, 3), column(0.5, 1.0), normal(7, 2, 5, 3, seed=1)
    walk = x + epsilon.reshape(2, 1, 1) * noise.sum(0)
    free, info = langevin_path(torch.zeros_like, x, epsilon, [noise.clone()])
    torch.testing.assert_close(free, walk, rtol=1e-12, atol=1e-14)
    assert not info.gradient_magnitude.any()
    pulled, _ = langevin_path(lambda x: 1e-3 * x, x, epsilon, [noise.clone()])
    assert not torch.allclose(pulled, walk, rtol=1e-6)


def test_r_is_the_mean_over_the_states_before_each_move() -> None:
    steps = 4
    x, noise = normal(2, 5, 3), torch.zeros(steps, 2, 5, 3, dtype=torch.float64)
    _, info = langevin_path(slopes, x, column(0.5, 1.0), [noise])
    norms = torch.stack([slopes(state).norm(dim=2) for state in descent(x, steps)])
    torch.testing.assert_close(info.gradient_magnitude, norms[:-1].mean(0))
    torch.testing.assert_close(info.squared_gradient, norms[:-1].square().mean(0))
    # neither the L + 1 states of the appendix nor those after each move
    assert not torch.allclose(info.gradient_magnitude, norms.mean(0), rtol=1e-3)
    assert not torch.allclose(info.gradient_magnitude, norms[1:].mean(0), rtol=1e-3)


def test_r_is_the_length_of_the_whole_gradient() -> None:
    image = torch.full((1, 2, 3, 4, 4), 0.5, dtype=torch.float64)
    noise = torch.zeros(1, *image.shape, dtype=torch.float64)
    _, info = langevin_path(lambda x: x, image, column(1.0), [noise])
    assert torch.allclose(info.gradient_magnitude, column(0.5 * math.sqrt(48)))
    assert torch.allclose(info.squared_gradient, column(0.25 * 48))


@pytest.mark.parametrize("adjusted", [False, True])
def test_r_of_run_langevin(adjusted: bool) -> None:
    """Chains that hardly move have the gradient of their start, per chain."""
    start = normal(4, 3)
    x, info = run_langevin(
        lambda x: x.square().sum(1) * 5e-13, start, 1e-6, 5, rng(), adjusted=adjusted
    )
    torch.testing.assert_close(x, start, rtol=0, atol=1e-4)
    torch.testing.assert_close(info.r, 1e-12 * start.norm(dim=1), rtol=1e-4, atol=0)


# -- noise ---------------------------------------------------------------------------------------


def test_noise_comes_in_blocks_that_make_up_the_path() -> None:
    shapes = [tuple(b.shape) for b in noise_blocks(5, (2, 1 << 14), rng(), torch.float32)]
    assert shapes == [(2, 2, 1 << 14), (2, 2, 1 << 14), (1, 2, 1 << 14)]
    assert sum(len(b) for b in noise_blocks(1_000, (3,), rng(), torch.float32)) == 1_000
    # a state too large for a block still gets its noise, step by step
    assert [len(b) for b in noise_blocks(2, (1 << 20, 2), rng(), torch.float32)] == [1, 1]


def test_noise_is_a_function_of_its_generator() -> None:
    def draw(seed: int) -> Tensor:
        return torch.cat(list(noise_blocks(7, (4, 3), rng(seed), torch.float64)))

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


def test_how_noise_is_cut_into_blocks_changes_nothing() -> None:
    x, noise, epsilon = normal(1, 4, 2), normal(6, 1, 4, 2, seed=1), column(0.5)
    whole, info = langevin_path(slopes, x, epsilon, [noise.clone()])
    cut, its = langevin_path(slopes, x, epsilon, list(noise.clone().split([1, 3, 2])))
    assert torch.equal(whole, cut)
    assert torch.equal(info.gradient_magnitude, its.gradient_magnitude)


def test_start_states_are_left_alone() -> None:
    start = normal(3, 2)
    kept = start.clone()
    for adjusted in (False, True):
        run_langevin(lambda x: x.square().sum(1), start, 0.5, 3, rng(), adjusted=adjusted)
    assert torch.equal(start, kept)


def test_chains_repeat_with_their_generator_only() -> None:
    def run(generator: torch.Generator | None) -> Tensor:
        return run_langevin(lambda x: x.square().sum(1), normal(3, 2), 0.5, 3, generator)[0]

    assert torch.equal(run(rng(1)), run(rng(1)))
    torch.manual_seed(0)
    first, second = run(None), run(None)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(first, run(None))


@pytest.mark.parametrize(
    ("epsilon", "steps", "message"),
    [
        (0.0, 1, "`0 < epsilon < inf` must hold, but got epsilon=0.0"),
        (math.nan, 1, "`0 < epsilon < inf` must hold, but got epsilon=nan"),
        (math.inf, 1, "`0 < epsilon < inf` must hold, but got epsilon=inf"),
        (0.5, 0, "`steps >= 1` must hold, but got steps=0"),
    ],
)
def test_constants_out_of_range(epsilon: float, steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_langevin(lambda x: x.sum(1), torch.zeros(2, 2), epsilon, steps)


def test_a_path_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        langevin_path(slopes, torch.zeros(1, 2, 2), torch.ones(1), [])


# -- Metropolis-adjusted chains on a skewed target -----------------------------------------------

# Skew-normal laws, density proportional to exp(-x^2/2) Phi(alpha x), one leaning each way: a wrong
# sign somewhere shows in the mean and in the third moment, which a Gaussian does not have.
ALPHA = torch.tensor([2.0, -2.0], dtype=torch.float64)
DELTA = ALPHA / (1 + ALPHA.square()).sqrt()
MEAN = DELTA * math.sqrt(2 / math.pi)
VARIANCE = 1 - MEAN.square()
THIRD = (4 - math.pi) / 2 * MEAN**3
STEP = 0.8
TEMPERATURE = STEP**2 / 2


def skewed_energy(x: Tensor) -> Tensor:
    nats = x.square() / 2 - torch.special.log_ndtr(ALPHA * x)
    return TEMPERATURE * nats.sum(1)


def skewed_gradient(x: Tensor) -> Tensor:
    z = ALPHA * x
    hazard = torch.exp(-z.square() / 2 - torch.special.log_ndtr(z)) / math.sqrt(2 * math.pi)
    return TEMPERATURE * (x - ALPHA * hazard)


def moment_errors(x: Tensor) -> Tensor:
    """First three moments of independent chains against the skewed target, in standard errors."""
    centred = x - MEAN
    errors = []
    for values, known in ((x, MEAN), (centred**2, VARIANCE), (centred**3, THIRD)):
        errors.append((values.mean(0) - known) / values.std(0) * math.sqrt(len(x)))
    return torch.stack(errors)


def test_the_gradient_of_the_skewed_target() -> None:
    x = normal(50, 2)
    torch.testing.assert_close(autograd_gradient(skewed_energy)(x), skewed_gradient(x))


def skewed_run(adjusted: bool, gradient: Gradient = skewed_gradient, steps: int = 40) -> Tensor:
    x, info = run_langevin(
        skewed_energy, normal(30_000, 2), STEP, steps, rng(1), adjusted, gradient
    )
    assert info.acceptance.shape == info.r.shape == info.energies.shape == (30_000,)
    torch.testing.assert_close(info.energies, skewed_energy(x))
    accepted = float(info.acceptance.mean())
    assert 0.3 < accepted < 0.95 if adjusted else accepted == 1
    return x


def test_adjusted_chains_have_the_target_as_their_law() -> None:
    assert moment_errors(skewed_run(adjusted=True)).abs().max() < 5


def test_unadjusted_chains_have_another_law() -> None:
    assert moment_errors(skewed_run(adjusted=False)).abs().max() > 5


def test_the_target_does_not_depend_on_the_drift() -> None:
    """The correction undoes whatever drift is proposed: here none, a random walk."""
    walk = skewed_run(adjusted=True, gradient=torch.zeros_like, steps=100)
    assert moment_errors(walk).abs().max() < 5


def metropolis(correction: float, steps: int = 40) -> Tensor:
    """The adjusted chain once more, with a factor on log q(x | y) - log q(y | x)."""
    generator, x = rng(1), normal(30_000, 2)
    for _ in range(steps):
        kick = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        y = x - skewed_gradient(x) + STEP * kick
        back = (x - y + skewed_gradient(y)).square().sum(1) / STEP**2
        proposal_ratio = correction * (kick.square().sum(1) - back) / 2
        energy_ratio = (skewed_energy(x) - skewed_energy(y)) / TEMPERATURE
        uniform = torch.rand(len(x), generator=generator, dtype=x.dtype)
        x = torch.where((uniform.log() < energy_ratio + proposal_ratio).unsqueeze(1), y, x)
    return x


@pytest.mark.parametrize(("correction", "right"), [(1.0, True), (0.0, False), (-1.0, False)])
def test_a_wrong_correction_of_the_proposal_is_seen(correction: float, right: bool) -> None:
    assert (float(moment_errors(metropolis(correction)).abs().max()) < 5) is right


def test_acceptance_of_what_cannot_be_rejected_or_accepted() -> None:
    start = torch.zeros(5, 2, dtype=torch.float64)

    def well(x: Tensor) -> Tensor:
        return torch.where((x == 0).all(1), 0.0, math.inf).to(x.dtype)

    flat, info = run_langevin(lambda x: 0 * x.sum(1), start, 0.5, 9, rng(), adjusted=True)
    assert (info.acceptance == 1).all()
    assert flat.all()
    held, info = run_langevin(well, start, 0.5, 9, rng(), True, torch.zeros_like)
    assert (info.acceptance == 0).all()
    assert torch.equal(held, start)


def test_an_adjusted_chain_never_enters_what_is_not_a_number() -> None:
    def energy(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0, math.nan, x.square().sum(1))

    start = torch.full((200, 1), -1.0, dtype=torch.float64)
    x, info = run_langevin(energy, start, 1.0, 50, rng(), True, lambda x: x)
    assert (x <= 0).all()
    assert 0 < info.acceptance.mean() < 1


# -- closed forms --------------------------------------------------------------------------------

variances = st.floats(1e-3, 1e3)
epsilons = st.floats(1e-3, 10.0)


@given(variance=variances, epsilon=epsilons, initial=st.floats(0, 100), steps=st.integers(0, 30))
def test_variance_after_follows_the_recursion(
    variance: float, epsilon: float, initial: float, steps: int
) -> None:
    a = 1 - epsilon**2 / (2 * variance)
    expected = initial
    for _ in range(steps):
        expected = a**2 * expected + epsilon**2
    # cancels where a^2 is next to 1: there the sum is of `steps` nearly equal terms
    found = variance_after(steps, variance, epsilon, initial)
    assert found == pytest.approx(expected, rel=1e-6)


@given(ratio=st.floats(0.55, 50), epsilon=epsilons)
def test_stationary_variance_is_the_fixed_point(ratio: float, epsilon: float) -> None:
    variance = (ratio * epsilon) ** 2
    law = stationary_variance(variance, epsilon)
    assert variance_after(1, variance, epsilon, law) == pytest.approx(law, rel=1e-9)
    assert variance_after(100_000, variance, epsilon, 0.0) == pytest.approx(law, rel=1e-6)
    assert law >= epsilon**2 * (1 - 1e-12)
    assert law > variance


@given(ratio=st.floats(1.0, 50), epsilon=epsilons)
def test_matching_variance_inverts_the_law(ratio: float, epsilon: float) -> None:
    law = (ratio * epsilon) ** 2
    variance = matching_variance(law, epsilon)
    assert stationary_variance(variance, epsilon) == pytest.approx(law, rel=1e-7)
    assert variance < law
    # the larger solution, so that a narrow law is not matched by an even narrower target
    assert variance >= epsilon**2 / 2 * (1 - 1e-12)


def test_no_law_is_narrower_than_the_noise() -> None:
    assert stationary_variance(0.5, 1.0) == 1.0
    assert min(stationary_variance(v / 100, 1.0) for v in range(26, 300)) == 1.0
    assert math.isnan(matching_variance(0.99, 1.0))
    assert math.isnan(matching_variance(0.0, 1.0))
    assert matching_variance(1.0, 1.0) == 0.5


def test_a_target_narrower_than_half_the_noise_has_no_law() -> None:
    assert stationary_variance(0.25, 1.0) == math.inf
    assert stationary_variance(0.0, 1.0) == math.inf
    assert variance_after(1_000, 0.01, 1.0, 0.0) == math.inf
    # on the edge it grows without bound, linearly
    assert variance_after(7, 0.25, 1.0, 2.0) == 9.0


def test_published_numbers() -> None:
    assert stationary_variance(0.49, 1.0) == pytest.approx(1.00, abs=5e-3)
    assert math.sqrt(matching_variance(0.15**2, 0.125)) == pytest.approx(0.132, abs=5e-4)


def test_gradient_magnitude_that_a_law_demands() -> None:
    """A chain whose law has sd s has rms gradient s - sqrt(s^2 - epsilon^2)."""
    epsilon, law_sd = 0.5, 0.8
    variance = matching_variance(law_sd**2, epsilon)
    slope = epsilon**2 / (2 * variance)
    assert slope * law_sd == pytest.approx(law_sd - math.sqrt(law_sd**2 - epsilon**2), rel=1e-12)
