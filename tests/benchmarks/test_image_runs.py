"""Two published image runs, shortened: speed beside a plain loop, and what precision does to them.

    python tests/benchmarks/test_image_runs.py [--device cuda] [--out docs] [--updates 2000]
        [--langevin-steps 50] [--precisions float32 tf32 bfloat16] [--write]

trains the shapes of *flowers convergent* (non-local network, SGD annealed) and of *cifar10
oscillating* (vanilla network, Adam), each in every precision, on a folder of 32x32x3 patches of
the two photographs of scikit-learn. Batches, epsilon, final rates and networks are the published
ones; updates, the annealing in proportion, L and the bank are shortened, and annealing begins at
0.01. The four-panel figure of every training
and one figure of traces by precision are written; ``--write`` puts the table into
``docs/images.md``. The test runs a short form.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from eager_loops import eager_loop
from pages import markdown, renew
from PIL import Image
from sklearn.datasets import load_sample_images

from ebm_core import RunResult, TrainConfig, plots, preset
from ebm_core.energies import build_energy
from ebm_core.evaluate import LongRun, check
from ebm_core.plots.style import BLUE, GREEN, RED, head, legend, new_figure
from ebm_core.trainer import Trainer

TABLE = Path(__file__).parents[2] / "docs" / "images.md"
RUNS = ("flowers_convergent", "cifar10_oscillating")
COLOURS = {"float32": BLUE, "tf32": GREEN, "bfloat16": RED}
_STRIDE = 12
BANK_SIZE = 300


@dataclass(frozen=True)
class Found:
    """One training, timed."""

    run: str
    precision: str
    result: RunResult
    long_run: LongRun
    seconds: float
    step: float
    eager: float
    path: str

    def cells(self) -> list[str]:
        evidence, assessment = self.result.assessment.evidence, self.result.assessment
        why = f" ({', '.join(assessment.reasons)})" if assessment.reasons else ""
        return [
            self.run,
            self.precision,
            f"{self.seconds:.0f}",
            f"{self.step * 1e3:.3f}",
            f"{self.eager / self.step:.1f}×",
            f"{evidence['r']:.4f}",
            f"{evidence['r_matched']:.3f}",
            f"{evidence['d_balance']:+.2f}",
            f"{assessment.oscillation.acf_min:+.2f}",
            f"{assessment.oscillation.corr_d_r:+.2f}",
            f"{assessment.verdict}{why}, {assessment.oscillation.type}",
            f"{self.long_run.outcome} ({self.long_run.departure:+.2f})",
        ]


HEADER = (
    "run",
    "precision",
    "seconds",
    "ms a step",
    "over eager",
    "r",
    "r/r*",
    "mean d / sd d",
    "lowest ACF of d",
    "corr(d, r)",
    "verdict, oscillation",
    "long run",
)


def write_patches(folder: Path, size: int) -> Path:
    """A folder of square patches of the two photographs, overlapping."""
    folder.mkdir(parents=True, exist_ok=True)
    for which, photograph in enumerate(load_sample_images().images):
        height, width, _ = photograph.shape
        for top in range(0, height - size + 1, _STRIDE):
            for left in range(0, width - size + 1, _STRIDE):
                patch = photograph[top : top + size, left : left + size]
                Image.fromarray(patch).save(folder / f"{which}-{top:03}-{left:03}.png")
    return folder


def shortened(run: str, folder: Path, device: str, updates: int, steps: int) -> TrainConfig:
    """The published configuration with fewer updates, annealed in proportion, and fewer steps."""
    published = preset(run)
    # with so few steps chains are far behind at the published first rate, and learning diverges
    slower = {"gamma_start": 0.01} if published.annealing_active else {}
    return published.with_(
        **slower,
        data={"name": "image_folder", "path": str(folder), "size": 32, "channels": 3},
        updates=updates,
        anneal_updates=published.anneal_updates * updates // published.updates,
        langevin_steps=steps,
        # of 10,000 states each would move 20 times in 2,000 updates: too few to leave the noise
        bank_size=BANK_SIZE,
        window=updates // 4,
        device=device,
    )


def trained(config: TrainConfig, run: str, eager: float, long_steps: int) -> Found:
    """Trains to the end and checks."""
    trainer = Trainer([config])
    trainer.run(1)  # captures; what that takes is not part of a step
    ahead = trainer.seconds
    began = time.perf_counter()
    trainer.run(config.updates)
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    result = trainer.result()
    found = check(result, steps=long_steps, chains=100, dataset=trainer.dataset)
    step = seconds / (trainer.update - 1) / config.langevin_steps
    return Found(
        run, config.precision, result, found, ahead + seconds, step, eager, trainer.engine.path
    )


def eager_step(config: TrainConfig, steps: int) -> float:
    """Seconds of a Langevin step of the plain loop over the same batch, after a warm-up."""
    device = torch.device(config.device)
    energy = build_energy(config.network, (3, 32, 32)).to(device)
    run = eager_loop(energy, config.epsilon)
    x = torch.empty(config.batch_size, 3, 32, 32, device=device).uniform_(-1, 1)
    run(x, steps)
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    run(x, steps)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps


def write_traces(run: str, found: Sequence[Found], out: Path) -> Path:
    """d and r over the updates, one line a precision."""
    with new_figure(height=4.2) as figure:
        head(figure, f"{run}: the same training by precision")
        left, right = figure.subplots(1, 2)
        for each in found:
            colour = COLOURS[each.precision]
            series = zip((left, right), (each.result.d, each.result.r), strict=True)
            for ax, values in series:
                ax.plot(values, color=colour, linewidth=0.7, alpha=0.75, label=each.precision)
        left.set(title="Energy difference d", xlabel="update t", ylabel="d, nats")
        right.set(title="Gradient magnitude r", xlabel="update t", ylabel="r, units of x")
        # the first updates, from noise, are a hundred times as large as the rest
        left.set_yscale("symlog", linthresh=1_000)
        right.set_yscale("log")
        for ax in (left, right):
            legend(ax, columns=3)
    path = out / f"images_{run}_precision.png"
    figure.savefig(path)
    return path


def measure(
    device: str,
    out: Path,
    updates: int,
    steps: int,
    precisions: Sequence[str],
    long_steps: int = 2_000,
    network: dict[str, object] | None = None,
    runs: Sequence[str] = RUNS,
) -> list[Found]:
    """Trains every run in every precision, and writes the figures."""
    out.mkdir(parents=True, exist_ok=True)
    found: list[Found] = []
    with TemporaryDirectory() as scratch:
        folder = write_patches(Path(scratch) / "patches", 32)
        for run in runs:
            config = shortened(run, folder, device, updates, steps)
            if network is not None:
                config = config.with_(network=network, batch_size=8, bank_size=8)
            eager = eager_step(config, min(steps, 20))
            own = []
            for precision in precisions:
                each = trained(config.with_(precision=precision), run, eager, long_steps)
                own.append(each)
                print(f"| {' | '.join(each.cells())} | {each.path}", flush=True)
                if precision == "float32":
                    plots.diagnostics(each.result).savefig(out / f"images_{run}.png")
            write_traces(run, own, out)
            found += own
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains two published image runs, shortened.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=TABLE.parent)
    parser.add_argument("--updates", type=int, default=2_000)
    parser.add_argument("--langevin-steps", type=int, default=50)
    parser.add_argument("--long-steps", type=int, default=2_000)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS)
    parser.add_argument(
        "--precisions", nargs="+", choices=COLOURS, default=["float32", "tf32", "bfloat16"]
    )
    parser.add_argument("--write", action="store_true", help=f"put the table into {TABLE.name}")
    given = parser.parse_args()
    found = measure(
        given.device,
        given.out,
        given.updates,
        given.langevin_steps,
        given.precisions,
        given.long_steps,
        runs=given.runs,
    )
    table = markdown([HEADER, *(each.cells() for each in found)])
    where = "CPU" if given.device == "cpu" else torch.cuda.get_device_name()
    text = (
        f"{where}, torch {torch.__version__}; {given.updates:,} updates, "
        f"L = {given.langevin_steps}, long run of {given.long_steps:,} steps.\n\n{table}"
    )
    print(text)
    if given.write:
        renew(TABLE, text)


def test_both_runs_train_and_are_drawn(tmp_path: Path) -> None:
    narrow: dict[str, dict[str, object]] = {
        "flowers_convergent": {"name": "nonlocal", "widths": [2, 2, 2]},
        "cifar10_oscillating": {"name": "vanilla", "width": 2},
    }
    for run, network in narrow.items():
        (found,) = measure(
            "cpu", tmp_path, 80, 1, ["float32"], long_steps=2, network=network, runs=[run]
        )
        assert len(found.result.d) == 80
        assert found.step > 0
        assert found.result.assessment.verdict in ("nonconvergent", "unassessed", "convergent")
        assert (tmp_path / f"images_{run}.png").stat().st_size > 10_000
        assert (tmp_path / f"images_{run}_precision.png").stat().st_size > 10_000


if __name__ == "__main__":
    main()
