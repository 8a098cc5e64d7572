"""Restlessness: known values, and what it does not depend on."""

from __future__ import annotations

import math

import pytest
import torch

from ebm_core.restlessness import restlessness
from ebm_core.spread import total_variance


def energies(seed: int, n: int = 50_000) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(3, n, generator=rng, dtype=torch.float64)


def test_a_model_that_does_not_change_is_at_rest() -> None:
    before = energies(0)
    assert restlessness(before, before).tolist() == [0, 0, 0]
    # a constant weighs nothing in a model, whatever it is
    offset = torch.tensor([[1.0], [-5.0], [100.0]], dtype=torch.float64)
    assert restlessness(before, before + offset).abs().max() < 1e-20


def test_it_is_the_share_of_the_variance_that_is_redrawn() -> None:
    before = energies(0)
    change = torch.tensor([[0.1], [0.5], [2.0]], dtype=torch.float64) * energies(1)
    found = restlessness(before, before + change)
    torch.testing.assert_close(found, torch.tensor([0.01, 0.25, 4.0]).double(), rtol=0.03, atol=0)
    # energies that have nothing to do with each other
    assert restlessness(before, energies(2))[0] == pytest.approx(2, rel=0.03)


def test_it_has_no_unit() -> None:
    before, after = energies(0, 100), energies(1, 100)
    expected = restlessness(before, after)
    torch.testing.assert_close(restlessness(7 * before + 1, 7 * after + 3), expected)


def test_by_hand() -> None:
    before, after = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 3.0]])
    assert restlessness(before, after).item() == 0.25


def test_no_answer() -> None:
    one = torch.ones(2, 1)
    assert restlessness(one, 2 * one).isnan().all()
    flat = torch.ones(1, 5)
    assert restlessness(flat, flat).isnan().all()
    assert restlessness(flat, torch.arange(5.0)[None]).isinf().all()


def test_total_variance() -> None:
    x = torch.tensor([[[0.0, 1.0]], [[2.0, 1.0]], [[4.0, 4.0]]])
    assert total_variance(x) == pytest.approx(4 + 3)
    assert math.isnan(total_variance(x[:1]))
    wide = torch.randn(40, 3, 200, generator=torch.Generator().manual_seed(0))
    assert total_variance(wide) == pytest.approx(float(wide.double().flatten(1).var(0).sum()))
