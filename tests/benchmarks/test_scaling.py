"""Whether cost grows linearly: with members, steps and chains; and memory with members.

    python tests/benchmarks/test_scaling.py [--repeats 9]

prints time a member-step at M = 64 over that of the best M, time at twice the steps and at twice
the chains over that at once, and memory of a pack per further member beside what its bank, chains,
parameters and records hold. Exits with 1 where a bound is broken. The test runs a short form.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import torch
from test_speed import SIZES, Clock, Size, a_trainer, medians, our_loop, pack_megabytes

CPU = torch.device("cpu")
MOST_AT_64, MOST_AT_DOUBLE = 1.4, 2.0
# What a reading of a time or of memory may be off by
NOISE = 0.1
FEW, MANY = 8, 64


def growth(size: Size, members: Sequence[int], repeats: int) -> float:
    """Time a member-step at the largest M over that at the best."""
    modules = [size.build() for _ in range(max(members))]
    x = 0.5 * torch.randn(max(members), size.chains, *size.shape)
    runs = {str(m): our_loop(modules[:m], x[:m]) for m in members}
    timed = {
        m: (lambda run=run, m=m: run(x[: int(m)], size.steps))  # type: ignore[misc]
        for m, run in runs.items()
    }
    each = {int(m): seconds / int(m) for m, seconds in medians(timed, repeats, CPU).items()}
    return each[max(members)] / min(each.values())


def doubling(
    size: Size, members: int, repeats: int, clock: Clock = time.perf_counter
) -> tuple[float, float]:
    """Time at twice the steps, and at twice the chains, over that at once."""
    modules = [size.build() for _ in range(members)]
    x = 0.5 * torch.randn(members, 2 * size.chains, *size.shape)
    run, half = our_loop(modules, x), x[:, : size.chains].contiguous()
    seconds = medians(
        {
            "once": lambda: run(half, size.steps),
            "steps": lambda: run(half, 2 * size.steps),
            "chains": lambda: run(x, size.steps),
        },
        repeats,
        CPU,
        clock,
    )
    return seconds["steps"] / seconds["once"], seconds["chains"] / seconds["once"]


def megabytes_a_member(name: str) -> tuple[float, float]:
    """Memory of each further member of a pack: measured, and what it holds."""
    few, many = (pack_megabytes(name, m, "float32", CPU) for m in (FEW, MANY))
    trainer = a_trainer(SIZES[name], 1, CPU)
    parameters = sum(value.nbytes for value in trainer.parameters.values())
    held = trainer.states.nbytes + trainer.records.nbytes + parameters
    return (many - few) / (MANY - FEW), held / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures how cost grows.")
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    broken = False
    for name in ("toy", "mlp"):
        size = SIZES[name]
        ratio = growth(size, (4, 8, 16, 32, 64), repeats)
        steps, chains = doubling(size, 8, repeats)
        measured, held = megabytes_a_member(name)
        print(
            f"{name}: M = 64 takes {ratio:.2f}x of the best M a member-step; twice the steps "
            f"{steps:.2f}x, twice the chains {chains:.2f}x; {measured:.2f} MB a further member, "
            f"which holds {held:.2f} MB"
        )
        broken |= ratio > MOST_AT_64 or max(steps, chains) > MOST_AT_DOUBLE * (1 + NOISE)
    for name in ("vanilla", "nonlocal"):
        steps, chains = doubling(SIZES[name], 1, max(3, repeats // 3))
        print(f"{name}: twice the steps {steps:.2f}x, twice the chains {chains:.2f}x")
        broken |= max(steps, chains) > MOST_AT_DOUBLE * (1 + NOISE)
    return int(broken)


def test_cost_grows_linearly() -> None:
    # other tests share the cores with this short form: the processor's time leaves theirs out
    steps, chains = doubling(SIZES["toy"], 4, repeats=3, clock=time.process_time)
    assert 1.2 < steps < 3
    assert 1.2 < chains < 3


if __name__ == "__main__":
    sys.exit(main())
