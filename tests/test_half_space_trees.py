"""Half-Space Trees give River's scores to the last bit, in any batches, with values missing."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import anomaly, datasets

from models.detector import FloatMatrix
from models.half_space_trees import HalfSpaceTrees


def assert_equal_to_river(
    X: FloatMatrix, batches: list[int], n_trees: int, height: int, window: int, seed: int
) -> None:
    """Scores each batch, then learns it, here and in River; compares every score by ==."""
    # Names in an order that is not the columns': River sorts them before it grows its trees.
    features = tuple(f"f{(7 * i) % 11}" for i in range(X.shape[1]))
    ours = HalfSpaceTrees(features, n_trees, height, window, seed)
    river = anomaly.HalfSpaceTrees(n_trees=n_trees, height=height, window_size=window, seed=seed)
    start = 0
    for size in batches:
        batch = X[start : start + size]
        named = [
            {name: value for name, value in zip(features, row, strict=True) if value == value} for row in batch.tolist()
        ]
        assert ours.score_many(batch).tolist() == [river.score_one(row) for row in named]
        ours.learn_many(batch)
        for row in named:
            river.learn_one(row)
        start += size
    assert start == len(X)


@pytest.mark.parametrize(
    ("n_trees", "height", "window", "seed"),
    [(25, 8, 250, 0), (25, 8, 250, 42), (10, 8, 100, 7), (4, 3, 33, 1), (3, 1, 1, 5), (1, 10, 500, 3)],
)
def test_equal_to_river(n_trees: int, height: int, window: int, seed: int) -> None:
    X = np.random.default_rng(seed).beta(2, 5, (1_000, 8))
    assert_equal_to_river(X, [1, 249, 1, 500, 249], n_trees, height, window, seed)


@pytest.mark.parametrize("absent", [0.01, 0.3])
def test_equal_to_river_where_values_are_absent(absent: float) -> None:
    dice = np.random.default_rng(3)
    X = dice.beta(2, 5, (400, 8))
    X[1:][dice.random((399, 8)) < absent] = np.nan
    X[200] = np.nan
    assert_equal_to_river(X, [1, 99, 200, 100], n_trees=10, height=6, window=64, seed=2)


def test_equal_to_river_on_recorded_rows() -> None:
    rows = [list(x.values()) for x, _ in islice(datasets.Shuttle(), 3_000)]
    X = 0.5 + np.array(rows, dtype=np.float64) / 1_000  # most within [0, 1], some far outside
    assert_equal_to_river(X, [512, 512, 512, 512, 512, 440], n_trees=25, height=8, window=1024, seed=1)


@given(st.data())
def test_equal_to_river_however_the_stream_is_cut(data: st.DataObject) -> None:
    batches = data.draw(st.lists(st.integers(0, 25), min_size=1, max_size=8))
    holes = data.draw(st.floats(0.0, 0.5))
    window = data.draw(st.integers(1, 20))
    dice = np.random.default_rng(data.draw(st.integers(0, 99)))
    X = dice.random((sum(batches), 3)).round(1)  # ties, and values at 0 and 1
    X[1:][dice.random((max(len(X) - 1, 0), 3)) < holes] = np.nan
    assert_equal_to_river(X, batches, n_trees=2, height=3, window=window, seed=data.draw(st.integers(0, 9)))


def test_the_first_window_scores_nothing() -> None:
    trees = HalfSpaceTrees(("f",), window_size=10)
    X = np.full((10, 1), 0.5)
    trees.learn_many(X[:9])
    assert not trees.ready
    assert trees.score_many(X).tolist() == [0.0] * 10
    trees.learn_many(X[:1])
    assert trees.ready
    # All ten rows passed every node above the leaf of 0.5: the least strange there is.
    assert trees.score_many(np.array([[0.5], [0.01]])).tolist()[0] == 0.0
    assert trees.score_many(np.array([[0.01]]))[0] > 0.5


def test_trees_need_at_least_one_of_each() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        HalfSpaceTrees(("f",), height=0)
