"""The convolutional networks at every size: F, r_1, training, and memory as it was planned.

    python tests/benchmarks/test_image_networks.py [--write]

prints two tables, which ``--write`` puts into ``docs/networks.md``: about 10 minutes on one core.
The first has r_1 of *vanilla* and *nonlocal* at 8 to 64 pixels with one channel and three. The
second trains both at 32x32, on digits and on patches of photographs, each as a study of one
training, and sets the memory that the study planned beside the most that its worker took. As a
test it does a short form of both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from pages import markdown, renew

from ebm_core import preset, train
from ebm_core.energies import build_energy
from ebm_core.sections import NonlocalNetwork, VanillaNetwork
from study import estimate
from study.plan import Wanted
from study.spec import load_study
from study.table import CAUSE

PAGE = Path(__file__).parents[2] / "docs" / "networks.md"
NETWORKS = {"vanilla": VanillaNetwork(), "nonlocal": NonlocalNetwork()}
SIZES, CHANNELS, SEEDS = (8, 16, 32, 64), (1, 3), 3
SAMPLES = 16
DATA: dict[str, Any] = {
    "digits, 32×32×1": {"name": "digits", "size": 32},
    "patches, 32×32×3": {"name": "patches", "size": 32, "channels": 3},
}
# What a plan may be off by.
TOLERANCE = 0.15
# r_1 at 32x32 and default initialization, over seeds and channels.
EXPECTED = {"vanilla": (0.012, 0.016), "nonlocal": (0.021, 0.033)}


# -- F, its gradient and r_1 ---------------------------------------------------------------------


def first_magnitude(network: str, channels: int, size: int, seed: int) -> float:
    """Mean gradient magnitude at uniform noise on [-1, 1] and default initialization.

    Raises:
        AssertionError: If F is not one number a sample, or a gradient is not finite.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        energy = build_energy(NETWORKS[network], (channels, size, size))
        x = torch.rand(SAMPLES, channels, size, size) * 2 - 1
    value = energy(x.requires_grad_())
    assert value.shape == (SAMPLES,)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert bool(torch.isfinite(gradient).all())
    (*weights,) = torch.autograd.grad(energy(x.detach()).mean(), list(energy.parameters()))
    assert all(bool(torch.isfinite(each).all()) for each in weights)
    return float(gradient.flatten(1).norm(dim=1).mean())


def magnitudes(seeds: int) -> Iterator[list[str]]:
    yield ["network", "channels", *(f"{size}×{size}" for size in SIZES)]
    for network in NETWORKS:
        for channels in CHANNELS:
            cells = []
            for size in SIZES:
                found = [first_magnitude(network, channels, size, seed) for seed in range(seeds)]
                cells.append(f"{min(found):.4f} to {max(found):.4f}")
            yield [network, str(channels), *cells]


