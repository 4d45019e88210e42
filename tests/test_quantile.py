"""Quantiles of many groups at once are those of each group alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.quantile import quantile

VALUES = st.floats(-1e6, 1e6)


@given(st.lists(st.lists(VALUES, min_size=2, max_size=20), min_size=1), st.floats(0, 1, exclude_max=True))
def test_each_stretch_has_its_own_to_the_last_bit(groups: list[list[float]], part: float) -> None:
    size = np.array([len(group) for group in groups])
    ends = np.cumsum(size)
    ordered = np.concatenate([np.sort(group) for group in groups])
    found = quantile(ordered, ends - size, ends, part)
    assert found.tolist() == [np.quantile(group, part) for group in groups]


def test_it_lies_between_two_values() -> None:
    assert quantile(np.array([0.0, 10.0, 20.0]), np.array([0]), np.array([3]), 0.25).tolist() == [5.0]
