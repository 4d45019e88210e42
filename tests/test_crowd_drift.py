"""Drift of the crowd: found when the means move, silent while they do not, and remembered over a restart."""

import numpy as np
import pytest

from models.drift import CHUNK, RECENT, Change, Drift
from models.snapshot import SnapshotError

FEATURES = ("length", "turns")
DAYS = 200 * CHUNK


def crowd(rows: int, seed: int, length: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).normal((length, 0.7), 0.1, (rows, 2))


def test_a_crowd_that_stays_as_it_is_is_no_drift() -> None:
    assert Drift(FEATURES).learn_many(crowd(10 * DAYS, seed=1)) == []


def test_a_feature_that_moves_is_named_with_what_it_was_and_is() -> None:
    drift = Drift(FEATURES)
    assert drift.learn_many(crowd(DAYS, seed=1)) == []
    changes = drift.learn_many(crowd(DAYS, seed=2, length=0.6))
    assert {change.feature for change in changes} == {"length"}
    assert changes[0].before == pytest.approx(0.4, abs=0.01)
    assert changes[0].now == pytest.approx(0.6, abs=0.02)


def test_batches_of_any_size_say_the_same() -> None:
    rows = np.concatenate((crowd(DAYS, seed=1), crowd(DAYS, seed=2, length=0.6)))
    whole = Drift(FEATURES).learn_many(rows)
    drift, found = Drift(FEATURES), []
    for start in range(0, len(rows), 77):
        found += drift.learn_many(rows[start : start + 77])
    assert found == whole != []


def test_what_nobody_shows_has_no_mean() -> None:
    rows = crowd(2 * DAYS, seed=3)
    rows[DAYS:, 0] = np.nan
    drift = Drift(FEATURES)
    assert drift.learn_many(rows) == []
    assert drift.learn_many(crowd(RECENT * CHUNK, seed=4)) == []


def test_it_goes_on_after_a_restart_as_if_nothing_had_happened() -> None:
    rows = np.concatenate((crowd(DAYS + 5, seed=1), crowd(DAYS, seed=2, length=0.6)))
    cut = DAYS + 17
    drift = Drift(FEATURES)
    drift.learn_many(rows[:cut])
    again = Drift.restore(drift.snapshot(), FEATURES)
    expected: list[Change] = drift.learn_many(rows[cut:])
    assert again.learn_many(rows[cut:]) == expected != []
    assert again.snapshot() == drift.snapshot()
    assert Drift.restore(drift.snapshot(), ("other",)).learn_many(np.full((DAYS, 1), 0.5)) == []
    with pytest.raises(SnapshotError):
        Drift.restore(b"nonsense", FEATURES)
