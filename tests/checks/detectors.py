"""What every detector must do: one check a property, each given a way to build the detector afresh.

`Make` builds a detector of the given features that has learned nothing. Rows come from `ordinary`: spread
around the middle, two features that go together, some values absent where asked.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import pytest

from models.detector import Detector, FloatMatrix
from models.snapshot import SnapshotError

Make: TypeAlias = Callable[[tuple[str, ...]], Detector]
Check: TypeAlias = Callable[[Make], None]

FEATURES = ("pace", "share", "length", "breadth", "age")
ROWS = 1_200
"""Enough for every detector here to leave its warm-up."""


def ordinary(rows: int = ROWS, seed: int = 1, absent: float = 0.0) -> FloatMatrix:
    dice = np.random.default_rng(seed)
    X = dice.normal(0.4, 0.1, (rows, len(FEATURES)))
    X[:, 1] = X[:, 0] + dice.normal(0.0, 0.02, rows)
    X[dice.random(X.shape) < absent] = np.nan
    return np.clip(X, 0.0, 1.0)


def taught(make: Make, X: FloatMatrix | None = None) -> Detector:
    detector = make(FEATURES)
    for batch in np.array_split(ordinary() if X is None else X, 8):
        detector.learn_many(batch)
    return detector


def scoring_changes_nothing(make: Make) -> None:
    detector = taught(make)
    before = detector.snapshot()
    first = detector.score_many(ordinary(seed=2, absent=0.02))
    detector.score_one({"pace": 0.9})
    assert detector.snapshot() == before
    assert detector.score_many(ordinary(seed=2, absent=0.02)).tolist() == first.tolist()


def scores_lie_between_0_and_1(make: Make) -> None:
    rows = ordinary(200, seed=2, absent=0.02)
    rows[:6] = [[value] * len(FEATURES) for value in (0.0, 1.0, -5.0, 7.0, np.inf, -np.inf)]
    for detector in (make(FEATURES), taught(make)):
        scores = detector.score_many(rows)
        assert scores.shape == (200,)
        assert scores.dtype == np.float64
        assert ((scores >= 0.0) & (scores <= 1.0)).all()


def what_is_strange_scores_higher(make: Make) -> None:
    detector = taught(make)
    far = np.full((1, len(FEATURES)), 0.95)
    assert detector.score_many(far)[0] > np.median(detector.score_many(ordinary(seed=2)))


def one_row_is_a_matrix_of_one(make: Make) -> None:
    one, many = make(FEATURES), make(FEATURES)
    X = ordinary(120, absent=0.02)
    for row in X:
        named = {name: value for name, value in zip(FEATURES, row.tolist(), strict=True) if value == value}
        assert one.score_one({**named, "unknown": 0.5}) == many.score_many(row[None])[0]
        one.learn_one({**named, "unknown": 0.5})
        many.learn_many(row[None])
    assert one.snapshot() == many.snapshot()


def equal_rows_give_equal_scores(make: Make) -> None:
    X = ordinary(absent=0.02)
    one, other = taught(make, X), taught(make, X)
    assert one.score_many(X).tolist() == other.score_many(X).tolist()
    assert one.snapshot() == other.snapshot()


def a_snapshot_continues_to_the_bit(make: Make) -> None:
    detector = taught(make, ordinary(absent=0.02))
    raw = detector.snapshot()
    restored = type(detector).restore(raw)
    assert restored.snapshot() == raw
    assert repr(restored) == repr(detector)
    for seed in (2, 3):
        X = ordinary(300, seed, absent=0.02)
        assert restored.score_many(X).tolist() == detector.score_many(X).tolist()
        restored.learn_many(X)
        detector.learn_many(X)
    assert restored.snapshot() == detector.snapshot()


def a_damaged_snapshot_is_refused(make: Make) -> None:
    detector = taught(make)
    raw = detector.snapshot()
    for length in (0, 7, 8, 19, 20, 100, len(raw) - 1):
        with pytest.raises(SnapshotError):
            type(detector).restore(raw[:length])
    for place in (0, 21, len(raw) // 2, len(raw) - 1):
        with pytest.raises(SnapshotError):
            type(detector).restore(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
    with pytest.raises(SnapshotError, match="version 2"):
        type(detector).restore(raw[:8] + (2).to_bytes(4, "little") + raw[12:])


def memory_does_not_grow(make: Make) -> None:
    detector = taught(make)
    before, length = detector.memory_bytes, len(detector.snapshot())
    for seed in range(4):
        detector.learn_many(ordinary(300, seed, absent=0.02))
    assert detector.memory_bytes == before
    assert len(detector.snapshot()) < length + 64  # counters may get longer


def absent_values_are_fine(make: Make) -> None:
    detector = taught(make, ordinary(absent=0.3))
    assert np.isfinite(detector.score_many(ordinary(300, seed=2, absent=0.5))).all()


def a_row_that_says_nothing_is_not_strange(make: Make) -> None:
    detector = taught(make)
    nothing = np.full((1, len(FEATURES)), np.nan)
    assert detector.score_many(nothing)[0] <= np.median(detector.score_many(ordinary(seed=2)))
    detector.learn_many(nothing)
    assert np.isfinite(detector.score_many(ordinary(50, seed=2))).all()


def no_rows_are_fine(make: Make) -> None:
    for detector in (make(FEATURES), taught(make)):
        before = detector.snapshot()
        detector.learn_many(np.empty((0, len(FEATURES))))
        assert detector.score_many(np.empty((0, len(FEATURES)))).shape == (0,)
        assert detector.snapshot() == before


def other_columns_are_refused(make: Make) -> None:
    for shape in ((3, 4), (3, 6), (5,)):
        with pytest.raises(ValueError, match="5 features"):
            make(FEATURES).score_many(np.zeros(shape))


def names_must_be_distinct(make: Make) -> None:
    for features in ((), ("pace", "pace")):
        with pytest.raises(ValueError, match="distinct"):
            make(features)


def rows_are_neither_kept_nor_changed(make: Make) -> None:
    X = ordinary(absent=0.02)
    kept = X.copy()
    detector, twin = make(FEATURES), make(FEATURES)
    detector.score_many(X)
    detector.learn_many(X)
    twin.learn_many(kept)
    assert X.tobytes() == kept.tobytes()
    X[:] = 0.9
    assert detector.snapshot() == twin.snapshot()
    scores = detector.score_many(kept)
    scores[:] = 0.0
    assert detector.score_many(kept).any()


def any_memory_layout_will_do(make: Make) -> None:
    X = ordinary(absent=0.02)
    fortran = np.asfortranarray(X)
    fortran.flags.writeable = False
    sliced = np.repeat(X, 2, axis=1)[:, ::2]
    expected = taught(make, X)
    for other in (fortran, sliced):
        assert taught(make, other).snapshot() == expected.snapshot()
        assert expected.score_many(other).tolist() == expected.score_many(X).tolist()


CHECKS: tuple[Check, ...] = (
    scoring_changes_nothing,
    scores_lie_between_0_and_1,
    what_is_strange_scores_higher,
    one_row_is_a_matrix_of_one,
    equal_rows_give_equal_scores,
    a_snapshot_continues_to_the_bit,
    a_damaged_snapshot_is_refused,
    memory_does_not_grow,
    absent_values_are_fine,
    a_row_that_says_nothing_is_not_strange,
    no_rows_are_fine,
    other_columns_are_refused,
    names_must_be_distinct,
    rows_are_neither_kept_nor_changed,
    any_memory_layout_will_do,
)


def in_any_batches(make: Make) -> Iterator[tuple[Detector, FloatMatrix]]:
    """Detectors that learned the same rows in batches of 1, 7 and 400, and rows to compare them by."""
    X = ordinary(absent=0.02)
    for size in (1, 7, 400):
        detector = make(FEATURES)
        for start in range(0, len(X), size):
            detector.learn_many(X[start : start + size])
        yield detector, ordinary(200, seed=2)
