"""Where a training runs."""

from __future__ import annotations

import torch

from ebm_core.errors import ConfigError, Problem


def resolve_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda`` or ``cuda:K`` means here.

    Raises:
        ConfigError: If CUDA is asked for where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError([Problem("device", "must be auto or cpu where there is no GPU", name)])
    return torch.device(name)


def check_precision(precision: str, device: torch.device) -> None:
    """Refuses arithmetic that a device does not have.

    Raises:
        ConfigError: For TF32 elsewhere than on a GPU.
    """
    if precision == "tf32" and device.type != "cuda":
        rule = "must be float32, float64 or bfloat16 where there is no GPU"
        raise ConfigError([Problem("precision", rule, precision)])
