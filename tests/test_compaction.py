"""Compaction: stopped members cost nothing, change nothing, and leave the others as they were."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import ebm_core.trainer as trainer_module
from ebm_core.compaction import Rows, chosen, computed_members
from ebm_core.config import TrainConfig, make_config
from ebm_core.engine import Engine
from ebm_core.restlessness import Looks, restlessness
from ebm_core.trainer import Trainer

CPU = torch.device("cpu")
TINY = make_config(
    {
        "data": "gmm",
        "network": {"name": "toy", "widths": [16, 16]},
        "epsilon": 0.1,
        "eps_data_ratio": 1.0,
        "gamma_0": 0.02,
        "langevin_steps": 6,
        "batch_size": 12,
        "bank_size": 30,
        "bank_start": "gaussian",
        "updates": 60,
        "window": 20,
        "device": "cpu",
    }
)
WAYS: dict[str, dict[str, Any]] = {
    "bank": {},
    "reinit": {"reinit_share": 0.3},
    "uniform": {"chain_start": "uniform"},
    "adam": {"optimizer": "adam", "gamma_0": 0.001},
    "loop": {"data": "digits", "network": {"name": "vanilla", "width": 4}, "epsilon": 0.08},
}
# rates that end a training of any of these ways at once, and within some updates
WILD = (1e6, 3.0, 10.0)


def pack(
    way: str = "bank", lost: tuple[int, ...] = (0, 2, 3), total: int = 6
) -> list[TrainConfig]:
    """Members of which some do not live long."""
    base = TINY.with_(precision="float64", **WAYS[way])
    configs = [
        base.with_(seed=seed, epsilon=base.epsilon * (1 + 0.05 * seed)) for seed in range(total)
    ]
    for i, member in enumerate(lost):
        configs[member] = configs[member].with_(gamma_0=WILD[i % len(WILD)])
    return configs


def deaths(trainer: Trainer) -> list[int]:
    return trainer.vitals.stopped_at.tolist()


def same(a: Any, b: Any) -> bool:
    """Whether two trees are equal bit for bit, NaN included."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, Tensor):
        return torch.equal(a, b) or (
            a.is_floating_point() and np.array_equal(a.numpy(), b.numpy(), equal_nan=True)
        )
    return bool(a == b)


def without_time(trainer: Trainer, member: int | None = None) -> dict[str, Any]:
    state = trainer.state(member)
    del state["seconds"]
    return state


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many members every short run was asked for."""
    counts: list[int] = []
    run = Engine.short_run

    def spy(self: Engine, parameters: dict[str, Tensor], start: Tensor, *rest: Any) -> Any:
        _, noise, _ = rest
        sizes = {len(noise), len(start), *(len(p) for p in parameters.values())}
        counts.extend(sizes)
        return run(self, parameters, start, *rest)

    monkeypatch.setattr(Engine, "short_run", spy)
    return counts


@pytest.fixture
def on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule of devices that are not to be waited for, with short intervals."""
    monkeypatch.setattr(Trainer, "_on_cpu", False)
    monkeypatch.setattr(trainer_module, "COLLAPSE_INTERVAL", 10)


# -- which members -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stopped_at", "updates", "interval", "share", "expected"),
    [
        ([-1, -1], 50, 1, 1.0, [0, 1]),
        ([-1, 4, -1], 4, 1, 1.0, [0, 1, 2]),
        ([-1, 4, -1], 5, 1, 1.0, [0, 2]),
        ([0, 0], 1, 1, 1.0, []),
        # seen at the next look, not before, and left out where half is left
        ([-1, 4], 9, 10, 0.5, [0, 1]),
        ([-1, 4], 10, 10, 0.5, [0]),
        ([-1, 9], 10, 10, 0.5, [0]),
        ([-1, 10], 10, 10, 0.5, [0, 1]),
        ([-1, 4, -1], 30, 10, 0.5, [0, 1, 2]),
        ([-1, 4, 25, -1], 29, 10, 0.5, [0, 1, 2, 3]),
        ([-1, 4, 25, -1], 30, 10, 0.5, [0, 3]),
        # of those that are computed, half has to be gone again
        ([-1, 4, 25, -1, 35, -1, 45, 25], 30, 10, 0.5, [0, 1, 2, 3, 4, 5, 6, 7]),
        ([-1, 4, 25, -1, 35, -1, 45, 25], 40, 10, 0.5, [0, 3, 5, 6]),
        ([-1, 4, 25, -1, 35, -1, 45, 25], 90, 10, 0.5, [0, 3, 5, 6]),
        ([3, 4, 5, 6], 10, 10, 0.5, []),
    ],
)
def test_who_is_computed(
    stopped_at: list[int], updates: int, interval: int, share: float, expected: list[int]
) -> None:
    assert computed_members(stopped_at, updates, interval, share) == expected


