"""``train``: one training, or the repetition of a pack."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import torch

from ebm_core import checkpoint
from ebm_core.artifacts import write_artifacts
from ebm_core.commands.interruption import interruption
from ebm_core.commands.output import make_folder, warnings_said
from ebm_core.commands.progress import Progress
from ebm_core.commands.settings import Source, source_of
from ebm_core.commands.wording import density_line, long_run_line, verdict_lines, worth_lines
from ebm_core.data import is_plane_law
from ebm_core.engine import REFERENCE
from ebm_core.errors import ConfigError, EnergyError, Problem
from ebm_core.evaluate import check, density_divergence, samples_worth
from ebm_core.pack import Pack
from ebm_core.result import RunResult
from ebm_core.trainer import STATE_KEYS, Trainer
from ebm_core.watch import LONG_RUNS, LongRunWatch

Say = Callable[[str], None]

CHECKPOINT = "checkpoint.pt"
INTERRUPTED = 130
# Updates are made in portions of about this length, between which a bar moves and Ctrl-C is heard.
_PORTION_SECONDS = 0.25


def run(options: Namespace, say: Say) -> int:
    """Trains, says the verdict and writes everything into a folder; the exit code.

    Raises:
        ConfigError: If the configuration, the pack or the folder cannot be used.
        CheckpointError: If the checkpoint cannot be gone on from.
    """
    source = source_of(options)
    threads = torch.get_num_threads()
    try:
        if source is not None and source.pack is not None:
            torch.set_num_threads(source.pack.threads)
        return _train(options, source, say)
    finally:
        torch.set_num_threads(threads)


def _folder(options: Namespace, source: Source | None) -> Path:
    """The user's folder, that of the checkpoint, or a new one under ``runs``."""
    if options.out:
        return Path(options.out)
    if options.resume:
        return Path(options.resume).parent
    if source is None:
        rule = "one of --preset, --config, --pack and --resume is required"
        raise ConfigError([Problem("train", rule)])
    folder, number = Path("runs") / source.folder, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{source.folder}-{number}"
    return folder


def _path(options: Namespace) -> str | None:
    return REFERENCE if options.engine == REFERENCE else None


def _trainer(options: Namespace, source: Source | None) -> Trainer:
    if source is None:
        return Trainer.resume(options.resume)
    try:
        path = source.pack.engine_path if source.pack else _path(options)
        trainer = Trainer(source.configs, engine_path=path)
    except ConfigError as error:
        raise ConfigError(error.problems, error.source or source.name) from None
    except EnergyError as error:
        raise EnergyError(f"{source.name}: {error}") from None
    if options.resume:
        trainer.load_state(checkpoint.load_newest(options.resume, keys=STATE_KEYS)[0])
    return trainer


def _train(options: Namespace, source: Source | None, say: Say) -> int:
    folder = _folder(options, source)
    with warnings_said(say):
        trainer = _trainer(options, source)
    members = _members(options, trainer)
    make_folder(folder)
    saved = folder / CHECKPOINT
    watch = _watch(options, folder)
    if watch is not None:
        watch.begin(trainer)
    if _run(trainer, saved, options.quiet, watch, say):
        trainer.save(saved, keep_previous=True)
        say(f"interrupted after {trainer.update:,} of {trainer.config.updates:,} updates")
        say(f"go on with: python -m ebm_core train --resume {saved}")
        return INTERRUPTED
    trainer.save(saved, keep_previous=True)
    configs, threads = tuple(trainer.configs), torch.get_num_threads()
    for member in members:
        own = folder / f"member-{member}" if trainer.members > 1 else folder
        result = trainer.result(member)
        write_artifacts(
            result, own, trainer.dataset, Pack(configs, member, threads, trainer.engine.path)
        )
        if trainer.members > 1:
            trainer.save(own / CHECKPOINT, member)
            say(f"member {member}")
        for line in _findings(result, trainer):
            say(line)
        if options.long_run:
            # one that was made on the way is not made again
            seen = watch.at(trainer.update, member) if watch is not None else None
            found = seen or check(result, options.long_run, dataset=trainer.dataset)
            say(long_run_line(found))
        say(f"  {'written to':<12} {own}")
    return 0


def _members(options: Namespace, trainer: Trainer) -> list[int]:
    """The members whose results are wanted; all are trained, since only the same pack repeats."""
    if options.member is None:
        return list(range(trainer.members))
    if options.member not in range(trainer.members):
        rule = f"must be from 0 to {trainer.members - 1}, the members of the pack"
        raise ConfigError([Problem("--member", rule, options.member)])
    return [options.member]


def _watch(options: Namespace, folder: Path) -> LongRunWatch | None:
    if not options.long_run_every:
        return None
    if not options.long_run:
        rule = "needs --long-run STEPS, the length of the chains"
        raise ConfigError([Problem("--long-run-every", rule, options.long_run_every)])
    return LongRunWatch(options.long_run_every, options.long_run, path=folder / LONG_RUNS)


def _run(trainer: Trainer, saved: Path, quiet: bool, watch: LongRunWatch | None, say: Say) -> bool:
    """Trains to the end with checkpoints on the way; whether Ctrl-C came before."""
    interval, portion = trainer.config.checkpoint_interval, 1
    total = trainer.config.updates
    with interruption() as came, Progress(total, "updates", trainer.update, quiet) as progress:
        while not trainer.finished and not came():
            started = time.perf_counter()
            least = min(portion, interval - trainer.update % interval)
            trainer.run(min(least, watch.until_next(trainer)) if watch else least)
            progress.show(trainer.update, _state(trainer))
            seconds = time.perf_counter() - started
            portion = max(1, min(2 * portion, round(portion * _PORTION_SECONDS / seconds)))
            if trainer.update % interval == 0:
                trainer.save(saved, keep_previous=True)
            if watch is not None:
                for member, found in watch.look(trainer):
                    whose = f" of member {member}" if trainer.members > 1 else ""
                    say(f"after {trainer.update:,} updates{whose}:{long_run_line(found)}")
        return not trainer.finished


def _state(trainer: Trainer) -> str:
    if trainer.members > 1:
        return f"{int(trainer.alive.sum())} of {trainer.members} members alive"
    return f"d {trainer.d()[-1]:+.3g}, r {trainer.r()[-1]:.3g}"


def _findings(result: RunResult, trainer: Trainer) -> list[str]:
    config = result.config
    lines = verdict_lines(result.assessment, config.band)
    if config.init_scale == "auto":
        lines.append(f"  {'init_scale':<12} auto: F was multiplied by {result.init_factor:g}")
    if is_plane_law(trainer.dataset) and result.assessment.verdict != "diverged":
        law = trainer.dataset
        lines.append(
            density_line(
                density_divergence(result.energy, law, config.epsilon, config.data_epsilon)
            )
        )
    worth = samples_worth(result, trainer.dataset, config.seed)
    return lines + (worth_lines(worth) if worth is not None else [])
