"""DecayedHistogram: how the values of each feature are spread, with the past fading by rows.

Every feature has fixed limits [0, 1] and equal bins. Learning adds counts; at a turn (see turns.py) the
past is multiplied down and the tables that answer are worked out anew. So any split into batches gives the
same tables.
"""

from typing import Final

import numpy as np

from models.detector import FloatMatrix, FloatVector, IntMatrix
from models.snapshot import State
from models.turns import pieces

STEP: Final = 1024
"""Rows between two turns."""


class DecayedHistogram:
    """One histogram of `bins` bins for each of `columns` features; a row's weight halves in `half_life` rows.

    NaN is absent: it counts nowhere. Values outside [0, 1] count in the outermost bins.
    """

    def __init__(self, columns: int, bins: int = 256, half_life: int = 200_000) -> None:
        if min(columns, bins, half_life) < 1:
            raise ValueError("columns, bins and half_life must be at least 1")
        self.columns = columns
        self.bins = bins
        self.half_life = half_life
        # Each column has one bin more, for absent values; it is counted and never read.
        self._offsets = (np.arange(columns) * (bins + 1))[:, None]
        self.seen = 0
        self._fresh = 0
        self._counts = np.zeros(columns * (bins + 1))
        self._mass = np.zeros(columns * (bins + 1))
        self._work_out()

    def locate(self, X: FloatMatrix) -> IntMatrix:
        """The number of the bin of each value (columns x rows), over all columns."""
        scaled = X.T * self.bins
        absent = np.isnan(scaled)
        np.clip(scaled, 0, self.bins - 1, out=scaled)
        if absent.any():
            scaled[absent] = self.bins
        cells = scaled.astype(np.int64)
        cells += self._offsets
        return cells

    def learn_many(self, X: FloatMatrix) -> bool:
        """Counts the rows of `X` (rows x columns). Whether a turn came, so that the tables changed."""
        return self.learn_at(self.locate(X))

    def learn_at(self, cells: IntMatrix) -> bool:
        """Counts located rows. Whether a turn came, so that the tables changed."""
        turned = False
        for piece, turn in pieces(cells.shape[1], self.seen, STEP):
            self._counts += np.bincount(cells[:, piece].ravel(), minlength=len(self._counts))
            self._fresh += piece.stop - piece.start
            if turn:
                self._mass *= 0.5 ** (self._fresh / self.half_life)
                self._mass += self._counts
                self._counts[:] = 0.0
                self._fresh = 0
                self._work_out()
                turned = True
        self.seen += cells.shape[1]
        return turned

    def tail(self, X: FloatMatrix) -> tuple[FloatMatrix, FloatMatrix]:
        """The smoothed probabilities of a value as large, and as small, as each in `X`; both rows x columns.

        Smoothed as (1 + rows so far out) / (1 + rows), never 0; 1 for absent values and before any turn.
        """
        cells = self.locate(X)
        return self.upper.take(cells).T, self.lower.take(cells).T

    def quantile(self, q: float) -> FloatVector:
        """The value below which a share `q` of each column's rows lies; NaN for a column without any."""
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a quantile lies in [0, 1], not at {q}")
        mass = self._mass.reshape(self.columns, -1)[:, : self.bins]
        below = mass.cumsum(axis=1)
        wanted = q * below[:, -1]
        bin_ = np.minimum((below < wanted[:, None]).sum(axis=1), self.bins - 1)
        lines = np.arange(self.columns)
        inside = mass[lines, bin_]
        with np.errstate(invalid="ignore"):
            share = np.clip((wanted - below[lines, bin_] + inside) / inside, 0.0, 1.0)
        return np.asarray((bin_ + share) / self.bins)

    def _work_out(self) -> None:
        """The tail probabilities of every bin: `upper` and `lower`, indexed by located values."""
        mass = self._mass.reshape(self.columns, -1)[:, : self.bins]
        below = mass.cumsum(axis=1)
        total = below[:, -1:]
        upper = np.ones((self.columns, self.bins + 1))
        lower = np.ones((self.columns, self.bins + 1))
        # Sums of decayed weights may miss the total by a rounding error, which must not become negative.
        upper[:, : self.bins] = (1.0 + np.maximum(total - below + mass, 0.0)) / (1.0 + total)
        lower[:, : self.bins] = (1.0 + below) / (1.0 + total)
        self.upper = np.minimum(upper, 1.0).ravel()
        self.lower = np.minimum(lower, 1.0).ravel()

    def state(self) -> State:
        """All that learning changed."""
        return State({"seen": self.seen, "fresh": self._fresh}, {"counts": self._counts, "mass": self._mass})

    def adopt(self, state: State) -> None:
        """Continues from a state with the names and shapes of `state()`."""
        self.seen = int(state.numbers["seen"])
        self._fresh = int(state.numbers["fresh"])
        self._counts = state.arrays["counts"].astype(np.float64)
        self._mass = state.arrays["mass"].astype(np.float64)
        self._work_out()
