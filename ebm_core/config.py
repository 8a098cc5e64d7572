"""`TrainConfig`: everything one training depends on. Imports neither torch nor numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from ebm_core.config_rules import RULES
from ebm_core.errors import ConfigError, Problem
from ebm_core.sections import (
    DATA_KINDS,
    LARGEST,
    NETWORK_KINDS,
    Band,
    Count,
    DataConfig,
    NetworkConfig,
    Section,
    network_problems,
)
from ebm_core.validation import problems_of

__all__ = [
    "DATA_KINDS",
    "MEMBER_FIELDS",
    "NETWORK_KINDS",
    "Band",
    "TrainConfig",
    "file_problems",
    "flatten",
    "make_config",
    "network_problems",
    "override",
    "pack_problems",
    "problems_of",
]

# What may differ between the members of one pack: none of these changes a tensor shape.
MEMBER_FIELDS = frozenset(
    {
        "epsilon",
        "eps_data_ratio",
        "gamma_0",
        "gamma_start",
        "gamma_start_ratio",
        "anneal_updates",
        "init_scale",
        "seed",
        "band",
    }
)


def _factor_or_auto(value: Any) -> Any:
    """One message for both forms, where a union would give one for each."""
    if value == "auto":
        return value
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError("must be a number greater than 0, or auto")
    return number


InitScale = Annotated[float | Literal["auto"], BeforeValidator(_factor_or_auto)]


class TrainConfig(Section):
    """One training of one energy-based model; immutable.

    Attributes:
        data: The data set, by name or with its options.
        network: The network F, by name or with its options.
        epsilon: sd of the Langevin noise, units of x; the temperature is epsilon**2 / 2.
        eps_data_ratio: sd of the noise put on every positive sample, in units of epsilon (5A).
            0 is legal only where the data law is known in closed form.
        gamma_0: Final learning rate (3A); with Adam its own, unscaled rate. 0 means no learning.
        gamma_start: Learning rate of the first update; at or below gamma_0 there is no annealing.
        gamma_start_ratio: The same, as a multiple of gamma_0; exclusive with gamma_start.
        anneal_updates: Updates over which the rate falls geometrically to gamma_0.
        optimizer: ``sgd`` (4A) or ``adam``.
        clip_gradient: Largest norm of the gradient of mean F(data) - mean F(chains) over all
            parameters; a longer one is shortened to it. None for any.
        langevin_steps: L, Langevin steps for every parameter update.
        chain_start: Where chains start: ``persistent`` bank, ``data``, ``uniform``, ``gaussian``.
        bank_size: States of the persistent bank.
        bank_start: What the bank holds at first, and what reinitialized states are drawn from.
        start_scale: Half width of uniform and sd of Gaussian starts, units of x; up to 1e6.
        reinit_share: Probability that a state drawn from the bank is started anew.
        batch_size: Positive samples, and chains, of one update.
        updates: Parameter updates of the whole training.
        seed: Source of every random number of this training.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:K``.
        precision: Arithmetic of the training; with ``tf32`` (on a GPU) and ``bfloat16`` that of
            the gradients along the Langevin path, all else staying float32.
        init_scale: Factor on F at initialization, applied to the last layer (appendix A). ``auto``
            for the power of two that brings r of the first update between a tenth of the low end
            of the band and its high end.
        band: Where r is expected at convergence.
        window: Updates at the end of the training that are assessed.
        checkpoint_interval: Updates between checkpoints.
        report_interval: Updates between calls of the progress callback.
    """

    data: DataConfig
    network: NetworkConfig
    epsilon: float = Field(gt=0)
    eps_data_ratio: float = Field(default=2.0, ge=0)
    gamma_0: float = Field(default=0.0005, ge=0)
    gamma_start: float | None = Field(default=None, gt=0)
    gamma_start_ratio: float | None = Field(default=None, ge=1)
    anneal_updates: int = Field(default=0, ge=0, le=LARGEST)
    optimizer: Literal["sgd", "adam"] = "sgd"
    clip_gradient: float | None = Field(default=None, gt=0)
    langevin_steps: Count = 100
    chain_start: Literal["persistent", "data", "uniform", "gaussian"] = "persistent"
    bank_size: Count = 10_000
    bank_start: Literal["uniform", "gaussian", "data"] = "uniform"
    start_scale: float = Field(default=1.0, gt=0, le=1e6)
    reinit_share: float = Field(default=0.0, ge=0, le=1)
    batch_size: Count = 100
    updates: Count = 10_000
    seed: int = Field(default=0, ge=0, lt=2**31)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$")
    precision: Literal["float32", "float64", "tf32", "bfloat16"] = "float32"
    init_scale: InitScale = 1.0
    band: Band = Band()
    window: int = Field(default=2_000, ge=20, le=LARGEST)
    checkpoint_interval: Count = 1_000
    report_interval: Count = 100

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> TrainConfig:
        wrong = (info.context or {}).get("wrong", frozenset())
        problems = [
            problem for fields, rule in RULES if wrong.isdisjoint(fields) for problem in rule(self)
        ]
        if problems:
            raise ConfigError(problems)
        return self

    @property
    def data_epsilon(self) -> float:
        """sd of the noise on positive samples, units of x (5A)."""
        return self.epsilon * self.eps_data_ratio

    @property
    def temperature(self) -> float:
        """T = epsilon**2 / 2."""
        return self.epsilon**2 / 2

    @property
    def start_rate(self) -> float:
        """Learning rate of the first update; equals gamma_0 where nothing is annealed."""
        if self.anneal_updates == 0:
            return self.gamma_0
        if self.gamma_start_ratio is not None:
            return self.gamma_0 * self.gamma_start_ratio
        return max(self.gamma_start or 0.0, self.gamma_0)

    @property
    def annealing_active(self) -> bool:
        return self.start_rate > self.gamma_0

    @property
    def constant_from(self) -> int:
        """First update at which the learning rate no longer changes."""
        return self.anneal_updates if self.annealing_active else 0

    @property
    def burn_in_updates(self) -> int:
        """Updates until every bank state was moved five times on average; 0 without a bank."""
        if self.chain_start != "persistent":
            return 0
        return math.ceil(5 * self.bank_size / self.batch_size)

    def flat(self) -> dict[str, Any]:
        """Every field under a dotted name, nested ones included; values are plain."""
        return flatten(self.model_dump(mode="json"))

    def with_(self, **changes: Any) -> TrainConfig:
        """A copy with some fields changed as by `override`, validated anew.

        Raises:
            ConfigError: If the changed configuration breaks a rule.
        """
        return make_config(override(self.model_dump(mode="json"), changes))


def make_config(values: Mapping[str, Any], source: str = "") -> TrainConfig:
    """A `TrainConfig` from plain values.

    Args:
        values: Field names to values, as read from YAML or JSON.
        source: What to call the document in the message.

    Raises:
        ConfigError: With every problem found, each with key, rule and value.
    """
    try:
        return TrainConfig.model_validate(dict(values))
    except ValidationError as error:
        problems = problems_of(error, TrainConfig)
        if any(item["loc"] for item in error.errors()):
            problems += _broken_rules(values, problems)
        raise ConfigError(problems, source) from None


def _broken_rules(values: Mapping[str, Any], problems: Sequence[Problem]) -> list[Problem]:
    """Rules between the fields that are right: pydantic looks at none where one field is wrong."""
    wrong = frozenset(problem.key.partition(".")[0] for problem in problems)
    right = {k: v for k, v in values.items() if k in TrainConfig.model_fields and k not in wrong}
    stand_ins = {"data": "gmm", "network": "toy", "epsilon": 1.0}
    try:
        TrainConfig.model_validate({**stand_ins, **right}, context={"wrong": wrong})
    except ValidationError as error:
        return problems_of(error, TrainConfig)
    return []


def override(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Raw values with some replaced; a rate at the start in one form drops that in the other.

    Args:
        values: Field names to values.
        changes: What replaces them. If it has ``gamma_start`` or ``gamma_start_ratio``, neither is
            taken from `values`.
    """
    rates = {"gamma_start", "gamma_start_ratio"}
    dropped = rates if rates & changes.keys() else set()
    return {**{k: v for k, v in values.items() if k not in dropped}, **changes}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings to one level with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def file_problems(config: TrainConfig) -> list[Problem]:
    """What a configuration needs from the disk and does not find there."""
    path = getattr(config.data, "path", None)
    if path is None:
        return []
    try:
        found = Path(path).expanduser()
        if not found.exists():
            return [Problem("data.path", "no such file or folder", path)]
    except (OSError, RuntimeError) as error:
        # A name that is too long, a folder that is locked, the home of nobody
        reason = getattr(error, "strerror", None) or error
        return [Problem("data.path", f"must be a path that can be read ({reason})", path)]
    if config.data.name == "image_folder" and not found.is_dir():
        return [Problem("data.path", "must be a folder", path)]
    if config.data.name == "array" and not found.is_file():
        return [Problem("data.path", "must be a file", path)]
    return []


def pack_problems(configs: Sequence[TrainConfig]) -> list[Problem]:
    """Why these configurations cannot be trained as one pack; empty where they can."""
    if not configs:
        return [Problem("members", "a pack needs at least one member", [])]
    problems = []
    first = configs[0].model_dump(mode="json")
    for index, config in enumerate(configs[1:], start=1):
        for key, value in config.model_dump(mode="json").items():
            if key not in MEMBER_FIELDS and value != first[key]:
                rule = f"must equal that of member 0 ({first[key]!r}) in one pack"
                problems.append(Problem(f"members.{index}.{key}", rule, value))
    return problems
