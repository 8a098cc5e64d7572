"""How the steps of a block are made: one by one, as a compiled program, or as a captured graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

from ebm_core.engine.kernels import Kernel, Weights
from ebm_core.langevin import Advance, Gradient, langevin_steps

Record = Callable[[Callable[[], None]], Callable[[], None]]

# Steps of one compiled program: enough that what a call costs hardly counts. Compiling takes
# longer with each.
_COMPILED_STEPS = 8
# Runs ahead of a capture, in which libraries choose their algorithms and reserve memory.
_WARM_UPS = 3


class Stepper(Protocol):
    """Makes the steps of a block.

    Attributes:
        suffix: Of the path, as kept in checkpoints.
    """

    suffix: str

    def bind(self, weights: Weights) -> Advance:
        """The steps of a path along which the weights stay as they are."""
        ...


class Eager:
    """One operation after the other."""

    suffix = ""

    def bind(self, weights: Weights) -> Advance:
        return langevin_steps


class Compiled:
    """Some steps at a time as one compiled program, which fuses all that is not a product.

    Where a network cannot be compiled, steps are made eagerly from then on, with a warning.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.suffix = "+compile"
        self._kernel = kernel
        # every shape is a program of its own, of which a pack has one or two
        self._program = torch.compile(self._steps, fullgraph=True, dynamic=False)

    def _steps(
        self, weights: Weights, x: Tensor, kicks: Tensor, total: Tensor, squared: Tensor
    ) -> Tensor:
        return langevin_steps(
            lambda y: self._kernel.gradient(weights, y), x, kicks, total, squared
        )

    def bind(self, weights: Weights) -> Advance:
        def advance(
            gradient: Gradient, x: Tensor, kicks: Tensor, total: Tensor, squared: Tensor
        ) -> Tensor:
            size = compiled_steps(len(kicks)) if self.suffix else len(kicks) + 1
            whole = len(kicks) - len(kicks) % size
            for some in torch.split(kicks[:whole], size):
                x = self._call(weights, x, some.contiguous(), total, squared)
            # what is left over would be one more program
            return langevin_steps(gradient, x, kicks[whole:], total, squared)

        return advance

    def _call(
        self, weights: Weights, x: Tensor, kicks: Tensor, total: Tensor, squared: Tensor
    ) -> Tensor:
        if self.suffix:
            try:
                moved: Tensor = self._program(weights, x, kicks, total, squared)
            except torch.OutOfMemoryError:
                raise
            # whatever the compiler makes of a user's network; its own errors show below
            except Exception as error:
                self.suffix = ""
                warnings.warn(f"steps are not compiled: {error}", stacklevel=2)
            else:
                return moved
        return self._steps(weights, x, kicks, total, squared)


def compiled_steps(block: int) -> int:
    """Steps of one compiled program, such that few of a block are left over."""
    sizes = range(min(block, _COMPILED_STEPS), 0, -1)
    return min(sizes, key=lambda size: (block % size + block // size, -size))


class Captured:
    """All steps of a block as one graph, captured once and replayed, on a CUDA device.

    A replay is one launch; nothing in it waits for the host. Weights, states and noise are copied
    into the buffers that the graph was captured with. Where a network cannot be captured, steps
    are made eagerly from then on, with a warning.

    Args:
        kernel: Gives the gradient.
        record: Turns a program over fixed buffers into one that replays it.
    """

    def __init__(self, kernel: Kernel, record: Record | None = None) -> None:
        self.suffix = "+graph"
        self._kernel = kernel
        self._record = record or capture
        self._weights: list[Tensor] = []
        self._blocks: dict[tuple[int, ...], _Block] = {}

    def bind(self, weights: Weights) -> Advance:
        self._load(weights)

        def advance(
            gradient: Gradient, x: Tensor, kicks: Tensor, total: Tensor, squared: Tensor
        ) -> Tensor:
            block = self._block(kicks)
            if block is None:
                return langevin_steps(gradient, x, kicks, total, squared)
            return block.run(x, kicks, total, squared)

        return advance

    def _load(self, weights: Weights) -> None:
        """Puts weights where the graphs look for them; graphs of another pack are dropped."""
        if [(w.shape, w.dtype) for w in weights] != [(w.shape, w.dtype) for w in self._weights]:
            self._weights = [w.clone() for w in weights]
            self._blocks = {}
        for own, new in zip(self._weights, weights, strict=True):
            own.copy_(new)

    def _block(self, kicks: Tensor) -> _Block | None:
        shape = tuple(kicks.shape)
        if self.suffix and shape not in self._blocks:
            weights = self._weights
            try:
                self._blocks[shape] = _Block(
                    lambda x: self._kernel.gradient(weights, x), kicks, self._record
                )
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # a user's network that asks the host for something
                self.suffix, self._blocks = "", {}
                warnings.warn(f"steps are not captured: {error}", stacklevel=2)
        return self._blocks.get(shape)


class _Block:
    """A recorded block and its buffers."""

    def __init__(self, gradient: Gradient, kicks: Tensor, record: Record) -> None:
        self.kicks = torch.zeros_like(kicks, memory_format=torch.contiguous_format)
        self.x = torch.zeros_like(self.kicks[0])
        self.total = kicks.new_zeros(kicks.shape[1:3])
        self.squared = torch.zeros_like(self.total)
        self.moved = torch.zeros_like(self.x)
        with self._device():
            self._replay = record(lambda: self._steps(gradient))

    def _device(self) -> AbstractContextManager[None]:
        """Where streams and graphs are made and run: not the first GPU as a matter of course."""
        on_gpu = self.x.device.type == "cuda"
        return torch.cuda.device(self.x.device) if on_gpu else nullcontext()

    def _steps(self, gradient: Gradient) -> None:
        self.moved.copy_(langevin_steps(gradient, self.x, self.kicks, self.total, self.squared))

    def run(self, x: Tensor, kicks: Tensor, total: Tensor, squared: Tensor) -> Tensor:
        pairs = ((self.x, x), (self.kicks, kicks), (self.total, total), (self.squared, squared))
        for own, given in pairs:
            own.copy_(given)
        with self._device():
            self._replay()
        total.copy_(self.total)
        squared.copy_(self.squared)
        return self.moved.clone()


def capture(program: Callable[[], None]) -> Callable[[], None]:
    """Captures a program on the current CUDA device."""
    before = torch.cuda.current_stream()
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(before)
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            program()
    before.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    numbers = generator.clone_state()
    try:
        # other threads of a worker may talk to the device meanwhile
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            program()
    except BaseException:
        # a capture that failed leaves the generator in it for good, and the stream set
        generator.graphsafe_set_state(numbers)
        raise
    finally:
        torch.cuda.set_stream(before)
    return graph.replay
