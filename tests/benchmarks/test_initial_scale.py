"""What `init_scale` does to the start of training: r_1, and the first 500 updates.

    python tests/benchmarks/test_initial_scale.py [--out docs]

prints the two tables of ``docs/start.md`` and draws ``start.png``: about 4 minutes on two cores.
As a test it measures r_1 alone.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from ebm_core import preset
from ebm_core.config import TrainConfig, make_config
from ebm_core.data import Dataset, Samples, load_data
from ebm_core.energies import build_energy, scale_output
from ebm_core.result import Series
from ebm_core.trainer import Trainer

UPDATES, SEEDS = 500, 3
# What F is multiplied by, before any `init_scale`.
BADNESS = (1e-3, 1.0, 30.0)
RUNS = {
    "digits": preset("digits", epsilon=0.2),
    "gmm": preset("gmm_convergent", langevin_steps=60, updates=2_500, window=1_000),
}


# -- r_1 of the networks of the source -----------------------------------------------------------


class FirstMagnitude(NamedTuple):
    """r_1 of one network under one seed, units of x.

    Attributes:
        network: Its name.
        scaled: With the energy of eq. (1A).
        unscaled: With U = F instead: the drift is then (epsilon**2 / 2) grad F.
    """

    network: str
    scaled: float
    unscaled: float


def first_magnitudes(network: str, seeds: range, epsilon: float = 0.015) -> list[FirstMagnitude]:
    """r_1 from standard initialization; chains start from uniform noise on [-1, 1]."""
    images = {"name": "image_folder", "path": ".", "size": 32, "channels": 3}
    values = {
        "data": "gmm" if network == "toy" else images,
        "network": network,
        "epsilon": epsilon,
        "chain_start": "uniform",
        "batch_size": 100 if network == "toy" else 8,
        "langevin_steps": 100 if network == "toy" else 20,
        "updates": 20,
        "window": 20,
        "device": "cpu",
    }
    # r_1 does not depend on the data where chains start from noise
    blank = None if network == "toy" else Samples(torch.zeros(8, 3, 32, 32))
    return [_first(make_config({**values, "seed": seed}), blank) for seed in seeds]


def _first(config: TrainConfig, dataset: Dataset | None) -> FirstMagnitude:
    found = []
    for scale in (1.0, config.temperature):
        trainer = Trainer([config.with_(init_scale=scale)], dataset=dataset)
        trainer.run(1)
        found.append(float(trainer.r()[0]))
    return FirstMagnitude(config.network.name, *found)


# -- the first updates ---------------------------------------------------------------------------


class Start(NamedTuple):
    """The first updates of one training.

    Attributes:
        badness: What F was multiplied by.
        auto: Whether `init_scale` was auto.
        factor: `init_scale` that was used.
        d: Energy differences, nats.
        r: Gradient magnitudes over r*.
        cause: Why it stopped, if it did.
    """

    badness: float
    auto: bool
    factor: float
    d: Series
    r: Series
    cause: str

    def enters(self, low: float, high: float) -> float:
        """First update with r in the band; NaN if there is none."""
        inside = (self.r >= low) & (self.r <= high)
        return float(np.argmax(inside)) if inside.any() else math.nan


def starts(config: TrainConfig) -> list[Start]:
    """The first updates from every badness, with `init_scale` 1 and auto, for several seeds."""
    cases = [(b, auto, s) for s in range(SEEDS) for b in BADNESS for auto in (False, True)]
    configs = [
        config.with_(seed=seed, init_scale="auto" if auto else 1.0) for _, auto, seed in cases
    ]
    trainer = Trainer(configs, energy=_bad_networks(config, [b for b, _, _ in cases]).__next__)
    trainer.run(UPDATES)
    found = []
    for member, (badness, auto, _) in enumerate(cases):
        factor = float(trainer.init_factors[member])
        r = trainer.r(member) / trainer.matched(member).r_star
        cause = trainer.vitals.report(member)[0]
        found.append(Start(badness, auto, factor, trainer.d(member), r, cause))
    return found


def _bad_networks(config: TrainConfig, factors: list[float]) -> Iterator[nn.Module]:
    shape = load_data(config.data).shape
    for factor in factors:
        module = build_energy(config.network, shape)
        scale_output(module, factor)
        yield module


def _row(name: str, group: list[Start], config: TrainConfig) -> str:
    first = group[0]
    factors = sorted({f"{start.factor:g}" for start in group})
    r_1 = [start.r[0] for start in group]
    low, high = config.band.low, config.band.high
    in_range = _updates(start.enters(low / 10, high) for start in group)
    in_band = _updates(start.enters(low, high) for start in group)
    d = [abs(start.d[0]) for start in group]
    worst = [np.abs(start.d).max() for start in group]
    stopped = "; ".join(sorted({start.cause for start in group if start.cause}))
    return (
        f"| {name} | {first.badness:g} | {'auto: ' + ', '.join(factors) if first.auto else '1'} | "
        f"{np.median(r_1):.3g} | {in_range} | {in_band} | {np.median(d):.3g} | "
        f"{np.median(worst):.3g} | {stopped or '–'} |"
    )


def _updates(found: Iterable[float]) -> str:
    return ", ".join("–" if math.isnan(update) else f"{update:.0f}" for update in found)


def _figure(found: dict[str, list[Start]]) -> Figure:
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for column, (name, all_starts) in enumerate(found.items()):
        band = RUNS[name].band
        above, below = axes[:, column]
        above.axhspan(band.low / 10, band.high, color="0.93", label="range of r_1")
        above.axhspan(band.low, band.high, color="0.83", label="band")
        for start in all_starts[: 2 * len(BADNESS)]:
            colour = f"C{BADNESS.index(start.badness)}"
            style = {"color": colour, "linestyle": "-" if start.auto else ":", "linewidth": 1.4}
            label = f"F × {start.badness:g}, init_scale {'auto' if start.auto else '1'}"
            updates = np.arange(1, len(start.r) + 1)
            above.loglog(updates, start.r, **style, label=label)
            below.semilogx(updates, start.d, **style)
        above.set_title(f"{name}, ε = {RUNS[name].epsilon:g}")
        above.set_ylim(1e-4, 1e3)
        below.set_yscale("symlog", linthresh=10)
        below.set_yticks([-1e4, -1e2, -10, 0, 10, 1e2, 1e4])
        below.set_ylim(-1e4, 1e4)
        below.axhline(0, color="0.7", linewidth=0.8)
        below.set_xlabel("update, counted from 1")
    axes[0, 0].set_ylabel("r / r*")
    axes[1, 0].set_ylabel("d (nats)")
    axes[0, 1].legend(fontsize=8, loc="upper right")
    return figure


# -- as a test and as a command ------------------------------------------------------------------


@pytest.mark.parametrize("network", ["toy", "vanilla", "nonlocal"])
def test_r_1_is_of_the_published_size(network: str) -> None:
    for found in first_magnitudes(network, range(2)):
        assert 0.003 < found.scaled < 0.04
        assert 3e-7 < found.unscaled < 5e-6


def main() -> None:
    """Prints the tables and draws the figure."""
    parser = argparse.ArgumentParser(description="Measures the start of training.")
    parser.add_argument("--out", default="docs", metavar="FOLDER", help="where start.png goes")
    parser.add_argument("--only", choices=("networks", "starts"), help="one of the two tables")
    options = parser.parse_args()
    if options.only != "starts":
        _print_networks()
    if options.only != "networks":
        _print_starts(Path(options.out))


def _print_networks() -> None:
    print("| network | r_1, scaled energy (1A) | r_1, U = F | seeds |\n|---|---|---|---|")
    for network in ("toy", "vanilla", "nonlocal"):
        all_first = first_magnitudes(network, range(5))
        scaled = [found.scaled for found in all_first]
        plain = [found.unscaled for found in all_first]
        print(
            f"| {network} | {min(scaled):.4f} to {max(scaled):.4f} "
            f"| {min(plain):.2g} to {max(plain):.2g} | {len(all_first)} |",
            flush=True,
        )


def _print_starts(out: Path) -> None:
    print(
        "\n| data | F × | init_scale | r_1/r* | r in range from update | in band from "
        "| first \\|d\\| | largest \\|d\\| | stopped |\n|---|---|---|---|---|---|---|---|---|"
    )
    found = {name: starts(config) for name, config in RUNS.items()}
    for name, all_starts in found.items():
        for badness in BADNESS:
            for auto in (False, True):
                group = [s for s in all_starts if (s.badness, s.auto) == (badness, auto)]
                print(_row(name, group, RUNS[name]), flush=True)
    _figure(found).savefig(out / "start.png", dpi=100)


if __name__ == "__main__":
    main()