# -- training, and its memory --------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """A study of one training.

    Attributes:
        d: Energy differences.
        r: Gradient magnitudes.
        row: Of its table.
        planned: Memory of a worker as the study foretells it, bytes.
        taken: The most that the worker took, bytes.
    """

    d: np.ndarray[Any, Any]
    r: np.ndarray[Any, Any]
    row: dict[str, Any]
    planned: float
    taken: float

    @property
    def judgement(self) -> str:
        """The verdict, and its reasons or what is missing."""
        why = self.row["reasons"] or self.row[CAUSE]
        return f"{self.row['verdict']}: {why}" if why else str(self.row["verdict"])

    @property
    def error(self) -> float:
        """Planned over taken, less one."""
        return self.planned / self.taken - 1

    def check(self) -> None:
        """That the training is sound and judged, and took the memory that was planned."""
        assert self.row["status"] == "finished"
        assert self.row["verdict"] != "diverged"
        assert np.isfinite(self.d).all()
        assert np.isfinite(self.r).all()
        assert self.row["verdict"] != "unassessed" or self.row[CAUSE]
        if self.row["long_run"] == "not_run":  # one that breaks off takes less than was planned
            assert self.error >= -TOLERANCE
            return
        assert abs(self.error) <= TOLERANCE, f"planned over taken is {1 + self.error:.2f}"


def base(network: str, data: dict[str, Any], updates: int) -> dict[str, Any]:
    """The published run on MNIST, shortened and at a lower rate, on other data as well."""
    return {
        "preset": "mnist_convergent",
        "data": data,
        "network": network,
        "gamma_0": 0.001,  # at 0.01 so few steps do not follow what is learned
        "langevin_steps": 10,
        "batch_size": 32,
        "bank_size": 320,
        "updates": updates,
        "window": max(20, updates // 2),
        "checkpoint_interval": updates,
        "device": "cpu",
    }


def trained(
    network: str, data: dict[str, Any], updates: int, folder: Path, **changes: int
) -> Trained:
    """Runs a study of one training in a folder, with an eye on its worker."""
    document = {
        "name": "one",
        "base": {**base(network, data, updates), **changes},
        "parameters": {"epsilon": {"distribution": "grid", "values": [0.0075]}},
        "method": "grid",
        "long_run": {"steps": 50, "chains": 32},
        "storage": str(folder),
        "tracking": {"uri": f"sqlite:///{folder / 'mlflow.db'}"},
    }
    path = folder / "one.yaml"
    path.write_text(yaml.safe_dump(document))
    spec = load_study(path)
    planned = estimate.prepare(spec, Wanted(spec.resources, 1), 1)[1].worker_bytes
    with Watch() as watch:
        command = [sys.executable, "-m", "study.run", str(path), "--workers", "1", "--no-progress"]
        watch.wait(subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL))
    row = pd.read_csv(folder / "one" / "results.csv", keep_default_na=False).iloc[0].to_dict()
    traces = np.load(next((folder / "one").rglob("traces.npz")))
    return Trained(traces["d"], traces["r"], row, planned, watch.largest)


class Watch:
    """Notes the most memory that the worker of a study took, a descendant of its command."""

    def __init__(self) -> None:
        self.largest = 0.0
        self._over = threading.Event()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def wait(self, command: subprocess.Popen[bytes]) -> None:
        """Until the command has ended."""
        while command.poll() is None:
            for status in self._workers(command.pid):
                self.largest = max(self.largest, status)
            self._over.wait(0.2)
        assert command.returncode == 0

    def _workers(self, root: int) -> Iterator[float]:
        """The most that each worker has taken so far, bytes, as Linux tells."""
        parents, names, peaks = {}, {}, {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                lines = (folder / "status").read_text().splitlines()
                names[int(folder.name)] = (folder / "cmdline").read_text()
            except OSError:
                continue  # it has ended
            told = dict(line.split(":", 1) for line in lines if ":" in line)
            parents[int(folder.name)] = int(told["PPid"])
            peaks[int(folder.name)] = float(told.get("VmHWM", "0 kB").split()[0]) * 1024
        for process, name in names.items():
            ancestor = process
            while ancestor not in (0, root):
                ancestor = parents.get(ancestor, 0)
            if ancestor == root and "Trainable" in name:
                yield peaks[process]


def trainings(updates: int) -> Iterator[list[str]]:
    header = ["network", "data", "r at first, at last", "verdict", "planned", "taken"]
    yield [*header, "planned over taken"]
    for network in NETWORKS:
        for name, data in DATA.items():
            with TemporaryDirectory() as folder:
                found = trained(network, data, updates, Path(folder))
            print(network, name, found.judgement, found.planned, found.taken, flush=True)
            yield [
                network,
                name,
                f"{found.r[0]:.4f}, {found.r[-50:].mean():.4f}",
                found.judgement,
                f"{found.planned / 1e9:.2f} GB",
                f"{found.taken / 1e9:.2f} GB",
                f"{1 + found.error:.2f}",
            ]
            found.check()


def main() -> None:
    parser = argparse.ArgumentParser(description="The convolutional networks at every size.")
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name, rows in {"r_1": magnitudes(SEEDS), "trainings": trainings(given.updates)}.items():
        found = markdown(rows)
        print(found, end="\n\n")
        if given.write:
            renew(PAGE, found, name)


# -- short forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", SIZES)
def test_f_and_its_gradients_are_sound(network: str, channels: int, size: int) -> None:
    found = first_magnitude(network, channels, size, 0)
    assert found > 0
    if size == 32:
        low, high = EXPECTED[network]
        assert low < found < high


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_a_short_training_is_judged(network: str, data: dict[str, Any]) -> None:
    values = {**base(network, data, 60), "langevin_steps": 2, "batch_size": 4, "bank_size": 8}
    result = train(preset(values.pop("preset"), **values))
    assert len(result.d) == 60
    assert np.isfinite(result.d).all()
    assert np.isfinite(result.r).all()
    found = result.assessment
    assert found.verdict == "unassessed"
    assert found.missing == ("too few updates: 30 of the 100 to be judged",)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads it of the worker")
def test_the_worker_of_a_study_takes_the_memory_that_was_planned(tmp_path: Path) -> None:
    # every check draws as many samples as the bank has chains, of so many steps
    few = {"bank_size": 64, "langevin_steps": 2}
    trained("nonlocal", DATA["digits, 32×32×1"], 20, tmp_path, **few).check()


if __name__ == "__main__":
    main()
