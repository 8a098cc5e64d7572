"""`TrainConfig`: everything one training depends on. Imports neither torch nor numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveInt,
    Tag,
    ValidationError,
    model_validator,
)

from ebm_core.errors import ConfigError, Problem, did_you_mean

IMAGE_SIZES = {"vanilla": (8, 16, 32, 64), "nonlocal": tuple(range(8, 65, 8))}

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


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Band(_Frozen):
    """Where the mean gradient magnitude of convergent learning is expected.

    Attributes:
        low: Lower end.
        high: Upper end.
        unit: ``matched``: r / r*, r* being what the score of the data demands; ``scaled``:
            r / (epsilon sqrt(N)); ``absolute``: r itself, in units of x.
    """

    low: float = Field(0.75, ge=0)
    high: float = Field(1.4, gt=0)
    unit: Literal["matched", "scaled", "absolute"] = "matched"

    @model_validator(mode="after")
    def _ordered(self) -> Band:
        if self.low >= self.high:
            raise ConfigError(
                [Problem("low", f"`low < high` must hold, got high={self.high!r}", self.low)]
            )
        return self


class GmmData(_Frozen):
    """Gaussians of equal weight on a circle in the plane; fresh samples at every draw."""

    name: Literal["gmm"] = "gmm"
    modes: PositiveInt = 8
    radius: float = Field(1.0, ge=0)
    sd: float = Field(0.15, gt=0)

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)


class RingsData(_Frozen):
    """Concentric circles of radius 1, 2, ... blurred by a Gaussian; fresh samples at every draw."""

    name: Literal["rings"] = "rings"
    rings: PositiveInt = 4
    sd: float = Field(0.15, gt=0)

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)


class DigitsData(_Frozen):
    """The 1,797 handwritten 8x8 digits that scikit-learn carries, scaled to [-1, 1]."""

    name: Literal["digits"] = "digits"
    size: Annotated[int, Field(ge=4, le=64)] = 8

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, self.size, self.size)


class ArrayData(_Frozen):
    """An array of shape (n, *shape) in an npy, npz or pt file; values are used as they are."""

    name: Literal["array"] = "array"
    path: str
    key: str | None = None

    @property
    def shape(self) -> None:
        return None  # known once the file is read


class ImageFolderData(_Frozen):
    """Every image below a folder, resized and centre-cropped to a square, scaled to [-1, 1]."""

    name: Literal["image_folder"] = "image_folder"
    path: str
    size: Annotated[int, Field(ge=4, le=256)] = 32
    channels: Literal[1, 3] = 3

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.size, self.size)


Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class ToyNetwork(_Frozen):
    """Leaky-ReLU perceptron 2-32-64-64-64-1 for data in the plane."""

    name: Literal["toy"] = "toy"
    widths: Widths = (32, 64, 64, 64)
    slope: float = Field(0.05, ge=0, lt=1)


class MlpNetwork(_Frozen):
    """Leaky-ReLU perceptron on flattened data of any shape."""

    name: Literal["mlp"] = "mlp"
    widths: Widths = (96, 96)
    slope: float = Field(0.05, ge=0, lt=1)


class VanillaNetwork(_Frozen):
    """Plain convolutional network: 3x3, then 4x4 at stride 2 down to 4x4, then one number."""

    name: Literal["vanilla"] = "vanilla"
    width: PositiveInt = 32
    slope: float = Field(0.05, ge=0, lt=1)


class NonlocalNetwork(_Frozen):
    """Convolution, max-pool, three times, with non-local blocks before the second and third."""

    name: Literal["nonlocal"] = "nonlocal"
    widths: Annotated[tuple[PositiveInt, PositiveInt, PositiveInt], Field()] = (32, 64, 128)
    slope: float = Field(0.05, ge=0, lt=1)


class CustomNetwork(_Frozen):
    """A user's own module: ``package.module:attribute``, called with `arguments` to build it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    arguments: dict[str, Any] = {}


DATA_KINDS = {
    kind.model_fields["name"].default: kind
    for kind in (GmmData, RingsData, DigitsData, ArrayData, ImageFolderData)
}
NETWORK_KINDS = {
    kind.model_fields["name"].default: kind
    for kind in (ToyNetwork, MlpNetwork, VanillaNetwork, NonlocalNetwork)
}


