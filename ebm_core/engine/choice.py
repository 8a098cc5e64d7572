"""Which path suits a network, a device and the length of a training."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ebm_core.engine.engine import Engine
from ebm_core.engine.kernels import (
    Batched,
    ClosedFormMlp,
    ClosedFormVanilla,
    Kernel,
    Looped,
    convolves,
)
from ebm_core.engine.parameters import stack_parameters
from ebm_core.engine.precision import Precision
from ebm_core.engine.steppers import Captured, Compiled, Eager, Stepper
from ebm_core.errors import EnergyError
from ebm_core.langevin import Gradient
from ebm_core.objective import Parameters

REFERENCE = "reference"


def _closed_form(module: Any) -> Kernel:
    return ClosedFormMlp(module) if ClosedFormMlp.fits(module) else ClosedFormVanilla(module)


_KERNELS: dict[str, Callable[[Any], Kernel]] = {
    "closed_form": _closed_form,
    "vmap": Batched,
    "loop": Looped,
    REFERENCE: partial(Looped, tuned=False),
}
_STEPPERS: dict[str, Callable[[Kernel], Stepper]] = {
    "": lambda kernel: Eager(),
    "compile": Compiled,
    "graph": Captured,
}

# Compiling is to save a few times over what it takes. It takes 5 to 23 s on one core, 3 s where
# another worker has compiled the same, and saves half or more where a network is evaluated by
# `vmap`, 25 % of a single perceptron, and nothing of several.
_COMPILE_SECONDS = 60.0
_COMPILE_SAVES = {"vmap": 0.6, "closed_form": 0.25}
_PROBE_STEPS, _PROBE_REPEATS = 4, 3


def make_engine(
    module: nn.Module, members: int, path: str | None = None, precision: Precision = "float32"
) -> Engine:
    """An engine for members of this architecture.

    Args:
        module: Gives the architecture; its own parameters are not used.
        members: M.
        path: A path chosen before, as kept in a checkpoint; None for the kernel that suits the
            network, with eager steps.
        precision: Arithmetic of the path.

    Raises:
        EnergyError: If there is no such path, or it does not suit the module.
    """
    wanted = _kernel_for(module, members) if path is None else path
    name, _, how = wanted.partition("+")
    if name not in _KERNELS or how not in _STEPPERS:
        raise EnergyError(
            f"engine path must be one of {', '.join(_KERNELS)}, with +compile or +graph where "
            f"steps are compiled or captured, got {path!r}"
        )
    if name == ClosedFormMlp.name and not _has_closed_form(module):
        rule = "must be vmap, loop or reference for this network"
        raise EnergyError(f"engine path {rule}, got {path!r} for a {type(module).__name__}")
    if how == "graph" and not _on_cuda(module):
        how = ""  # a training from a GPU that goes on elsewhere
    kernel = _KERNELS[name](module)
    return Engine(kernel, _STEPPERS[how](kernel), precision)


def choose_engine(
    module: nn.Module,
    parameters: Parameters,
    states: Tensor,
    steps: int,
    precision: Precision = "float32",
) -> Engine:
    """The engine of a new training, its path tried out on the training's own network and states.

    On a GPU the steps of a block are captured, and convolutions of several members grouped or run
    one by one, whichever is faster there. On a CPU steps are compiled where the training is long
    enough to repay it.

    Args:
        module: Gives the architecture.
        parameters: Each of shape (M, ...).
        states: Some chains, shape (M, n, *shape).
        steps: Langevin steps of the whole training.
        precision: Arithmetic of the path.
    """
    make = partial(make_engine, module, len(states), precision=precision)
    engine = make()
    if not probe(engine, parameters, states[:, :2]):
        engine = make(Looped.name)
    if states.device.type == "cuda":
        if len(states) > 1 and convolves(module) and _batchable(module):
            others = [make(name) for name in (Batched.name, Looped.name) if name != engine.path]
            able = [each for each in others if probe(each, parameters, states[:, :2])]
            # as they will run: captured, since made one by one the launches would decide
            captured = [make(f"{each.path}+graph") for each in (engine, *able)]
            return _fastest(captured, parameters, states)
        return make(f"{engine.path}+graph")
    compiled = _worth_compiling(engine, module, parameters, states, steps)
    return make(f"{compiled}+compile") if compiled else engine


def probe(engine: Engine, parameters: Parameters, x: Tensor) -> bool:
    """Whether a path works for these parameters and states, energy and gradient alike.

    Data-dependent control flow and in-place tricks of a user's module cannot be told from the
    outside; so the batched path is tried once before it is relied on.

    Args:
        engine: The path to try.
        parameters: Each of shape (M, ...).
        x: A few states, shape (M, n, *shape).
    """
    try:
        with torch.no_grad():
            engine.energy(parameters, x)
            engine.input_gradient(parameters)(x)
    except (RuntimeError, ValueError):  # what vmap raises for operations it has no rule for
        return False
    return True


def _has_closed_form(module: nn.Module) -> bool:
    return ClosedFormMlp.fits(module) or ClosedFormVanilla.fits(module)


def _kernel_for(module: nn.Module, members: int) -> str:
    if _has_closed_form(module):
        return ClosedFormMlp.name
    # Batched, convolutions become grouped ones: 30 % slower at 32x32 on a CPU than one by one.
    grouped = convolves(module) and not _on_cuda(module)
    if members == 1 or grouped or not _batchable(module):
        return Looped.name
    return Batched.name


def _batchable(module: nn.Module) -> bool:
    return bool(getattr(module, "batchable", True))


def _on_cuda(module: nn.Module) -> bool:
    return any(value.device.type == "cuda" for value in module.parameters())


def _worth_compiling(
    engine: Engine, module: nn.Module, parameters: Parameters, states: Tensor, steps: int
) -> str | None:
    """The kernel to compile, if that repays its time."""
    name = engine.path
    if convolves(module) or not _batchable(module) or shutil.which(_compiler()) is None:
        return None
    if name == Looped.name:
        name = Batched.name  # a single member; steps of the loop cannot be compiled
        if not probe(make_engine(module, len(states), name), parameters, states[:, :2]):
            return None
    elif name == ClosedFormMlp.name and len(states) > 1:
        return None
    saved = _COMPILE_SAVES[name] * _step_seconds(engine, parameters, states) * steps
    return name if saved > _COMPILE_SECONDS else None


def _compiler() -> str:
    return os.environ.get("CXX", "g++")


def _fastest(engines: list[Engine], parameters: Parameters, states: Tensor) -> Engine:
    return min(engines, key=lambda engine: _step_seconds(engine, parameters, states))


def _step_seconds(engine: Engine, parameters: Parameters, states: Tensor) -> float:
    """What a Langevin step of all members takes."""
    epsilon = torch.zeros(len(states), dtype=states.dtype, device=states.device)
    silent = [torch.Tensor.zero_] * len(states)

    def run() -> float:
        began = time.perf_counter()
        engine.short_run(parameters, states, epsilon, silent, _PROBE_STEPS)
        if states.device.type == "cuda":
            torch.cuda.synchronize(states.device)
        return (time.perf_counter() - began) / _PROBE_STEPS

    run()
    return statistics.median(run() for _ in range(_PROBE_REPEATS))


def module_gradient(module: nn.Module) -> Gradient:
    """Fastest input gradient of one trained module, (n, *shape) to the same."""
    gradient = make_engine(module, 1).input_gradient(stack_parameters([module]))
    return lambda x: gradient(x.unsqueeze(0)).squeeze(0)
