"""What stops a member: everything that is listed, at once, and nothing that lives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ebm_core import train
from ebm_core.assessment import Divergence
from ebm_core.config import TrainConfig, make_config
from ebm_core.energies import Mlp
from ebm_core.trainer import Trainer
from ebm_core.vitals import CAUSES, DEEP_UPDATES, REPEATS, Limits, Vitals

LIMITS = Limits(state=100.0, gradient=50.0, depth=20.0)
CPU = torch.device("cpu")
START = torch.zeros(2, 3, 4)
MOVED = torch.ones(2, 3, 4)

TINY = make_config(
    {
        "data": "gmm",
        "network": {"name": "toy", "widths": [8, 8]},
        "epsilon": 0.1,
        "eps_data_ratio": 1.0,
        "gamma_0": 0.02,
        "langevin_steps": 4,
        "batch_size": 10,
        "bank_size": 20,
        "bank_start": "gaussian",
        "updates": 60,
        "window": 20,
        "device": "cpu",
    }
)


def member(value: float, index: int = 0, other: float = 0.1) -> Tensor:
    """A value for one of two members, and a harmless one for its neighbour."""
    values = torch.full((2,), float(other))
    values[index] = value
    return values


def states(value: float, index: int = 0) -> Tensor:
    changed = MOVED.clone()
    changed[index, 1, 2] = value
    return changed


def weights(value: float) -> dict[str, Tensor]:
    changed = torch.ones(2, 5)
    changed[0, 3] = value
    return {"sound": torch.ones(2), "w": changed}


def look(vitals: Vitals, update: int = 0, **changes: Any) -> None:
    """One update of two members that live, but for what is changed."""
    seen = {
        "d": torch.tensor([0.1, 0.2]) + update,
        "r": torch.tensor([0.3, 0.4]),
        "start": START,
        "states": MOVED,
        "parameters": weights(1.0),
    }
    vitals.examine(update, **{**seen, **changes})


def fresh() -> Vitals:
    return Vitals(2, CPU, LIMITS)


def verdict_of(vitals: Vitals, member: int) -> str:
    """What stopped a member makes of its training; empty for the living."""
    _, divergence = vitals.report(member)
    return divergence.verdict if divergence else ""


FAILURES = {
    "d is not finite": [{"d": member(math.nan)}, {"d": member(-math.inf)}],
    "d left any reasonable range": [{"d": member(2e30)}, {"d": member(-2e30)}],
    "the gradient magnitude is not finite": [{"r": member(math.nan)}, {"r": member(math.inf)}],
    "chains left any reasonable range": [
        {"states": states(-100.1)},
        {"states": states(math.nan)},
        {"states": states(math.inf)},
    ],
    CAUSES[4]: [{"r": member(50.1)}],
    "the parameters are not finite": [
        {"parameters": weights(math.nan)},
        {"parameters": weights(math.inf)},
    ],
    CAUSES[6]: [{"states": torch.cat([START[:1], MOVED[1:]])}],
}


@pytest.mark.parametrize(
    ("cause", "changes"), [(cause, one) for cause, all_of in FAILURES.items() for one in all_of]
)
def test_what_is_wrong_stops_its_member_alone(cause: str, changes: dict[str, Any]) -> None:
    vitals = fresh()
    look(vitals, 0)
    assert vitals.alive.all()
    look(vitals, 1, **changes)
    assert vitals.alive.tolist() == [False, True]
    verdict = "unassessed" if cause == CAUSES[6] else "diverged"
    assert vitals.report(0) == (f"{cause} at update 1", Divergence(1, cause, verdict))
    assert vitals.report(1) == ("", None)
    assert [vitals.updates_made(m, 9) for m in (0, 1)] == [2, 9]


def test_every_cause_can_come_up() -> None:
    assert {*FAILURES, CAUSES[7], CAUSES[8]} == set(CAUSES)


def test_the_first_cause_stays() -> None:
    vitals = fresh()
    look(vitals, 0, r=member(math.nan))
    look(vitals, 1, d=member(math.nan))
    assert vitals.report(0)[0] == "the gradient magnitude is not finite at update 0"


@pytest.mark.parametrize(
    "changes",
    [{"r": member(50.0)}, {"states": states(100.0)}, {"d": member(9e29)}, {"d": member(-1e9)}],
)
def test_what_is_just_reasonable_lives(changes: dict[str, Any]) -> None:
    vitals = fresh()
    for update in range(3):
        look(vitals, update, **changes)
    assert vitals.alive.all()


# -- collapse ------------------------------------------------------------------------------------

DEEP = member(-1e3)
BROKEN = [
    {"d": DEEP, "r": member(60.0)},
    {"d": DEEP, "states": states(200.0)},
    {"d": member(math.nan)},
    {"d": member(-math.inf)},
]


@pytest.mark.parametrize("end", BROKEN)
@pytest.mark.parametrize("deep", [0, 1, DEEP_UPDATES - 2, DEEP_UPDATES, 40])
def test_what_breaks_off_deep_below_zero_collapsed(deep: int, end: dict[str, Any]) -> None:
    vitals = fresh()
    for update in range(deep):
        look(vitals, update, d=member(-20.1 - update, other=update))
    look(vitals, deep, **end)
    collapsed = deep >= DEEP_UPDATES
    assert (verdict_of(vitals, 0) == "collapsed") == collapsed
    assert (vitals.report(0)[0] == f"d runs to minus infinity at update {deep}") == collapsed
    assert verdict_of(vitals, 1) != "collapsed"


def test_a_burst_that_is_over_is_no_collapse() -> None:
    vitals = fresh()
    for update in range(20):
        look(vitals, update, d=member(-1e4 - update, other=update))
    assert vitals.alive.all()
    look(vitals, 20)
    look(vitals, 21, r=member(60.0))
    assert vitals.report(0)[0].startswith("gradients exploded")


# -- frozen --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("still", "alive"), [(5, True), (6, True), (7, False), (12, False)])
def test_chains_of_which_most_does_not_move_are_frozen(still: int, alive: bool) -> None:
    after = MOVED.clone()
    after[0].view(-1)[:still] = 0
    vitals = fresh()
    look(vitals, 0, states=after)
    assert bool(vitals.alive[0]) is alive


def test_d_and_r_that_repeat_are_frozen() -> None:
    vitals = fresh()
    for update in range(REPEATS):
        look(vitals, update, d=member(0.0, other=update))
    assert vitals.alive.all()
    look(vitals, REPEATS, d=member(0.0, other=REPEATS))
    assert vitals.alive.tolist() == [False, True]
    assert vitals.report(0)[0] == f"{CAUSES[7]} at update {REPEATS}"


@pytest.mark.parametrize("name", ["d", "r"])
def test_one_series_that_repeats_is_not_enough(name: str) -> None:
    vitals = fresh()
    for update in range(3 * REPEATS):
        varied = {"d": "r", "r": "d"}[name]
        look(vitals, update, **{name: member(0.0), varied: member(update % 7, other=update % 9)})
    assert vitals.alive.all()


def test_a_repeat_that_is_interrupted_counts_anew() -> None:
    vitals = fresh()
    for update in range(3 * REPEATS):
        look(vitals, update, d=member(float(update % (REPEATS - 1) == 0), other=update))
    assert vitals.alive.all()


def test_counts_go_on_from_a_state() -> None:
    vitals = fresh()
    for update in range(REPEATS - 3):
        look(vitals, update, d=member(-30.0, other=update))
    resumed = fresh()
    resumed.load_state(vitals.state(slice(None)))
    for update in range(REPEATS - 3, REPEATS + 1):
        look(resumed, update, d=member(-30.0, other=update))
    assert resumed.alive.tolist() == [False, True]
    alone = Vitals(1, CPU, LIMITS)
    alone.load_state(vitals.state(slice(1, 2)))
    assert alone.last.shape == (1, 2)


# -- in training ---------------------------------------------------------------------------------


def test_steps_that_rounding_absorbs_are_seen_at_once() -> None:
    still = {"epsilon": 1e-10, "gamma_0": 0.0, "init_scale": 1e-12}
    frozen = train(TINY.with_(**still))
    assert frozen.cause == f"{CAUSES[6]} at update 0"
    assert frozen.status == "stopped_early"
    assert frozen.assessment.verdict not in ("convergent", "nonconvergent")
    # the same steps are seen by numbers of twice the length
    assert train(TINY.with_(**still, precision="float64")).status == "finished"


def dead() -> Mlp:
    module = Mlp(2, (8, 8), slope=0.0)
    nn.init.constant_(module.hidden[0].bias, -1e3)
    nn.init.constant_(module.hidden[1].bias, -1e3)
    return module


def test_a_dead_network_is_stopped_before_work_is_wasted() -> None:
    result = train(TINY, energy=dead)
    assert result.cause == f"{CAUSES[7]} at update {REPEATS}"
    assert len(result.d) == REPEATS + 1
    assert not result.r.any()
    assert result.assessment.verdict not in ("convergent", "nonconvergent")


class Wedge(nn.Module):
    """F = s (|x| + |y|): chains are thrown from side to side, never out of range."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(25.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * x.abs().sum(-1)


