"""How often the type of oscillation errs, on series whose truth is known.

    python tests/benchmarks/test_oscillation_rates.py [--series 2000] [--windows N …] [--write]

prints the tables of ``docs/oscillation.md`` in some minutes of one core, and fails where a rate
misses its limit; with ``--write`` it renews them there. Rows for which no rate is promised, and
those of an r that does not follow, have a quarter of the series. As a test it looks at fewer.

Every cell has its own series, independent of one another, but for those without learning: 2,000
members are run once, and a shorter window is the beginning of the longest. So members are
independent inside each cell, while the cells of that one row share their beginnings.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import lfilter
from torch import Tensor, nn

from ebm_core.diagnostics import Oscillation, autocorrelation, oscillation
from ebm_core.langevin import langevin_path, matching_variance, noise_blocks
from ebm_core.objective import energy_difference
from ebm_core.presets import preset
from ebm_core.trainer import Trainer

Table = NDArray[np.float64]
Maker = Callable[[int, int, np.random.Generator], tuple[Table, Table]]

PAGE = Path(__file__).parents[2] / "docs" / "oscillation.md"
SERIES, THINNED = 2_000, 4
WINDOWS = (500, 1_000, 2_000, 5_000)
BURN_IN = 400
MEMORIES = (0.0, 0.2, 0.5, 0.8, 0.95)
LADDER = (-0.1, -0.2, -0.25, -0.3, -0.35, -0.4)

# -- series: d and r, each (series, n) -----------------------------------------------------------


def filtered(coefficients: list[float], kicks: Table) -> Table:
    """Autoregression driven by kicks, settled, each series of about unit variance."""
    x = lfilter([1.0], coefficients, kicks)[:, BURN_IN:]
    return x / x.std()


def ar(phi: float, count: int, n: int, rng: np.random.Generator) -> Table:
    """AR(1): white noise for phi 0."""
    return filtered([1.0, -phi], rng.normal(size=(count, n + BURN_IN)))


def period_10(count: int, n: int, rng: np.random.Generator, damping: float = 0.835) -> Table:
    """AR(2) of period 10; at this damping its autocorrelation dips to -0.4 at lags 3 to 6."""
    coefficients = [1.0, -2 * damping * math.cos(2 * math.pi / 10), damping**2]
    return filtered(coefficients, rng.normal(size=(count, n + BURN_IN)))


def slow_r(count: int, n: int, rng: np.random.Generator) -> Table:
    """r of the source's figure 1: autocorrelation from 0.93 down."""
    return ar(0.93, count, n, rng)


def following(d: Table, share: float, rng: np.random.Generator) -> Table:
    """r of a given correlation with d, on top of slow noise."""
    return share * d + math.sqrt(1 - share**2) * slow_r(*d.shape, rng)


def memory(phi: float, drift: float = 0.0) -> Maker:
    def make(count: int, n: int, rng: np.random.Generator) -> tuple[Table, Table]:
        d = ar(phi, count, n, rng) + np.linspace(-drift / 2, drift / 2, n)
        return d, slow_r(count, n, rng)

    return make


def heavy(freedom: int) -> Maker:
    return lambda count, n, rng: (
        rng.standard_t(freedom, size=(count, n)),
        slow_r(count, n, rng),
    )


def shared_memory(count: int, n: int, rng: np.random.Generator) -> tuple[Table, Table]:
    d = ar(0.95, count, n, rng)
    return d, following(d, 0.8, rng)


def two_clocks(damping: float) -> Maker:
    """d and r of the same period that have nothing to do with each other."""
    return lambda count, n, rng: (
        period_10(count, n, rng, damping),
        period_10(count, n, rng, damping),
    )


def oscillating_alone(count: int, n: int, rng: np.random.Generator) -> tuple[Table, Table]:
    return period_10(count, n, rng), slow_r(count, n, rng)


def delayed(updates: int) -> Maker:
    """r follows an oscillating d some updates late."""

    def make(count: int, n: int, rng: np.random.Generator) -> tuple[Table, Table]:
        d = period_10(count, n + updates, rng)
        return d[:, updates:], following(d, 0.8, rng)[:, :n]

    return make


def figure_2(count: int, n: int, rng: np.random.Generator) -> tuple[Table, Table]:
    d = period_10(count, n, rng)
    return d, following(d, 0.8, rng)


