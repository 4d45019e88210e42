"""Manner: how fast, and with what lengths, the accounts of one campaign ask bare questions.

A campaign that was acted on is known by its manner: its accounts do one job at one rate, whatever else they hide, so an
account without settings, sketches and addresses can still be told to be one of them. The manner is a box around the
middle member in three logarithms: bare questions an hour, tokens sent and tokens received. Robust to some members that
do other things (median and median absolute deviation; Huber, "Robust Statistics", 1981). What it is worth is learned as
for any trait: the share of the background that lies in the box.

Misleads: a newcomer who happens to work at that rate with such lengths, as batch jobs do. So it never makes a campaign,
nobody is a member by it alone, and it says nothing of accounts that show a setup of their own.
"""

from typing import Final, NamedTuple

import numpy as np

from .detector import BoolVector, FloatMatrix, FloatVector

LEAST_ASKED: Final = 6.0
"""Bare questions from which an account has a manner."""

LEAST_MEMBERS: Final = 8
"""Members with a manner from which their campaign has one."""

REACH: Final = 2.5
"""Standard deviations from the middle to each side of the box: of normal members 96 % lie within on all three sides."""

_LEAST_SPREAD: Final = 0.1
_NORMAL: Final = 1.4826
"""Standard deviations in a median absolute deviation of a normal distribution."""

Triple = tuple[float, float, float]


class Manner(NamedTuple):
    """The middle of the box and the standard deviation of its members, in natural logarithms: rate (an hour), tokens
    sent, tokens received."""

    middle: Triple
    spread: Triple


def manner(points: FloatMatrix, asked: FloatVector) -> Manner | None:
    """The manner of some members from their points (members, 3) and their numbers of bare questions; None where too few
    have asked enough."""
    enough = asked >= LEAST_ASKED
    if int(enough.sum()) < LEAST_MEMBERS:
        return None
    chosen = points[enough]
    middle = np.median(chosen, axis=0)
    seen = _NORMAL * np.median(np.abs(chosen - middle), axis=0)
    # Part of what is seen is chance: a Poisson count, and means of lengths that vary as much as they are long.
    chance = float(np.median(1.0 / asked[enough]))
    spread = np.sqrt(np.maximum(seen**2 - chance, _LEAST_SPREAD**2))
    return Manner(_triple(middle), _triple(spread))


def within(one: Manner, points: FloatMatrix, asked: FloatVector) -> BoolVector:
    """Which points (accounts, 3) lie in the box, given their numbers of bare questions: with few of them they may lie
    further out."""
    chance = 1.0 / np.maximum(asked, 1e-9)[:, None]
    away = np.abs(points - np.array(one.middle)) / np.sqrt(np.array(one.spread) ** 2 + chance)
    inside: BoolVector = (asked >= LEAST_ASKED) & (away <= REACH).all(axis=1)
    return inside


def _triple(values: FloatVector) -> Triple:
    rate, sent, received = (round(float(value), 6) for value in values)
    return rate, sent, received
