"""Copies of the data are told from new samples of the same law."""

from __future__ import annotations

import pytest
import torch

from ebm_core import mapped
from ebm_core.data import Samples
from ebm_core.memorization import Memorization, memorization

NOISE = 0.3


def normal(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def found(x: torch.Tensor, data: torch.Tensor, seed: int = 0) -> Memorization:
    return memorization(x, Samples(data), NOISE, torch.Generator().manual_seed(seed))


def test_new_samples_of_the_law_are_as_far_as_the_data_from_each_other() -> None:
    data = normal(1_000, 0)
    new = normal(500, 1) + NOISE * normal(500, 2)
    told = found(new, data)
    assert told.median == pytest.approx(told.other, rel=0.05)
    assert told.close == pytest.approx(0.05, abs=0.03)


def test_copies_are_as_far_as_noise() -> None:
    data = normal(1_000, 0)
    told = found(data[:500] + NOISE * normal(500, 2), data)
    assert told.median == pytest.approx(told.own, rel=0.05)
    assert told.own == pytest.approx(NOISE, rel=0.05)
    assert told.own < 0.6 * told.other
    assert told.close > 0.9


def test_distances_are_those_of_plain_arithmetic_in_blocks_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, x = normal(50, 0), normal(7, 1)
    plain = ((x[:, None] - data[None]) ** 2).flatten(2).mean(2).sqrt().min(1).values
    whole = found(x, data)
    torch.testing.assert_close(whole.distances, plain, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(mapped, "_BLOCK_NUMBERS", 16 * 7)
    pieces = found(x, data)
    torch.testing.assert_close(pieces.distances, plain, rtol=1e-4, atol=1e-4)
    assert pieces.other == pytest.approx(whole.other, rel=1e-4)


def test_a_duplicate_is_another_sample() -> None:
    data = normal(2, 0)[:1].repeat(2, 1, 1, 1)
    told = found(data, data)
    assert told.other == pytest.approx(told.own)


def test_one_training_sample_has_no_other() -> None:
    with pytest.raises(ValueError, match="no other"):
        found(normal(2, 0), normal(1, 0))