def _from_word(value: Any) -> Any:
    """``data: digits`` is short for ``data: {name: digits}``."""
    return {"name": value} if isinstance(value, str) else value


def _kind(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    if isinstance(name, str) and ":" in name:
        return "custom"
    return name if isinstance(name, str) else None


DataConfig = Annotated[
    Annotated[GmmData, Tag("gmm")]
    | Annotated[RingsData, Tag("rings")]
    | Annotated[DigitsData, Tag("digits")]
    | Annotated[ArrayData, Tag("array")]
    | Annotated[ImageFolderData, Tag("image_folder")],
    Discriminator(_kind),
    BeforeValidator(_from_word),
]
NetworkConfig = Annotated[
    Annotated[ToyNetwork, Tag("toy")]
    | Annotated[MlpNetwork, Tag("mlp")]
    | Annotated[VanillaNetwork, Tag("vanilla")]
    | Annotated[NonlocalNetwork, Tag("nonlocal")]
    | Annotated[CustomNetwork, Tag("custom")],
    Discriminator(_kind),
    BeforeValidator(_from_word),
]


class TrainConfig(_Frozen):
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
        langevin_steps: L, Langevin steps for every parameter update.
        chain_start: Where chains start: ``persistent`` bank, ``data``, ``uniform``, ``gaussian``.
        bank_size: States of the persistent bank.
        bank_start: What the bank holds at first, and what reinitialized states are drawn from.
        start_scale: Half width of uniform and sd of Gaussian starts, units of x.
        reinit_share: Probability that a state drawn from the bank is started anew.
        batch_size: Positive samples, and chains, of one update.
        updates: Parameter updates of the whole training.
        seed: Source of every random number of this training.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:K``.
        precision: Arithmetic of the training.
        init_scale: Factor on F at initialization, applied to the last layer (appendix A).
        band: Where r is expected at convergence.
        window: Updates at the end of the training that are assessed.
        checkpoint_interval: Updates between checkpoints.
        report_interval: Updates between calls of the progress callback.
    """

    data: DataConfig
    network: NetworkConfig
    epsilon: float = Field(gt=0)
    eps_data_ratio: float = Field(2.0, ge=0)
    gamma_0: float = Field(0.0005, ge=0)
    gamma_start: float | None = Field(None, gt=0)
    gamma_start_ratio: float | None = Field(None, ge=1)
    anneal_updates: int = Field(0, ge=0)
    optimizer: Literal["sgd", "adam"] = "sgd"
    langevin_steps: PositiveInt = 100
    chain_start: Literal["persistent", "data", "uniform", "gaussian"] = "persistent"
    bank_size: PositiveInt = 10_000
    bank_start: Literal["uniform", "gaussian", "data"] = "uniform"
    start_scale: float = Field(1.0, gt=0)
    reinit_share: float = Field(0.0, ge=0, le=1)
    batch_size: PositiveInt = 100
    updates: PositiveInt = 10_000
    seed: int = Field(0, ge=0, lt=2**31)
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    precision: Literal["float32", "float64"] = "float32"
    init_scale: float = Field(1.0, gt=0)
    band: Band = Band()
    window: Annotated[int, Field(ge=20)] = 2_000
    checkpoint_interval: PositiveInt = 1_000
    report_interval: PositiveInt = 100

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        problems = list(_cross_field_problems(self))
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
        """A copy with some fields changed, validated anew.

        Raises:
            ConfigError: If the changed configuration breaks a rule.
        """
        return make_config({**self.model_dump(mode="json"), **changes})


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


def _cross_field_problems(config: TrainConfig) -> list[Problem]:
    problems = []
    if config.gamma_start is not None and config.gamma_start_ratio is not None:
        problems.append(
            Problem(
                "gamma_start_ratio",
                "give `gamma_start` or `gamma_start_ratio`, not both",
                config.gamma_start_ratio,
            )
        )
    if config.eps_data_ratio == 0 and config.data.name not in ("gmm", "rings"):
        problems.append(
            Problem(
                "eps_data_ratio",
                "must be over 0 for a finite data set, whose law has no density without noise",
                config.eps_data_ratio,
            )
        )
    if config.anneal_updates + config.window > config.updates:
        problems.append(
            Problem(
                "anneal_updates",
                "`anneal_updates + window <= updates` must hold "
                f"(window={config.window}, updates={config.updates})",
                config.anneal_updates,
            )
        )
    if config.chain_start == "persistent" and config.bank_size < config.batch_size:
        problems.append(
            Problem(
                "bank_size",
                f"must be at least batch_size ({config.batch_size}), "
                "since a batch is drawn without replacement",
                config.bank_size,
            )
        )
    if config.data.shape is not None:
        problems += network_problems(config.network, config.data.shape)
    return problems


def file_problems(config: TrainConfig) -> list[Problem]:
    """What a configuration needs from the disk and does not find there."""
    path = getattr(config.data, "path", None)
    if path is not None and not Path(path).expanduser().exists():
        return [Problem("data.path", "no such file or folder", path)]
    return []


def network_problems(network: Any, shape: tuple[int, ...]) -> list[Problem]:
    """Why a network cannot take samples of this shape; empty where it can."""
    sizes = IMAGE_SIZES.get(network.name)
    if network.name == "toy" and shape != (2,):
        return [Problem("network", f"toy takes data of shape (2,), not {shape}; use mlp", "toy")]
    if sizes is None:
        return []
    if len(shape) != 3:
        return [Problem("network", f"takes images, but a sample has shape {shape}", network.name)]
    if shape[1] != shape[2] or shape[1] not in sizes:
        allowed = ", ".join(map(str, sizes))
        return [
            Problem(
                "data.size",
                f"{network.name} takes square images of {allowed} pixels",
                "x".join(map(str, shape[1:])),
            )
        ]
    return []


def pack_problems(configs: Sequence[TrainConfig]) -> list[Problem]:
    """Why these configurations cannot be trained as one pack; empty where they can."""
    problems = []
    first = configs[0].model_dump()
    for index, config in enumerate(configs[1:], start=1):
        for key, value in config.model_dump().items():
            if key not in MEMBER_FIELDS and value != first[key]:
                rule = f"must equal that of member 0 ({first[key]!r}) in one pack"
                problems.append(Problem(f"members.{index}.{key}", rule, value))
    return problems


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
        raise ConfigError(problems_of(error, TrainConfig), source) from None


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """pydantic's findings as `Problem`s, with a did-you-mean for unknown keys.

    Args:
        error: What pydantic raised.
        model: The model that was validated, for the names it knows.
    """
    problems: list[Problem] = []
    for item in error.errors():
        tags = {*DATA_KINDS, *NETWORK_KINDS, "custom"}
        path = [str(part) for part in item["loc"]]
        # pydantic puts the tag of a union member into the path; the user never wrote it
        path = [p for i, p in enumerate(path) if not (p in tags and i and path[i - 1] in _TAGGED)]
        key = ".".join(path)
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):
            problems += [problem.under(key) for problem in cause.problems]
        elif item["type"] == "extra_forbidden":
            known = _known_names(model, path[:-1], item)
            problems.append(
                Problem(key, f"unknown key{did_you_mean(path[-1], known)}", item["input"])
            )
        elif item["type"] in ("union_tag_invalid", "union_tag_not_found"):
            kinds = DATA_KINDS if path[-1] == "data" else NETWORK_KINDS
            name = item["input"].get("name") if isinstance(item["input"], dict) else item["input"]
            rule = f"must be one of {', '.join(kinds)}{did_you_mean(str(name), list(kinds))}"
            problems.append(Problem(f"{key}.name", rule, name))
        elif item["type"] == "missing":
            problems.append(Problem(key, "required, but not given"))
        else:
            message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            word = "must be " if message != item["msg"] and item["type"] != "value_error" else ""
            problems.append(Problem(key, f"{word}{message}", item["input"]))
    return problems


_TAGGED = ("data", "network")


def _known_names(model: type[BaseModel], path: Sequence[str], item: Any) -> list[str]:
    """The keys that are legal at a path, as far as the models tell."""
    for kinds in (DATA_KINDS, NETWORK_KINDS):
        for part in item["loc"]:
            if part in kinds and len(path) and path[-1] in _TAGGED:
                return list(kinds[part].model_fields)
    fields: Any = model.model_fields
    for part in path:
        annotation = fields[part].annotation if part in fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        fields = annotation.model_fields
    return list(fields)
