"""``sample``: chains of a trained model."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebm_core.chains import draw_slots, start_states
from ebm_core.commands.progress import Progress
from ebm_core.data import positive_samples
from ebm_core.engine import arithmetic, module_gradient, module_with
from ebm_core.errors import ConfigError, Problem
from ebm_core.files import replacing
from ebm_core.langevin import run_langevin
from ebm_core.randomness import Stream, generator
from ebm_core.trainer import Trainer

_PORTIONS = 50


def run(options: Namespace, say: Callable[[str], None]) -> int:
    """Runs chains at the training epsilon and says where their energy went; the exit code.

    Raises:
        CheckpointError: If the file is no checkpoint.
        ConfigError: If an option does not fit the training.
    """
    trainer = Trainer.resume(options.checkpoint, device=options.device)
    member = options.member
    if member not in range(trainer.members):
        rule = f"must be from 0 to {trainer.members - 1}, the members of the checkpoint"
        raise ConfigError([Problem("--member", rule, member)])
    config = trainer.configs[member]
    energy = module_with(trainer.module, trainer.parameters, member)
    rng = generator(options.seed, Stream.EVALUATION, 5, trainer.device)
    start = _start(trainer, member, options.start, options.chains, rng)
    if options.adjusted:
        # moves are judged by small differences of energies, see `run_langevin`
        energy, start = energy.double(), start.double()
    x, r, acceptance = start, [], []
    done = 0
    with (
        arithmetic("float32", trainer.device),
        Progress(options.steps, "steps", quiet=options.quiet) as progress,
    ):
        while done < options.steps:
            steps = min(max(1, options.steps // _PORTIONS), options.steps - done)
            x, info = run_langevin(
                energy, x, config.epsilon, steps, rng, options.adjusted, module_gradient(energy)
            )
            done += steps
            r.append(steps * info.r)
            acceptance.append(steps * info.acceptance)
            progress.show(done)
    with torch.no_grad():
        before, after = (energy(y).double() / config.temperature for y in (start, x))
    accepted = torch.stack(acceptance).sum(0) / done
    magnitude = torch.stack(r).sum(0) / done
    kind = "Metropolis-adjusted" if options.adjusted else "unadjusted"
    say(f"{len(x)} chains from {options.start}: {done:,} {kind} steps at ε = {config.epsilon:g}")
    say(f"  energy U     {_spread(before)} nats at the start, {_spread(after)} at the end")
    say(f"  r            {float(magnitude.mean()):.4g}")
    say(f"  accepted     {float(accepted.mean()):.1%} of moves")
    if options.out:
        written = _write(options.out, x, after, accepted, magnitude)
        say(f"  written to   {written}")
    return 0


def _start(trainer: Trainer, member: int, start: str, chains: int, rng: torch.Generator) -> Tensor:
    config, dataset, dtype = trainer.configs[member], trainer.dataset, trainer.dtype
    if start == "data":
        return positive_samples(dataset, chains, config.data_epsilon, rng, dtype)
    if start == "noise":
        kinds = (config.chain_start, config.bank_start)
        kind = next((k for k in kinds if k in ("uniform", "gaussian")), "uniform")
        return start_states(kind, chains, dataset, config.start_scale, rng, dtype)
    states = trainer.states[member]
    if chains > len(states):
        rule = f"must be at most the {len(states)} states that the checkpoint holds"
        raise ConfigError([Problem("--chains", rule, chains)])
    return states[draw_slots(len(states), chains, rng)]


def _spread(energies: Tensor) -> str:
    return f"{float(energies.mean()):.4g} ± {float(energies.std(correction=0)):.2g}"


def _write(path: str, x: Tensor, energy: Tensor, acceptance: Tensor, r: Tensor) -> Path:
    out = Path(path)
    arrays = [array.detach().cpu().numpy() for array in (x, energy, acceptance, r)]
    names = ("x", "energy_nats", "acceptance", "r")
    try:
        with replacing(out) as temporary, temporary.open("wb") as file:
            # a dictionary of arrays, which numpy's types take for options
            content: dict[str, Any] = dict(zip(names, arrays, strict=True))
            np.savez_compressed(file, **content)
    except OSError as error:
        rule = f"must be a file to write ({error.strerror})"
        raise ConfigError([Problem("--out", rule, path)]) from None
    return out
