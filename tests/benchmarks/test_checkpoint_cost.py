"""What the digest of a checkpoint costs, beside writing and reading it.

    python tests/benchmarks/test_checkpoint_cost.py [--sizes 0.25 1 16 128] [--repeats 15]
                                                    [--folder FOLDER]

prints for every size in MiB the milliseconds of `checkpoint.save`, with the file flushed to the
disk of FOLDER, and of `checkpoint.load`, the milliseconds of the digest in each, and its share of
them; and of a fingerprint of as many MiB of data. Medians. The test runs a short form.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ebm_core import checkpoint
from ebm_core.data import Samples
from ebm_core.fingerprint import fingerprint

HEAD = "    MiB  save ms  load ms  digest ms  of save  of load  fingerprint ms"


def milliseconds(action: Callable[[], object], repeats: int) -> float:
    """Median time of an action."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken)


def costs(size: float, repeats: int, folder: Path) -> dict[str, float]:
    """Milliseconds to save, load, digest and fingerprint a bank of some MiB."""
    bank = torch.randn(max(1, int(size * 2**20 / 4 / 192)), 3, 8, 8)
    state, path, data = {"states": bank}, folder / "cost.pt", Samples(bank)
    found = {
        "save": milliseconds(lambda: checkpoint.save(state, path, keep_previous=True), repeats),
        "load": milliseconds(lambda: checkpoint.load(path), repeats),
        "digest": milliseconds(lambda: checkpoint.digest(state), repeats),
        "fingerprint": milliseconds(lambda: fingerprint(data), repeats),
    }
    checkpoint.remove(path)
    return found


def row(size: float, found: dict[str, float]) -> str:
    save, load, digest, data = found.values()
    shares = f"{digest / save:8.0%} {digest / load:8.0%}"
    return f"{size:7g} {save:8.2f} {load:8.2f} {digest:10.2f} {shares} {data:15.1f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.25, 1, 16, 128])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        print(HEAD)
        for size in given.sizes:
            print(row(size, costs(size, given.repeats, Path(folder))), flush=True)


def test_a_digest_takes_few_milliseconds_a_mebibyte(tmp_path: Path) -> None:
    found = costs(8, 5, tmp_path)
    print(row(8, found))
    # 0.6 to 1.2 where the processor has instructions for SHA-256, a few times that elsewhere
    assert found["digest"] < 8 * 8


if __name__ == "__main__":
    main()
