"""Perturb: probabilities that keep their order and their top choice, and lose their calibration.

Two ways, both moved towards a target that is itself ordered, and only so far that no probability changes by more than a
stated bound. A mixture of two distributions in the same order is one in that order: so order, top choice, sum and bound
hold by construction.

- `reverse_sigmoid`, after Lee, Edwards, Molloy and Su, Defending Against Neural Network Model Stealing Attacks Using
  Deceptive Perturbations (IEEE SPW 2019, arXiv:1806.00054): many true values lead to one returned value. Theirs may
  change the order below the top choice; here it is restored (isotonic regression). It draws nothing, so repeats tell
  nothing, but whoever knows the curve can undo the part that is invertible.
- `bounded_random`: a random distribution in the same order, keyed. Orekondy, Schiele and Fritz, Prediction Poisoning
  (ICLR 2020, arXiv:1906.10908), showed that the target can be aimed at the thief's gradient; that needs a guess of the
  thief's model for each answer, which a gateway does not have.

Neither hurts a thief who takes the top choice alone and has questions enough; what they take away is what probabilities
add to that. `make countermeasures` measures how much: see Measured in README.md.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .dice import uniforms

Vector = NDArray[np.float64]

BOUND: Final = 0.5
"""No probability changes by more than this, at full strength."""

BETA: Final = 0.7
GAMMA: Final = 0.2
"""Height and steepness of the reverse sigmoid."""

_MOST: Final = 0.98
"""Share of the target at most: the rest keeps apart what was apart."""

_TINY: Final = 1e-12


def reverse_sigmoid(probabilities: Vector, bound: float = BOUND) -> Vector:
    """The same order, each value pulled against its own certainty; at most `bound` from the truth.

    Takes any part of a distribution: values in [0, 1] with a sum of at most 1. What they sum to stays.
    """

    def target(ordered: Vector) -> Vector:
        clear = np.clip(ordered, _TINY, 1 - _TINY)
        pulled = ordered - BETA * (1 / (1 + ((1 - clear) / clear) ** GAMMA) - 0.5)
        return falling(np.maximum(pulled, 0))

    return _moved(probabilities, bound, target)


def bounded_random(probabilities: Vector, bound: float, key: bytes, content: bytes) -> Vector:
    """The same order, moved towards a keyed random distribution in that order; at most `bound` from the truth.

    Equal key and content draw the same: repeats do not average out. `content` should change as little as possible when
    the question is varied, such as the names in their order (`content_of`). Takes what `reverse_sigmoid` takes.
    """

    def target(ordered: Vector) -> Vector:
        dice = uniforms(key, content, len(ordered) + 1)
        # From nearly flat to one that takes nearly all.
        weights = (-np.log(dice[1:])) ** (4 * dice[0])
        return np.sort(weights)[::-1]

    return _moved(probabilities, bound, target)


def content_of(names: list[str], probabilities: Vector) -> bytes:
    """What an answer is, for `bounded_random`: its names in falling order, and the top value in tenths.

    Small changes of a question, made to draw again, mostly change none of that.
    """
    order = np.argsort(-probabilities, kind="stable")
    top = round(10 * float(probabilities[order[0]])) if len(order) else 0
    return "\0".join([str(top), *(names[place] for place in order)]).encode("utf-8", "surrogatepass")


def _moved(probabilities: Vector, bound: float, target: Callable[[Vector], Vector]) -> Vector:
    total = float(probabilities.sum())
    if len(probabilities) == 0 or not 0 < total <= 1 + 1e-6 or float(probabilities.min()) < 0:
        raise ValueError(f"{len(probabilities)} probabilities with a sum of {total:g}: need some, in [0, 1], up to 1")
    if len(probabilities) == 1:
        # One alone: all others together are the second.
        both = np.array([probabilities[0], max(1 - probabilities[0], 0.0)])
        return _moved(both, bound, target)[:1]
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    aim = _level(target(ordered), ordered)
    aim *= total / aim.sum() if aim.sum() > 0 else 0.0
    furthest = float(np.abs(aim - ordered).max())
    share = min(_MOST, bound / furthest) if furthest > 0 else 0.0
    moved = np.empty_like(ordered)
    moved[order] = ordered + share * (aim - ordered)
    return np.clip(moved, 0, 1)


def _level(aim: Vector, ordered: Vector) -> Vector:
    """Equal values stay equal: each gets the mean of what its equals get."""
    groups = np.concatenate([[0], np.cumsum(ordered[1:] != ordered[:-1])])
    if int(groups[-1]) + 1 == len(ordered):
        return aim
    leveled: Vector = (np.bincount(groups, aim) / np.bincount(groups))[groups]
    return leveled


def falling(values: Vector) -> Vector:
    """The nearest sequence that never rises: isotonic regression by pooling neighbours that do."""
    sums: list[float] = []
    counts: list[int] = []
    for value in values.tolist():
        sums.append(value)
        counts.append(1)
        while len(sums) > 1 and sums[-2] * counts[-1] < sums[-1] * counts[-2]:
            last, many = sums.pop(), counts.pop()
            sums[-1] += last
            counts[-1] += many
    means: Vector = np.repeat(np.array(sums) / np.array(counts), counts)
    return means
