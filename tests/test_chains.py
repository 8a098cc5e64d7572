"""Where chains start, and how a bank is drawn from."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ebm_core.chains import draw_slots, reinitialize, start_states
from ebm_core.data import Gmm, Samples


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 500), st.integers(0, 2**31 - 1))
def test_slots_of_a_batch_are_different_states_of_the_bank(
    data: st.DataObject, bank_size: int, seed: int
) -> None:
    n = data.draw(st.integers(1, bank_size))
    slots = draw_slots(bank_size, n, seeded(seed))
    assert slots.shape == (n,)
    assert len(set(slots.tolist())) == n
    assert set(slots.tolist()) <= set(range(bank_size))
    assert torch.equal(slots, draw_slots(bank_size, n, seeded(seed)))


def test_every_slot_is_drawn_equally_often() -> None:
    rng, rounds, bank_size, n = seeded(0), 5_000, 20, 5
    counts = torch.zeros(bank_size)
    for _ in range(rounds):
        counts[draw_slots(bank_size, n, rng)] += 1
    share = n / bank_size
    z = (counts - rounds * share) / math.sqrt(rounds * share * (1 - share))
    assert float(z.abs().max()) < 5


def test_a_batch_larger_than_the_bank_is_refused() -> None:
    with pytest.raises(ValueError, match="`n <= bank_size` must hold, but got n=6, bank_size=5"):
        draw_slots(5, 6, seeded(0))


def replaced(share: float, n: int = 20_000) -> Tensor:
    states, fresh = torch.zeros(n, 1, 2, 2), torch.ones(n, 1, 2, 2)
    mixed = reinitialize(states, fresh, share, seeded(1))
    assert torch.equal(states, torch.zeros_like(states))
    assert torch.equal(mixed.flatten(1).amin(1), mixed.flatten(1).amax(1))  # states stay whole
    return mixed[:, 0, 0, 0]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_share_and_a_full_share_are_exact(share: float) -> None:
    assert float(replaced(share).mean()) == share


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.9])
def test_the_share_of_states_started_anew(share: float) -> None:
    anew = replaced(share)
    error = math.sqrt(share * (1 - share) / len(anew))
    assert abs(float(anew.mean()) - share) < 5 * error
    assert abs(float(anew.mean()) - share / 2) > 5 * error


IMAGES = Samples(torch.randn(7, 1, 4, 4, generator=seeded(2)))


def test_uniform_starts() -> None:
    x = start_states("uniform", 20_000, IMAGES, 2.0, seeded(3), torch.float64)
    assert x.shape == (20_000, 1, 4, 4)
    assert x.dtype == torch.float64
    assert float(x.abs().max()) <= 2
    # x squared has mean 4/3 and variance 16/5 - 16/9 on [-2, 2]
    error = math.sqrt((16 / 5 - 16 / 9) / x.numel())
    assert abs(float(x.square().mean()) - 4 / 3) < 5 * error
    assert abs(float(x.mean())) < 5 * math.sqrt(4 / 3 / x.numel())


def test_gaussian_starts() -> None:
    x = start_states("gaussian", 20_000, Gmm(), 2.0, seeded(4), torch.float32)
    assert x.shape == (20_000, 2)
    assert x.dtype == torch.float32
    assert abs(float(x.square().mean()) - 4) < 5 * 4 * math.sqrt(2 / x.numel())
    assert abs(float(x.square().mean()) - 1) > 5 * 4 * math.sqrt(2 / x.numel())


def test_data_starts_are_samples() -> None:
    x = start_states("data", 50, IMAGES, 9.0, seeded(5), torch.float32)
    own = {tuple(row) for row in IMAGES.x.flatten(1).tolist()}
    assert {tuple(row) for row in x.flatten(1).tolist()} <= own


def test_data_starts_may_carry_the_noise_of_positive_samples() -> None:
    point = Samples(torch.ones(1, 2))
    x = start_states("data", 50_000, point, 9.0, seeded(6), torch.float64, data_epsilon=0.3)
    error = 0.09 * math.sqrt(2 / x.numel())
    assert abs(float((x - 1).square().mean()) - 0.09) < 5 * error


@pytest.mark.parametrize("kind", ["data", "uniform", "gaussian"])
def test_the_same_generator_gives_the_same_states(kind: str) -> None:
    a, b, c = (start_states(kind, 9, IMAGES, 1.0, seeded(s), torch.float32) for s in (7, 7, 8))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_an_unknown_start_is_refused() -> None:
    with pytest.raises(
        ValueError, match="`kind` must be data, uniform or gaussian, but got 'old'"
    ):
        start_states("old", 3, IMAGES, 1.0, seeded(0), torch.float32)
