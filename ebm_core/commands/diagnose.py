"""``diagnose``: a verdict on two series, from a training here or from anywhere."""

from __future__ import annotations

import csv
import math
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ebm_core import plots
from ebm_core.artifacts import CONFIG, write_figure
from ebm_core.commands.settings import read_config
from ebm_core.commands.wording import verdict_lines
from ebm_core.config import TrainConfig, make_config
from ebm_core.data import load_data
from ebm_core.errors import ConfigError, Problem
from ebm_core.matched import matched_gradient
from ebm_core.result import Series, judge
from ebm_core.verdict import Assessment, assess


def run(options: Namespace, say: Callable[[str], None]) -> int:
    """Judges d and r, says the verdict and draws the diagnostic figure; the exit code.

    Raises:
        ConfigError: If the file, or what is to be known beside it, is missing or wrong.
    """
    path = Path(options.file)
    d, r = read_series(path)
    beside = path.with_name(CONFIG)
    if options.epsilon is None and beside.is_file():
        config = make_config(read_config(beside), source=str(beside))
        dimensions, assessment = _of_training(config, d, r)
        epsilon, band, about = config.epsilon, config.band, plots.describe(config)
    else:
        epsilon, dimensions, band, about = options.epsilon, options.dimensions, None, path.name
        assessment = _of_series(options, path, d, r)
    for line in verdict_lines(assessment, band):
        say(line)
    figure = plots.diagnostics_from_series(
        d,
        r,
        epsilon=epsilon,
        dimensions=dimensions,
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


def _of_training(config: TrainConfig, d: Series, r: Series) -> tuple[int, Assessment]:
    """Dimensions and verdict of a training whose configuration is known."""
    dataset = load_data(config.data)
    dimensions = math.prod(dataset.shape)
    matched = matched_gradient(dataset, config.epsilon, config.data_epsilon)
    return dimensions, judge(config, d, r, dimensions, matched)


def _of_series(options: Namespace, path: Path, d: Series, r: Series) -> Assessment:
    """Verdict on series of which only the constants on the command line are known."""
    problems = [
        Problem(f"--{name}", f"required where no {CONFIG} lies beside the series")
        for name in ("epsilon", "dimensions")
        if getattr(options, name) is None
    ]
    if problems:
        raise ConfigError(problems, str(path))
    try:
        return assess(
            d,
            r,
            epsilon=options.epsilon,
            dimensions=options.dimensions,
            eps_data_ratio=options.eps_data_ratio,
            r_star=options.r_star,
            window=options.window,
            constant_from=options.constant_from,
        )
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
