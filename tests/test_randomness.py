"""Streams of random numbers: repeatable, and sharing nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch

from ebm_core.randomness import Stream, _mix32, _mix64, generator, stream_seed

SEEDS = (0, 1, 2, 7, 2**31 - 1)


def shared_seeds(seed_of: Callable[[int, Stream, int], int], updates: int) -> int:
    """How many (seed, stream, update) have a generator that another one has, too."""
    low = [
        seed_of(seed, stream, update) & 0xFFFFFFFF
        for seed, stream, update in itertools.product(SEEDS, Stream, range(updates))
    ]
    return len(low) - len(set(low))


def longest_shared_stretch(
    seed_of: Callable[[int, Stream, int], int], first: int, second: int, updates: int = 3_000
) -> int:
    """Longest stretch of updates in which one seed repeats the noise of another, shifted."""
    position = {seed_of(second, Stream.CHAINS, u) & 0xFFFFFFFF: u for u in range(updates)}
    shifts = [
        position[low] - u
        for u in range(updates)
        if (low := seed_of(first, Stream.CHAINS, u) & 0xFFFFFFFF) in position
    ]
    return max((len(list(same)) for _, same in itertools.groupby(shifts)), default=0)


def naive_seed(seed: int, stream: Stream, update: int) -> int:
    return seed + 4 * update + stream


def test_the_same_place_gives_the_same_numbers() -> None:
    first = torch.randn(50, generator=generator(3, Stream.CHAINS, 11))
    again = torch.randn(50, generator=generator(3, Stream.CHAINS, 11))
    assert torch.equal(first, again)


def test_numbers_do_not_depend_on_the_global_state() -> None:
    torch.manual_seed(0)
    first = torch.randn(8, generator=generator(3, Stream.DATA, 0))
    torch.manual_seed(1)
    assert torch.equal(first, torch.randn(8, generator=generator(3, Stream.DATA, 0)))


@pytest.mark.parametrize(
    ("seed", "stream", "update"),
    [(4, Stream.CHAINS, 11), (3, Stream.DATA, 11), (3, Stream.CHAINS, 12)],
    ids=["seed", "stream", "update"],
)
def test_another_place_gives_other_numbers(seed: int, stream: Stream, update: int) -> None:
    first = torch.randn(50, generator=generator(3, Stream.CHAINS, 11))
    assert not (first == torch.randn(50, generator=generator(seed, stream, update))).any()


def test_no_two_updates_of_a_training_share_a_generator() -> None:
    # torch's CPU generator sees these 32 bits only
    low = {
        stream_seed(5, stream, update) & 0xFFFFFFFF
        for stream, update in itertools.product(Stream, range(50_000))
    }
    assert len(low) == 50_000 * len(Stream)


def test_seeds_share_no_generators_where_a_naive_seed_does() -> None:
    assert shared_seeds(stream_seed, 2_000) == 0
    assert shared_seeds(naive_seed, 2_000) > 1_000


def counting_seed(seed: int, stream: Stream, update: int) -> int:
    """Mixes the sum of key and counter only once, as if one key were enough."""
    return _mix32((_mix64(seed) + 4 * update + stream) & 0xFFFFFFFF)


def neighbours() -> tuple[int, int]:
    """Two seeds whose keys differ by a few hundred updates in their lower half."""
    keys = sorted((_mix64(seed) & 0xFFFFFFFF, seed) for seed in range(50_000))
    for (low, first), (high, second) in itertools.pairwise(keys):
        if high - low < 4_000 and (high - low) % 4 == 0:
            return first, second
    raise AssertionError("no such seeds")


def test_no_seed_is_another_one_shifted_in_time() -> None:
    first, second = neighbours()
    assert longest_shared_stretch(counting_seed, first, second) > 1_000
    assert longest_shared_stretch(stream_seed, first, second) <= 1
    assert longest_shared_stretch(naive_seed, 0, 4) > 1_000
    assert longest_shared_stretch(stream_seed, 0, 4) <= 1


def test_seeds_are_what_torch_takes() -> None:
    seeds = [stream_seed(seed, stream, 2**29) for seed in SEEDS for stream in Stream]
    assert all(0 <= seed < 2**63 for seed in seeds)
    # the upper half, which CUDA uses as well, tells seeds apart
    assert len({stream_seed(seed, Stream.DATA, 0) >> 32 for seed in SEEDS}) == len(SEEDS)


def test_a_negative_update_is_refused() -> None:
    with pytest.raises(ValueError, match="`update >= 0` must hold, but got update=-1"):
        stream_seed(0, Stream.DATA, -1)


def largest_correlation(rows: torch.Tensor) -> float:
    """Largest correlation between two rows, in standard errors."""
    gram = torch.corrcoef(rows).abs()
    return float((gram - torch.eye(len(rows))).max()) * math.sqrt(rows.shape[1])


def test_streams_updates_and_seeds_are_independent() -> None:
    places = itertools.product((0, 1), Stream, (0, 1, 2))
    rows = torch.stack([torch.randn(20_000, generator=generator(*place)) for place in places])
    assert largest_correlation(rows) < 5
    assert abs(float(rows.mean())) * math.sqrt(rows.numel()) < 5
    rows[1] += 0.1 * rows[0]
    assert largest_correlation(rows) > 5
