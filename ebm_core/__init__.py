r"""Maximum-likelihood training of energy-based models by Langevin sampling, with a verdict.

Conventions, stated once:

* ``F(x; theta)`` is the network: one scalar a sample, *low where data are likely*.
* The temperature is ``T = epsilon**2 / 2``; the energy in nats is ``U = F / T`` (1A), and the
  model is ``p(x) proportional to exp(-F(x) / T)``.
* One Langevin update is ``x <- x - grad F(x) + epsilon * z`` with ``z ~ N(0, I)`` (2A).
* ``r`` is the mean over chains and over the path of ``|grad F|`` (units of x), taken at the L
  states before each move.
* ``d = (2 / epsilon**2) (mean F(data) - mean F(chains))``, in nats; ``d > 0`` contracts, ``d < 0``
  expands the energy landscape.
* One learning update is ``theta <- theta - gamma_0 * grad(mean F(data) - mean F(chains))``
  (3A, 4A): its size does not depend on epsilon.

Source: Nijkamp, Hill, Han, Zhu, Wu, *On the Anatomy of MCMC-Based Maximum Likelihood Learning of
Energy-Based Models*, AAAI 2020; equation numbers with an A are those of its appendix.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Not lazily, like the rest: the import of the module `presets` would take the function's name.
from ebm_core.presets import preset, presets

if TYPE_CHECKING:
    from ebm_core.config import Band as Band
    from ebm_core.config import TrainConfig as TrainConfig
    from ebm_core.langevin import run_langevin as run_langevin
    from ebm_core.result import RunResult as RunResult
    from ebm_core.trainer import Trainer as Trainer
    from ebm_core.training import train as train
    from ebm_core.training import train_members as train_members
    from ebm_core.verdict import Assessment as Assessment
    from ebm_core.verdict import assess as assess

# Loaded on first use, so that reading a configuration does not wait for torch.
_HOME = {
    "Band": "config",
    "TrainConfig": "config",
    "run_langevin": "langevin",
    "RunResult": "result",
    "Trainer": "trainer",
    "train": "training",
    "train_members": "training",
    "Assessment": "verdict",
    "assess": "verdict",
}

__all__ = [
    "Assessment",
    "Band",
    "RunResult",
    "TrainConfig",
    "Trainer",
    "assess",
    "preset",
    "presets",
    "run_langevin",
    "train",
    "train_members",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ebm_core' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"ebm_core.{_HOME[name]}"), name)
    globals()[name] = value
    return value
