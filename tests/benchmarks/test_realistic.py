"""Long chains of a convergent and of a non-convergent model of digits: pictures and numbers.

    python -m study.run search_spaces/realistic_digits.yaml
    python tests/benchmarks/test_realistic.py [--study realistic_digits] [--out docs]

reads the trainings of the study, prints what became of every seed, follows 64 chains of the first
one from data and from the bank over 50,000 unadjusted steps at the training epsilon, prints both
tables of ``docs/realistic.md``, and draws ``realistic_convergent.png`` and
``realistic_nonconvergent.png``: about a minute on one core. As a test it does the same to small
trainings.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ebm_core import preset, train
from ebm_core.data import Samples, load_data, positive_samples
from ebm_core.engine import module_gradient
from ebm_core.evaluate import LongRun, check, short_run_samples
from ebm_core.langevin import run_langevin
from ebm_core.plots.series import describe, title_of
from ebm_core.plots.states import _montage
from ebm_core.plots.style import head, new_figure
from ebm_core.randomness import Stream, generator
from ebm_core.result import RunResult
from ebm_core.worth import Worth, worth
from study import load_study
from study.space import grid_points
from study.spec import load_study as read_file

ROOT = Path(__file__).parents[2]
FILE = ROOT / "search_spaces" / "realistic_digits.yaml"
STEPS, CHAINS, SHOWN = 50_000, 64, 36


@dataclass(frozen=True)
class Followed:
    """Long chains of one training.

    Attributes:
        result: The training.
        data: The training images, and those held out.
        after: Steps that were made at each of the states kept.
        states: From each start the states after so many steps, each of shape (n, *shape).
        short: The long-run check of a study, over 2,000 steps.
        long: The same check over as many steps as the chains are long.
    """

    result: RunResult
    data: Samples
    after: tuple[int, ...]
    states: dict[str, list[Tensor]]
    short: LongRun
    long: LongRun


def follow(result: RunResult, steps: int = STEPS, chains: int = CHAINS) -> Followed:
    """Unadjusted chains at the training epsilon, from noised data and from short-run samples.

    Args:
        result: A training on digits.
        steps: Length of the chains.
        chains: How many from each start.
    """
    config = result.config
    data = load_data(config.data)
    assert isinstance(data, Samples)
    rng = generator(config.seed, Stream.EVALUATION, 5, result.chains.device)
    starts = [
        positive_samples(data, chains, config.data_epsilon, rng, torch.float32),
        short_run_samples(result, chains, data, config.seed),
    ]
    after = (0, config.langevin_steps, min(1_000, steps), steps)
    x, gradient = torch.cat(starts), module_gradient(result.energy)
    kept = [x]
    for first, last in pairwise(after):
        x, _ = run_langevin(result.energy, x, config.epsilon, last - first, rng, gradient=gradient)
        kept.append(x)
    states = {
        "data": [each[:chains] for each in kept],
        "short-run samples": [each[chains:] for each in kept],
    }
    checks = [check(result, n, k, data) for n, k in ((2_000, 256), (steps, chains))]
    return Followed(result, data, after, states, *checks)


def worth_of(followed: Followed, x: Tensor) -> Worth:
    """What samples are worth beside the data."""
    result, config = followed.result, followed.result.config
    rng = generator(config.seed, Stream.EVALUATION, 6, x.device)
    found = worth(result.energy, x, followed.data, config.epsilon, config.data_epsilon, rng)
    assert found is not None
    return found


def outside(x: Tensor) -> float:
    """Share of samples with a value over 2 in size, where clean data lie in [-1, 1]."""
    return float((x.abs() > 2).flatten(1).any(1).double().mean())


def energy_nats(followed: Followed, x: Tensor) -> float:
    """Mean U = F / T of samples, in nats."""
    with torch.no_grad():
        return float(followed.result.energy(x).mean()) / followed.result.config.temperature


def figure(followed: Followed) -> Figure:
    """Chains from data above, from short-run samples below; a column for each number of steps."""
    result, side = followed.result, math.isqrt(SHOWN)
    found = followed.long
    title, lines, colour = title_of(result.assessment, describe(result.config))
    lines = [
        f"Chains at the training ε, clipped to [−1, 1]. Long run of {found.steps:,} steps: "
        f"{found.outcome}",
        lines[1],
    ]
    with new_figure(height=5.6) as drawing:
        head(drawing, title, lines, colour)
        axes = drawing.subplots(len(followed.states), len(followed.after))
        for row, (start, states) in zip(axes, followed.states.items(), strict=True):
            for ax, steps, x in zip(row, followed.after, states, strict=True):
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
                ax.imshow(
                    _montage(x[: side**2], side),
                    cmap="gray",
                    vmin=0,
                    vmax=1,
                    interpolation="nearest",
                )
                ax.set_title(f"{steps:,} steps")
            row[0].set_ylabel(f"from {start}")
    return drawing


def table(followed: Followed) -> Iterator[tuple[str, str]]:
    """What is known of one training and its chains, a name and a value a line."""
    result, evidence = followed.result, followed.result.assessment.evidence
    yield "verdict", result.assessment.summary().replace("_", " ")
    yield "oscillation", f"{result.assessment.oscillation.type}"
    yield "r / r*", f"{evidence['r_matched']:.2f}"
    yield "d, mean in sd d", f"{evidence['d_balance']:+.2f}"
    yield "restlessness", f"{evidence['restlessness']:.3f}"
    yield "spread of chains over that of data", f"{evidence['chain_spread']:.2f}"
    for found in (followed.short, followed.long):
        size = f"{found.departure:+.2f} ± {found.standard_error:.2f}"
        yield f"long run of {found.steps:,} steps", f"{found.outcome}: {found.summary} {size}"
    yield "chains from noise arrive", f"{followed.long.noise_arrived}"
    starts = followed.states
    for start, states in starts.items():
        energies = ", ".join(f"{energy_nats(followed, x):.1f}" for x in states)
        yield f"mean U from {start} after {followed.after} steps, nats", energies
    for start, states in starts.items():
        told = [worth_of(followed, x) for x in states]
        apart = ", ".join(f"{each.memorization.median:.3f}" for each in told)
        yield f"distance to nearest training image from {start}", apart
        grains = [each.sharpness for each in told if each.sharpness is not None]
        yield f"sharpness from {start}", ", ".join(f"{each.ratio:.2f}" for each in grains)
        gaps = [each.held_out for each in told if each.held_out is not None]
        over = ", ".join(f"{each.over_samples:+.2f}" for each in gaps)
        yield f"held-out data over samples from {start}, sd of U", over
    first = worth_of(followed, starts["data"][0])
    yield "distance of noised data to their own image", f"{first.memorization.own:.3f}"
    yield "the same to the nearest other", f"{first.memorization.other:.3f}"
    if first.held_out is not None:
        gap, error = first.held_out.over_seen, first.held_out.over_seen_error
        yield "held-out over training data, sd of U", f"{gap:+.2f} ± {error:.2f}"
    for start, states in starts.items():
        out = ", ".join(f"{outside(x):.0%}" for x in states)
        yield f"share with a value over 2 in size, from {start}", out


def every_seed(frame: pd.DataFrame) -> Iterator[str]:
    """A line of a table for each training of a study."""
    yield "| final rate | seed | verdict | long run | sharpness | held out over training data |"
    yield "|---|---|---|---|---|---|"
    for _, row in frame.iterrows():
        reasons = "" if pd.isna(row["reasons"]) else row["reasons"]
        cells = [
            f"{row['gamma_0']:g}",
            f"{row['seed']}",
            f"{row['verdict']}: {reasons}" if reasons else row["verdict"],
            f"{row['long_run']} {_pair(row['long_run_departure'], row['long_run_error'])}",
            "" if pd.isna(row["sharpness"]) else f"{row['sharpness']:.2f}",
            _pair(row["held_out_over_training"], row["held_out_over_training_error"]),
        ]
        yield f"| {' | '.join(cells)} |"


def _pair(size: float, error: float) -> str:
    return "" if pd.isna(size) else f"{size:+.2f} ± {error:.2f}"


# -- as a test and as a command ------------------------------------------------------------------


def test_the_study_trains_one_network_at_several_final_rates() -> None:
    spec = read_file(FILE)
    configs = [spec.config(point) for point in grid_points(spec.parameters)]
    annealed, *kept = configs
    assert annealed.annealing_active
    assert kept
    for config in kept:
        assert not config.annealing_active
        assert config.with_(gamma_0=annealed.gamma_0) == annealed
    assert spec.long_run.steps == STEPS


def test_every_seed_has_its_line() -> None:
    rows = [
        {"verdict": "convergent", "reasons": pd.NA, "long_run": "holds", "sharpness": 0.5},
        {"verdict": "nonconvergent", "reasons": "model_restless", "long_run": "departs"},
    ]
    numbers = ("long_run_departure", "held_out_over_training")
    for row in rows[:1]:
        row |= dict.fromkeys(numbers, 0.1) | {"long_run_error": 0.01}
        row |= {"held_out_over_training_error": 0.02}
    frame = pd.DataFrame([{"gamma_0": 0.002, "seed": n, **row} for n, row in enumerate(rows)])
    _, _, first, second = every_seed(frame)
    assert first == ("| 0.002 | 0 | convergent | holds +0.10 ± 0.01 | 0.50 | +0.10 ± 0.02 |")
    assert second == "| 0.002 | 1 | nonconvergent: model_restless | departs  |  |  |"


def test_chains_of_a_non_convergent_model_leave_and_those_of_a_convergent_one_stay(
    tmp_path: Path,
) -> None:
    short = {"updates": 800, "window": 300, "anneal_updates": 400}
    stays, leaves = (
        follow(train(preset("digits", **changes)), steps=1_500, chains=SHOWN)
        for changes in (
            {**short, "epsilon": 0.2},
            {**short, "optimizer": "adam", "gamma_0": 0.005, "anneal_updates": 0},
        )
    )
    assert leaves.result.assessment.verdict == "nonconvergent"
    assert stays.long.outcome == "holds"
    assert leaves.long.outcome == "departs"
    assert abs(leaves.long.departure) > 5 * abs(stays.long.departure)
    for name, followed in (("stays", stays), ("leaves", leaves)):
        assert len(dict(table(followed))) > 10
        figure(followed).savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 20_000


def main() -> None:
    """Prints the table and draws both figures."""
    parser = argparse.ArgumentParser(description="Follows the chains of the study of digits.")
    parser.add_argument("--study", default="realistic_digits", help="its name or its folder")
    parser.add_argument("--out", default="docs", metavar="FOLDER", help="where pictures go")
    options = parser.parse_args()
    study = load_study(options.study)
    tables = []
    for line in every_seed(study.table):
        print(line)
    finished = study.table[(study.table["long_run"] != "not_run") & (study.table["seed"] == 0)]
    for trial in finished["trial"].tolist():
        followed = follow(study.trainer(trial=trial).result())
        tables.append(list(table(followed)))
        name = f"realistic_{followed.result.assessment.verdict}.png"
        figure(followed).savefig(Path(options.out) / name)
        print(f"trial {trial}: {name}", flush=True)
    for rows in zip(*tables, strict=True):
        print("|", " | ".join([rows[0][0], *(value for _, value in rows)]), "|")


if __name__ == "__main__":
    main()