@given(
    st.lists(st.integers(-1, 90), min_size=1, max_size=9),
    st.integers(1, 30),
    st.sampled_from([0.25, 0.5, 1.0]),
)
def test_it_is_what_looks_one_after_the_other_find(
    stopped_at: list[int], interval: int, share: float
) -> None:
    computed = list(range(len(stopped_at)))
    for updates in range(120):
        if updates % interval == 0:
            living = [m for m in computed if stopped_at[m] < 0 or stopped_at[m] >= updates]
            if len(living) <= share * len(computed):
                computed = living
        # what lies ahead is not known yet
        known = [at if at < updates else -1 for at in stopped_at]
        assert computed_members(known, updates, interval, share) == computed
        assert computed_members(stopped_at, updates, interval, share) == computed


def test_rows_are_taken_out_and_put_back() -> None:
    tree = {"a": torch.arange(8.0).reshape(4, 2), "b": {"c": torch.arange(4)}}
    rows = Rows([1, 3], 4, CPU)
    part = rows.of(tree)
    assert part["a"].tolist() == [[2, 3], [6, 7]]
    assert part["b"]["c"].tolist() == [1, 3]
    whole = rows.put(tree, {"a": -part["a"], "b": {"c": -part["b"]["c"]}})
    assert whole["a"].tolist() == [[0, 1], [-2, -3], [4, 5], [-6, -7]]
    assert whole["b"]["c"].tolist() == [0, -1, 2, -3]
    assert whole["a"] is tree["a"]


def test_all_rows_are_not_copied() -> None:
    whole, part = torch.zeros(3, 2), torch.ones(3, 2)
    rows = Rows(range(3), 3, CPU)
    assert rows.of(whole) is whole
    assert rows.put(whole, part) is part


def test_the_living_get_what_is_new() -> None:
    new, old = {"a": torch.ones(3, 2, 2)}, {"a": torch.zeros(3, 2, 2)}
    found = chosen(torch.tensor([True, False, True]), new, old)["a"]
    assert found.flatten(1).sum(1).tolist() == [4, 0, 4]
    assert chosen(None, new, None) is new


def test_looks_at_some_members_leave_the_others_where_they_were() -> None:
    def energies(x: Tensor, scale: float) -> Tensor:
        return torch.tanh(scale * x).sum(-1)

    looks, rng = Looks(), torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 3, 5, 2, generator=rng)
    given, rows = first.clone(), Rows([0, 2], 3, CPU)
    looks.look(0, given, energies(given, 1), partial(energies, scale=1), Rows(range(3), 3, CPU))
    given.zero_()  # what is kept is a copy
    part = second[[0, 2]]
    found = looks.look(25, part, energies(part, 2), partial(energies, scale=2), rows)
    before = first[[0, 2]]
    assert torch.equal(found, restlessness(energies(before, 1), energies(before, 2)))
    assert torch.equal(looks.last["states"], torch.stack([second[0], first[1], second[2]]))
    assert torch.equal(looks.last["energies"][1], energies(first[1], 1))
    assert torch.equal(looks.last["energies"][2], energies(second[2], 2))


# -- in training ---------------------------------------------------------------------------------


def test_stopped_members_are_not_computed(computed: list[int]) -> None:
    trainer = Trainer(pack(lost=tuple(range(7)), total=8))
    trainer.run(60)
    stopped = [at for at in deaths(trainer) if at >= 0]
    assert len(stopped) == 7
    assert max(stopped) < 20
    # one count an update: parameters, chains and noise are those of the living
    assert computed == [1 + sum(at >= update for at in stopped) for update in range(60)]
    assert computed[-1] == 1


def test_a_healthy_pack_is_computed_whole(computed: list[int]) -> None:
    Trainer(pack(lost=())).run(10)
    assert computed == [6] * 10


@pytest.mark.parametrize("way", WAYS)
def test_neighbours_learn_what_they_learn_without_compaction(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact, whole = Trainer(pack(way)), Trainer(pack(way))
    compact.run(8)
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "computed_members", lambda at, *_: list(range(len(at))))
        whole.run(8)
    assert len(compact._rows.members) < len(whole._rows.members) == 6
    assert deaths(compact) == deaths(whole)
    for member in range(6):
        for series in (Trainer.d, Trainer.r):
            a, b = series(compact, member), series(whole, member)
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
        for name, value in whole.parameters.items():
            found = compact.parameters[name][member]
            torch.testing.assert_close(found, value[member], rtol=1e-9, atol=1e-11)


def test_the_neighbours_go_on_learning() -> None:
    trainer = Trainer(pack())
    trainer.run(30)
    before = trainer.state()
    trainer.run(20)
    changed = [
        not torch.equal(before["states"][member], trainer.states[member]) for member in range(6)
    ]
    assert changed == trainer.alive.tolist() == [False, True, False, False, True, True]


