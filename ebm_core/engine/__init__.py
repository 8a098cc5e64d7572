"""How the members of a pack are run: one interface, a path for each network, device and length.

A path is a kernel (``closed_form``, ``vmap``, ``loop`` or ``reference``: how the network is
evaluated) and a stepper (nothing, ``+compile`` or ``+graph``: how steps are made). It is chosen
once for a training and kept in its checkpoint, since paths differ in rounding.
"""

from ebm_core.engine.choice import (
    REFERENCE,
    choose_engine,
    make_engine,
    module_gradient,
    probe,
)
from ebm_core.engine.engine import Engine
from ebm_core.engine.kernels import Batched, ClosedFormMlp, Looped
from ebm_core.engine.parameters import module_with, stack_parameters
from ebm_core.engine.precision import Precision, arithmetic, state_dtype

__all__ = [
    "REFERENCE",
    "Batched",
    "ClosedFormMlp",
    "Engine",
    "Looped",
    "Precision",
    "arithmetic",
    "choose_engine",
    "make_engine",
    "module_gradient",
    "module_with",
    "probe",
    "stack_parameters",
    "state_dtype",
]
