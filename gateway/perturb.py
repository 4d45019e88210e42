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

import math
from collections.abc import Callable, Sequence
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

    def target(ordered: list[float]) -> list[float]:
        return falling([max(value - BETA * (_sigmoid(value) - 0.5), 0.0) for value in ordered])

    return _moved(probabilities, bound, target)


def bounded_random(probabilities: Vector, bound: float, key: bytes, content: bytes) -> Vector:
    """The same order, moved towards a keyed random distribution in that order; at most `bound` from the truth.

    Equal key and content draw the same: repeats do not average out. `content` should change as little as possible when
    the question is varied, such as the names in their order (`content_of`). Takes what `reverse_sigmoid` takes.
    """

    def target(ordered: list[float]) -> list[float]:
        shape, *dice = uniforms(key, content, len(ordered) + 1).tolist()
        # From nearly flat to one that takes nearly all.
        return sorted(((-math.log(each)) ** (4 * shape) for each in dice), reverse=True)

    return _moved(probabilities, bound, target)


def content_of(names: list[str], probabilities: Vector) -> bytes:
    """What an answer is, for `bounded_random`: its names in falling order, and the top value in tenths.

    Small changes of a question, made to draw again, mostly change none of that.
    """
    values = probabilities.tolist()
    order = _order(values)
    top = round(10 * values[order[0]]) if order else 0
    return "\0".join([str(top), *(names[place] for place in order)]).encode("utf-8", "surrogatepass")


def falling(values: Sequence[float]) -> list[float]:
    """The nearest sequence that never rises: isotonic regression by pooling neighbours that do."""
    sums: list[float] = []
    counts: list[int] = []
    for value in values:
        sums.append(value)
        counts.append(1)
        while len(sums) > 1 and sums[-2] * counts[-1] < sums[-1] * counts[-2]:
            last, many = sums.pop(), counts.pop()
            sums[-1] += last
            counts[-1] += many
    return [each / many for each, many in zip(sums, counts, strict=True) for _ in range(many)]


# Lists rather than arrays: an answer lists twenty probabilities at most, too few for numpy to be quick.
def _moved(probabilities: Vector, bound: float, target: Callable[[list[float]], list[float]]) -> Vector:
    values = probabilities.tolist()
    total = sum(values)
    if not values or not 0 < total <= 1 + 1e-6 or min(values) < 0:
        raise ValueError(f"{len(values)} probabilities with a sum of {total:g}: need some, in [0, 1], up to 1")
    if len(values) == 1:
        # One alone: all others together are the second.
        return _moved(np.array([values[0], max(1 - values[0], 0.0)]), bound, target)[:1]
    order = _order(values)
    ordered = [values[place] for place in order]
    aim = _level(target(ordered), ordered)
    scale = total / whole if (whole := sum(aim)) > 0 else 0.0
    steps = [each * scale - value for each, value in zip(aim, ordered, strict=True)]
    furthest = max(map(abs, steps))
    share = min(_MOST, bound / furthest) if furthest > 0 else 0.0
    for place, step in zip(order, steps, strict=True):
        values[place] = min(max(values[place] + share * step, 0.0), 1.0)
    return np.array(values)


def _order(values: list[float]) -> list[int]:
    return sorted(range(len(values)), key=values.__getitem__, reverse=True)


def _level(aim: list[float], ordered: list[float]) -> list[float]:
    """Equal values stay equal: each gets the mean of what its equals get."""
    start = 0
    for end in range(1, len(ordered) + 1):
        if end == len(ordered) or ordered[end] != ordered[start]:
            if end - start > 1:
                aim[start:end] = [sum(aim[start:end]) / (end - start)] * (end - start)
            start = end
    return aim


def _sigmoid(value: float) -> float:
    """The sigmoid of GAMMA times the value's log-odds."""
    clear = min(max(value, _TINY), 1 - _TINY)
    return float(1 / (1 + ((1 - clear) / clear) ** GAMMA))