@pytest.mark.parametrize("accelerator", [False, True], ids=["cpu", "accelerator"])
@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_a_stopped_member_changes(
    way: str, accelerator: bool, request: pytest.FixtureRequest
) -> None:
    if accelerator:
        request.getfixturevalue("on_an_accelerator")
    trainer = Trainer(pack(way, lost=(1,), total=3))
    before = trainer.state(1)
    while trainer.alive[1]:
        before = trainer.state(1)
        trainer.run(1)
    at = trainer.update
    stopped = trainer.state(1)
    # the update that stops a member is recorded, and not taken over
    for key in ("parameters", "moments", "states"):
        assert same(stopped[key], before[key])
    trainer.run(30)
    assert trainer.update == at + 30
    after = trainer.state(1)
    for key in ("parameters", "moments", "states"):
        assert same(after[key], stopped[key])
    assert same(after["records"][:, :at], stopped["records"])
    assert after["records"][:, at:].isnan().all()
    for key in ("alive", "stopped_at", "cause"):
        assert same(after["vitals"][key], stopped["vitals"][key])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cut", [1, 7, 25])
def test_resumed_after_a_death_it_is_the_same_training(way: str, cut: int, tmp_path: Path) -> None:
    whole, begun = Trainer(pack(way)), Trainer(pack(way))
    whole.run(40)
    begun.run(cut)
    resumed = Trainer.resume(begun.save(tmp_path / "checkpoint.pt"))
    assert resumed._rows.members == begun._rows.members
    resumed.run(40 - cut)
    begun.run(40 - cut)
    assert any(at >= 0 for at in deaths(whole))
    assert same(without_time(resumed), without_time(whole))
    assert same(without_time(begun), without_time(whole))


@pytest.mark.parametrize("cut", [3, 10, 13, 37])
@pytest.mark.usefixtures("on_an_accelerator")
def test_where_nobody_waits_for_the_device_it_is_the_same_training_too(
    cut: int, tmp_path: Path, computed: list[int]
) -> None:
    configs = pack(lost=(0, 2, 3, 5))
    whole, begun = Trainer(configs), Trainer(configs)
    whole.run(40)
    # two of six are left at the first look
    assert max(deaths(whole)) < 10
    assert computed == [6] * 10 + [2] * 30
    begun.run(cut)
    resumed = Trainer.resume(begun.save(tmp_path / "checkpoint.pt"))
    for _ in range(40 - cut):
        resumed.run(1)
    assert computed[40:] == computed[:40]
    assert same(without_time(resumed), without_time(whole))


@pytest.mark.usefixtures("on_an_accelerator")
def test_it_waits_until_half_of_the_work_is_saved(computed: list[int]) -> None:
    trainer = Trainer(pack(lost=(0, 2)))
    trainer.run(40)
    assert [at >= 0 for at in deaths(trainer)] == [True, False, True, False, False, False]
    assert computed == [6] * 40


def test_members_leave_a_pack_in_which_others_died(tmp_path: Path) -> None:
    trainer = Trainer(pack())
    trainer.run(20)
    alone = Trainer.resume(trainer.save(tmp_path / "living.pt", member=4))
    trainer.run(5)
    alone.run(5)
    np.testing.assert_allclose(alone.d(), trainer.d(4), rtol=1e-9)
    lost = Trainer.resume(trainer.save(tmp_path / "lost.pt", member=2))
    assert lost.finished
    lost.run(10)
    assert lost.update == trainer.update
    assert np.array_equal(lost.d(), trainer.d(2))
    assert lost.result().cause == trainer.result(2).cause


@pytest.mark.parametrize("accelerator", [False, True], ids=["cpu", "accelerator"])
def test_nothing_is_done_where_nobody_lives(
    accelerator: bool, request: pytest.FixtureRequest, computed: list[int]
) -> None:
    if accelerator:
        request.getfixturevalue("on_an_accelerator")
    trainer = Trainer(pack(lost=(0, 1), total=2))
    trainer.run(60)
    assert trainer.finished
    assert trainer.update == (10 if accelerator else max(deaths(trainer)) + 1)
    before, made = without_time(trainer), len(computed)
    trainer.run(10)
    assert len(computed) == made
    assert same(without_time(trainer), before)


def test_a_collapse_is_left_out_too(monkeypatch: pytest.MonkeyPatch, computed: list[int]) -> None:
    def collapse_update(d: Any, dimensions: int, since: int = 0) -> int | None:
        return 150 if len(d) == 200 and d[0] == first else None

    trainer = Trainer([c.with_(updates=250) for c in pack(lost=(), total=2)])
    trainer.run(1)
    first = trainer.d(1)[0]
    monkeypatch.setattr(trainer_module, "collapse_update", collapse_update)
    trainer.run(249)
    assert trainer.result(1).cause == "d runs to minus infinity at update 150"
    assert computed == [2] * 200 + [1] * 50
    assert len(trainer.d(0)) == 250


def test_a_state_replaces_all_that_was_there() -> None:
    trainer = Trainer(pack())
    trainer.run(30)
    early = Trainer(pack())
    state = early.state()
    trainer.load_state(state)
    assert trainer._rows.members == list(range(6))
    assert trainer.records.isnan().all()
    trainer.run(30)
    early.run(30)
    assert same(without_time(trainer), without_time(early))
