"""Privacy: differentially private noise on probabilities, with an account of what each subject has learnt.

What is promised: of one position's numbers, given the names listed there and their order, nobody can tell two models
apart with more than odds e^epsilon, however far apart their numbers are. The names, their order and the text itself are
not covered: they are what the customer came for. The noise is the geometric mechanism (Ghosh, Roughgarden and
Sundararajan, Universally Utility-Maximizing Privacy Mechanisms, STOC 2009): whole numbers, so that no low bit of a
float gives the truth away; then the nearest falling sequence is told, which costs no privacy.

What it costs over many positions: the smaller of the plain sum of epsilons and the bound of zero-concentrated
differential privacy (Bun and Steinke, Concentrated Differential Privacy, TCC 2016, arXiv:1605.02065): a position adds
epsilon^2 / 2 to rho, and rho amounts to an epsilon of rho + 2 sqrt(rho ln(1/delta)).

Zheng et al. (BDPL, ESORICS 2019) make only answers near a classifier's boundary private, without any limit on queries.
A language model's boundary is everywhere, so here every number is covered and the number of positions is limited.
`make countermeasures` measures the effect: see Measured in README.md.
"""

import math
import threading
from collections import OrderedDict
from typing import Final

import numpy as np

from .dice import uniforms
from .perturb import Vector, falling

DELTA: Final = 1e-6
"""Probability with which the composed bound may fail."""

MOST_SUBJECTS: Final = 100_000
"""Subjects whose account is kept at once; beyond that, who was silent longest begins anew."""

EPSILON: Final = 4.0
"""What one position may tell, at full strength."""

GRID: Final = 1024
"""Probabilities are rounded to multiples of 1 / GRID before the noise."""

_RAMP: Final = 0.02
"""Share of a plain falling ramp in what is told: keeps ranks apart that the noise threw together."""


def private(probabilities: Vector, epsilon: float, key: bytes, content: bytes, *, whole: bool = False) -> Vector:
    """Noisy probabilities in the same order: epsilon-differentially private, given names and order.

    `content` must name the question and the position in its answer: the same noise on two different truths would tell
    their difference, and the same truth under different noise could be averaged. `whole` says that these are all there
    are, to be told with a sum of 1; else the sum is at most 1.
    """
    size = len(probabilities)
    order = np.argsort(-probabilities, kind="stable")
    cells = np.round(probabilities[order] * GRID)
    # Two vectors that sum to at most 1 lie at most 2 apart (one alone: 1); rounding adds half a cell an entry, twice.
    furthest = min(size, 2) * GRID + size
    dice = uniforms(key, content, 2 * size)
    decay = -epsilon / furthest
    noise = np.floor(np.log(dice[:size]) / decay) - np.floor(np.log(dice[size:]) / decay)
    noisy = np.clip(np.array(falling((cells + noise).tolist())) / GRID, 0, 1)
    ramp = np.arange(size, 0, -1) / (size * (size + 1) / 2)
    total = float(noisy.sum())
    if total > 1 or (whole and total > 0):
        noisy /= total
    elif whole:
        noisy = ramp
    told = np.empty(size)
    told[order] = (1 - _RAMP) * noisy + _RAMP * ramp
    return told


class Ledger:
    """What each subject has spent, for any thread. It remembers at most `most` subjects and nothing across a restart.

    `budget` is the most epsilon a subject may spend in all, at a `delta` that the bound fails.
    """

    def __init__(self, budget: float, *, delta: float = DELTA, most: int = MOST_SUBJECTS) -> None:
        self._budget = budget
        self._delta = delta
        self._most = most
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()  # sums of epsilon and of rho
        self._lock = threading.Lock()

    def spend(self, subject: str, epsilon: float) -> bool:
        """Charge one position; False, and no charge, when the budget does not cover it."""
        with self._lock:
            plain, rho = self._spent.get(subject, (0.0, 0.0))
            plain, rho = plain + epsilon, rho + epsilon**2 / 2
            if composed(plain, rho, self._delta) > self._budget:
                return False
            self._spent[subject] = (plain, rho)
            self._spent.move_to_end(subject)
            if len(self._spent) > self._most:
                self._spent.popitem(last=False)
            return True

    def spent(self, subject: str) -> float:
        """Epsilon spent so far, composed."""
        plain, rho = self._spent.get(subject, (0.0, 0.0))
        return composed(plain, rho, self._delta)

    def exhausted(self, subject: str, epsilon: float) -> bool:
        """Whether the budget covers no further position."""
        plain, rho = self._spent.get(subject, (0.0, 0.0))
        return composed(plain + epsilon, rho + epsilon**2 / 2, self._delta) > self._budget


def composed(plain: float, rho: float, delta: float = DELTA) -> float:
    """Epsilon of many positions whose epsilons sum to `plain` and whose rhos sum to `rho`."""
    return min(plain, rho + 2 * math.sqrt(rho * math.log(1 / delta)))
