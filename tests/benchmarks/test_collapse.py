"""Real trainings that collapse, when they are stopped, and that healthy ones never are.

    python tests/benchmarks/test_collapse.py [--out docs]

prints the tables of ``docs/breakdown.md`` and draws ``collapse.png``: about 8 minutes on one core.
As a test it makes one training of each kind.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ebm_core import preset, train_members
from ebm_core.assessment import Thresholds
from ebm_core.config import TrainConfig
from ebm_core.result import RunResult, Series
from ebm_core.trainer import Trainer
from ebm_core.vitals import Limits

# Digits have pixels that are the same in every image. With less noise on them than chains have,
# an energy tells data from chains by these pixels alone.
RECIPE = {"optimizer": "adam", "gamma_0": 0.001, "anneal_updates": 0}
SEEDS = range(5)
RATIOS = (0.01, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0)
DEPTH = Thresholds().collapse_nats
UNLIMITED = Limits(state=math.inf, gradient=math.inf, depth=math.inf)


def recipe(eps_data_ratio: float, seed: int = 0, **changes: Any) -> TrainConfig:
    """The training that collapses for a small enough `eps_data_ratio`."""
    return preset("digits", **RECIPE, eps_data_ratio=eps_data_ratio, seed=seed, **changes)


def onset(d: Series, dimensions: int) -> int | None:
    """First update with d below -10 nats a dimension, or None."""
    deep = d < -DEPTH * dimensions
    return int(np.argmax(deep)) if deep.any() else None


def longest_deep(d: Series, dimensions: int) -> int:
    """Most neighbouring updates with d below -10 nats a dimension."""
    longest = current = 0
    for value in d:
        current = current + 1 if value < -DEPTH * dimensions else 0
        longest = max(longest, current)
    return longest


# -- collapse ------------------------------------------------------------------------------------


def collapse_row(ratio: float, results: Sequence[RunResult]) -> str:
    """One line of the table of collapses."""
    pixels = math.prod(results[0].chains.shape[1:])
    ends = [(onset(result.d, pixels), result) for result in results]
    begun = [(begin, result) for begin, result in ends if begin is not None]
    stopped = [result for result in results if result.cause]
    delays = [len(result.d) - 1 - begin for begin, result in begun]
    saved = [1 - len(result.d) / result.config.updates for result in stopped]
    said = sorted({result.assessment.verdict for result in results})
    return (
        f"| {ratio:g} | {len(begun)} of {len(results)} | {_span([b for b, _ in begun])} "
        f"| {_span(delays)} | {_span([100 * share for share in saved])} | {', '.join(said)} |"
    )


def _span(values: Sequence[float]) -> str:
    if not values:
        return "–"
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


def unstopped(updates: int = 1_200) -> list[Series]:
    """d of the recipe with every detector off, in nats a dimension."""
    trainer = Trainer([recipe(0.01, seed) for seed in SEEDS])
    trainer.vitals.limits = UNLIMITED
    trainer._stop_collapsed = lambda: None  # type: ignore[method-assign]
    trainer.run(updates)
    return [trainer.d(member) / trainer.dimensions for member in range(trainer.members)]


def figure(
    collapsing: Sequence[RunResult], healthy: Sequence[RunResult], free: list[Series]
) -> Figure:
    """d with and without the detectors."""
    drawing = Figure(figsize=(9, 4.5), layout="constrained")
    axes = drawing.subplots()
    for result, whole in zip(collapsing, free, strict=True):
        n = math.prod(result.chains.shape[1:])
        axes.plot(whole, color="C3", linewidth=0.8, linestyle=":")
        axes.plot(result.d / n, color="C3", linewidth=1.2)
        axes.plot(len(result.d) - 1, result.d[-1] / n, "ko", markersize=4)
    for result in healthy:
        axes.plot(result.d[: len(free[0])] / n, color="C0", linewidth=0.6)
    axes.axhline(-DEPTH, color="0.5", linestyle="--", linewidth=0.8)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_xlabel("update")
    axes.set_ylabel("d / N (nats)")
    axes.plot([], [], color="C0", label="ρ = 2")
    axes.plot([], [], color="C3", label="ρ = 0.01")
    axes.plot([], [], color="C3", linestyle=":", label="ρ = 0.01, detectors off")
    axes.plot([], [], "ko", markersize=4, label="stopped")
    axes.plot([], [], color="0.5", linestyle="--", label="−10 N nats")
    axes.legend(loc="lower left")
    return drawing


# -- false alarms --------------------------------------------------------------------------------

SHORT = {"updates": 1_000, "window": 400}
ANNEALED = {**SHORT, "anneal_updates": 500}
PLANE = {**SHORT, "langevin_steps": 60}
HEALTHY: dict[str, TrainConfig] = {
    "digits, SGD, ε 0.0005": preset("digits", epsilon=0.0005, **ANNEALED),
    "digits, SGD, ε 0.005": preset("digits", epsilon=0.005, **ANNEALED),
    "digits, SGD, ε 0.08": preset("digits", **ANNEALED),
    "digits, SGD, ε 0.3": preset("digits", epsilon=0.3, **ANNEALED),
    "digits, SGD, γ_0 0.45 kept": preset("digits", gamma_0=0.45, anneal_updates=0, **SHORT),
    "digits, Adam 0.001": recipe(2.0, **SHORT),
    "digits_strong, Adam 0.01": preset("digits_strong", **SHORT),
    "digits, Adam 0.001, noise start, ε 0.005": recipe(
        2.0, chain_start="uniform", epsilon=0.005, **SHORT
    ),
    "gmm_convergent, L 60": preset("gmm_convergent", **PLANE),
    "gmm_nonconvergent, L 60": preset("gmm_nonconvergent", **PLANE),
    "rings_convergent, L 60": preset("rings_convergent", **PLANE),
}


class Strain(NamedTuple):
    """How near some healthy trainings came to the limits.

    Attributes:
        deep: Most neighbouring updates with deep d.
        least: Least d, nats a dimension.
        gradient: Largest r, as a share of its limit.
        stopped: How many were stopped.
    """

    deep: int
    least: float
    gradient: float
    stopped: int


def strain(config: TrainConfig, seeds: range) -> Strain:
    """Trains to the end, as a pack of all seeds."""
    trainer = Trainer([config.with_(seed=seed) for seed in seeds])
    trainer.run(config.updates)
    members, n = range(trainer.members), trainer.dimensions
    return Strain(
        max(longest_deep(trainer.d(m), n) for m in members),
        min(float(trainer.d(m).min()) for m in members) / n,
        max(float(trainer.r(m).max()) for m in members) / trainer.vitals.limits.gradient,
        sum(bool(trainer.vitals.report(m)[0]) for m in members),
    )


# -- as a test and as a command ------------------------------------------------------------------


def test_data_noise_far_under_epsilon_collapses_and_is_stopped() -> None:
    collapsed, healthy = train_members(
        [recipe(0.01, updates=1_000, window=400), recipe(2.0, updates=1_000, window=400)]
    )
    begin = onset(collapsed.d, 64)
    assert begin is not None
    assert begin < len(collapsed.d) < begin + 100
    assert collapsed.cause.startswith("d runs to minus infinity at update ")
    assert collapsed.status == "stopped_early"
    assert healthy.status == "finished"


def main() -> None:
    """Prints the tables and draws the figure."""
    parser = argparse.ArgumentParser(description="Measures collapse and false alarms.")
    parser.add_argument("--out", default="docs", metavar="FOLDER", help="for collapse.png")
    parser.add_argument("--only", choices=("collapse", "healthy"), help="one of the two parts")
    options = parser.parse_args()
    if options.only != "healthy":
        _print_collapses(Path(options.out))
    if options.only != "collapse":
        _print_healthy()


def _print_collapses(out: Path) -> None:
    print("| ρ | collapse | from update | stopped, updates later | saved, % | verdict |")
    print("|---|---|---|---|---|---|")
    found = {}
    for ratio in RATIOS:
        found[ratio] = train_members([recipe(ratio, seed) for seed in SEEDS])
        print(collapse_row(ratio, found[ratio]), flush=True)
    free = unstopped()
    last = ", ".join(f"{d[-1]:.2g}" for d in free)
    print(f"\nd / N with all detectors off, after {len(free[0])} updates: {last}\n", flush=True)
    figure(found[0.01], found[2.0], free).savefig(out / "collapse.png", dpi=100)


def _print_healthy() -> None:
    print("| healthy training | longest d < −10 N | least d / N | largest r / limit | stopped |")
    print("|---|---|---|---|---|")
    for name, config in HEALTHY.items():
        seen = strain(config, range(2))
        print(
            f"| {name} | {seen.deep} updates | {seen.least:.3g} | {seen.gradient:.2g} "
            f"| {seen.stopped} of 2 |",
            flush=True,
        )


if __name__ == "__main__":
    main()