def alternating(phi: float) -> Maker:
    def make(count: int, n: int, rng: np.random.Generator) -> tuple[Table, Table]:
        d = ar(phi, count, n, rng)
        return d, following(d, 0.6, rng)

    return make


def swinging(period: int) -> Maker:
    """d swings slowly, too slowly for the rule, and r with it."""

    def make(count: int, n: int, rng: np.random.Generator) -> tuple[Table, Table]:
        # the same number of periods fade in the same factor
        damping = 0.835 ** (10 / period)
        coefficients = [1.0, -2 * damping * math.cos(2 * math.pi / period), damping**2]
        d = filtered(coefficients, rng.normal(size=(count, n + BURN_IN)))
        return d, following(d, 0.8, rng)

    return make


# -- training without learning -------------------------------------------------------------------

BATCH, BANK, STEPS, PLANE = 8, 32, 4, 2
DATA_RATIO = 1.0


def curvature(ratio: Tensor) -> Tensor:
    """Of the energy c |x|^2 / 2 at epsilon 1 whose unadjusted law has sd `ratio`."""
    return torch.tensor([1 / (2 * matching_variance(s**2, 1.0)) for s in ratio.tolist()])


def without_learning(ratio: Tensor, updates: int, seed: int) -> tuple[Table, Table]:
    """d and r at gamma_0 = 0 where chains have the law of the data: the source's prototype.

    Each member has a Gaussian energy in the plane whose unadjusted chains have exactly the law of
    the noised data. A bank holds the chains; each update takes some of them, whichever.

    Args:
        ratio: sd of the noised data over epsilon, shape (M,), over 1.
        updates: How many.
        seed: Of all that is random.

    Returns:
        d and r, each (M, updates).
    """
    members = len(ratio)
    rng = torch.Generator().manual_seed(seed)
    spread, c = ratio.reshape(-1, 1, 1), curvature(ratio).reshape(-1, 1, 1)
    epsilon, shape = torch.ones(members), (members, BATCH, PLANE)
    clean = (spread.square() - DATA_RATIO**2).sqrt()
    bank = spread * torch.randn(members, BANK, PLANE, generator=rng)
    rows = torch.arange(members).unsqueeze(1)
    records = torch.empty(2, updates, members)
    for update in range(updates):
        noise = torch.randn(2, *shape, generator=rng)
        positive = clean * noise[0] + DATA_RATIO * noise[1]
        slots = torch.rand(members, BANK, generator=rng).argsort(1)[:, :BATCH]
        blocks = noise_blocks(STEPS, shape, rng, torch.float32)
        negative, info = langevin_path(lambda x: c * x, bank[rows, slots], epsilon, blocks)
        bank[rows, slots] = negative
        low, high = (c.squeeze(2) * x.square().sum(2) / 2 for x in (positive, negative))
        records[0, update] = energy_difference(low, high, epsilon)
        records[1, update] = info.gradient_magnitude.mean(1)
    d, r = records.double().mT.numpy()
    return d, r


@cache
def _run(members: int, updates: int) -> tuple[Table, Table]:
    # from chains that forget within an update to chains that remember for hundreds of them
    ratio = torch.logspace(math.log10(1.05), math.log10(15), members)
    return without_learning(ratio, updates, seed=11)


def prototype(longest: int) -> Maker:
    """The beginnings of one run of so many updates."""

    def make(count: int, n: int, rng: np.random.Generator) -> tuple[Table, Table]:
        d, r = _run(count, longest)
        return d[:, :n], r[:, :n]

    return make


# r that has nothing to do with an oscillating d, or follows it in another way.
NOT_SHARED: dict[str, Maker] = {
    "period 10, r slow noise": oscillating_alone,
    "period 10, r its own period 10": two_clocks(0.835),
    "the same, long-lived": two_clocks(0.98),
    "period 10, r follows 2 updates late": delayed(2),
    "period 10, r follows 5 updates late": delayed(5),
}
SHARED: dict[str, Maker] = {
    "period 10, r follows at 0.8": figure_2,
    "AR(1) -0.4, r follows at 0.6": alternating(-0.4),
}

# -- families and what is asked of them ----------------------------------------------------------


