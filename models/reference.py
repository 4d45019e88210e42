"""Reference: the scores of the past, and how rare a new one is among them.

Slow on purpose: it spans a long past and changes little by little, because a reference that follows the
traffic lets a burst of attacks become ordinary while it lasts.
"""

from typing import Final

import numpy as np

from models.detector import BoolVector, FloatVector, IntVector
from models.snapshot import State

FEWEST: Final = 256
"""Scores a reference must hold before it is asked: with fewer, its smallest rank is above 0.4 %."""

THINNED: Final = 8
"""Of scores that look extreme one in so many is kept, and stands for all of them."""

_FIRST_FOLD: Final = 64
"""Scores that wait at the start before they are sorted in; later a quarter of what is held waits."""


class Reference:
    """Up to `size` scores. Give it none from a detector's warm-up: they would make all others look rare.

    While it fills, every score is kept; then one in 2, 3, ... up to `slowest` as it turns over, so that in
    the end it spans `size * slowest` rows.

    What looks extreme comes in thinned, and two questions can be asked. `rank` counts the scores held: a
    burst weighs little in it, so it decides what may teach. `tail` counts what they stand for: that is the
    honest probability, and also says of a burst how usual it has become.
    """

    def __init__(self, size: int = 8192, slowest: int = 16) -> None:
        if size < FEWEST or slowest < 1:
            raise ValueError(f"size must be at least {FEWEST} and slowest at least 1")
        self.size = size
        self.slowest = slowest
        self._kept = 0
        self._skip = 0
        self._ring = np.zeros(size)
        self._thinned = np.zeros(size, dtype=np.uint8)
        self._waits = 0
        self._waiting = np.zeros(size // 4)
        self._waiting_thinned = np.zeros(size // 4, dtype=np.uint8)
        self._sort()

    @property
    def count(self) -> int:
        """How many scores it ranks among."""
        return len(self._sorted)

    @property
    def ready(self) -> bool:
        return self.count >= FEWEST

    def rank(self, scores: FloatVector) -> FloatVector:
        """The share of scores held that are as high: (1 + those) / (1 + all). 1 while it is not ready."""
        if not self.ready:
            return np.ones(len(scores))
        return _share(_below(self._sorted, scores), len(self._sorted))

    def rank_and_tail(self, scores: FloatVector) -> tuple[FloatVector, FloatVector]:
        """The rank, and the probability of a score as high: thinned scores count for all they stand for.

        Both are 1 while it is not ready. The tail is the conformal p-value of Vovk, Gammerman, Shafer,
        "Algorithmic Learning in a Random World" (2005).
        """
        if not self.ready:
            return np.ones(len(scores)), np.ones(len(scores))
        below = _below(self._sorted, scores)
        more = THINNED - 1
        stands_for = len(self._sorted) + more * len(self._sorted_thinned)
        tail = _share(below + more * _below(self._sorted_thinned, scores), stands_for)
        return _share(below, len(self._sorted)), tail

    def add(self, scores: FloatVector, thinned: BoolVector, every: bool = False) -> None:
        """Keeps scores, in their order: one in so many, or `every` one when it must follow quickly.

        Where `thinned` is true the score is one of `THINNED`, and the caller left out the others.
        """
        start = 0 if every else self._skip
        while True:
            stride = 1 if every else min(self.slowest, 1 + self._kept // self.size)
            patience = min(max(_FIRST_FOLD, self.count // 4), len(self._waiting))
            piece = slice(start, start + stride * (patience - self._waits), stride)
            waits = self._waits + len(scores[piece])
            if waits == self._waits:
                break
            self._waiting[self._waits : waits] = scores[piece]
            self._waiting_thinned[self._waits : waits] = thinned[piece]
            start += stride * (waits - self._waits)
            self._waits = waits
            if waits == patience:
                self._fold()
        self._skip = start - len(scores)

    def _fold(self) -> None:
        """Puts the waiting scores in the place of the oldest."""
        places = (self._kept + np.arange(self._waits)) % self.size
        self._ring[places] = self._waiting[: self._waits]
        self._thinned[places] = self._waiting_thinned[: self._waits]
        self._kept += self._waits
        self._waits = 0
        self._sort()

    def _sort(self) -> None:
        held = self._ring[: min(self._kept, self.size)]
        self._sorted = np.sort(held)
        self._sorted_thinned = np.sort(held[self._thinned[: len(held)] == 1])

    def state(self) -> State:
        """All that adding changed."""
        return State(
            {"kept": self._kept, "skip": self._skip, "waits": self._waits},
            {
                "ring": self._ring,
                "thinned": self._thinned,
                "waiting": self._waiting,
                "waiting_thinned": self._waiting_thinned,
            },
        )

    def adopt(self, state: State) -> None:
        """Continues from a state with the names and shapes of `state()`."""
        self._kept = int(state.numbers["kept"])
        self._skip = int(state.numbers["skip"])
        self._waits = int(state.numbers["waits"])
        self._ring = state.arrays["ring"].astype(np.float64)
        self._thinned = state.arrays["thinned"].astype(np.uint8)
        self._waiting = state.arrays["waiting"].astype(np.float64)
        self._waiting_thinned = state.arrays["waiting_thinned"].astype(np.uint8)
        self._sort()


def _below(held: FloatVector, scores: FloatVector) -> IntVector:
    """How many of `held`, sorted, are below each score. In order the search takes half the time, sorting included."""
    order = scores.argsort()
    below = np.empty(len(scores), dtype=np.int64)
    below[order] = held.searchsorted(scores[order])
    return below


def _share(below: IntVector, held: int) -> FloatVector:
    return np.asarray((held + 1 - below) / (held + 1))
