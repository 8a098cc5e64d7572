"""States of a trainer as trees of tensors: taken, put back, read; refused if foreign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ebm_core import checkpoint
from ebm_core.config import TrainConfig, make_config
from ebm_core.engine import Engine
from ebm_core.errors import CheckpointError
from ebm_core.fingerprint import difference
from ebm_core.restlessness import Looks
from ebm_core.vitals import Vitals

# What a state holds.
STATE_KEYS = (
    "configs",
    "data",
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
# Trees of tensors whose first axis is the member axis.
_BY_MEMBER = ("init_factors", "parameters", "moments", "states", "vitals", "look")


class Parts(Protocol):
    """What a trainer is made of, as far as it changes or says what may go on from its state."""

    configs: list[TrainConfig]
    device: torch.device
    module: nn.Module
    engine: Engine
    update: int
    seconds: float
    init_factors: Tensor
    parameters: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]]
    states: Tensor
    vitals: Vitals
    looks: Looks

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What tells its data from others, see `ebm_core.fingerprint`."""
        ...

    @property
    def records(self) -> Tensor:
        """What was recorded of every update, shape (series, updates, M)."""
        ...

    def engine_of(self, path: str) -> Engine:
        """The engine of a path that was chosen before."""
        ...


def taken(trainer: Parts, member: int | None = None) -> dict[str, Any]:
    """All that a training needs to go on exactly, or all that one member needs to go on alone.

    Random numbers are functions of seed and update, so that the count of updates is all that there
    is to keep of them. Which members are computed is a function of when others were stopped.
    """
    held = {
        "configs": dumped(trainer.configs),
        "data": trainer.fingerprint,
        "engine_path": trainer.engine.path,
        "update": trainer.update,
        "seconds": trainer.seconds,
        "init_factors": trainer.init_factors,
        "parameters": trainer.parameters,
        "moments": trainer.moments,
        "states": trainer.states,
        "vitals": trainer.vitals.state(slice(None)),
        "records": trainer.records[:, : trainer.update],
        "look": trainer.looks.last,
    }
    return part(held, range(len(trainer.configs)) if member is None else [member])


def part(state: Mapping[str, Any], members: Sequence[int]) -> dict[str, Any]:
    """The state of some members of a pack, for a trainer of these alone.

    The engine path stays, since every path runs any number of members: they go on as they would
    in the pack, but for rounding, which the number of members may change. In float64 that is
    1e-9 after 5 updates.

    Args:
        state: As `taken` gave it, or as read from a checkpoint; what else is in it is kept. It is
            not changed, and shares no tensor with the result.
        members: Their indices in the pack, in the order wanted.

    Returns:
        The same, with their part of all tensors, and of the seconds.

    Raises:
        ValueError: If these are not different members of the pack, at least one.
    """
    total, chosen = len(state["configs"]), list(members)
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(total)):
        raise ValueError(f"`members` must be different ones of 0 to {total - 1}, got {chosen}")
    return {
        **state,
        "configs": [state["configs"][member] for member in chosen],
        "seconds": state["seconds"] / total * len(chosen),
        "records": state["records"][:, :, chosen],
        **{key: picked(state[key], chosen) for key in _BY_MEMBER},
    }


def put_back(trainer: Parts, state: Mapping[str, Any]) -> None:
    """Makes a trainer go on from what `taken` gave.

    Raises:
        CheckpointError: If it belongs to other configurations, other data or another network.
    """
    refuse_foreign(state, trainer.configs, trainer.parameters)
    if told := difference(state["data"], trainer.fingerprint):
        raise CheckpointError(f"the checkpoint belongs to another data set: {told}")
    state = moved(state, trainer.device)
    trainer.engine = trainer.engine_of(state["engine_path"])
    trainer.update, trainer.seconds = state["update"], state["seconds"]
    trainer.init_factors = state["init_factors"]
    trainer.parameters, trainer.moments = state["parameters"], state["moments"]
    trainer.states, trainer.looks.last = state["states"], state["look"]
    trainer.vitals.load_state(state["vitals"])
    trainer.records.fill_(torch.nan)
    trainer.records[:, : trainer.update] = state["records"]


def read(path: str | Path, device: str | None = None) -> tuple[list[TrainConfig], dict[str, Any]]:
    """A state from a file, and the configurations of its members.

    Args:
        path: As written by `checkpoint.save`.
        device: To go on elsewhere than where the training ran.

    Raises:
        CheckpointError: If the file is unreadable or incomplete, or holds something else, and the
            one before it likewise.

    Warns:
        CheckpointWarning: If it is the one before it that can be read.
    """
    state, path = checkpoint.load_newest(path, keys=STATE_KEYS)
    change = {} if device is None else {"device": device}
    state["configs"] = [{**values, **change} for values in state["configs"]]
    return [make_config(values, source=str(path)) for values in state["configs"]], state


def picked(tree: Any, members: Sequence[int]) -> Any:
    """Copies of all tensors of a tree, for some members: their first axis is the member axis."""
    if isinstance(tree, Tensor):
        return tree[list(members)]
    return {key: picked(value, members) for key, value in tree.items()}


def moved(tree: Any, device: torch.device) -> Any:
    """A copy of a tree with all its tensors on a device."""
    if isinstance(tree, Tensor):
        return tree.to(device, copy=True)
    if isinstance(tree, dict):
        return {key: moved(value, device) for key, value in tree.items()}
    return tree


def dumped(configs: Sequence[TrainConfig]) -> list[dict[str, Any]]:
    """Configurations as a state keeps them."""
    return [config.model_dump(mode="json") for config in configs]


def refuse_foreign(
    state: Mapping[str, Any], configs: Sequence[TrainConfig], parameters: Mapping[str, Tensor]
) -> None:
    """Refuses a state that another training left.

    Raises:
        CheckpointError: Naming the first configuration field or the parameter shapes that differ.
    """
    # read anew: a state from before a field was added has it at its default
    wanted, found = dumped(configs), dumped([make_config(v) for v in state["configs"]])
    if found != wanted:
        difference = _difference(found, wanted)
        raise CheckpointError(f"the checkpoint belongs to other configurations: {difference}")
    theirs = {name: tuple(value.shape) for name, value in state["parameters"].items()}
    ours = {name: tuple(value.shape) for name, value in parameters.items()}
    if theirs != ours:
        raise CheckpointError(
            f"the checkpoint holds another network: parameters {theirs}, expected {ours}"
        )


def _difference(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> str:
    if len(found) != len(wanted):
        return f"{len(found)} members there, {len(wanted)} here"
    member, key = next(
        (member, key)
        for member, ours in enumerate(wanted)
        for key in {**found[member], **ours}
        if found[member].get(key) != ours.get(key)
    )
    there, here = found[member].get(key), wanted[member].get(key)
    return f"member {member} has {key}={there!r} there, {here!r} here"
