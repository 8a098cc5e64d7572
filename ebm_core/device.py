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
