"""``sample``: long chains of a trained model, which can be interrupted and gone on with."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ebm_core import checkpoint, plots
from ebm_core.artifacts import write_long_run, write_worth
from ebm_core.commands.interruption import interruption
from ebm_core.commands.output import check_file, make_folder, warnings_said
from ebm_core.commands.progress import Progress
from ebm_core.commands.train import CHECKPOINT, INTERRUPTED
from ebm_core.commands.wording import long_run_line, worth_lines
from ebm_core.errors import ConfigError, Problem
from ebm_core.files import replacing
from ebm_core.long_run import LongRun
from ebm_core.mixing import Array
from ebm_core.sampling import STATE_KEYS, LongChains, Wanted
from ebm_core.trainer import Trainer
from ebm_core.worth import Worth

Worths = dict[str, Worth | None]

PROGRESS = "progress.pt"
CHAINS = "chains.npz"
CURVES = "curves.npz"

_SAVED_SECONDS = 30.0


def run(options: Namespace, say: Callable[[str], None]) -> int:
    """Runs chains and says where they went, and whether learning converged; the exit code.

    Raises:
        CheckpointError: If the file is no checkpoint, or the folder holds other chains.
        ConfigError: If an option does not fit the training.
    """
    path = Path(options.checkpoint)
    with warnings_said(say):
        path = path / CHECKPOINT if path.is_dir() else path
        trainer = Trainer.resume(path, device=options.device)
    wanted = _wanted(options, trainer)
    chains = LongChains(trainer.result(options.member), trainer.dataset, wanted)
    out = Path(options.out) if options.out else None
    folder = make_folder(out) if out is not None and out.suffix != ".npz" else None
    if out is not None and folder is None:
        check_file(out)
    saved = folder / PROGRESS if folder else None
    if saved is not None and checkpoint.exists(saved):
        with warnings_said(say):
            chains.load_state(checkpoint.load_newest(saved, STATE_KEYS)[0])
        going = "finished before" if chains.finished else f"going on after {chains.steps:,} steps"
        say(f"{folder}: {going}")
    if not _run(chains, saved, options.quiet):
        say(f"interrupted after {chains.steps:,} of {wanted.steps:,} steps")
        kept = "the same command goes on" if saved else "nothing is kept without --out FOLDER"
        say(kept)
        return INTERRUPTED
    long_run = chains.long_run()
    worth = chains.worth()
    for line in _found(chains, long_run, worth):
        say(line)
    if out is not None:
        _write_states(chains, worth, folder / CHAINS if folder else out)
    if folder is not None:
        _write_folder(chains, long_run, worth, folder)
    if out is not None:
        say(f"  written to   {out}")
    return 0


def _wanted(options: Namespace, trainer: Trainer) -> Wanted:
    tuned = options.epsilon == "tuned"
    wanted = Wanted(
        starts=tuple(dict.fromkeys(options.start)),
        chains=options.chains,
        steps=options.steps,
        adjusted=options.adjusted,
        epsilon=None if tuned else options.epsilon,
        tuned=tuned,
        temperature=options.temperature,
        seed=options.seed,
    )
    problems = []
    if options.member not in range(trainer.members):
        rule = f"must be from 0 to {trainer.members - 1}, the members of the checkpoint"
        problems.append(Problem("--member", rule, options.member))
    states = trainer.states.shape[1]
    if "bank" in wanted.starts and wanted.chains > states:
        rule = f"must be at most the {states} states that the checkpoint holds"
        problems.append(Problem("--chains", rule, wanted.chains))
    if tuned and not wanted.adjusted:
        rule = "must be a number without --adjusted: what is tuned is the share of accepted moves"
        problems.append(Problem("--epsilon", rule, "tuned"))
    if problems:
        raise ConfigError(problems)
    return wanted


def _run(chains: LongChains, saved: Path | None, quiet: bool) -> bool:
    """Whether the chains came to their end; kept on the way every half minute."""
    told, total = time.monotonic(), chains.wanted.steps
    with interruption() as came, Progress(total, "steps", chains.steps, quiet) as progress:
        while not chains.finished and not came():
            chains.advance()
            progress.show(chains.steps, _state(chains))
            due = chains.finished or came() or time.monotonic() - told >= _SAVED_SECONDS
            if saved is not None and due:
                checkpoint.save(chains.state(), saved, keep_previous=True)
                told = time.monotonic()
    return chains.finished


def _state(chains: LongChains) -> str:
    latest = {start: each[:, -1].mean() for start, each in chains.energies().items()}
    return "U " + ", ".join(f"{value:.4g} from {start}" for start, value in latest.items())


def _found(chains: LongChains, long_run: LongRun, worth: Worths) -> list[str]:
    wanted, lines = chains.wanted, []
    kind = "Metropolis-adjusted" if wanted.adjusted else "unadjusted"
    at = f"ε = {chains.epsilon:.4g}"
    if wanted.tuned:
        at += " (tuned)"
    if wanted.temperature != 1:
        at += f", {wanted.temperature:g} times the temperature"
    for start, u in chains.energies().items():
        lines += [
            f"{len(u)} chains from {start}: {chains.steps:,} {kind} steps at {at}",
            f"  energy U     {_spread(u[:, 0])} nats at the start, {_spread(u[:, -1])} at the end",
            f"  r            {float(_magnitude(chains)[start].mean()):.4g}",
            f"  accepted     {float(chains.acceptance()[start].mean()):.1%} of moves",
        ]
        found = worth[start]
        lines += worth_lines(found) if found is not None else []
    return [*lines, long_run_line(long_run)]


def _magnitude(chains: LongChains) -> dict[str, Array]:
    """Mean of |grad F| over the whole path of every chain."""
    lengths = np.diff(chains.read_at)
    return {start: each @ lengths / chains.steps for start, each in chains.magnitudes().items()}


def _spread(energies: Array) -> str:
    return f"{float(energies.mean()):.4g} ± {float(energies.std()):.2g}"


def _write_states(chains: LongChains, worth: Worths, path: Path) -> None:
    ends = {start: each[:, -1] for start, each in chains.energies().items()}
    by_start = {"energy_nats": ends, "acceptance": chains.acceptance(), "r": _magnitude(chains)}
    content: dict[str, Any] = {
        "x": chains.x.detach().cpu().numpy(),
        **{name: np.concatenate(list(values.values())) for name, values in by_start.items()},
        "start": np.repeat(chains.wanted.starts, chains.wanted.chains),
    }
    nearest = [each.memorization.distances.numpy() for each in worth.values() if each is not None]
    if nearest:
        content["nearest"] = np.concatenate(nearest)
    _write_arrays(path, content)


def _write_folder(chains: LongChains, long_run: LongRun, worth: Worths, folder: Path) -> None:
    """All but the states."""
    curves: dict[str, Any] = {"steps": np.array(chains.read_at)}
    curves |= {f"energy_nats_{start}": each for start, each in chains.energies().items()}
    curves |= {f"r_{start}": each for start, each in chains.magnitudes().items()}
    _write_arrays(folder / CURVES, curves)
    write_long_run(long_run, folder)
    if any(each is not None for each in worth.values()):
        write_worth(worth, folder)
    title = f"{chains.steps:,} steps: {long_run.outcome.replace('_', ' ')}: {long_run.reason}"
    plots.chain_curves(chains, worth, title).savefig(folder / "curves.png")
    shape = tuple(chains.x.shape[1:])
    if plots.is_image(shape) or shape == (2,):
        plots.states_over_time(chains, title).savefig(folder / "states.png")


def _write_arrays(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **content)
