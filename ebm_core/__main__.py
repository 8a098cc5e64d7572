"""``python -m ebm_core train|sample|diagnose``: one training, with no study around it."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

from ebm_core.entry import run_command
from ebm_core.errors import CheckpointError, ConfigError, DataError, EnergyError
from ebm_core.presets import preset_names

BAD_INPUT = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; 0 if it ended, 2 for bad input, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    # each command brings torch, which those who ask for help should not wait for
    command = importlib.import_module(f"ebm_core.commands.{options.command}")
    try:
        code: int = command.run(options, lambda line: print(line, flush=True))
    except (ConfigError, DataError, EnergyError, CheckpointError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ebm_core",
        description="Trains energy-based models, and says whether learning converged.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_train, _sample, _diagnose):
        add(commands)
    return parser


def _train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "train",
        help="train from a preset, a file, a pack or a checkpoint, and say the verdict",
        description="Trains, says the verdict with its evidence, and writes series, pictures, "
        "configuration and checkpoint into a folder. Ctrl-C stops after the update "
        "in hand, with a checkpoint to go on from.",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--preset", metavar="NAME", help=f"one of {', '.join(preset_names())}")
    source.add_argument("--config", metavar="FILE", help="YAML file of a configuration")
    source.add_argument(
        "--pack", metavar="FILE", help="pack.yaml of a training, to repeat its d and r bit for bit"
    )
    parser.add_argument(
        "--member",
        type=_whole(0),
        metavar="K",
        help="write only this member of the pack; all are trained",
    )
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change the configuration, e.g. epsilon=0.1 data.size=16",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "reference"),
        help="how members are run: by the path that suits (default), or by plain autograd",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="where results go; a new folder under runs/ by default"
    )
    parser.add_argument("--resume", metavar="CHECKPOINT", help="go on from this checkpoint")
    parser.add_argument(
        "--long-run",
        type=_whole(0),
        default=0,
        metavar="STEPS",
        help="check afterwards with chains of this length whether they stay where they start",
    )
    parser.add_argument(
        "--long-run-every",
        type=_whole(1),
        metavar="UPDATES",
        help="the same while training goes on, every so many updates, kept in long_runs.csv",
    )
    _quiet(parser)


def _sample(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "sample",
        help="run long chains of a trained model",
        description="Runs chains of a trained model, and says where they went and whether they "
        "stay where learning saw them. With --out FOLDER the same command goes on where it was "
        "interrupted, to the same states.",
    )
    parser.add_argument(
        "checkpoint", metavar="RUN", help="folder of a training, or its checkpoint file"
    )
    parser.add_argument("--member", type=_whole(0), default=0, metavar="K", help="of a pack")
    parser.add_argument("--steps", type=_whole(1), default=1_000, metavar="N")
    parser.add_argument("--chains", type=_whole(1), default=64, metavar="N", help="of each start")
    parser.add_argument(
        "--start",
        nargs="+",
        choices=("bank", "data", "noise"),
        default=["bank"],
        help="the states of training, noised data, what the first chains started from; or several",
    )
    parser.add_argument(
        "--adjusted", action="store_true", help="accept or reject moves (Metropolis-Hastings)"
    )
    parser.add_argument(
        "--epsilon",
        type=_number_or("tuned"),
        metavar="X",
        help="Langevin noise sd, that of the training by default; tuned (with --adjusted) for the "
        "one at which 57 %% of moves are accepted",
    )
    parser.add_argument(
        "--temperature",
        type=_positive,
        default=1.0,
        metavar="X",
        help="in units of the temperature of the training",
    )
    parser.add_argument("--seed", type=_whole(0), default=0, metavar="N")
    parser.add_argument(
        "--device", metavar="NAME", help="auto, cpu or cuda; as trained by default"
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="write states, curves, pictures and the long run; FILE.npz for the states alone",
    )
    _quiet(parser)


def _diagnose(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "diagnose",
        help="judge series of d and r",
        description="Judges series of d and r, from traces.npz of a training (with config.yaml "
        "beside it) or from any npz or csv file with columns d and r. Constants given here take "
        "precedence over those of config.yaml.",
    )
    parser.add_argument("file", metavar="FILE", help="npz file, or csv file with a head line")
    parser.add_argument("--epsilon", type=_positive, metavar="X", help="Langevin noise sd")
    parser.add_argument("--dimensions", type=_whole(1), metavar="N", help="numbers of one sample")
    parser.add_argument(
        "--eps-data-ratio", type=_positive, metavar="X", help="noise on the data over epsilon"
    )
    parser.add_argument(
        "--batch-size", type=_whole(1), metavar="N", help="samples that d is a mean over"
    )
    parser.add_argument("--r-star", type=_positive, metavar="X", help="r that the data demand")
    parser.add_argument("--window", type=_whole(1), metavar="N", help="last updates to judge")
    parser.add_argument(
        "--constant-from",
        type=_whole(0),
        metavar="N",
        help="first update at the final learning rate",
    )
    parser.add_argument("--out", metavar="FILE.png", help="the figure; beside FILE by default")


def _quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _whole(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return whole_number


def _number_or(word: str) -> Callable[[str], float | str]:
    def number_or_word(text: str) -> float | str:
        return word if text == word else _positive(text)

    return number_or_word


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be over 0, got {text}")
    return value


if __name__ == "__main__":
    run_command(main)
