"""Distinct counts stay within their stated error, and merging never depends on order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.distinct import estimate, mix, registers


def sketch_of(values: np.ndarray, size: int) -> np.ndarray:
    index, rank = registers(mix(values.astype(np.uint64)), size)
    seen = np.zeros(size, dtype=np.uint8)
    np.maximum.at(seen, index, rank)
    return seen


@pytest.mark.parametrize(("size", "error"), [(16, 0.26), (32, 0.184), (64, 0.13)])
@pytest.mark.parametrize("count", [3, 30, 300, 3_000, 30_000])
def test_the_error_is_as_stated(size: int, error: float, count: int) -> None:
    trials = np.stack([sketch_of(np.arange(count) + trial * 1_000_003, size) for trial in range(200)])
    relative = estimate(trials) / count - 1
    assert np.sqrt(np.mean(relative**2)) < error * 1.25
    assert abs(np.mean(relative)) < error / 2


def test_nothing_seen_counts_as_nothing() -> None:
    assert estimate(np.zeros((2, 64), dtype=np.uint8)).tolist() == [0.0, 0.0]


def test_one_value_seen_often_counts_once() -> None:
    assert estimate(sketch_of(np.full(1_000, 7), 64)[None])[0] == pytest.approx(1, abs=0.01)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=50), st.integers(0, 50))
def test_a_merge_of_parts_equals_the_whole(values: list[int], split: int) -> None:
    whole = np.array(values, dtype=np.uint64)
    parts = [sketch_of(part, 64) for part in (whole[:split], whole[split:]) if len(part)]
    assert np.maximum.reduce(parts).tolist() == sketch_of(whole, 64).tolist()


def test_hashes_are_the_same_in_every_process_and_version() -> None:
    # The first output of SplitMix64 seeded with 0, and with 1234567 (published test vector).
    assert int(mix(np.array([0], dtype=np.uint64))[0]) == 0xE220A8397B1DCDAF
    assert int(mix(np.array([1_234_567], dtype=np.uint64))[0]) == 6_457_827_717_110_365_317
