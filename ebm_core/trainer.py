"""The trainer: the one object here that changes. It reports through one callable."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ebm_core import chains, checkpoint, objective
from ebm_core.config import TrainConfig, file_problems, make_config, pack_problems
from ebm_core.data import Dataset, load_data, positive_samples
from ebm_core.energies import build_energy, check_energy, scale_output
from ebm_core.engine import Looped, make_engine, module_with, probe, stack_parameters
from ebm_core.errors import CheckpointError, ConfigError
from ebm_core.evaluate import MatchedGradient, matched_gradient
from ebm_core.langevin import langevin_path, noise_blocks
from ebm_core.randomness import Stream, generator
from ebm_core.schedule import learning_rate
from ebm_core.verdict import Assessment, Divergence, assess, collapse_update

# States further out than this many times the extent of the data are lost.
STATE_LIMIT = 100.0
_CAUSES = (
    "d is not finite",
    "the gradient magnitude is not finite",
    "chains left any reasonable range",
    "the parameters are not finite",
)
COLLAPSED = "d runs to minus infinity"

EnergySource = nn.Module | Callable[[], nn.Module]
OnReport = Callable[["Trainer"], bool | None]


@dataclass
class RunResult:
    """What one training leaves.

    Attributes:
        config: Its configuration.
        energy: The trained F, a module mapping (n, *shape) to (n,).
        d: Energy differences, nats, one an update.
        r: Mean gradient magnitudes, units of x, one an update.
        r_rms: Root-mean-square gradient magnitudes, units of x, one an update.
        assessment: Verdict and evidence.
        status: ``finished``, ``stopped_early`` or ``failed``; not a verdict.
        cause: Why it did not finish, empty if it did.
        chains: The bank, or the last negative samples without one; shape (n, *shape).
        matched: r* and floor of the data.
        seconds: Time inside the update loop, shared evenly among the members of a pack.
    """

    config: TrainConfig
    energy: nn.Module
    d: np.ndarray
    r: np.ndarray
    r_rms: np.ndarray
    assessment: Assessment
    status: Literal["finished", "stopped_early", "failed"]
    cause: str
    chains: Tensor = field(repr=False)
    matched: MatchedGradient = field(repr=False)
    seconds: float = 0.0


class Trainer:
    """Trains a pack of members as one program.

    Args:
        configs: One configuration a member; they may differ in `config.MEMBER_FIELDS`.
        energy: The user's own network instead of the configured one: a module, whose weights every
            member starts from, or a function that builds one, called once a member under its seed.
        dataset: The user's own data set instead of the configured one.
        engine_path: An engine path to use again; None to choose one.

    Raises:
        ConfigError: If the configurations do not form a pack, or need files that are missing.
        EnergyError: If the network cannot serve as an energy.
    """

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        energy: EnergySource | None = None,
        dataset: Dataset | None = None,
        engine_path: str | None = None,
    ) -> None:
        self.configs = list(configs)
        if not self.configs:
            raise ValueError("a pack needs at least one configuration")
        self.config = self.configs[0]
        problems = pack_problems(self.configs)
        if dataset is None:
            problems += file_problems(self.config)
        if problems:
            raise ConfigError(problems)
        self.device = _device(self.config.device)
        self.dtype = getattr(torch, self.config.precision)
        self.dataset = (dataset or load_data(self.config.data)).to(self.device)
        self.dimensions = math.prod(self.dataset.shape)
        self._constants()
        modules = [self._initial_module(config, energy) for config in self.configs]
        self.module = modules[0]
        self.parameters = stack_parameters(modules)
        self.engine = make_engine(self.module, len(modules), engine_path)
        self.update = 0
        self.seconds = 0.0
        self.alive = torch.ones(len(modules), dtype=torch.bool, device=self.device)
        self.failed_at = torch.full((len(modules),), -1, device=self.device)
        self.failure = torch.zeros(len(modules), dtype=torch.long, device=self.device)
        self.moments = objective.adam_state(self.parameters) if self._adam else {}
        self.records = torch.full(
            (3, self.config.updates, len(modules)), torch.nan, dtype=self.dtype, device=self.device
        )
        self.states = self._initial_states()
        if engine_path is None and not probe(self.engine, self.parameters, self.states[:, :2]):
            self.engine = make_engine(self.module, len(modules), Looped.path)
        self._extent = self._state_limit()

    # -- set-up ------------------------------------------------------------------------------------

    @property
    def members(self) -> int:
        return len(self.configs)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do: all updates made, or every member stopped."""
        return self.update >= self.config.updates or not bool(self.alive.any())

    @property
    def _adam(self) -> bool:
        return self.config.optimizer == "adam"

    @property
    def _persistent(self) -> bool:
        return self.config.chain_start == "persistent"

    def _constants(self) -> None:
        def column(values: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=self.device)

        self.epsilon = column([c.epsilon for c in self.configs], self.dtype)
        self._gamma_0 = column([c.gamma_0 for c in self.configs])
        self._gamma_start = column([c.start_rate for c in self.configs])
        self._anneal = column([c.anneal_updates for c in self.configs])

    def learning_rates(self, updates: Tensor | int) -> Tensor:
        """gamma_0(t) of every member at some updates, shape (M,) or (t, M)."""
        return learning_rate(updates, self._gamma_0, self._gamma_start, self._anneal)

    def _initial_module(self, config: TrainConfig, energy: EnergySource | None) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(config.seed, Stream.INITIALIZATION, 0).initial_seed())
            if energy is None:
                module = build_energy(config.network, self.dataset.shape)
            elif isinstance(energy, nn.Module):
                module = energy
            else:
                module = energy()
        if energy is not None and isinstance(energy, nn.Module):
            parameters = {n: p.detach().clone() for n, p in energy.named_parameters()}
            module = module_with(energy, {n: p[None] for n, p in parameters.items()}, 0)
        module = module.to(self.device, self.dtype)
        check_energy(module, self.dataset.shape, self.dtype)
        scale_output(module, config.init_scale)
        return module

    def _initial_states(self) -> Tensor:
        kind = self.config.bank_start if self._persistent else self.config.chain_start
        n = self.config.bank_size if self._persistent else self.config.batch_size
        rows = []
        for config in self.configs:
            rng = generator(config.seed, Stream.INITIALIZATION, 1, self.device)
            rows.append(self._fresh(kind, n, rng))
        return torch.stack(rows)

    def _fresh(self, kind: str, n: int, rng: torch.Generator) -> Tensor:
        scale = self.config.start_scale
        return chains.start_states(kind, n, self.dataset, scale, rng, self.dtype)

    def _state_limit(self) -> float:
        rng = generator(0, Stream.EVALUATION, 0, self.device)
        extent = float(self.dataset.draw(256, rng).abs().max())
        return STATE_LIMIT * max(extent, self.config.start_scale)

    # -- training ----------------------------------------------------------------------------------

    def run(self, updates: int) -> None:
        """Makes up to this many updates; stops before where nothing is alive."""
        started = time.perf_counter()
        last = min(self.update + updates, self.config.updates)
        # On a CPU looking costs nothing; elsewhere every look waits for the device.
        interval = 1 if self.device.type == "cpu" else 50
        while self.update < last:
            self._one_update()
            if self.update % interval == 0 and not bool(self.alive.any()):
                break
        if self.update % 100 == 0:
            self._stop_collapsed()
        self.seconds += time.perf_counter() - started

    def _one_update(self) -> None:
        drawn = [self._draw(config) for config in self.configs]
        positive = torch.stack([d.positive for d in drawn])
        start = torch.stack([d.start for d in drawn])
        noise = (torch.stack(blocks, dim=1) for blocks in zip(*(d.noise for d in drawn), strict=True))
        gradient = self.engine.input_gradient(self.parameters)
        with torch.no_grad():
            negative, path = langevin_path(gradient, start, self.epsilon, noise)
        difference, gradients = self._parameter_gradient(positive, negative)
        d = difference * 2 / self.epsilon.square()
        r = path.gradient_magnitude.mean(1)
        with torch.no_grad():
            proposed, moments = self._step(gradients)
            self._record(d, r, path.squared_gradient.mean(1).sqrt())
            self._freeze(d, r, negative, proposed)
            self._accept(proposed, moments)
            self._store(negative, start, [d.slots for d in drawn])
        self.update += 1

    def _draw(self, config: TrainConfig) -> _Draw:
        """Everything random of one member in one update: a function of its seed and the update."""
        index = len(self._drawn_members) if False else self.configs.index(config)
        data = generator(config.seed, Stream.DATA, self.update, self.device)
        positive = positive_samples(
            self.dataset, config.batch_size, config.data_epsilon, data, self.dtype
        )
        rng = generator(config.seed, Stream.CHAINS, self.update, self.device)
        slots = None
        if self._persistent:
            slots = chains.draw_slots(config.bank_size, config.batch_size, rng)
            start = self.states[index, slots]
            if config.reinit_share:
                fresh = self._fresh(config.bank_start, config.batch_size, rng)
                start = chains.reinitialize(start, fresh, config.reinit_share, rng)
        else:
            start = self._fresh(config.chain_start, config.batch_size, rng)
        noise = noise_blocks(config.langevin_steps, tuple(start.shape), rng, self.dtype)
        return _Draw(positive, start, slots, noise)
