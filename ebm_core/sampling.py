"""Long chains of a trained model, portion by portion, that can be interrupted at any time.

The noise of a portion is a function of the seed and its number alone: chains that go on from what
was kept come to the same states, bit for bit on the same machine.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebm_core.acceptance import energy_factor, scaled, tuned_epsilon
from ebm_core.chains import draw_slots, start_states
from ebm_core.checkpoint import digest
from ebm_core.data import Dataset, positive_samples
from ebm_core.engine import arithmetic, module_gradient
from ebm_core.errors import CheckpointError
from ebm_core.evaluate import compared, noise_kind, short_run_samples
from ebm_core.langevin import run_langevin
from ebm_core.long_run import DECIDING, LongRun
from ebm_core.mixing import Array
from ebm_core.randomness import Stream, generator
from ebm_core.readings import Reader, reading_steps
from ebm_core.result import RunResult
from ebm_core.worth import Worth, worth

STARTS = ("bank", "data", "noise")
# What `LongChains.state` holds.
STATE_KEYS = (
    "wanted",
    "model",
    "device",
    "done",
    "epsilon",
    "x",
    "readings",
    "magnitudes",
    "accepted",
    "shown",
)

# Longest portion: what is lost by a kill, and how often chains are read, does not grow with them.
_LONGEST = 500
_SHOWN = 16
# At which shares of the chains their states are kept to be shown
_SHOWN_AT = (0.0, 0.005, 0.05, 0.25, 1.0)
_REFERENCE = 1_024
_LEAST_CHAINS = 2

# Numbers of the generators, apart from those of `ebm_core.evaluate`
_START_NUMBER, _TUNING_NUMBER, _DATA_NUMBER, _NOISED_NUMBER = 16, 24, 25, 26
_PORTION_NUMBER = 1_000


@dataclass(frozen=True)
class Wanted:
    """What chains are asked for.

    Attributes:
        starts: Some of `STARTS`: states of the training, noised data, noise as chains of the
            training began from.
        chains: From each.
        steps: Moves of each.
        adjusted: Whether moves are accepted or refused, in float64.
        epsilon: Noise sd, units of x; None for that of the training.
        tuned: Whether `epsilon` is chosen so that 57 % of the adjusted moves are accepted.
        temperature: In units of that of the training.
        seed: Of starts and noise.
    """

    starts: tuple[str, ...] = ("bank",)
    chains: int = 64
    steps: int = 1_000
    adjusted: bool = False
    epsilon: float | None = None
    tuned: bool = False
    temperature: float = 1.0
    seed: int = 0


class LongChains:
    """Chains of one model on their way.

    Attributes:
        epsilon: Noise sd, units of x.
        x: States now, shape (starts * chains, *shape), start by start.
        done: Portions made.

    Args:
        result: The training.
        dataset: Its data set.
        wanted: What is asked for.
    """

    def __init__(self, result: RunResult, dataset: Dataset, wanted: Wanted) -> None:
        self.result, self.wanted, self.dataset = result, wanted, dataset
        self.device = result.chains.device
        # moves are judged by small differences of energies, see `run_langevin`
        own = copy.deepcopy(result.energy)
        self._energy = own.double() if wanted.adjusted else own
        self._gradient = module_gradient(self._energy)
        self._edges = reading_steps(wanted.steps, _LONGEST)
        with arithmetic("float32", self.device):
            starts = [self._start(start) for start in wanted.starts]
            self.x = torch.cat(starts).to(next(self._energy.parameters()).dtype)
            self.epsilon = self._epsilon()
            self._prepare()
        self.done = 0
        self._readings: list[Array] = []
        self._magnitudes: list[Tensor] = []
        self._accepted = torch.zeros(len(self.x), dtype=torch.float64, device=self.device)
        at = [math.ceil(share * (len(self._edges) - 1)) for share in _SHOWN_AT]
        self._show_at = list(dict.fromkeys(at))
        self._shown = [self._to_show()]

    def _prepare(self) -> None:
        """The reference that readings are compared with, and the energies at the start."""
        config, result = self.result.config, self.result
        few = _REFERENCE
        samples = self.x
        if self.judged:
            samples = short_run_samples(result, few, self.dataset, config.seed)
        rng = generator(self.wanted.seed, Stream.EVALUATION, _DATA_NUMBER, self.device)
        data = positive_samples(self.dataset, few, config.data_epsilon, rng, samples.dtype)
        self.reader = Reader.of(samples, data, config.epsilon)
        with torch.no_grad():
            self.reference = self.reader(samples, self._energy(samples))
            self.before = self.reader(self.x, self._energy(self.x))

    def _start(self, start: str) -> Tensor:
        config, n, dtype = self.result.config, self.wanted.chains, self.result.chains.dtype
        number = _START_NUMBER + STARTS.index(start)
        rng = generator(self.wanted.seed, Stream.EVALUATION, number, self.device)
        if start == "data":
            return positive_samples(self.dataset, n, config.data_epsilon, rng, dtype)
        if start == "noise":
            return start_states(
                noise_kind(config), n, self.dataset, config.start_scale, rng, dtype
            )
        states = self.result.chains
        return states[draw_slots(len(states), n, rng)]

    def _epsilon(self) -> float:
        trained = self.result.config.epsilon
        if not self.wanted.tuned:
            return self.wanted.epsilon or trained
        rng = generator(self.wanted.seed, Stream.EVALUATION, _TUNING_NUMBER, self.device)
        tau = self.wanted.temperature
        return tuned_epsilon(self._energy, self._gradient, self.x, trained, tau, rng)

    # -- on the way ------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Moves made by every chain."""
        return self._edges[self.done]

    @property
    def finished(self) -> bool:
        return self.done == len(self._edges) - 1

    def advance(self) -> None:
        """Makes one portion."""
        wanted, length = self.wanted, self._edges[self.done + 1] - self._edges[self.done]
        factor = energy_factor(self.epsilon, self.result.config.epsilon, wanted.temperature)
        energy, gradient = scaled(self._energy, self._gradient, factor)
        number = _PORTION_NUMBER + self.done
        rng = generator(wanted.seed, Stream.EVALUATION, number, self.device)
        with arithmetic("float32", self.device):
            self.x, info = run_langevin(
                energy, self.x, self.epsilon, length, rng, wanted.adjusted, gradient
            )
            # F of the training, in units of its temperature
            self._readings.append(self.reader(self.x, info.energies / factor))
        self._magnitudes.append(info.r.double())
        self._accepted += length * info.acceptance.double()
        self.done += 1
        if self.done in self._show_at:
            self._shown.append(self._to_show())

    def _to_show(self) -> Tensor:
        few = math.isqrt(min(_SHOWN, self.wanted.chains)) ** 2
        parts = torch.tensor_split(self.x, len(self.wanted.starts))
        return torch.stack([part[:few] for part in parts]).float().cpu()

    # -- what is known so far --------------------------------------------------------------------

    @property
    def read_at(self) -> list[int]:
        """Steps after which chains were read; 0 is the start."""
        return self._edges[: self.done + 1]

    def energies(self) -> dict[str, Array]:
        """U along the chains from each start, nats, shape (chains, readings); the start first."""
        values = np.stack([self.before[0], *(each[0] for each in self._readings)], axis=-1)
        return self._by_start(values)

    def magnitudes(self) -> dict[str, Array]:
        """Mean of ``|grad F|`` over each portion, units of x, shape (chains, portions)."""
        return self._by_start(torch.stack(self._magnitudes, dim=-1).cpu().numpy())

    def acceptance(self) -> dict[str, Array]:
        """Share of accepted moves of the chains from each start, shape (chains,)."""
        return self._by_start((self._accepted / max(1, self.steps)).cpu().numpy())

    def shown(self) -> list[tuple[int, dict[str, Tensor]]]:
        """A few states from each start after some steps: step, and (n, *shape) by start."""
        steps = [self._edges[number] for number in self._show_at]
        return [
            (step, dict(zip(self.wanted.starts, states, strict=True)))
            for step, states in zip(steps, self._shown, strict=False)
        ]

    def _by_start(self, values: Array, axis: int = 0) -> dict[str, Array]:
        parts = np.split(values, len(self.wanted.starts), axis)
        return dict(zip(self.wanted.starts, parts, strict=True))

    @property
    def judged(self) -> bool:
        """Whether these chains tell if learning converged, see `long_run`."""
        return not self._unjudged()

    def _unjudged(self) -> str:
        """Why these chains do not tell whether learning converged; empty where they do."""
        wanted = self.wanted
        if self.result.assessment.censored:
            return f"learning {self.result.assessment.verdict}"
        if not set(DECIDING) & set(wanted.starts):
            return "chains from noise alone decide nothing"
        own = wanted.epsilon in (None, self.result.config.epsilon)
        if wanted.adjusted or wanted.tuned or wanted.temperature != 1 or not own:
            return "it is asked of unadjusted chains at epsilon and temperature of the training"
        if wanted.chains < _LEAST_CHAINS:
            return "the spread of one chain is not known"
        return ""

    def long_run(self) -> LongRun:
        """Whether the chains stay where the short-run samples are, see `ebm_core.long_run`."""
        if why := self._unjudged():
            return LongRun.not_run(why)
        traces = self._by_start(np.stack(self._readings, axis=-1), axis=1)
        return compared(self.reader, traces, self.reference, self.steps)

    def worth(self) -> dict[str, Worth | None]:
        """What the states from each start are worth beside the data.

        None for a law, and where learning broke down.
        """
        starts = self.wanted.starts
        if self.result.assessment.censored:
            return dict.fromkeys(starts)
        parts = torch.tensor_split(self.x, len(starts))
        with arithmetic("float32", self.device):
            return {start: self._worth(x) for start, x in zip(starts, parts, strict=True)}

    def _worth(self, x: Tensor) -> Worth | None:
        config = self.result.config
        # the same data are compared with the chains from all starts
        rng = generator(self.wanted.seed, Stream.EVALUATION, _NOISED_NUMBER, self.device)
        return worth(self._energy, x, self.dataset, config.epsilon, config.data_epsilon, rng)

    # -- to go on later --------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that is needed to go on exactly; for `checkpoint.save`."""
        magnitudes = torch.stack(self._magnitudes) if self._magnitudes else torch.empty(0)
        return {
            **self._identity(),
            "done": self.done,
            "epsilon": self.epsilon,
            "x": self.x,
            "readings": torch.tensor(np.array(self._readings)),
            "magnitudes": magnitudes,
            "accepted": self._accepted,
            "shown": torch.stack(self._shown),
        }

    def _identity(self) -> dict[str, Any]:
        weights = digest(dict(self._energy.state_dict()))
        wanted = {**asdict(self.wanted), "starts": list(self.wanted.starts)}
        return {"wanted": wanted, "model": weights, "device": self.device.type}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave.

        Raises:
            CheckpointError: If these are other chains, naming what differs.
        """
        for key, ours in self._identity().items():
            theirs = state[key]
            if theirs == ours:
                continue
            if key == "model":
                raise CheckpointError("the chains kept there are those of another model")
            pairs = ((key, theirs, ours),) if key == "device" else _differing(theirs, ours)
            told = ", ".join(f"{name} {old!r} there, {new!r} here" for name, old, new in pairs)
            raise CheckpointError(f"other chains are kept there: {told}")
        self.done, self.epsilon = state["done"], state["epsilon"]
        self.x = state["x"].to(self.device)
        self._readings = list(state["readings"].numpy())
        self._magnitudes = list(state["magnitudes"].to(self.device))
        self._accepted = state["accepted"].to(self.device)
        self._shown = list(state["shown"])


def _differing(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(key, theirs.get(key), ours[key]) for key in ours if theirs.get(key) != ours[key]]
