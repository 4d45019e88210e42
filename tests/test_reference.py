"""A reference ranks a score among the scores of the past, and does not run after the present."""

import numpy as np
import pytest

from models.detector import BoolVector
from models.reference import Reference


def plain(size: int) -> BoolVector:
    return np.zeros(size, dtype=np.bool_)


def test_rank_is_the_share_of_scores_as_high() -> None:
    reference = Reference()
    reference.add(np.arange(256) / 256, plain(256))
    scores = np.array([2.0, 255 / 256, 0.75, 0.0, -1.0])
    assert reference.rank(scores).tolist() == [1 / 257, 2 / 257, 65 / 257, 1.0, 1.0]
    assert reference.rank_and_tail(scores)[1].tolist() == reference.rank(scores).tolist()


def test_until_it_holds_enough_everything_is_ordinary() -> None:
    reference = Reference()
    reference.add(np.zeros(255), plain(255))
    assert not reference.ready
    assert reference.rank(np.array([9.0])).tolist() == [1.0]
    reference.add(np.zeros(1), plain(1))
    assert reference.ready
    assert reference.rank(np.array([9.0])).tolist() == [1 / 257]


def test_thinned_scores_are_few_in_the_rank_and_all_in_the_tail() -> None:
    reference = Reference()
    scores = np.concatenate([np.zeros(244), np.ones(12)])
    reference.add(scores, scores == 1.0)  # the twelve stand for 12 * 8 = 96
    rank, tail = reference.rank_and_tail(np.array([1.0]))
    assert rank[0] == 13 / 257
    assert tail[0] == 97 / 341


def test_a_full_reference_slows_down() -> None:
    reference = Reference(size=256, slowest=4)
    for _ in range(16):
        reference.add(np.zeros(256), plain(256))
    reference.add(np.ones(512), plain(512))
    # By now one score in four enters: 128 ones, of which up to 63 may still wait.
    assert (1 + 128 - 63) / 257 <= reference.rank(np.array([1.0]))[0] <= (1 + 128) / 257
    reference.add(np.ones(512), plain(512), every=True)
    assert reference.rank(np.array([1.0]))[0] == 1.0


def test_any_split_into_batches_holds_the_same_scores() -> None:
    dice = np.random.default_rng(0)
    scores, thin = dice.random(5_000), dice.random(5_000) < 0.1
    whole, parts = Reference(size=512), Reference(size=512)
    for start in range(0, 5_000, 10):
        whole.add(scores[start : start + 10], thin[start : start + 10])
        parts.add(scores[start : start + 3], thin[start : start + 3])
        parts.add(scores[start + 3 : start + 10], thin[start + 3 : start + 10])
    asked = dice.random(50)
    assert whole.rank(asked).tolist() == parts.rank(asked).tolist()
    assert whole.rank_and_tail(asked)[1].tolist() == parts.rank_and_tail(asked)[1].tolist()


def test_a_reference_cannot_be_smaller_than_what_it_needs() -> None:
    with pytest.raises(ValueError, match="at least 256"):
        Reference(size=255)
