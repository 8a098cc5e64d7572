"""Copies of the data are told from new samples, blurred ones from sharp, and new data from old."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ebm_core import mapped
from ebm_core.data import Gmm, Samples
from ebm_core.worth import HeldOut, Memorization, held_out, memorization, sharpness, worth

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


def test_distances_far_from_zero_are_the_same() -> None:
    data = normal(300, 0)
    near = found(data[:50] + 0.02 * normal(50, 1), data)
    far = found(data[:50] + 1_000 + 0.02 * normal(50, 1), data + 1_000)
    assert near.median == pytest.approx(0.02, rel=0.1)
    assert far.median == pytest.approx(near.median, rel=0.02)


def test_many_samples_of_few_numbers_are_compared_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, x = normal(120, 0), normal(7, 1)
    whole = found(x, data)
    largest = []
    true = torch.cdist

    def cdist(a: Tensor, b: Tensor) -> Tensor:
        largest.append(len(a) * len(b))
        return true(a, b)

    monkeypatch.setattr(torch, "cdist", cdist)
    monkeypatch.setattr("ebm_core.worth.copies._DISTANCES", 2_000)
    parts = found(x, data)
    assert max(largest) <= 2_000
    torch.testing.assert_close(parts.distances, whole.distances)
    assert parts.other == pytest.approx(whole.other)


def test_a_duplicate_is_another_sample() -> None:
    data = normal(2, 0)[:1].repeat(2, 1, 1, 1)
    told = found(data, data)
    assert told.other == pytest.approx(told.own)


def test_one_training_sample_has_no_other() -> None:
    with pytest.raises(ValueError, match="no other"):
        found(normal(2, 0), normal(1, 0))


# -- sharpness -----------------------------------------------------------------------------------


def slopes(n: int, seed: int, shape: tuple[int, ...]) -> Tensor:
    """Images that are even slopes: most directions are constant."""
    channels, height, width = shape
    a, b = torch.randn(2, n, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
    rows, columns = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    return (a * rows + b * columns).expand(n, channels, height, width).clone()


def noise(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (1, 12, 20)])
@pytest.mark.parametrize("sd", [0.05, 0.1, 0.4])
def test_the_grain_is_the_noise_where_the_data_are_smooth(
    shape: tuple[int, ...], sd: float
) -> None:
    data, new = slopes(2_000, 0, shape), slopes(600, 1, shape)
    told = sharpness(new + sd * noise(new, 2), Samples(data), 0.1)
    assert told is not None
    assert told.data == pytest.approx(0.1, rel=0.01)
    assert told.samples == pytest.approx(sd, rel=0.05)
    assert told.ratio == pytest.approx(0.1 / sd, rel=0.05)


def test_new_data_under_noise_are_as_sharp_as_noised_data() -> None:
    """Also where no direction is constant: those found are not taken for less than they are."""
    both = torch.randn(6_000, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data, new = both[:2_000], both[2_000:]
    told = sharpness(new + NOISE * noise(new, 1), Samples(data), NOISE)
    assert told is not None
    # seven directions of 1,000 data: standard errors of 0.9 %
    assert told.data == pytest.approx(math.hypot(1, NOISE), rel=0.035)
    assert told.ratio == pytest.approx(1, rel=0.035)


def test_samples_off_the_mean_are_not_sharp() -> None:
    data = slopes(2_000, 0, (1, 8, 8))
    told = sharpness(data[:500] + 1, Samples(data), 0.1)
    blurred = sharpness(0.5 * data[:500], Samples(data), 0.1)
    assert told is not None
    assert blurred is not None
    # the even level is one of the constant directions; a lesser slope has no grain of its own
    assert told.samples > 0.5
    assert blurred.samples < 0.001
    assert sharpness(torch.zeros(4, 1, 8, 8), Samples(data), 0.1) is not None


def test_samples_that_are_no_images_are_taken_whole() -> None:
    data = torch.randn(3_000, 5, generator=torch.Generator().manual_seed(0))
    data[:, 3] *= 0.001
    told = sharpness(data + 0.2 * noise(data, 1), Samples(data), 0.2)
    assert told is not None
    assert (told.data, told.samples) == (
        pytest.approx(0.2, rel=1e-3),
        pytest.approx(0.2, rel=0.05),
    )


def test_few_data_tell_no_finest_directions() -> None:
    assert sharpness(normal(5, 0), Samples(normal(159, 1)), NOISE) is None
    assert sharpness(normal(5, 0), Samples(normal(160, 1)), NOISE) is not None


@pytest.mark.parametrize("side", [9, 12, 15, 28])
def test_every_pixel_counts(side: int) -> None:
    data = slopes(2_000, 0, (1, side, side))
    told = sharpness(data[:600], Samples(data), 0.1)
    assert told is not None
    for row, column in ((0, 0), (side - 1, side - 1), (0, side - 1)):
        x = data[:600].clone()
        x[:, 0, row, column] += 3 * noise(x, 1)[:, 0, row, column]
        spoilt = sharpness(x, Samples(data), 0.1)
        assert spoilt is not None
        assert spoilt.samples > 5 * told.samples + 0.01


def test_samples_that_are_not_finite_are_not_sharp() -> None:
    data = slopes(2_000, 0, (1, 8, 8))
    x = data[:9].clone()
    x[3, 0, 2, 2] = math.nan
    told = sharpness(x, Samples(data), 0.1)
    assert told is not None
    assert math.isnan(told.ratio)


def test_few_of_very_many_data_are_looked_at() -> None:
    class Counted(Samples):
        """A set of more than float32 can number."""

        def __init__(self) -> None:
            self.x, self.shape, self.held_out = torch.zeros(1).expand(2**24 + 9, 2), (2,), None

    told = sharpness(torch.ones(5, 2), Counted(), 0.1)
    assert told is not None
    assert told.data == pytest.approx(0.1)


# -- held-out data -------------------------------------------------------------------------------

EPSILON = 0.2
TEMPERATURE = EPSILON**2 / 2


def compared(energy: object, x: Tensor, data: Tensor, unseen: Tensor, noise: float) -> HeldOut:
    rng = torch.Generator().manual_seed(3)
    told = held_out(energy, x, Samples(data, unseen), EPSILON, noise, rng)  # type: ignore[arg-type]
    assert told is not None
    return told


def squares(x: Tensor) -> Tensor:
    return x.flatten(1).square().sum(1)


def test_energies_are_those_of_plain_arithmetic() -> None:
    data, unseen, x = normal(300, 0), 1.5 * normal(200, 1), 0.5 * normal(100, 2)
    told = compared(squares, x, data, unseen, noise=0.0)
    u = {name: squares(each).double() / TEMPERATURE for name, each in
         (("data", data), ("unseen", unseen), ("x", x))}  # fmt: skip
    assert told.unseen == pytest.approx(float(u["unseen"].mean()))
    assert told.seen == pytest.approx(float(u["data"].mean()))
    assert told.samples == pytest.approx(float(u["x"].mean()))
    sd = float(u["data"].std())
    assert told.over_seen == pytest.approx(float(u["unseen"].mean() - u["data"].mean()) / sd)
    assert told.over_samples == pytest.approx(float(u["unseen"].mean() - u["x"].mean()) / sd)
    # samples that vary less than the data are taken to vary as these do
    assert float(u["x"].std()) < sd < float(u["unseen"].std())
    error = math.sqrt((float(u["unseen"].std()) / sd) ** 2 / 200 + 1 / 100)
    assert told.over_samples_error == pytest.approx(error)


def test_two_that_lie_close_together_are_not_certain() -> None:
    data = normal(500, 0)
    pair = data[:1].repeat(2, 1, 1, 1)
    told = compared(squares, pair[:1], data, pair, noise=0.0)
    assert told.over_seen_error == pytest.approx(math.sqrt(1 / 2 + 1 / 500))
    assert told.over_samples_error == pytest.approx(math.sqrt(1 / 2 + 1))


def test_data_are_compared_under_the_noise_of_learning() -> None:
    zeros = torch.zeros(2_000, 1, 4, 4)
    told = compared(squares, zeros[:100], zeros, zeros, noise=NOISE)
    for u in (told.unseen, told.seen):
        assert u == pytest.approx(16 * NOISE**2 / TEMPERATURE, rel=0.05)
    assert told.samples == 0


def test_a_model_that_knows_its_data_by_heart_is_told_from_one_that_has_the_law() -> None:
    data, unseen = normal(1_000, 0), normal(1_000, 1)

    def by_heart(x: Tensor) -> Tensor:
        return torch.cdist(x.flatten(1), data.flatten(1)).min(1).values

    copies = data[:500] + NOISE * normal(500, 4)
    found = compared(by_heart, copies, data, unseen, NOISE)
    assert found.over_seen > 3
    assert found.over_samples > 3
    law = compared(squares, normal(500, 5) + NOISE * normal(500, 6), data, unseen, NOISE)
    assert abs(law.over_seen) < 4 * law.over_seen_error
    assert abs(law.over_samples) < 4 * law.over_samples_error
    assert law.over_seen_error < 0.05


def test_an_energy_that_is_flat_or_not_finite_has_its_answer() -> None:
    data = normal(50, 0)
    flat = compared(lambda x: torch.ones(len(x)), data, data, data, 0.1)
    assert (flat.over_seen, flat.over_seen_error, flat.over_samples) == (0, 0, 0)
    lost = compared(squares, math.inf * torch.ones(9, 1, 4, 4), data, data, 0.1)
    assert lost.over_samples == -math.inf
    assert math.isnan(lost.over_samples_error)
    assert math.isfinite(lost.over_seen)
    nothing = compared(lambda x: torch.full((len(x),), math.nan), data, data, data, 0.1)
    assert all(math.isnan(value) for value in (nothing.over_seen, nothing.over_samples))


def test_nothing_is_compared_that_is_not_there() -> None:
    rng = torch.Generator().manual_seed(0)
    data = normal(200, 0)
    found = worth(squares, data, Samples(data), EPSILON, NOISE, rng)
    assert found is not None
    assert found.held_out is None
    assert worth(squares, data[:, 0, 0, :2], Gmm(), EPSILON, NOISE, rng) is None
    assert worth(squares, data, Samples(data[:1]), EPSILON, NOISE, rng) is None
