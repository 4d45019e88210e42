"""What is learned online: it survives a restart whole, and people hear when the crowd changes."""

import numpy as np
import pytest
import zstandard

from models import score as scoring
from models.ensemble import Ensemble
from models.snapshot import SnapshotError
from streams.features import DETECTOR_FEATURES, LIMITS, unscaled
from streams.learned import AGAIN_MS, DRIFTING, Learned

WIDE = len(DETECTOR_FEATURES)
LENGTH = DETECTOR_FEATURES.index("output_length")


def crowd(rows: int, seed: int, middle: float = 0.4) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).normal(middle, 0.05, (rows, WIDE)), 0, 1)


def taught() -> Learned:
    learned = Learned(Ensemble(DETECTOR_FEATURES, size=1_024))
    learned.learn(crowd(4_000, seed=1), np.arange(4_000) % 300)
    evidence = np.random.default_rng(2).uniform(0, 2, (40, len(scoring.OWN)))
    learned.learn_labels(evidence, evidence[:, 0] > 1, [f"account-{n}" for n in range(40)])
    return learned


def test_everything_survives_a_restart() -> None:
    learned = taught()
    again = Learned.restore(learned.snapshot())
    view, evidence = crowd(50, seed=3, middle=0.5), np.random.default_rng(4).uniform(0, 2, (50, len(scoring.OWN)))
    assert again.tails(view).tolist() == learned.tails(view).tolist()
    assert again.judged(evidence).tolist() == learned.judged(evidence).tolist()
    assert again.judged(evidence).any()
    assert again.snapshot() == learned.snapshot()


def test_an_ensemble_stored_alone_is_still_read_and_nonsense_is_not() -> None:
    ensemble = Ensemble(DETECTOR_FEATURES, size=1_024)
    ensemble.learn_many(crowd(2_000, seed=1))
    old = Learned.restore(zstandard.compress(ensemble.snapshot()))
    view = crowd(20, seed=5)
    assert old.tails(view).tolist() == ensemble.tail_many(view).tolist()
    for nonsense in (b"nonsense", zstandard.compress(b"nonsense")):
        with pytest.raises(SnapshotError):
            Learned.restore(nonsense)


def test_people_hear_once_of_a_crowd_whose_answers_became_longer() -> None:
    learned = Learned()
    learned.learn(crowd(8_000, seed=1), np.arange(8_000) % 300)
    assert learned.alerts(0) == []
    longer = crowd(8_000, seed=2)
    longer[:, LENGTH] += 0.1
    learned.learn(longer, np.arange(8_000) % 300)
    (said,) = learned.alerts(5)
    assert (said.kind, said.subject, said.at) == ("drift", "feature:output_length", 5)
    # 0.4 and 0.5 of a log scale to 32,768 tokens.
    assert said.details["before"] == pytest.approx(unscaled("output_length", 0.4), rel=0.1)
    assert said.details["now"] == pytest.approx(unscaled("output_length", 0.5), rel=0.2)
    assert learned.alerts(6) == []


def test_people_hear_while_protection_is_lifted_and_when_it_returns() -> None:
    learned = Learned()
    learned.learn(crowd(20_000, seed=1), np.arange(20_000))
    at, said = 0, []
    for start in range(0, 80_000, 1_000):
        learned.learn(crowd(1_000, seed=start, middle=0.8), np.arange(1_000))
        at += AGAIN_MS // 4
        said += [one for one in learned.alerts(at) if one.subject == "detector:protection"]
    assert [one.over for one in said] == [False] * (len(said) - 1) + [True]
    assert said[0].details["refused_share"] > 0.2
    assert not learned.lifted


def test_drifting_features_are_among_those_with_limits() -> None:
    assert set(DRIFTING) <= set(LIMITS)
