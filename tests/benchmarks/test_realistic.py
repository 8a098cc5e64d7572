"""Long chains of a convergent and of a non-convergent model of digits: pictures and numbers.

    python -m study.run search_spaces/realistic_digits.yaml
    python tests/benchmarks/test_realistic.py [--study realistic_digits] [--out docs]

reads the trainings of the study that have a long run, follows 64 chains of each from data and from
the bank over 50,000 unadjusted steps at the training epsilon, prints the table of
``docs/realistic.md``, and draws ``realistic_convergent.png`` and ``realistic_nonconvergent.png``:
about a minute on one core. As a test it does the same to small trainings.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ebm_core import preset, train
from ebm_core.data import Samples, positive_samples
from ebm_core.engine import module_gradient
from ebm_core.evaluate import LongRun, check, short_run_samples
from ebm_core.images import digits
from ebm_core.langevin import run_langevin
from ebm_core.plots.series import describe, title_of
from ebm_core.plots.states import _montage
from ebm_core.plots.style import head, new_figure
from ebm_core.randomness import Stream, generator
from ebm_core.result import RunResult
from ebm_core.sections import DigitsData
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
        data: The training images, shape (1797, 1, size, size).
        after: Steps that were made at each of the states kept.
        states: From each start the states after so many steps, each of shape (n, *shape).
        short: The long-run check of a study, over 2,000 steps.
        long: The same check over as many steps as the chains are long.
    """

    result: RunResult
    data: Tensor
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
    assert isinstance(config.data, DigitsData)
    data = Samples(digits(config.data.size))
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
    return Followed(result, digits(config.data.size), after, states, *checks)


def nearest(x: Tensor, data: Tensor) -> Tensor:
    """Distance of each sample to the nearest of the data, root mean square a pixel, shape (n,)."""
    apart = torch.cdist(x.flatten(1), data.flatten(1)) / math.sqrt(x[0].numel())
    return apart.min(dim=1).values


def nearest_other(followed: Followed) -> float:
    """Mean distance of noised data to the nearest training image but the one under the noise.

    What fresh images of the same law would have, whose own image is in no training set.
    """
    config, x = followed.result.config, followed.data
    rng = generator(config.seed, Stream.EVALUATION, 6, x.device)
    own = torch.randperm(len(x), generator=rng)[:512]
    noised = x[own] + config.data_epsilon * torch.randn(x[own].shape, generator=rng)
    apart = torch.cdist(noised.flatten(1), x.flatten(1)) / math.sqrt(x[0].numel())
    apart[torch.arange(len(own)), own] = math.inf
    return float(apart.min(dim=1).values.mean())


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
        apart = ", ".join(f"{float(nearest(x, followed.data).mean()):.3f}" for x in states)
        yield f"distance to nearest training image from {start}", apart
    yield "the same of noised data, their own image left out", f"{nearest_other(followed):.3f}"
    for start, states in starts.items():
        out = ", ".join(f"{outside(x):.0%}" for x in states)
        yield f"share with a value over 2 in size, from {start}", out


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
    finished = study.table[study.table["long_run"] != "not_run"].sort_values("trial")
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
