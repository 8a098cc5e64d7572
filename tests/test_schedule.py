"""The learning rate over updates: end points, length, and who is annealed at all."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ebm_core.schedule import learning_rate


def column(*values: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


def rates(updates: int, gamma_0: float, gamma_start: float, length: int) -> torch.Tensor:
    every = torch.arange(updates).unsqueeze(1)
    return learning_rate(every, column(gamma_0), column(gamma_start), column(length))[:, 0]


def test_end_points() -> None:
    path = rates(1_200, 0.005, 0.1, 1_000)
    assert path[0] == 0.1
    assert path[999] > 0.005
    assert (path[1_000:] == 0.005).all()


def test_the_path_is_geometric() -> None:
    path = rates(1_001, 0.005, 0.1, 1_000)
    decay = (0.005 / 0.1) ** (1 / 1_000)
    assert torch.allclose(path[1:] / path[:-1], column(decay), rtol=1e-12)
    # a straight line has the same ends, and is no geometric path
    line = torch.linspace(0.1, 0.005, 1_001, dtype=torch.float64)
    assert not torch.allclose(line[1:] / line[:-1], column(decay), rtol=1e-3)


def test_length_of_the_published_schedule() -> None:
    """Times 0.99995 an update from 0.1 down to 0.0005 takes 105,964 updates."""
    updates = 105_970
    path = rates(updates, 0.0005, 0.1, 105_964)
    published = torch.clamp(0.1 * 0.99995 ** torch.arange(updates, dtype=torch.float64), 0.0005)
    assert int((published > 0.0005).sum()) == 105_964
    assert torch.allclose(path, published, rtol=2e-5)
    wrong = rates(updates, 0.0005, 0.1, 100_000)
    assert not torch.allclose(wrong, published, rtol=1e-2)
    assert math.ceil(math.log(0.0005 / 0.1) / math.log(0.99995)) == 105_964


@pytest.mark.parametrize(
    ("gamma_0", "gamma_start", "length"),
    [
        (0.01, 0.01, 100),
        (0.01, 0.001, 100),
        (0.01, 0.00999, 151),
        (0.01, 0.1, 0),
        (0.01, 0.0, 100),
        (0.0, 0.0, 100),
    ],
    ids=["equal", "below", "just below", "no length", "start at 0", "no learning"],
)
def test_where_nothing_is_annealed(gamma_0: float, gamma_start: float, length: int) -> None:
    assert (rates(200, gamma_0, gamma_start, length) == gamma_0).all()


def test_annealing_is_not_constant() -> None:
    assert len(rates(200, 0.01, 0.1, 100).unique()) == 101


def test_gamma_0_of_zero_is_the_limit_of_small_ones() -> None:
    path = rates(50, 0.0, 0.1, 40)
    assert path[0] == 0.1
    assert (path[1:] == 0).all()
    assert rates(50, 1e-300, 0.1, 40)[1:].max() < 1e-8


def test_members_have_schedules_of_their_own() -> None:
    gamma_0, start, length = column(0.01, 0.001, 0.02), column(0.1, 0.001, 0.5), column(10, 7, 0)
    table = learning_rate(torch.arange(20).unsqueeze(1), gamma_0, start, length)
    assert table.shape == (20, 3)
    for member in range(3):
        one = slice(member, member + 1)
        alone = learning_rate(torch.arange(20).unsqueeze(1), gamma_0[one], start[one], length[one])
        assert torch.equal(table[:, one], alone)
    for update in (0, 3, 10, 19):
        assert torch.equal(learning_rate(update, gamma_0, start, length), table[update])


def test_whole_numbers_of_updates_lose_no_precision() -> None:
    whole = torch.tensor([105_964])
    for update in (1, 77_777):
        path = learning_rate(update, column(0.0005), column(0.1), whole)
        assert path.dtype == torch.float64
        assert path.item() == pytest.approx(0.1 * 0.005 ** (update / 105_964), rel=1e-12)


@given(
    gamma_0=st.floats(1e-6, 1.0),
    ratio=st.floats(1.0, 1e3),
    length=st.integers(0, 300),
)
def test_rates_fall_from_start_to_end(gamma_0: float, ratio: float, length: int) -> None:
    path = rates(310, gamma_0, gamma_0 * ratio, length)
    assert (path[1:] <= path[:-1]).all()
    assert path[0] == (gamma_0 * ratio if length else gamma_0)
    assert (path[length:] == gamma_0).all()
