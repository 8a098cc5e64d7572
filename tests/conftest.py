"""Tests run side by side: each process keeps to one thread, and draws the same on any machine."""

from __future__ import annotations

import gc
import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"
# Ray would have its workers wait for every other test: theirs are to take what they take
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112


def pytest_collection_finish() -> None:
    """What libraries made stays: the collector need not look through it again and again."""
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests for a GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        config.hook.pytest_deselected(items=marked)
        items[:] = [item for item in items if item not in marked]
