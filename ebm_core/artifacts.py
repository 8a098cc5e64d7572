"""What one training leaves on the disk, beside its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ebm_core import plots
from ebm_core.config import TrainConfig
from ebm_core.data import Dataset, is_plane_law
from ebm_core.document import dump_yaml
from ebm_core.files import replacing
from ebm_core.long_run import LongRun
from ebm_core.pack import Pack, write_pack
from ebm_core.result import RunResult, Series
from ebm_core.schedule import learning_rate
from ebm_core.worth import Worth

TRACES = "traces.npz"
CONFIG = "config.yaml"
PACK = "pack.yaml"
LONG_RUN = "long_run.yaml"
WORTH = "worth.yaml"


def write_artifacts(
    result: RunResult, folder: str | Path, dataset: Dataset, pack: Pack | None = None
) -> list[Path]:
    """Writes the series, the configuration and the pictures of a training.

    Args:
        result: The training.
        folder: Where to; it is made.
        dataset: The data it learned from, on the device of its chains.
        pack: What it was trained as a part of, if it is to be repeated from here.

    Returns:
        The files: ``traces.npz``, see `write_traces`, ``config.yaml``, ``pack.yaml`` with `pack`,
        ``diagnostics.png``, and ``landscape.png`` for data in the plane or ``samples.png`` for
        images.
    """
    folder = Path(folder)
    written = [write_traces(result, folder / TRACES), write_config(result.config, folder / CONFIG)]
    if pack is not None:
        written.append(write_pack(pack, folder / PACK))
    written.append(write_figure(plots.diagnostics(result), folder / "diagnostics.png"))
    if is_plane_law(dataset):
        figure = plots.landscape(result, dataset)
        written.append(write_figure(figure, folder / "landscape.png"))
    elif plots.is_image(dataset.shape):
        figure = plots.samples(result, _sample_count(dataset.shape[-1]), dataset)
        written.append(write_figure(figure, folder / "samples.png"))
    return written


def _sample_count(width: int) -> int:
    """As many images as keep noisy colours to about 200 kB: 64 of 8 pixels, 25 of 32."""
    return min(8, max(3, 160 // width)) ** 2


def write_traces(result: RunResult, path: str | Path) -> Path:
    """Writes the series of a training as an npz file.

    It holds ``update``, ``d``, ``r``, ``r_rms``, ``gamma`` and ``restlessness``, one value an
    update each, and ``clipped`` where gradients may be; ``chain_spread``; and of a training that
    broke off the texts ``diverged_cause`` and ``diverged_verdict`` and the update ``diverged_at``:
    empty and -1 for any other.
    """
    path = Path(path)
    stop = result.divergence
    arrays = {
        "update": np.arange(len(result.d)),
        "gamma": learning_rates(result.config, len(result.d)),
        "d": result.d,
        "r": result.r,
        "r_rms": result.r_rms,
        "restlessness": result.restlessness,
        "chain_spread": np.array(result.assessment.evidence["chain_spread"]),
        "diverged_cause": np.array(stop.cause if stop else ""),
        "diverged_at": np.array(stop.update if stop else -1),
        "diverged_verdict": np.array(stop.verdict if stop else ""),
    }
    if result.config.clip_gradient is not None:
        arrays["clipped"] = result.clipped
    with replacing(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
    return path


def learning_rates(config: TrainConfig, updates: int) -> Series:
    """gamma_0(t) of the first updates, shape (updates,)."""
    columns = (config.gamma_0, config.start_rate, config.anneal_updates)
    rates = (torch.tensor([value], dtype=torch.float64) for value in columns)
    return learning_rate(torch.arange(updates)[:, None], *rates)[:, 0].numpy()


def write_config(config: TrainConfig, path: str | Path) -> Path:
    """Writes a configuration as YAML, every value named."""
    path = Path(path)
    with replacing(path) as temporary:
        header = f"# python -m ebm_core train --config {path.name}\n"
        values = dump_yaml(config.model_dump(mode="json"))
        temporary.write_text(header + values, encoding="utf-8")
    return path


def write_long_run(long_run: LongRun, folder: str | Path) -> Path:
    """Writes all that a long-run check found as YAML, with what its budget can detect."""
    path = Path(folder) / LONG_RUN
    found = {**asdict(long_run), "blind_spots": long_run.blind_spots}
    found["effects"] = {
        start: {name: each._asdict() for name, each in effects.items()}
        for start, effects in long_run.effects.items()
    }
    with replacing(path) as temporary:
        temporary.write_text(dump_yaml(found), encoding="utf-8")
    return path


def write_worth(worth: Mapping[str, Worth | None], folder: str | Path) -> Path:
    """Writes as YAML what samples are worth beside the data, by where their chains began."""
    found = {start: asdict(each) for start, each in worth.items() if each is not None}
    for each in found.values():
        distances = each["memorization"].pop("distances")
        each["memorization"]["median"] = float(distances.median())
    path = Path(folder) / WORTH
    with replacing(path) as temporary:
        temporary.write_text(dump_yaml(found), encoding="utf-8")
    return path


def write_figure(figure: Any, path: str | Path) -> Path:
    """Writes a matplotlib figure as PNG."""
    path = Path(path)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    return path
