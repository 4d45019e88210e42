"""The decayed histogram: tails and quantiles one can count by hand, and a past that fades."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.histogram import DecayedHistogram
from models.turns import next_turn, pieces


def test_tails_count_the_rows_at_least_as_far_out() -> None:
    histogram = DecayedHistogram(columns=1, bins=4, half_life=10**12)
    histogram.learn_many(np.repeat([0.1, 0.3, 0.6, 0.9], [10, 10, 10, 2])[:, None])
    upper, lower = histogram.tail(np.array([[0.1], [0.3], [0.6], [0.9], [np.nan]]))
    assert upper[:, 0].tolist() == pytest.approx([1.0, 23 / 33, 13 / 33, 3 / 33, 1.0])
    assert lower[:, 0].tolist() == pytest.approx([11 / 33, 21 / 33, 31 / 33, 1.0, 1.0])


def test_quantiles_lie_inside_their_bin() -> None:
    histogram = DecayedHistogram(columns=2, bins=4, half_life=10**12)
    histogram.learn_many(np.array([[0.1, np.nan]] * 16 + [[0.6, np.nan]] * 16))
    assert histogram.quantile(0.25)[0] == pytest.approx(0.125)  # half of the first bin
    assert histogram.quantile(0.75)[0] == pytest.approx(0.625)
    assert np.isnan(histogram.quantile(0.5)[1])
    with pytest.raises(ValueError, match=r"not at 1\.5"):
        histogram.quantile(1.5)


def test_values_outside_the_limits_count_at_the_ends() -> None:
    histogram = DecayedHistogram(columns=1, bins=4)
    histogram.learn_many(np.array([[-3.0], [-np.inf]] * 8 + [[1.0], [np.inf]] * 8))
    assert histogram.tail(np.array([[0.9]]))[0][0, 0] == pytest.approx(17 / 33)
    assert histogram.tail(np.array([[0.1]]))[1][0, 0] == pytest.approx(17 / 33)


def test_the_past_halves_in_a_half_life() -> None:
    histogram = DecayedHistogram(columns=1, bins=2, half_life=1024)
    histogram.learn_many(np.full((1024, 1), 0.1))
    before = histogram.tail(np.array([[0.1]]))[1][0, 0]
    histogram.learn_many(np.full((1024, 1), 0.9))
    after = histogram.tail(np.array([[0.1]]))[1][0, 0]
    assert before == pytest.approx(1.0)
    # 1,024 new rows; the 1,024 old ones, learned in turns of their own, weigh half.
    assert after == pytest.approx(1 / 3, abs=0.05)


def test_nothing_is_known_before_the_first_turn() -> None:
    histogram = DecayedHistogram(columns=1, bins=4)
    assert not histogram.learn_many(np.full((31, 1), 0.1))
    assert histogram.tail(np.array([[0.9]]))[0].tolist() == [[1.0]]
    assert histogram.learn_many(np.full((1, 1), 0.1))
    assert histogram.tail(np.array([[0.9]]))[0].tolist() == [[1 / 33]]


@given(st.lists(st.integers(0, 3_000), max_size=12))
def test_pieces_cover_a_batch_and_end_at_every_turn(batches: list[int]) -> None:
    seen, turns = 0, []
    for rows in batches:
        covered = 0
        for piece, turn in pieces(rows, seen, 1024):
            assert piece.start == covered < piece.stop
            covered = piece.stop
            if turn:
                turns.append(seen + covered)
        assert covered == rows
        seen += rows
    expected, at = [], next_turn(0, 1024)
    while at <= seen:
        expected.append(at)
        at = next_turn(at, 1024)
    assert turns == expected
    assert expected[:7] == [32, 64, 128, 256, 512, 1024, 2048][: len(expected)]
