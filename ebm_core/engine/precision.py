"""Arithmetic of the Langevin path; energies and learning are always computed in full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

Precision = Literal["float32", "float64", "tf32", "bfloat16"]


def state_dtype(precision: Precision) -> torch.dtype:
    """Type of parameters, states, energies and everything that is recorded."""
    return torch.float64 if precision == "float64" else torch.float32


def path_dtype(precision: Precision) -> torch.dtype | None:
    """Type that weights and states are rounded to for the gradient of a step; None for theirs."""
    return torch.bfloat16 if precision == "bfloat16" else None


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """For a moment, products of float32 numbers as they are on a GPU, or rounded to TF32.

    As torch comes, convolutions round to TF32 and matrix products do not.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    backends = [torch.backends.cuda.matmul, cudnn.conv]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