def test_steps_as_long_as_many_widths_of_the_data_are_stopped() -> None:
    config = TINY.with_(gamma_0=0.0)
    result = train(config, energy=Wedge)
    assert result.cause == f"{CAUSES[4]} at update 0"
    assert result.assessment.verdict == "diverged"
    gentle = Wedge()
    gentle.slope.data /= 10
    assert train(config, energy=gentle).status == "finished"


def test_a_wrong_way_of_learning_is_told_by_its_cause() -> None:
    result = train(TINY.with_(gamma_0=1e4))
    assert result.assessment.verdict == "diverged"
    assert any(result.cause.startswith(CAUSES[code]) for code in range(6))


HEALTHY: list[dict[str, Any]] = [
    {},
    {"gamma_0": 0.0},
    {"optimizer": "adam", "gamma_0": 0.01},
    {"chain_start": "gaussian"},
    {"epsilon": 1e-4},
    {"langevin_steps": 1},
    {"precision": "float64"},
]


@pytest.mark.parametrize("changes", HEALTHY)
def test_healthy_training_is_never_stopped(changes: dict[str, Any]) -> None:
    trainer = Trainer([make_member(changes, seed) for seed in range(5)])
    trainer.run(60)
    assert trainer.alive.all()
    assert not np.isnan(trainer.d(4)).any()


def make_member(changes: dict[str, Any], seed: int) -> TrainConfig:
    return TINY.with_(**changes, seed=seed)
