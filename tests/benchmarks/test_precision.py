"""What reduced precision of the Langevin path does to r, d and the verdict.

    python tests/benchmarks/test_precision.py [--seeds 3] [--write]

trains each network with float32 and with bfloat16, from the same seeds, and prints mean r over the
assessed window, the sd and the mean of d, the lowest autocorrelation of d, restlessness, verdict
and the departure of long chains. Trainings are chaotic, so that single numbers differ between any
two of them: what counts is the difference between precisions beside that between seeds.
``--write`` puts the table into ``docs/precision.md``. The test trains one short pair.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pages import markdown, renew

from ebm_core import RunResult, TrainConfig, preset, train
from ebm_core.evaluate import check

PAGE = Path(__file__).parents[2] / "docs" / "precision.md"
PRECISIONS = ("float32", "bfloat16")
VANILLA = {
    "data": "digits@16",
    "network": {"name": "vanilla", "width": 8},
    "langevin_steps": 20,
    "updates": 600,
    "anneal_updates": 250,
    "window": 300,
}
CASES: dict[str, TrainConfig] = {
    "mlp, ε 0.2": preset("digits", epsilon=0.2),
    "mlp, ε 0.08": preset("digits"),
    "mlp, ε 0.02": preset("digits", epsilon=0.02),
    "vanilla 16×16, ε 0.1": preset("digits", epsilon=0.1, **VANILLA),
}
LONG_STEPS, LONG_CHAINS = 1_000, 128


class Outcome(NamedTuple):
    """What is compared."""

    r: float
    d_mean: float
    d_sd: float
    lowest_acf: float
    restlessness: float
    departure: float
    verdict: str


def outcome(result: RunResult) -> Outcome:
    window = result.config.window
    d, r = result.d[-window:], result.r[-window:]
    found = result.assessment
    long_run = check(result, LONG_STEPS, LONG_CHAINS)
    return Outcome(
        float(r.mean()),
        float(d.mean()),
        float(d.std()),
        found.oscillation.acf_min,
        float(np.nanmean(result.restlessness[-window:])),
        long_run.departure,
        f"{found.verdict}, {long_run.outcome}",
    )


def row(name: str, precision: str, outcomes: Sequence[Outcome]) -> list[str]:
    def both(field: str) -> str:
        values = [getattr(each, field) for each in outcomes]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return f"{statistics.fmean(values):.3g} ± {spread:.2g}"

    numbers = [both(field) for field in Outcome._fields[:-1]]
    verdicts = [each.verdict for each in outcomes]
    counts = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    told = "; ".join(f"{n} {verdict}" for verdict, n in counts.items())
    return [name, precision, *numbers, told]


def table(seeds: int, cases: Sequence[str] = tuple(CASES)) -> str:
    header = ["network", "precision", "r", "mean d", "sd d", "lowest ACF of d", "restlessness"]
    rows = [[*header, "departure", "verdict, long run"]]
    for name in cases:
        for precision in PRECISIONS:
            configs = [CASES[name].with_(precision=precision, seed=seed) for seed in range(seeds)]
            rows.append(row(name, precision, [outcome(train(config)) for config in configs]))
            print(rows[-1], flush=True)
    return markdown(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares precisions of the Langevin path.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    given = parser.parse_args()
    torch.set_num_threads(1)
    text = table(given.seeds)
    print(text)
    if given.write:
        renew(PAGE, text)


def test_reduced_precision_learns_much_the_same() -> None:
    config = preset("digits", updates=300, anneal_updates=100, window=100, epsilon=0.2)
    whole, reduced = (train(config.with_(precision=precision)) for precision in PRECISIONS)
    a, b = whole.r[-100:].mean(), reduced.r[-100:].mean()
    assert not np.array_equal(whole.r, reduced.r)
    assert abs(a / b - 1) < 0.1


if __name__ == "__main__":
    main()
