"""Data sets are told apart, and the same ones are not, wherever they were computed."""

from __future__ import annotations

import copy
import math
from typing import Any, Self

import pytest
import torch
from torch import Tensor

from ebm_core import fingerprint as module
from ebm_core.data import Dataset, Gmm, Rings, Samples
from ebm_core.fingerprint import difference, fingerprint
from ebm_core.images import digits

IMAGES = digits(12)


def changed(x: Tensor, index: tuple[int, ...], by: float) -> Tensor:
    x = x.clone()
    x[index] += by
    return x


def swapped(x: Tensor, a: int, b: int) -> Tensor:
    x = x.clone()
    x[[a, b]] = x[[b, a]]
    return x


def told(a: Dataset, b: Dataset) -> str:
    return difference(fingerprint(a), fingerprint(b))


@pytest.mark.parametrize(
    "make", [lambda: Gmm(), lambda: Rings(), lambda: Samples(IMAGES), lambda: Samples(IMAGES[:3])]
)
def test_the_same_data_are_the_same(make: Any) -> None:
    found = fingerprint(make())
    assert found == fingerprint(make())
    assert difference(found, copy.deepcopy(found)) == ""


@pytest.mark.parametrize(
    ("there", "here", "words"),
    [
        (
            Samples(IMAGES),
            Samples(IMAGES[:1000]),
            "1,797 samples, of shape (1, 12, 12) there, 1,000 samples, of shape (1, 12, 12) here",
        ),
        (
            Gmm(),
            Samples(torch.randn(9, 2)),
            "samples of a law, of shape (2,) there, 9 samples, of shape (2,) here",
        ),
        (
            Samples(IMAGES),
            Samples(IMAGES.flip(0)),
            "1,797 samples, of shape (1, 12, 12) there and here, but other ones",
        ),
        (Gmm(), Rings(), "samples of a law, of shape (2,) there and here, but other ones"),
    ],
)
def test_what_tells_them_apart_is_said(there: Dataset, here: Dataset, words: str) -> None:
    assert told(there, here) == words


@pytest.mark.parametrize("law", [Gmm(modes=9), Gmm(radius=1.001), Gmm(sd=0.1501)])
def test_laws_with_other_parameters_are_others(law: Gmm) -> None:
    assert told(Gmm(), law)


@pytest.mark.parametrize(
    "x",
    [
        changed(IMAGES, (0, 0, 0, 0), 0.01),
        changed(IMAGES, (1796, 0, 11, 11), -0.01),
        changed(IMAGES, (900, 0, 5, 5), 2.0),
        -IMAGES,
        IMAGES * 1.001,
        IMAGES + 0.001,
        IMAGES.roll(1, 0),
        swapped(IMAGES, 3, 4),
        IMAGES.transpose(2, 3),
        torch.zeros_like(IMAGES),
    ],
)
def test_other_numbers_are_seen(x: Tensor) -> None:
    assert told(Samples(IMAGES), Samples(x))
    assert told(Samples(x), Samples(IMAGES))


def test_rounding_is_not() -> None:
    rng = torch.Generator().manual_seed(0)
    for scale in (1e-20, 1.0, 1e20):
        x = scale * IMAGES
        for _ in range(5):
            near = x * (1 + 2e-7 * (torch.rand(x.shape, generator=rng) - 0.5))
            assert not torch.equal(near, x)
            assert told(Samples(x), Samples(near)) == ""


def test_data_that_are_not_numbers_are_never_the_same() -> None:
    found = fingerprint(Gmm())
    found["sums"][3] = math.nan
    assert difference(found, found)


def test_few_numbers_and_zeros_have_one_too() -> None:
    assert told(Samples(torch.zeros(1, 1)), Samples(torch.zeros(1, 1))) == ""
    assert told(Samples(torch.zeros(1, 1)), Samples(torch.full((1, 1), 1e-6)))


@pytest.mark.parametrize(("numbers", "dimensions"), [(1, 1), (3 * 2**24, 12), (2**31, 3072)])
def test_the_numbers_are_bounded_and_come_by_every_coordinate(
    numbers: int, dimensions: int
) -> None:
    stride = module._stride(numbers, dimensions)
    assert math.ceil(numbers / stride) <= module.NUMBERS
    assert stride <= 2 * math.ceil(numbers / module.NUMBERS)
    assert {i * stride % dimensions for i in range(dimensions)} == set(range(dimensions))


def test_a_part_of_many_numbers_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NUMBERS", 100_000)
    assert len(module._numbers(Samples(IMAGES))) <= 100_000 < IMAGES.numel()
    assert told(Samples(IMAGES), Samples(IMAGES)) == ""
    # a change in one image shows, in one number it need not
    assert told(Samples(IMAGES), Samples(changed(IMAGES, (900,), 0.1)))
    assert told(Samples(IMAGES), Samples(changed(IMAGES, (0, 0, 0, 1), 1.0))) == ""


class Elsewhere:
    """A user's law that lives on another device, and counts what is drawn of it there."""

    shape = (3,)

    def __init__(self, sd: float) -> None:
        self.sd, self.home = sd, "elsewhere"

    def to(self, device: torch.device) -> Self:
        moved = copy.copy(self)
        moved.home = device.type
        return moved

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        assert self.home == generator.device.type == "cpu"
        return self.sd * torch.randn(n, 3, generator=generator)


class Brightened(Samples):
    """Draws what it does not hold."""

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return super().draw(n, generator) + 0.1


def test_a_users_own_law_is_known_by_what_it_draws_on_the_cpu() -> None:
    assert told(Elsewhere(1.0), Elsewhere(1.0)) == ""
    assert told(Elsewhere(1.0), Elsewhere(1.001))
    assert told(Brightened(IMAGES), Brightened(IMAGES)) == ""
    assert told(Brightened(IMAGES), Samples(IMAGES))
