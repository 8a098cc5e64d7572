"""Speed of the Langevin loop, beside a plain eager loop and torchebm, over the same work.

    python tests/benchmarks/test_speed.py [--sizes toy mlp …] [--members 1 2 …] [--repeats 7]
                                          [--threads 1] [--device cpu] [--write]

prints for every size, precision of the path and number of members M: microseconds a Langevin step
and member (noise and gradient magnitudes included), how many times as fast as the eager loop and
as torchebm (``pip install -e '.[benchmark]'``; left out where it is missing), the rate of
floating-point operations as a share of the float32 matrix-product peak measured in the same run,
parameter updates a second, and the memory that a pack takes at its peak. Everything is the median
of repeats that take turns. ``--write`` puts the table of the device into ``docs/speed.md``. The
test runs a short form.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from eager_loops import PointwiseConvolutions, Run, eager_loop, torchebm_loop
from pages import markdown, renew
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ebm_core import preset
from ebm_core.data import Samples
from ebm_core.energies import Mlp, Nonlocal, Vanilla
from ebm_core.engine import Precision, choose_engine, make_engine, stack_parameters
from ebm_core.trainer import Trainer

TABLE = Path(__file__).parents[2] / "docs" / "speed.md"
EPSILON = 0.05


@dataclass(frozen=True)
class Size:
    """A network and its chains.

    Attributes:
        build: Makes a network of our own.
        published: Makes the same network for the plain loops.
        shape: Of one sample.
        chains: n.
        steps: Timed at once.
        langevin_steps: L of an update.
    """

    build: Callable[[], nn.Module]
    published: Callable[[nn.Module], nn.Module]
    shape: tuple[int, ...]
    chains: int
    steps: int
    langevin_steps: int


def _same(module: nn.Module) -> nn.Module:
    return module


SIZES = {
    "toy": Size(lambda: Mlp(2, (32, 64, 64, 64)), PointwiseConvolutions, (2, 1, 1), 100, 200, 100),
    "mlp": Size(lambda: Mlp(64, (96, 96)), _same, (1, 8, 8), 64, 200, 30),
    "vanilla": Size(lambda: Vanilla(3, 32), _same, (3, 32, 32), 100, 4, 4),
    "nonlocal": Size(lambda: Nonlocal(3, 32), _same, (3, 32, 32), 100, 4, 4),
}
MEMBERS = {
    "toy": (1, 2, 4, 8, 16, 32, 64),
    "mlp": (1, 2, 4, 8, 16, 32, 64),
    "vanilla": (1, 2, 4),
    "nonlocal": (1, 2, 4),
}
PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "cpu": ("float32", "bfloat16"),
    "cuda": ("float32", "tf32", "bfloat16"),
}


@dataclass(frozen=True)
class Line:
    """One row of the table; seconds are those of one Langevin step and member."""

    size: str
    precision: Precision
    members: int
    seconds: float
    eager: float
    torchebm: float
    flops: float
    peak: float
    updates: float
    megabytes: float

    def cells(self) -> list[str]:
        def times(other: float) -> str:
            return "–" if math.isnan(other) else f"{other / self.seconds:.1f}×"

        return [
            self.size,
            self.precision,
            str(self.members),
            f"{self.seconds * 1e6:,.0f}",
            f"{self.eager * 1e6:,.0f}",
            times(self.eager),
            times(self.torchebm),
            f"{self.flops / self.seconds / self.peak:.0%}",
            f"{self.updates:,.3g}",
            f"{self.megabytes:,.0f}",
        ]


HEADER = (
    "size",
    "precision",
    "M",
    "µs a step and member",
    "eager loop, µs",
    "over eager",
    "over torchebm",
    "of the peak",
    "updates/s, all members",
    "MB a pack",
)


Clock = Callable[[], float]


def synchronized(
    run: Callable[[], object], device: torch.device, clock: Clock = time.perf_counter
) -> float:
    """Seconds that a call takes, the work of the device included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - began


