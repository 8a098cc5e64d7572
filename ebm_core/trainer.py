"""The trainer: the one object here that changes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ebm_core import checkpoint, objective, snapshot
from ebm_core.compaction import Rows, chosen, computed_members
from ebm_core.config import TrainConfig, file_problems, pack_problems
from ebm_core.data import Dataset, load_data
from ebm_core.device import check_precision, resolve_device
from ebm_core.draws import draw_update, initial_states, put_back
from ebm_core.energies import scale_output
from ebm_core.engine import (
    Engine,
    arithmetic,
    choose_engine,
    make_engine,
    module_with,
    stack_parameters,
    state_dtype,
)
from ebm_core.errors import ConfigError
from ebm_core.fingerprint import fingerprint
from ebm_core.initialization import EnergySource, initial_factor, initial_module
from ebm_core.learning import Moments, Rates, difference, learn, limited
from ebm_core.mapped import stacked
from ebm_core.matched import MatchedGradient, matched_gradient
from ebm_core.randomness import Stream, generator
from ebm_core.records import NAMES, Records
from ebm_core.restlessness import Looks
from ebm_core.result import RunResult, Series, judge
from ebm_core.snapshot import STATE_KEYS
from ebm_core.spread import DataSpread
from ebm_core.verdict import collapse_update
from ebm_core.vitals import Vitals, limits_of

__all__ = ["STATE_KEYS", "EnergySource", "Trainer"]

# A collapse is looked for at multiples of this many updates.
COLLAPSE_INTERVAL = 100
# On an accelerator a look waits for the device, and another number of members is another program,
# to be captured or compiled anew: there it is looked with the collapses who still lives, and those
# stopped are left out where half of the work is saved. On a CPU steps that are made eagerly cost
# nothing more.
LEAST_SHARE = 0.5


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
        check_precision(self.config.precision, self.device)
        self.dtype = state_dtype(self.config.precision)
        self.dataset = (dataset or load_data(self.config.data)).to(self.device)
        self.dimensions = math.prod(self.dataset.shape)
        self.update = 0
        self.seconds = 0.0
        self._set_constants()
        self._matched: dict[int, MatchedGradient] = {}
        self.looks = Looks()
        like = torch.empty(0, dtype=self.dtype, device=self.device)
        banks = (initial_states(c, self.dataset, like) for c in self.configs)
        self.states = stacked(banks, self.members)
        modules = [initial_module(c, energy, self.dataset.shape, like) for c in self.configs]
        self.init_factors = self._scale(modules)
        self.module = modules[0]
        self.parameters = stack_parameters(modules)
        adam = self.config.optimizer == "adam"
        self.moments: Moments = objective.adam_state(self.parameters) if adam else {}
        self.engine = self.engine_of(engine_path) if engine_path else self._choose_engine()
        clipping = self.config.clip_gradient is not None
        self._recorded = Records(self.config.updates, self.members, like, clipping)
        self._compact()

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

    def _set_constants(self) -> None:
        epsilon = [c.epsilon for c in self.configs]
        self.epsilon = torch.tensor(epsilon, dtype=self.dtype, device=self.device)
        self._rates = Rates(self.configs, self.device)
        rng = generator(0, Stream.EVALUATION, 0, self.device)
        extent = float(self.dataset.draw(256, rng).abs().max())
        self._spread = DataSpread(self.dataset, rng)
        limits = limits_of(max(extent, self.config.start_scale), self.dimensions)
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

    def engine_of(self, path: str) -> Engine:
        """The engine of a path that was chosen before."""
        return make_engine(self.module, self.members, path, self.config.precision)

    def _choose_engine(self) -> Engine:
        config, chains = self.config, self.states[:, : self.config.batch_size]
        steps = config.updates * config.langevin_steps
        return choose_engine(self.module, self.parameters, chains, steps, config.precision)

    # -- training --------------------------------------------------------------------------------

    def learning_rates(self, updates: Tensor | int) -> Tensor:
        """gamma_0(t) of every member at some updates: shape (M,), or (t, M) for shape (t, 1)."""
        return self._rates.at(updates)

    def run(self, updates: int) -> None:
        """Makes up to this many updates; stops before where no member is left."""
        started = time.perf_counter()
        last = min(self.update + updates, self.config.updates)
        with arithmetic("float32", self.device):
            while self.update < last and self._rows.members:
                compact = self._one_update()
                if self.update % COLLAPSE_INTERVAL == 0:
                    self._stop_collapsed()
                    compact = True
                if compact:
                    self._compact()
        self.seconds += time.perf_counter() - started

    @property
    def _on_cpu(self) -> bool:
        return self.device.type == "cpu"

    def _compact(self) -> None:
        """Finds the members that the next update computes: nobody waits for those stopped."""
        cheap = self._on_cpu and not self.engine.fixed_shapes
        rule = (1, 1.0) if cheap else (COLLAPSE_INTERVAL, LEAST_SHARE)
        members = computed_members(self.vitals.stopped_at.tolist(), self.update, *rule)
        self._rows = Rows(members, self.members, self.device)

    def _one_update(self) -> bool:
        """Whether it is known that a member was stopped: without waiting, on a CPU alone."""
        rows = self._rows
        draws = [
            draw_update(self.configs[member], self.dataset, self.states[member], self.update)
            for member in rows.members
        ]
        positive = torch.stack([draw.positive for draw in draws])
        start = torch.stack([draw.start for draw in draws])
        parameters, moments = rows.of(self.parameters), rows.of(self.moments)
        epsilon = rows.of(self.epsilon)
        noise, steps = [draw.noise for draw in draws], self.config.langevin_steps
        negative, path = self.engine.short_run(parameters, start, epsilon, noise, steps)
        d, gradients, energies = difference(self.engine, parameters, positive, negative, epsilon)
        gradients, clipped = limited(gradients, self.config.clip_gradient)
        rate = rows.of(self._rates.during(self.update)).to(self.dtype)
        with torch.no_grad():
            learned = learn(parameters, moments, gradients, rate, epsilon, self.update + 1)
            r = path.gradient_magnitude.mean(1)
            r_rms = path.squared_gradient.mean(1).sqrt()
            energy = partial(self.engine.energy, parameters)
            restless = self.looks.look(self.update, negative, energies, energy, rows)
            found = {"d": d, "r": r, "r_rms": r_rms, "restlessness": restless, **clipped}
            self._recorded.write(self.update, rows, rows.of(self.alive), found)
            self.vitals.examine(self.update, d, r, start, negative, learned[0], rows)
            living: Tensor = rows.of(self.alive)
            lost = self._on_cpu and not bool(living.all())
            # to choose takes copies, and is needed where somebody was lost or nobody looks
            alive = living if lost or not self._on_cpu else None
            self.parameters = rows.put(self.parameters, chosen(alive, learned[0], parameters))
            self.moments = rows.put(self.moments, chosen(alive, learned[1], moments))
            self.states = put_back(self.states, negative, draws, rows, alive)
        self.update += 1
        return lost

    def _stop_collapsed(self) -> None:
        for member in torch.nonzero(self.alive).flatten().tolist():
            since = self.update - COLLAPSE_INTERVAL
            seen = collapse_update(self.d(member), self.dimensions, since=since)
            if seen is not None:
                self.vitals.collapse(member, seen)

    # -- what is known so far --------------------------------------------------------------------

    @property
    def records(self) -> Tensor:
        """What was recorded of every update, see `records.Records.values`."""
        return self._recorded.values

    def _series(self, name: str, member: int) -> Series:
        made = self.vitals.updates_made(member, self.update)
        return self._recorded.series(name, member, made)

    def d(self, member: int = 0) -> Series:
        """Energy differences of a member so far, nats, one an update."""
        return self._series("d", member)

    def r(self, member: int = 0) -> Series:
        """Gradient magnitudes of a member so far, units of x, one an update."""
        return self._series("r", member)

    def matched(self, member: int = 0) -> MatchedGradient:
        """r* and floor of the data for a member."""
        if member not in self._matched:
            config = self.configs[member]
            self._matched[member] = matched_gradient(
                self.dataset, config.epsilon, config.data_epsilon
            )
        return self._matched[member]

    def result(self, member: int = 0) -> RunResult:
        """What a member has come to; ``stopped_early`` if updates are left."""
        config = self.configs[member]
        series = {name: self._series(name, member) for name in NAMES}
        cause, divergence = self.vitals.report(member)
        if not cause and self.update < config.updates:
            cause = f"stopped after {self.update} of {config.updates} updates"
        return RunResult(
            config=config,
            energy=module_with(self.module, self.parameters, member),
            **series,
            divergence=divergence,
            assessment=judge(
                config,
                dimensions=self.dimensions,
                matched=self.matched(member),
                divergence=divergence,
                chain_spread=self._spread.ratio(self.states[member], config.data_epsilon),
                **series,
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
        """All that a training, or one of its members alone, needs to go on; see `snapshot`."""
        return snapshot.taken(self, member)

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` gave.

        Raises:
            CheckpointError: If it belongs to other configurations, other data or another network.
        """
        snapshot.put_back(self, state)
        self._compact()

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What tells the data from others."""
        return fingerprint(self.dataset)

    def save(
        self, path: str | Path, member: int | None = None, keep_previous: bool = False
    ) -> Path:
        """Writes a checkpoint of the pack, or of one member; see `state` and `checkpoint.save`."""
        return checkpoint.save(self.state(member), path, keep_previous)

    @classmethod
    def resume(
        cls,
        path: str | Path,
        energy: EnergySource | None = None,
        dataset: Dataset | None = None,
        device: str | None = None,
    ) -> Trainer:
        """A trainer that goes on from a checkpoint, or the one before if this one is damaged.

        Args:
            path: As written by `save`.
            energy: As in `Trainer`, if the training had one.
            dataset: As in `Trainer`, if the training had one.
            device: To go on elsewhere than where the training ran; bits may differ then.

        Raises:
            CheckpointError: If the file is unreadable or incomplete, or holds something else, and
                the one before it likewise; if it belongs to other data or another network.

        Warns:
            CheckpointWarning: If it is the one before.
        """
        configs, state = snapshot.read(path, device)
        trainer = cls(configs, energy, dataset, state["engine_path"])
        trainer.load_state(state)
        return trainer
