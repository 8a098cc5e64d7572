"""How often the long-run check errs, and how small an error it finds.

    python tests/benchmarks/test_long_run_power.py [--repeats 100]

prints two tables, as Markdown. The samples are Gaussian, with a variance off by a known share from
that of the unadjusted chains of a Gaussian energy with sigma / epsilon = 4. The first table runs
the check itself at its default budget. The second, for more sizes and budgets, replaces the chains
by an exact draw of what is read along them: the squared distance from the centre, whose law from
one reading to the next is known. The short form under pytest runs the check a few times.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ebm_core.departure import LongRunLimits, departs, effect, errors_asked
from ebm_core.evaluate import long_run
from ebm_core.langevin import stationary_variance

EPSILON = 0.25
STEPS, CHAINS, REFERENCE, READINGS = 2_000, 256, 4_096, 200
VARIANCE = stationary_variance(1.0, EPSILON)
DIMENSIONS = (1, 2, 16, 64)
ERRORS = (-0.15, -0.10, -0.05, 0.0, 0.05, 0.10, 0.15)
BUDGETS = (500, 2_000)


class Gaussian(nn.Module):
    """F of a Gaussian of sd 1."""

    def __init__(self) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(EPSILON**2 / 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.stiffness * x.square().sum(-1) / 2


def checked(dimensions: int, error: float, seed: int) -> bool:
    """Whether the check says ``departs`` of samples whose variance is off by a share."""
    rng = torch.Generator().manual_seed(seed)
    sd = math.sqrt(VARIANCE * (1 + error))
    samples, data = (torch.randn(n, dimensions, generator=rng) * sd for n in (REFERENCE, CHAINS))
    found = long_run(Gaussian(), samples, data, EPSILON, STEPS, seed, lambda x: x * EPSILON**2 / 2)
    return found.outcome == "departs"


def drawn(dimensions: int, error: float, seed: int, steps: int = STEPS) -> bool:
    """The same of energies, drawn from their exact law: squared distances, but for a factor."""
    rng = np.random.default_rng(seed)
    start = VARIANCE * (1 + error)
    limits = LongRunLimits().in_dimensions(dimensions)
    reference = start * rng.chisquare(dimensions, REFERENCE)
    found = [
        {"energy": effect("energy", _distances(rng, dimensions, start, steps), reference)}
        for _ in ("bank", "data")
    ]
    z = errors_asked(found, limits, CHAINS)
    return any(departs("energy", each["energy"], limits, z) for each in found)


def _distances(rng: np.random.Generator, n: int, start: float, steps: int) -> np.ndarray:
    """Late half of squared distances along chains, shape (CHAINS, READINGS / 2).

    A reading is b x + s z, so in length only z along x and the rest of z across it matter.
    """
    readings = min(READINGS, steps // 5)
    b = (1 - EPSILON**2 / 2) ** (steps // readings)
    s = math.sqrt(VARIANCE * (1 - b * b))
    squared = start * rng.chisquare(n, CHAINS)
    found = []
    for _ in range(readings):
        along = b * np.sqrt(squared) + s * rng.standard_normal(CHAINS)
        across = rng.chisquare(n - 1, CHAINS) if n > 1 else 0.0
        squared = along**2 + s**2 * across
        found.append(squared)
    return np.stack(found[readings // 2 :], axis=1)


def rate(departing: Callable[..., bool], repeats: int, *arguments: float) -> str:
    """Share of departures, per cent, over seeds from 0."""
    return f"{sum(departing(*arguments, seed) for seed in range(repeats)) / repeats:.1%}"


def check_table(repeats: int) -> None:
    """Prints how often the check itself departs."""
    sizes = (-0.10, 0.0, 0.10)
    print(f"The check itself, {STEPS} steps, {repeats} repeats: share that departs\n")
    print("| N | " + " | ".join(f"{error:+.0%}" for error in sizes) + " |")
    print("|---|" + "---|" * len(sizes))
    for n in DIMENSIONS:
        print(f"| {n} |", *(f"{rate(checked, repeats, n, e)} |" for e in sizes), flush=True)


def draw_table(repeats: int) -> None:
    """Prints how often exact draws of the squared distance depart."""
    print(f"Exact draws of the squared distance, {repeats} repeats: share that departs\n")
    print("| N | steps | " + " | ".join(f"{error:+.0%}" for error in ERRORS) + " |")
    print("|---|---|" + "---|" * len(ERRORS))
    for n in DIMENSIONS:
        for steps in BUDGETS:

            def departing(error: float, seed: int, n: int = n, steps: int = steps) -> bool:
                return drawn(n, error, seed, steps)

            shares = (f"{rate(departing, repeats, e)} |" for e in ERRORS)
            print(f"| {n} | {steps} |", *shares, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Error rates and power of the long-run check.")
    parser.add_argument("--repeats", type=int, default=100, metavar="N")
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    check_table(repeats)
    print()
    draw_table(4 * repeats)


@pytest.mark.parametrize("dimensions", [2, 16])
def test_the_check_finds_a_tenth_of_the_variance_and_leaves_sound_samples_alone(
    dimensions: int,
) -> None:
    # at a nominal rate of 5 %, four or more of twenty are seen once in sixty times
    assert sum(checked(dimensions, 0.0, seed) for seed in range(20)) <= 3
    assert all(checked(dimensions, error, seed) for error in (-0.1, 0.1) for seed in range(5))


def test_exact_draws_err_at_the_nominal_rate_and_find_a_tenth() -> None:
    """In one dimension, where errors are largest: three standard errors of the share to spare."""
    n, repeats = 1, 200
    share = {e: sum(drawn(n, e, s) for s in range(repeats)) / repeats for e in (-0.1, 0.0, 0.1)}
    assert share[0.0] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repeats)
    assert min(share[-0.1], share[0.1]) >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / repeats)
    assert sum(drawn(n, 0.02, s) for s in range(50)) / 50 < 0.5


if __name__ == "__main__":
    main()