def medians(
    runs: dict[str, Callable[[], object]],
    repeats: int,
    device: torch.device,
    clock: Clock = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each; they take turns, so that a slow moment of the machine hits all."""
    for run in runs.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            found[name].append(synchronized(run, device, clock))
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def large_product(device: torch.device) -> tuple[Callable[[], Tensor], float]:
    """A large float32 matrix product, and its floating-point operations."""
    n = 1024 if device.type == "cpu" else 8192
    a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    return lambda: a @ b, 2.0 * n**3


def flops_of(module: nn.Module, x: Tensor) -> float:
    """Of matrix products and convolutions in one input gradient."""
    module.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        module(x.clone().requires_grad_()).sum().backward()
    module.requires_grad_(True)
    return float(counter.get_total_flops())


def our_loop(modules: Sequence[nn.Module], x: Tensor, precision: Precision = "float32") -> Run:
    """The path of a pack that the engine chooses for a short training, noise drawn as there."""
    parameters = stack_parameters(modules)
    engine = choose_engine(modules[0], parameters, x, 0, precision)
    epsilon = torch.full((len(modules),), EPSILON, device=x.device)
    generators = [torch.Generator(x.device).manual_seed(m) for m in range(len(modules))]
    noise = [partial(torch.Tensor.normal_, generator=g) for g in generators]
    return lambda x, steps: engine.short_run(parameters, x, epsilon, noise, steps)[0]


def a_trainer(
    size: Size, members: int, device: torch.device, precision: Precision = "float32"
) -> Trainer:
    """Real updates at these sizes, on samples of noise: what they learn does not matter here."""
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(512, *size.shape, generator=generator) * 0.5
    config = preset(
        "digits",
        epsilon=EPSILON,
        gamma_0=1e-6,
        batch_size=size.chains,
        langevin_steps=size.langevin_steps,
        bank_size=1024,
        updates=100_000,
        window=1_000,
        device=str(device),
        precision=precision,
    )
    configs = [config.with_(seed=seed) for seed in range(members)]
    # the path of a short training, as is timed step by step
    path = make_engine(size.build().to(device), members).path
    path += "+graph" if device.type == "cuda" else ""
    return Trainer(configs, size.build, Samples(samples), engine_path=path)


def updates_a_second(
    size: Size, members: int, precision: Precision, repeats: int, device: torch.device
) -> float:
    """Parameter updates of all members."""
    trainer = a_trainer(size, members, device, precision)
    few = max(1, round(20 / members)) if size.chains * math.prod(size.shape) < 10_000 else 1
    seconds = medians({"": lambda: trainer.run(few)}, repeats, device)[""]
    return few * members / seconds


def measure(
    name: str,
    members: Sequence[int],
    precisions: Sequence[Precision],
    repeats: int,
    device: torch.device,
) -> list[Line]:
    """The rows of one size."""
    size = SIZES[name]
    torch.manual_seed(0)
    modules = [size.build().to(device) for _ in range(max(members))]
    x = 0.5 * torch.randn(max(members), size.chains, *size.shape, device=device)
    plain = size.published(modules[0]).to(device)
    flops = flops_of(plain, x[0])
    eager, torchebm = eager_loop(plain, EPSILON), torchebm_loop(modules[0], EPSILON, device)
    product, operations = large_product(device)
    runs: dict[str, Callable[[], object]] = {"product": product}
    runs["eager"] = lambda: eager(x[0], size.steps)
    if torchebm is not None:
        runs["torchebm"] = lambda: torchebm(x[0], size.steps)
    few = {members[0], 16 if 16 in members else members[-1]}
    cells = [(p, m) for p in precisions for m in members if p == "float32" or m in few]
    for precision, m in cells:
        run = our_loop(modules[:m], x[:m], precision)
        runs[f"{precision} {m}"] = lambda run=run, m=m: run(x[:m], size.steps)  # type: ignore[misc]
    seconds = medians(runs, repeats, device)
    return [
        Line(
            size=name,
            precision=precision,
            members=m,
            seconds=seconds[f"{precision} {m}"] / size.steps / m,
            eager=seconds["eager"] / size.steps,
            torchebm=seconds.get("torchebm", math.nan) / size.steps,
            flops=flops,
            peak=operations / seconds["product"],
            updates=updates_a_second(size, m, precision, repeats, device),
            megabytes=pack_megabytes(name, m, precision, device),
        )
        for precision, m in cells
    ]


def pack_megabytes(name: str, members: int, precision: Precision, device: torch.device) -> float:
    """Memory that a pack takes at its peak; NaN where nothing tells.

    On a CPU a process of its own tells, on a GPU its allocator, which knows this process alone.
    """
    if device.type == "cuda":
        return peak_of(name, members, precision, device)
    command = [sys.executable, __file__, "--peak-of", name, str(members), precision, str(device)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_of(name: str, members: int, precision: Precision, device: torch.device) -> float:
    """Highest memory while a pack is made and trained, above that of a process that did before."""
    torch.set_num_threads(1)
    size = SIZES[name]
    for ahead in ("toy", "mlp"):  # libraries take their own memory at first use
        a_trainer(SIZES[ahead], 1, device, precision).run(1)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        a_trainer(size, members, device, precision).run(2)
        return (torch.cuda.max_memory_allocated(device) - held) / 1e6
    if not (reset := Path("/proc/self/clear_refs")).exists():
        return math.nan
    reset.write_text("5")
    before = _status("VmRSS")
    a_trainer(size, members, device, precision).run(2)
    return (_status("VmHWM") - before) / 1e3


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0])


def table(lines: Sequence[Line]) -> str:
    """The rows in Markdown."""
    return markdown([HEADER, *(line.cells() for line in lines)])


def machine(device: torch.device, threads: int) -> str:
    """What the figures were measured on."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((ln.split(":")[1].strip() for ln in text.splitlines() if "model name" in ln), "")
    kind = model or platform.processor()
    return f"{kind}, {threads} thread(s), torch {torch.__version__.split('+')[0]}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the Langevin loop beside others.")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--members", nargs="+", type=int, help="default: by the size")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--write", action="store_true", help=f"put the table into {TABLE.name}")
    parser.add_argument("--peak-of", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak_of:
        name, members, precision, device = given.peak_of
        print(peak_of(name, int(members), precision, torch.device(device)))
        return
    torch.set_num_threads(given.threads)
    lines: list[Line] = []
    for name in given.sizes:
        members = given.members or MEMBERS[name]
        precisions = PRECISIONS[given.device.type]
        lines += measure(name, members, precisions, given.repeats, given.device)
    where = machine(given.device, given.threads)
    peaks = ", ".join(f"{peak / 1e9:.0f}" for peak in dict.fromkeys(line.peak for line in lines))
    text = f"{where}; float32 matrix products: {peaks} GFLOP/s.\n\n{table(lines)}"
    print(text)
    if given.write:
        renew(TABLE, text, "table" if given.device.type == "cpu" else "gpu")


def test_the_engine_is_faster_than_an_eager_loop() -> None:
    # other tests share the cores with this short form; the limits are far below what is measured
    cpu = torch.device("cpu")
    (toy,) = measure("toy", [8], ["float32"], repeats=3, device=cpu)
    assert toy.eager / toy.seconds > 2
    assert 1 < toy.megabytes < 100


if __name__ == "__main__":
    main()
