"""The trainer: the one object here that changes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ebm_core import checkpoint, objective, snapshot
from ebm_core.config import TrainConfig, file_problems, make_config, pack_problems
from ebm_core.data import Dataset, load_data
from ebm_core.device import resolve_device
from ebm_core.draws import Draw, draw_update, initial_states
from ebm_core.energies import scale_output
from ebm_core.engine import Looped, make_engine, module_with, probe, stack_parameters
from ebm_core.errors import ConfigError
from ebm_core.initialization import EnergySource, initial_factor, initial_module
from ebm_core.langevin import langevin_path
from ebm_core.matched import MatchedGradient, matched_gradient
from ebm_core.randomness import Stream, generator
from ebm_core.restlessness import Looks, total_variance
from ebm_core.result import RunResult, Series, judge
from ebm_core.schedule import learning_rate
from ebm_core.verdict import Thresholds, collapse_update
from ebm_core.vitals import Limits, Vitals

__all__ = ["STATE_KEYS", "EnergySource", "Trainer"]

# States further out than this many times the extent of the data are lost.
STATE_LIMIT = 100.0
# So are gradients this many times as long as the data are wide; those of healthy trainings were
# seen to stay under 0.1 (docs/breakdown.md).
GRADIENT_LIMIT = 10.0
# A collapse is looked for at multiples of this many updates.
COLLAPSE_INTERVAL = 100

# Samples that tell how widely the data spread: to about 2 % in the plane; fewer do for images.
_SPREAD_SAMPLES, _SPREAD_NUMBERS = 4096, 2**23

# Numbers kept of every update: d, r, r_rms and restlessness.
RECORDED = 4

# What `Trainer.state` holds.
STATE_KEYS = (
    "configs",
    "engine_path",
    "update",
    "seconds",
    "init_factors",
    "parameters",
    "moments",
    "states",
    "vitals",
    "records",
    "look",
)


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
        EnergyError: If the network cannot serve as an energy, or its scale cannot be set.
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
        self.device = resolve_device(self.config.device)
        self.dtype = getattr(torch, self.config.precision)
        self.dataset = (dataset or load_data(self.config.data)).to(self.device)
        self.dimensions = math.prod(self.dataset.shape)
        self.update = 0
        self.seconds = 0.0
        self._set_constants()
        self._matched: dict[int, MatchedGradient] = {}
        self._looks = Looks()
        like = torch.empty(0, dtype=self.dtype, device=self.device)
        self.states = torch.stack([initial_states(c, self.dataset, like) for c in self.configs])
        modules = [initial_module(c, energy, self.dataset.shape, like) for c in self.configs]
        self.init_factors = self._scale(modules)
        self.module = modules[0]
        self.parameters = stack_parameters(modules)
        self.moments = objective.adam_state(self.parameters) if self._adam else {}
        self.engine = make_engine(self.module, self.members, engine_path)
        if engine_path is None and not probe(self.engine, self.parameters, self.states[:, :2]):
            self.engine = make_engine(self.module, self.members, Looped.path)
        shape = (RECORDED, self.config.updates, self.members)
        self.records = torch.full(shape, torch.nan, dtype=self.dtype, device=self.device)

    # -- set-up ----------------------------------------------------------------------------------

    @property
    def members(self) -> int:
        """M."""
        return len(self.configs)

    @property
    def alive(self) -> Tensor:
        """Which members have not been stopped, shape (M,)."""
        return self.vitals.alive

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

    def _set_constants(self) -> None:
        def column(values: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=self.device)

        self.epsilon = column([c.epsilon for c in self.configs], self.dtype)
        self._gamma_0 = column([c.gamma_0 for c in self.configs])
        self._gamma_start = column([c.start_rate for c in self.configs])
        self._anneal = column([c.anneal_updates for c in self.configs])
        rng = generator(0, Stream.EVALUATION, 0, self.device)
        extent = float(self.dataset.draw(256, rng).abs().max())
        samples = max(64, min(_SPREAD_SAMPLES, _SPREAD_NUMBERS // self.dimensions))
        self._data_variance = total_variance(self.dataset.draw(samples, rng))
        extent = max(extent, self.config.start_scale)
        limits = Limits(
            state=STATE_LIMIT * extent,
            gradient=GRADIENT_LIMIT * extent * math.sqrt(self.dimensions),
            depth=Thresholds().collapse_nats * self.dimensions,
        )
        self.vitals = Vitals(self.members, self.device, limits)

    def _scale(self, modules: Sequence[nn.Module]) -> Tensor:
        """Scales F of every member at initialization; the factors, shape (M,)."""
        factors = []
        for member, (config, module) in enumerate(zip(self.configs, modules, strict=True)):
            r_star = self.matched(member).r_star if config.init_scale == "auto" else math.nan
            states = self.states[member]
            factors.append(initial_factor(module, config, self.dataset, states, r_star))
            scale_output(module, factors[-1])
        return torch.tensor(factors, dtype=torch.float64, device=self.device)

    # -- training --------------------------------------------------------------------------------

    def learning_rates(self, updates: Tensor | int) -> Tensor:
        """gamma_0(t) of every member at some updates: shape (M,), or (t, M) for shape (t, 1)."""
        return learning_rate(updates, self._gamma_0, self._gamma_start, self._anneal)

    def run(self, updates: int) -> None:
        """Makes up to this many updates; stops before where no member is left."""
        started = time.perf_counter()
        last = min(self.update + updates, self.config.updates)
        # On a CPU looking costs nothing; elsewhere every look waits for the device.
        interval = 1 if self.device.type == "cpu" else COLLAPSE_INTERVAL
        while self.update < last:
            self._one_update()
            if self.update % COLLAPSE_INTERVAL == 0:
                self._stop_collapsed()
            if self.update % interval == 0 and not bool(self.alive.any()):
                break
        self.seconds += time.perf_counter() - started

    def _one_update(self) -> None:
        draws = [
            draw_update(config, self.dataset, states, self.update)
            for config, states in zip(self.configs, self.states, strict=True)
        ]
        positive = torch.stack([draw.positive for draw in draws])
        start = torch.stack([draw.start for draw in draws])
        noise = (
            torch.stack(blocks, dim=1) for blocks in zip(*(d.noise for d in draws), strict=True)
        )
        with torch.no_grad():
            gradient = self.engine.input_gradient(self.parameters)
            negative, path = langevin_path(gradient, start, self.epsilon, noise)
        d, gradients, energies = self._difference(positive, negative)
        r = path.gradient_magnitude.mean(1)
        with torch.no_grad():
            parameters, moments = self._learn(gradients)
            r_rms = path.squared_gradient.mean(1).sqrt()
            energy = partial(self.engine.energy, self.parameters)
            restless = self._looks.look(self.update, negative, energies, energy)
            self._record(d, r, r_rms, restless)
            self.vitals.examine(self.update, d, r, start, negative, parameters)
            self._accept(parameters, moments)
            self._keep(
                torch.where(objective.per_member(self.alive, start), negative, start), draws
            )
        self.update += 1

    def _difference(
        self, positive: Tensor, negative: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """d; the parameter gradient of mean F(data) - mean F(chains); and F of the chains."""
        leaves = {n: p.detach().requires_grad_() for n, p in self.parameters.items()}
        energies = self.engine.energy(leaves, torch.cat([positive, negative], dim=1))
        low, high = torch.split(energies, [positive.shape[1], negative.shape[1]], dim=1)
        difference = low.mean(1) - high.mean(1)
        # members share nothing, so that the gradient of the sum is each member's own
        gradients = torch.autograd.grad(difference.sum(), list(leaves.values()))
        low, high = low.detach(), high.detach()
        d = objective.energy_difference(low, high, self.epsilon)
        return d, dict(zip(leaves, gradients, strict=True)), high

    def _learn(self, gradients: dict[str, Tensor]) -> tuple[dict[str, Tensor], Any]:
        rate = self.learning_rates(self.update).to(self.dtype)
        if not self._adam:
            return objective.sgd_step(self.parameters, gradients, rate), {}
        # Adam follows the loss d itself; the factor matters to its stabilizer alone
        scale = 2 / self.epsilon.square()
        of_d = {
            name: value * objective.per_member(scale, value) for name, value in gradients.items()
        }
        return objective.adam_step(self.parameters, of_d, rate, self.moments, self.update + 1)

    def _record(self, *values: Tensor) -> None:
        self.records[:, self.update] = torch.where(self.alive, torch.stack(values), torch.nan)

    def _accept(self, parameters: dict[str, Tensor], moments: Any) -> None:
        def keep(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(objective.per_member(self.alive, new), new, old)

        self.parameters = {n: keep(p, self.parameters[n]) for n, p in parameters.items()}
        self.moments = {
            moment: {n: keep(p, self.moments[moment][n]) for n, p in values.items()}
            for moment, values in moments.items()
        }

    def _keep(self, states: Tensor, draws: Sequence[Draw]) -> None:
        if not self._persistent:
            self.states = states
            return
        for member, draw in enumerate(draws):
            self.states[member, draw.slots] = states[member]

    def _stop_collapsed(self) -> None:
        for member in torch.nonzero(self.alive).flatten().tolist():
            since = self.update - COLLAPSE_INTERVAL
            seen = collapse_update(self.d(member), self.dimensions, since=since)
            if seen is not None:
                self.vitals.collapse(member, seen)

    # -- what is known so far --------------------------------------------------------------------

    def _series(self, which: int, member: int) -> Series:
        made = self.vitals.updates_made(member, self.update)
        series: Series = self.records[which, :made, member].double().cpu().numpy()
        return series

    def d(self, member: int = 0) -> Series:
        """Energy differences of a member so far, nats, one an update."""
        return self._series(0, member)

    def r(self, member: int = 0) -> Series:
        """Gradient magnitudes of a member so far, units of x, one an update."""
        return self._series(1, member)

    def matched(self, member: int = 0) -> MatchedGradient:
        """r* and floor of the data for a member."""
        if member not in self._matched:
            config = self.configs[member]
            self._matched[member] = matched_gradient(
                self.dataset, config.epsilon, config.data_epsilon
            )
        return self._matched[member]

    def _chain_spread(self, member: int) -> float:
        """Total variance of a member's chains over that of the noised data; NaN if that is 0."""
        noise = self.dimensions * self.configs[member].data_epsilon ** 2
        own, theirs = total_variance(self.states[member]), self._data_variance + noise
        return own / theirs if theirs > 0 else math.nan

    def result(self, member: int = 0) -> RunResult:
        """What a member has come to; ``stopped_early`` if updates are left."""
        config = self.configs[member]
        d, r, r_rms, restless = (self._series(which, member) for which in range(RECORDED))
        cause, divergence = self.vitals.report(member)
        if not cause and self.update < config.updates:
            cause = f"stopped after {self.update} of {config.updates} updates"
        return RunResult(
            config=config,
            energy=module_with(self.module, self.parameters, member),
            d=d,
            r=r,
            r_rms=r_rms,
            restlessness=restless,
            divergence=divergence,
            assessment=judge(
                config,
                d,
                r,
                self.dimensions,
                self.matched(member),
                divergence,
                r_rms,
                restless,
                self._chain_spread(member),
            ),
            status="stopped_early" if cause else "finished",
            cause=cause,
            chains=self.states[member].clone(),
            matched=self.matched(member),
            seconds=self.seconds / self.members,
            init_factor=float(self.init_factors[member]),
        )

    def results(self) -> list[RunResult]:
        """`result` of every member."""
        return [self.result(member) for member in range(self.members)]

    # -- checkpoints -----------------------------------------------------------------------------

    def state(self, member: int | None = None) -> dict[str, Any]:
        """All that a training needs to go on exactly, or all that one member needs to go on alone.

        Random numbers are functions of seed and update, so that the count of updates is all that
        there is to keep of them.
        """
        pick = slice(None) if member is None else slice(member, member + 1)
        return {
            "configs": snapshot.dumped(self.configs[pick]),
            "engine_path": self.engine.path,
            "update": self.update,
            "seconds": self.seconds / self.members * len(self.configs[pick]),
            "init_factors": snapshot.picked(self.init_factors, pick),
            "parameters": snapshot.picked(self.parameters, pick),
            "moments": snapshot.picked(self.moments, pick),
            "states": snapshot.picked(self.states, pick),
            "vitals": self.vitals.state(pick),
            "records": self.records[:, : self.update, pick].clone(),
            "look": snapshot.picked(self._looks.last, pick),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` gave.

        Raises:
            CheckpointError: If it belongs to other configurations or another network.
        """
        snapshot.refuse_foreign(state, self.configs, self.parameters)
        state = snapshot.moved(state, self.device)
        self.engine = make_engine(self.module, self.members, state["engine_path"])
        self.update, self.seconds = state["update"], state["seconds"]
        self.init_factors = state["init_factors"]
        self.parameters, self.moments = state["parameters"], state["moments"]
        self.states, self.records[:, : self.update] = state["states"], state["records"]
        self._looks.last = state["look"]
        self.vitals.load_state(state["vitals"])

    def save(self, path: str | Path, member: int | None = None) -> Path:
        """Writes a checkpoint of the pack, or of one member; see `state`."""
        return checkpoint.save(self.state(member), path)

    @classmethod
    def resume(
        cls,
        path: str | Path,
        energy: EnergySource | None = None,
        dataset: Dataset | None = None,
        device: str | None = None,
    ) -> Trainer:
        """A trainer that goes on from a checkpoint.

        Args:
            path: As written by `save`.
            energy: As in `Trainer`, if the training had one.
            dataset: As in `Trainer`, if the training had one.
            device: To go on elsewhere than where the training ran; bits may differ then.

        Raises:
            CheckpointError: If the file is unreadable or incomplete, or holds something else.
        """
        state = checkpoint.load(path, keys=STATE_KEYS)
        change = {} if device is None else {"device": device}
        state["configs"] = [{**values, **change} for values in state["configs"]]
        configs = [make_config(values, source=str(path)) for values in state["configs"]]
        trainer = cls(configs, energy, dataset, state["engine_path"])
        trainer.load_state(state)
        return trainer
