"""``diagnose``: a verdict on two series, from a training here or from anywhere."""

from __future__ import annotations

import csv
import math
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ebm_core import plots
from ebm_core.artifacts import CONFIG, write_figure
from ebm_core.commands.settings import read_config
from ebm_core.commands.wording import verdict_lines
from ebm_core.config import TrainConfig, make_config
from ebm_core.data import load_data
from ebm_core.errors import ConfigError, Problem
from ebm_core.matched import matched_gradient
from ebm_core.result import Series, constants
from ebm_core.verdict import Assessment, Divergence, assess

# Options that are constants of `assess`; the first two are settings of a training, which change
# what its data demand.
_OF_CONFIG = ("epsilon", "eps_data_ratio")
_CONSTANTS = (*_OF_CONFIG, "dimensions", "batch_size", "r_star", "window", "constant_from")


def run(options: Namespace, say: Callable[[str], None]) -> int:
    """Judges d and r, says the verdict and draws the diagnostic figure; the exit code.

    Raises:
        ConfigError: If the file, or what is to be known beside it, is missing or wrong.
    """
    path = Path(options.file)
    d, r = read_series(path)
    given = {n: v for n in _CONSTANTS if (v := getattr(options, n)) is not None}
    beside = path.with_name(CONFIG)
    if beside.is_file():
        config = make_config(read_config(beside), source=str(beside))
        config = config.with_(**{n: v for n, v in given.items() if n in _OF_CONFIG})
        known, about = _of_training(config), plots.describe(config)
    else:
        known, about = {}, path.name
    # what the user says outweighs the configuration
    known |= given
    assessment = _judged(known, path, d, r)
    band = known.get("band")
    for line in verdict_lines(assessment, band):
        say(line)
    figure = plots.diagnostics_from_series(
        d,
        r,
        epsilon=known["epsilon"],
        dimensions=known["dimensions"],
        band=band,
        assessment=assessment,
        description=about,
    )
    out = Path(options.out or path.with_name(f"{path.stem}-diagnostics.png"))
    try:
        write_figure(figure, out)
    except OSError as error:
        rule = f"must be a file to write ({error.strerror})"
        raise ConfigError([Problem("--out", rule, str(out))]) from None
    say(f"  {'written to':<12} {out}")
    return 0


def _of_training(config: TrainConfig) -> dict[str, Any]:
    """The constants of a training whose configuration is known."""
    dataset = load_data(config.data)
    matched = matched_gradient(dataset, config.epsilon, config.data_epsilon)
    return constants(config, math.prod(dataset.shape), matched)


def _judged(known: dict[str, Any], path: Path, d: Series, r: Series) -> Assessment:
    """Verdict on series by the constants that are known of them."""
    problems = [
        Problem(f"--{name}", f"required where no {CONFIG} lies beside the series")
        for name in ("epsilon", "dimensions")
        if name not in known
    ]
    if problems:
        raise ConfigError(problems, str(path))
    try:
        return assess(d, r, **known, divergence=read_divergence(path), **read_chains(path))
    except ValueError as error:
        raise ConfigError([Problem("", str(error))], str(path)) from None


def read_series(path: Path) -> tuple[Series, Series]:
    """d and r from an npz file, or from a csv file with a head line.

    Raises:
        ConfigError: If the file cannot be read, lacks one of them, or they do not fit.
    """
    try:
        columns = _read_csv(path) if path.suffix == ".csv" else _read_npz(path)
    except OSError as error:
        rule = f"must be a readable file ({error.strerror or error})"
        raise ConfigError([Problem("", rule)], str(path)) from None
    except (ValueError, EOFError, csv.Error, zipfile.BadZipFile) as error:
        rule = f"must be an npz or csv file of numbers ({error})"
        raise ConfigError([Problem("", rule)], str(path)) from None
    missing = [name for name in ("d", "r") if name not in columns]
    if missing:
        rule = "required as a column; the file has " + (", ".join(columns) or "none")
        raise ConfigError([Problem(name, rule) for name in missing], str(path))
    d, r = columns["d"], columns["r"]
    if d.ndim != 1 or d.shape != r.shape:
        rule = "must be series of one length"
        raise ConfigError([Problem("d, r", rule, [d.shape, r.shape])], str(path))
    return d, r


def read_divergence(path: Path) -> Divergence | None:
    """What broke off the training that left a file, beyond what d and r show; None if nothing."""
    if path.suffix == ".csv":
        return None
    with np.load(path, allow_pickle=False) as content:
        if "diverged_cause" not in content or not str(content["diverged_cause"]):
            return None
        stop = (int(content["diverged_at"]), str(content["diverged_cause"]))
        return Divergence(*stop, verdict=str(content["diverged_verdict"]))  # type: ignore[arg-type]


def read_chains(path: Path) -> dict[str, Any]:
    """What `assess` may know of the chains beside r, where a file of a training has it."""
    if path.suffix == ".csv":
        return {}
    with np.load(path, allow_pickle=False) as content:
        names = ("r_rms", "restlessness", "clipped")
        found: dict[str, Any] = {name: content[name] for name in names if name in content}
        if "chain_spread" in content and content["chain_spread"].ndim == 0:
            found["chain_spread"] = float(content["chain_spread"])
        return found


def _read_npz(path: Path) -> dict[str, Series]:
    content = np.load(path, allow_pickle=False)
    if not isinstance(content, np.lib.npyio.NpzFile):
        raise ValueError("one array without a name; save d and r with numpy.savez")
    with content:
        wanted = {name: name in ("d", "r") for name in content.files}
        return {
            name: np.asarray(content[name] if read else (), dtype=np.float64)
            for name, read in wanted.items()
        }


def _read_csv(path: Path) -> dict[str, Series]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        names = [name.strip() for name in rows.fieldnames or ()]
        rows.fieldnames = names
        columns: dict[str, list[float]] = {name: [] for name in names if name in ("d", "r")}
        for number, row in enumerate(rows, start=2):
            for name, values in columns.items():
                try:
                    values.append(float(row[name]))
                except (TypeError, ValueError):
                    raise ValueError(f"line {number}, column {name}: {row[name]!r}") from None
    return {name: np.array(columns.get(name, ()), dtype=np.float64) for name in names}