class Family(NamedTuple):
    """Series of one kind, and the shares of types asked for; the least ones from n = 1,000 on.

    The table looks at as many series of each, divided by `thinned`.
    """

    name: str
    make: Maker
    most_strong: float = 1.0
    least_weak: float = 0.0
    least_strong: float = 0.0
    thinned: int = 1

    def misses(self, n: int, rates: Rates) -> list[str]:
        """What is asked of a window of n updates and not kept."""
        found = []
        if rates.strong > self.most_strong:
            found.append(f"strong {rates.strong:.1%} is over {self.most_strong:.0%}")
        if n >= 1_000 and rates.weak < self.least_weak:
            found.append(f"weak {rates.weak:.1%} is under {self.least_weak:.0%}")
        if n >= 1_000 and rates.strong < self.least_strong:
            found.append(f"strong {rates.strong:.1%} is under {self.least_strong:.0%}")
        return [f"{self.name}, n = {n}: {text}" for text in found]


def families(longest: int) -> list[Family]:
    """All rows of the table of rates; `longest` is the longest window."""
    found = [null("white noise", memory(0.0), least_weak=0.95)]
    found += [null(f"Student t, {k} degrees of freedom", heavy(k)) for k in (2, 3)]
    for phi in MEMORIES[1:]:
        found.append(null(f"AR(1) {phi}", memory(phi), least_weak=0.95 if phi <= 0.5 else 0.0))
    for phi in MEMORIES:
        for drift in (2, 4):
            found.append(null(f"AR(1) {phi}, drift of {drift} sd", memory(phi, drift)))
    return [
        *found,
        null("no learning (γ₀ = 0)", prototype(longest)),
        Family("**period 10, r follows at 0.8**", figure_2, least_strong=0.99),
        Family("**AR(1) -0.4, r follows at 0.6**", alternating(-0.4), least_strong=0.99),
        *(
            Family(f"AR(1) {phi}, r follows at 0.6", alternating(phi), thinned=THINNED)
            for phi in LADDER[:-1]
        ),
        *(null(name, make, thinned=THINNED) for name, make in NOT_SHARED.items()),
        null("AR(1) 0.95, r follows at 0.8", shared_memory, thinned=THINNED),
    ]


def null(name: str, make: Maker, least_weak: float = 0.0, thinned: int = 1) -> Family:
    return Family(name, make, most_strong=0.01, least_weak=least_weak, thinned=thinned)


# -- rates ---------------------------------------------------------------------------------------


class Rates(NamedTuple):
    """Share of each type."""

    weak: float
    strong: float
    undetermined: float


def found_in(make: Maker, n: int, series: int, name: str) -> Iterator[Oscillation]:
    """The type of many series; the name sets their random numbers."""
    rng = np.random.default_rng([n, *name.encode()])
    for d, r in zip(*make(series, n, rng), strict=True):
        yield oscillation(d, r)


def rates_of(family: Family, n: int, series: int) -> Rates:
    found = Counter(swing.type for swing in found_in(family.make, n, series, family.name))
    return Rates(found["weak"] / series, found["strong"] / series, found["undetermined"] / series)


def head(corner: str, columns: list[str]) -> Iterator[str]:
    yield f"| {corner} | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"


