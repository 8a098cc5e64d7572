"""The engine: runs the members of a pack through a kernel, in tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from ebm_core.engine.kernels import Kernel
from ebm_core.engine.precision import Precision, arithmetic, path_dtype
from ebm_core.engine.steppers import Eager, Stepper
from ebm_core.langevin import Gradient, Noise, PathInfo, langevin_path, pack_noise
from ebm_core.objective import Parameters

# Members that walk their path together on a CPU: what a tile touches at every step is to stay in
# its cache, and few members leave much of the time to what every operation costs. Measured on
# perceptrons of 64 to 400 chains: within 5 % of the best tile by this rule, which takes 10 to 60 %
# less than a single member, than 64, and than 16 of many chains.
_TILE_MEMBERS = 16
_TILE_BYTES = 2_200_000


class Engine:
    """Evaluates the energies of all members, and walks their chains.

    Args:
        kernel: Evaluates the network.
        stepper: Makes the steps.
        precision: Arithmetic of the path.
    """

    def __init__(
        self, kernel: Kernel, stepper: Stepper | None = None, precision: Precision = "float32"
    ) -> None:
        self.kernel = kernel
        self.stepper = stepper or Eager()
        self.precision = precision

    @property
    def path(self) -> str:
        """How members are run, as kept in checkpoints: kernel and stepper."""
        return self.kernel.name + self.stepper.suffix

    @property
    def fixed_shapes(self) -> bool:
        """Whether another number of members costs a new program."""
        return bool(self.stepper.suffix)

    def energy(self, parameters: Parameters, x: Tensor) -> Tensor:
        """F, (M, n, *shape) to (M, n); differentiable in the parameters."""
        return self.kernel.energy(parameters, x)

    def input_gradient(self, parameters: Parameters) -> Gradient:
        """The function x -> grad F(x), (M, n, *shape) to the same, for these parameters."""
        return partial(self.kernel.gradient, self._weights(parameters))

    def short_run(
        self,
        parameters: Parameters,
        start: Tensor,
        epsilon: Tensor,
        noise: Sequence[Noise],
        steps: int,
    ) -> tuple[Tensor, PathInfo]:
        """Short-run chains of all members, see `ebm_core.langevin.langevin_path`.

        Args:
            parameters: Each of shape (M, ...).
            start: States, shape (M, n, *shape).
            epsilon: Noise sd of each member, shape (M,), units of x.
            noise: Source of standard normal numbers of each member.
            steps: L.

        Returns:
            New states, and the path means of the gradient magnitude, each of shape (M, n).
        """
        with torch.no_grad(), arithmetic(self.precision, start.device):
            paths = [
                self._tile(
                    {name: value[tile] for name, value in parameters.items()},
                    start[tile],
                    epsilon[tile],
                    noise[tile],
                    steps,
                )
                for tile in tiles(parameters, start)
            ]
        if len(paths) == 1:
            return paths[0]
        states, infos = zip(*paths, strict=True)
        return torch.cat(states), PathInfo(*map(torch.cat, zip(*infos, strict=True)))

    def _tile(
        self,
        parameters: Parameters,
        start: Tensor,
        epsilon: Tensor,
        noise: Sequence[Noise],
        steps: int,
    ) -> tuple[Tensor, PathInfo]:
        weights = self._weights(parameters)
        x, kicks = start, pack_noise(noise, steps, start.shape[1:], start)
        if self.kernel.flat:  # not to flatten at every step saves 5 % of a single member
            x, kicks = start.flatten(2), (block.flatten(3) for block in kicks)
        gradient, advance = partial(self.kernel.gradient, weights), self.stepper.bind(weights)
        moved, info = langevin_path(gradient, x, epsilon, kicks, advance)
        return moved.reshape(start.shape), info

    def _weights(self, parameters: Parameters) -> Sequence[Tensor]:
        return self.kernel.prepare(parameters, path_dtype(self.precision))


def tiles(parameters: Parameters, states: Tensor) -> list[slice]:
    """Members that walk together, in tiles of about equal size.

    A function of shapes and of the kind of device alone: what is computed does not hang on the
    machine.

    Args:
        parameters: Each of shape (M, ...).
        states: Shape (M, n, *shape).
    """
    members = len(states)
    if states.device.type != "cpu":
        return [slice(0, members)]
    own = [value[0] for value in parameters.values()]
    # a unit has a bias as a rule, and leaves one number a chain
    units = sum(value.numel() for value in own if value.dim() == 1)
    activations = states.shape[1] * units * states.element_size()
    one = states[0].nbytes + sum(value.nbytes for value in own) + activations
    size = min(_TILE_MEMBERS, max(1, _TILE_BYTES // one))
    count = math.ceil(members / size)
    edges = [round(members * tile / count) for tile in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]
