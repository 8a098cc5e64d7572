"""States of some members of a pack: what is in them, and that the members go on as in the pack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm_core import checkpoint, snapshot
from ebm_core.config import TrainConfig, make_config
from ebm_core.errors import CheckpointError
from ebm_core.trainer import STATE_KEYS, Trainer

TINY = make_config(
    {
        "data": "gmm",
        "network": {"name": "toy", "widths": [16, 16]},
        "epsilon": 0.1,
        "eps_data_ratio": 1.0,
        "gamma_0": 0.02,
        "gamma_start": 0.05,
        "anneal_updates": 20,
        "langevin_steps": 6,
        "batch_size": 12,
        "bank_size": 30,
        "updates": 60,
        "window": 20,
        "precision": "float64",
        "device": "cpu",
    }
)
IMAGES = TINY.with_(data="digits", network={"name": "vanilla", "width": 4}, epsilon=0.08)
# past two looks at the energies, so that there is one to be compared with
UPDATES = 27
PATHS = pytest.mark.parametrize(
    ("base", "path"),
    [
        (TINY, "closed_form"),
        (TINY.with_(optimizer="adam", gamma_0=0.001, gamma_start=None), "reference"),
        (IMAGES, "loop"),
        (IMAGES, "vmap"),
    ],
    ids=["closed_form", "adam", "loop", "vmap"],
)


def pack(base: TrainConfig = TINY, members: int = 4) -> list[TrainConfig]:
    return [base.with_(seed=3 + m, epsilon=0.05 * (m + 1)) for m in range(members)]


def gone_on(state: dict[str, Any], configs: Sequence[TrainConfig]) -> Trainer:
    trainer = Trainer(configs, engine_path=state["engine_path"])
    trainer.load_state(state)
    return trainer


def leaves(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from leaves(value)


def apart(whole: Trainer, member: int, other: Trainer, place: int) -> float:
    """The largest relative difference of a member's series, weights and chains."""
    pairs = [
        (whole.records[:, : whole.update, member], other.records[:, : other.update, place]),
        (whole.states[member], other.states[place]),
        *(
            (value[member], other.parameters[name][place])
            for name, value in whole.parameters.items()
        ),
    ]
    assert all(torch.equal(a.isnan(), b.isnan()) for a, b in pairs)
    return max(float((a - b).nan_to_num().norm() / a.nan_to_num().norm()) for a, b in pairs)


@PATHS
def test_halves_and_halves_of_these_go_on_as_in_the_pack(base: TrainConfig, path: str) -> None:
    configs = pack(base)
    whole = Trainer(configs, engine_path=path)
    whole.run(UPDATES - 3)
    begun = whole.state()
    whole.run(5)
    halves = [
        gone_on(snapshot.part(begun, half), [configs[m] for m in half])
        for half in ([0, 1], [2, 3])
    ]
    for number, half in enumerate(halves):
        # two updates as a half, three more as one alone
        half.run(2)
        state = half.state()
        half.run(3)
        for place in range(2):
            member = 2 * number + place
            alone = gone_on(snapshot.part(state, [place]), [configs[member]])
            assert (alone.update, alone.engine.path) == (UPDATES - 1, path)
            alone.run(3)
            assert apart(whole, member, half, place) < 1e-9
            assert apart(whole, member, alone, 0) < 1e-9
            # another member would be found out
            assert apart(whole, 3 - member, alone, 0) > 1e-3


def test_what_is_in_a_part() -> None:
    configs = pack()
    trainer = Trainer(configs)
    trainer.run(UPDATES)
    trainer.seconds = 8.0
    state = {**trainer.state(), "threads": 1}
    found = snapshot.part(state, [3, 1, 0])
    assert set(found) == {*STATE_KEYS, "threads"}
    assert found["configs"] == [state["configs"][m] for m in (3, 1, 0)]
    assert found["seconds"] == 6.0
    for key in ("update", "data", "engine_path", "threads"):
        assert found[key] == state[key]
    for key in ("init_factors", "parameters", "moments", "states", "vitals", "look"):
        for whole, some in zip(leaves(state[key]), leaves(found[key]), strict=True):
            assert torch.equal(some, whole[[3, 1, 0]])
    assert state["look"]
    torch.testing.assert_close(
        found["records"], state["records"][:, :, [3, 1, 0]], rtol=0, atol=0, equal_nan=True
    )
    assert len(
        {value.untyped_storage().data_ptr() for value in (*leaves(found), *leaves(state))}
    ) == (len([*leaves(found), *leaves(state)]))


def test_a_part_is_what_a_trainer_gives_of_a_member(tmp_path: Path) -> None:
    trainer = Trainer(pack())
    trainer.run(UPDATES)
    path = trainer.save(tmp_path / "member.pt", member=2)
    some = snapshot.part(trainer.state(), [2])
    assert checkpoint.digest(checkpoint.load(path)) == checkpoint.digest(some)
    everyone = snapshot.part(trainer.state(), range(4))
    assert checkpoint.digest(everyone) == checkpoint.digest(trainer.state())


def test_the_parts_of_a_saved_pack_can_be_saved_and_gone_on_from(tmp_path: Path) -> None:
    trainer = Trainer(pack())
    trainer.run(UPDATES)
    state = checkpoint.load(trainer.save(tmp_path / "pack.pt"), keys=STATE_KEYS)
    half = Trainer.resume(checkpoint.save(snapshot.part(state, [2, 3]), tmp_path / "half.pt"))
    assert half.configs == trainer.configs[2:]
    assert [result.seconds for result in half.results()] == pytest.approx(
        [trainer.seconds / 4] * 2
    )
    for place, member in enumerate((2, 3)):
        assert np.array_equal(half.d(place), trainer.d(member))
    with pytest.raises(CheckpointError, match=r"member 0 has epsilon=0\.1\d* there, 0\.05 here"):
        Trainer(trainer.configs[:2]).load_state(checkpoint.load(tmp_path / "half.pt"))


def test_stopped_members_stay_stopped_in_a_part() -> None:
    configs = pack(members=3)
    configs[1] = configs[1].with_(gamma_0=1e4, gamma_start=None, anneal_updates=0)
    whole = Trainer(configs)
    whole.run(20)
    lost = gone_on(snapshot.part(whole.state(), [1]), configs[1:2])
    both = gone_on(snapshot.part(whole.state(), [1, 2]), configs[1:])
    assert lost.finished
    assert not both.finished
    for trainer in (whole, both):
        trainer.run(5)
    assert both.result().cause == lost.result().cause == whole.result(1).cause != ""
    assert np.array_equal(lost.d(), whole.d(1))
    assert apart(whole, 2, both, 1) < 1e-9


@pytest.mark.parametrize("members", [[], [4], [-1], [1, 1], [0, 1, 2, 3, 4]])
def test_what_are_no_members_is_refused(members: list[int]) -> None:
    state = Trainer(pack()).state()
    with pytest.raises(ValueError, match="`members` must be different ones of 0 to 3, got"):
        snapshot.part(state, members)
