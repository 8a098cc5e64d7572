"""States of a trainer as trees of tensors: moved, thinned to one member, refused if foreign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ebm_core.config import TrainConfig
from ebm_core.errors import CheckpointError


def picked(tree: Any, members: slice) -> Any:
    """Copies of all tensors of a tree, for some members: their first axis is the member axis."""
    if isinstance(tree, Tensor):
        return tree[members].clone()
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
    wanted = dumped(configs)
    if state["configs"] != wanted:
        difference = _difference(state["configs"], wanted)
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
