"""Manner: a box around how the members of a campaign ask, and who lies within."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.manner import LEAST_ASKED, LEAST_MEMBERS, REACH, Manner, manner, within

BOX = Manner((0.0, 4.0, 7.5), (0.2, 0.1, 0.3))
MANY = np.full(1, 1e6)


def members(count: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    dice = np.random.default_rng(seed)
    return np.array(BOX.middle) + dice.standard_normal((count, 3)) * BOX.spread, np.full(count, 1e6)


def test_the_middle_and_the_spread_are_those_of_the_members() -> None:
    found = manner(*members(4_000))
    assert found is not None
    np.testing.assert_allclose(found.middle, BOX.middle, atol=0.02)
    np.testing.assert_allclose(found.spread, np.maximum(BOX.spread, 0.1), rtol=0.1)


def test_a_third_of_members_that_do_something_else_hardly_move_it() -> None:
    points, asked = members(900)
    points[:300] = [5.0, 9.0, 2.0]
    found = manner(points, asked)
    assert found is not None
    np.testing.assert_allclose(found.middle, BOX.middle, atol=0.3)


def test_a_few_members_have_no_manner_and_those_who_asked_little_do_not_count() -> None:
    points, asked = members(LEAST_MEMBERS)
    assert manner(points, asked) is not None
    assert manner(points[1:], asked[1:]) is None
    asked[0] = LEAST_ASKED - 1
    assert manner(points, asked) is None


def test_who_differs_on_one_side_is_outside() -> None:
    for side in range(3):
        away = np.array([BOX.middle])
        away[0, side] += 1.01 * REACH * BOX.spread[side]
        assert not within(BOX, away, MANY)[0]
        away[0, side] = BOX.middle[side] + 0.99 * REACH * BOX.spread[side]
        assert within(BOX, away, MANY)[0]


def test_with_few_questions_one_may_lie_further_out_and_with_fewer_still_one_is_nobodys() -> None:
    point = np.array([BOX.middle]) + 0.6
    assert not within(BOX, point, np.full(1, 100.0))[0]
    assert within(BOX, point, np.full(1, LEAST_ASKED))[0]
    assert not within(BOX, point, np.full(1, LEAST_ASKED - 0.1))[0]


@settings(max_examples=50)
@given(st.integers(LEAST_MEMBERS, 300), st.integers(0, 1_000), st.floats(6, 500))
def test_most_members_lie_in_the_box_made_of_them(count: int, seed: int, asked: float) -> None:
    points, _ = members(count, seed)
    each = np.full(count, asked)
    found = manner(points, each)
    assert found is not None
    assert within(found, points, each).mean() >= 0.6