def row(name: str, cells: list[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"


def percent(*shares: float) -> str:
    return " / ".join(f"{100 * share:.4g}" for share in shares)


def lengths(windows: tuple[int, ...]) -> list[str]:
    return [f"n = {n:,}" for n in windows]


def rate_table(windows: tuple[int, ...], series: int, misses: list[str]) -> Iterator[str]:
    """The table of rates, line by line; adds to `misses` what misses its limit."""
    yield from head(f"{series:,} series, weak / strong / undetermined, %", lengths(windows))
    for family in families(max(windows)):
        count = max(1, series // family.thinned)
        rates = [rates_of(family, n, count) for n in windows]
        for n, found in zip(windows, rates, strict=True):
            misses += family.misses(n, found)
        name = f"{family.name} ({count:,})" if family.thinned > 1 else family.name
        yield row(name, [percent(*found) for found in rates])


def sharing_table(n: int, series: int) -> Iterator[str]:
    """How often each evidence of "r shares it" is found, where it is true and where not."""
    columns = ["r dips too", "correlation over 0.3", "over its bound", "peak at 0"]
    yield from head(f"{series:,} series, n = {n:,}, %", columns)
    for name, make in (SHARED | NOT_SHARED).items():
        swings = list(found_in(make, n, series, name))
        shares = [
            np.mean([s.acf_r_at_lag <= -s.bound for s in swings]),
            np.mean([s.corr_d_r >= 0.3 for s in swings]),
            np.mean([s.corr_d_r >= s.corr_bound for s in swings]),
            np.mean([s.cross_peak_lag == 0 for s in swings]),
        ]
        yield row(name, [percent(float(share)) for share in shares])


def outside(swing: Oscillation) -> tuple[bool, bool, bool]:
    """Whether dip, correlation and sign changes lie outside their bounds."""
    changes = abs(swing.sign_changes - swing.sign_changes_expected)
    return (
        swing.acf_min < -swing.bound,
        abs(swing.corr_d_r) > swing.corr_bound,
        changes > swing.sign_changes_bound,
    )


def bounds_table(windows: tuple[int, ...], series: int) -> Iterator[str]:
    """How often memory alone takes each statistic out of its bound."""
    yield from head(f"{series:,} series, dip / correlation / sign changes, %", lengths(windows))
    for phi in MEMORIES:
        shares = [
            np.mean([outside(s) for s in found_in(memory(phi), n, series, "bounds")], axis=0)
            for n in windows
        ]
        yield row(f"AR(1) {phi}, r AR(1) 0.93", [percent(*share) for share in shares])


def slow_shares(make: Maker, n: int, series: int, name: str) -> tuple[float, float]:
    """Share of series that are strong, and of those where a slower swing is reported."""
    swings = list(found_in(make, n, series, name))
    strong = sum(swing.type == "strong" for swing in swings)
    return strong / series, sum("slower swing" in swing.reason for swing in swings) / series


def slow_table(windows: tuple[int, ...], series: int) -> Iterator[str]:
    """What is found of slow swings."""
    yield from head(f"{series:,} series, strong / slower swing reported, %", lengths(windows))
    rows: dict[str, Maker] = {f"AR(1) {phi}": memory(phi) for phi in (0.0, 0.8, 0.95, 0.99)}
    rows |= {f"period {period}": swinging(period) for period in (20, 30, 40, 60, 100, 200)}
    for name, make in rows.items():
        yield row(name, [percent(*slow_shares(make, n, series, name)) for n in windows])


def write_table(name: str, lines: list[str]) -> None:
    """Replaces a table of the page, between its two marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(f"<!-- {name} -->\n")
    _, _, after = rest.partition(f"<!-- end of {name} -->\n")
    table = "\n".join(lines)
    text = f"{before}<!-- {name} -->\n\n{table}\n\n<!-- end of {name} -->\n{after}"
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Error rates of the type of oscillation.")
    parser.add_argument("--series", type=int, default=SERIES)
    parser.add_argument("--windows", type=int, nargs="+", default=WINDOWS)
    parser.add_argument("--write", action="store_true", help=f"write the tables into {PAGE.name}")
    chosen = parser.parse_args()
    windows, misses = tuple(chosen.windows), list[str]()
    tables = {
        "rates": rate_table(windows, chosen.series, misses),
        "sharing": sharing_table(1_000, min(chosen.series, 500)),
        "bounds": bounds_table((100, *windows), min(chosen.series, 500)),
        "slow": slow_table(windows, min(chosen.series, 200)),
    }
    for name, table in tables.items():
        lines = []
        for line in table:
            print(line, flush=True)
            lines.append(line)
        print()
        if chosen.write:
            write_table(name, lines)
    print(*misses, sep="\n")
    print(f"{time.process_time():.0f} s of one core")
    sys.exit(bool(misses))


# -- the short form ------------------------------------------------------------------------------

FEW, SHORT = 200, (500, 1_000)


@pytest.mark.parametrize("family", families(max(SHORT)), ids=lambda family: family.name)
def test_rates_keep_their_limits(family: Family) -> None:
    for n in SHORT:
        assert family.misses(n, rates_of(family, n, FEW)) == []


def test_limits_can_be_missed() -> None:
    always = Rates(weak=0.0, strong=1.0, undetermined=0.0)
    for family in families(500):
        if family.most_strong < 1 or family.least_weak:
            assert family.misses(1_000, always)
        if family.least_strong:
            assert family.misses(1_000, Rates(0.5, 0.5, 0.0))
            assert not family.misses(500, Rates(0.5, 0.5, 0.0))


def test_power_grows_with_the_size_of_the_dip() -> None:
    shares = [rates_of(Family(str(phi), alternating(phi)), 1_000, FEW).strong for phi in LADDER]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert 0.3 < shares[LADDER.index(-0.25)] < 0.7  # at the size asked for: one in two
    assert shares[-1] >= 0.99


def test_an_r_that_dips_by_itself_is_no_evidence_and_one_that_follows_may_not_dip() -> None:
    apart = list(found_in(two_clocks(0.835), 1_000, FEW, "apart"))
    assert np.mean([s.acf_r_at_lag <= -s.bound for s in apart]) > 0.9
    assert not any(s.type == "strong" for s in apart)
    together = list(found_in(figure_2, 1_000, FEW, "together"))
    assert np.mean([s.acf_r_at_lag <= -s.bound for s in together]) < 0.5
    assert np.mean([s.type == "strong" for s in together]) >= 0.99


def test_unrelated_series_stay_in_their_bounds() -> None:
    shares = {
        phi: np.mean([outside(s) for s in found_in(memory(phi), 1_000, FEW, "in")], axis=0)
        for phi in (0.0, 0.8)
    }
    for dip, correlation, _ in shares.values():
        # half of 5 % of 200 to one side: 5 +- 2; 5 % to both: 10 +- 3
        assert dip <= 0.065
        assert correlation <= 0.11
    assert shares[0.0][2] <= 0.11
    assert shares[0.8][2] == 1  # memory changes signs less often, and is not strong for it


def test_slow_swings_are_reported_and_memory_is_not() -> None:
    strong, reported = slow_shares(swinging(60), 5_000, 50, "swing")
    assert strong == 0
    assert reported > 0.8
    assert slow_shares(memory(0.95), 2_000, FEW, "memory") == (0, 0)


class Bowl(nn.Module):
    """c |x|^2 / 2."""

    def __init__(self, c: float) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.tensor(c))

    def forward(self, x: Tensor) -> Tensor:
        return self.c * x.square().flatten(1).sum(1) / 2


class Normal:
    """Gaussian data in the plane."""

    shape = (PLANE,)

    def __init__(self, sd: float) -> None:
        self.sd = sd

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return self.sd * torch.randn(n, PLANE, generator=generator)

    def to(self, device: torch.device) -> Normal:
        return self


def moments(d: Table, r: Table) -> Table:
    """Statistics of each series: shape (series, 5)."""
    rows = [
        [x.std(), autocorrelation(x)[1], y.mean(), autocorrelation(y)[1], np.corrcoef(x, y)[0, 1]]
        for x, y in zip(d, r, strict=True)
    ]
    return np.array(rows)


@pytest.mark.parametrize("ratio", [1.2, 4.0])
def test_the_prototype_is_a_training_at_rate_0(ratio: float) -> None:
    members, updates = 6, 300
    base = preset(
        "gmm_convergent",
        epsilon=1.0,
        eps_data_ratio=DATA_RATIO,
        gamma_0=0.0,
        langevin_steps=STEPS,
        batch_size=BATCH,
        bank_size=BANK,
        bank_start="data",
        updates=updates,
        window=updates,
    )
    configs = [base.with_(seed=seed) for seed in range(members)]
    c = float(curvature(torch.tensor([ratio])))
    trainer = Trainer(configs, energy=Bowl(c), dataset=Normal(math.sqrt(ratio**2 - 1)))
    trainer.run(updates)
    d, r = (np.stack([series(m) for m in range(members)]) for series in (trainer.d, trainer.r))
    real = moments(d, r)
    like = moments(*without_learning(torch.full((100,), ratio), updates, seed=1))
    error = np.sqrt(like.var(0) / members + like.var(0) / len(like))
    assert np.all(np.abs(real.mean(0) - like.mean(0)) < 5 * error)
    assert {oscillation(x, y).type for x, y in zip(d, r, strict=True)} == {"weak"}


if __name__ == "__main__":
    main()
