"""Mahalanobis: a row is strange when it lies far from the mean, measured in the directions in which rows
vary.

Mean and covariance are exponentially weighted and worked out at turns (see turns.py). Sees the combinations
that single features hide; fails when what is normal has several shapes, because one ellipsoid then covers
the gaps too.
"""

from collections.abc import Iterator
from typing import ClassVar, Final

import numpy as np

from models.detector import BoolVector, FloatMatrix, FloatVector, Member, Places
from models.snapshot import Setting, State
from models.turns import pieces

STEP: Final = 1024
"""Rows between two turns."""

PRIOR_ROWS: Final = 4
"""Weight, in rows, of the belief to start from: each feature spread evenly over [0, 1], on its own."""

_EVEN_VARIANCE: Final = 1.0 / 12.0
"""The variance of values spread evenly over [0, 1]."""

_ONE_THREAD: Final = 200_000
"""Multiplications in one matrix product. OpenBLAS spreads 262,144 and more over threads; on a busy machine
waiting
for them costs a hundred times the product (measured: 20 ms for 4,096 x 20 x 20)."""

_PATTERNS: Final = 256
"""How many patterns of absent features keep their whitening until the next turn."""


class Mahalanobis(Member):
    """Distance from the weighted mean under the weighted covariance; a row's weight halves in `half_life`
    rows.

    Absent features contribute nothing: the distance is that of the features that are there, under their own
    covariance. `ridge` is the least variance of a direction, in squared units of the [0, 1] scale. Values
    outside [0, 1] are clipped. A squared distance D of n features becomes the score D / (D + n).
    """

    kind: ClassVar[str] = "mahalanobis"

    def __init__(self, features: tuple[str, ...], half_life: int = 200_000, ridge: float = 1e-4) -> None:
        super().__init__(features)
        if half_life < 1 or ridge <= 0.0:
            raise ValueError("half_life must be at least 1 and ridge above 0")
        self.half_life = half_life
        self.ridge = ridge
        size = len(features)
        self._seen = 0
        self._fresh = 0
        # Sums over rows about the middle of the scale, for each pair of features that a row has both of:
        # how many rows, the first one's values, the products. Stacked, so that one step fades all three.
        self._sums = np.zeros((3, size, size))
        self._new = np.zeros((3, size, size))
        self._work_out()

    @property
    def ready(self) -> bool:
        return bool(self._sums[0].any())

    def score_at(self, places: Places) -> FloatVector:
        if not self.ready:
            return np.zeros(len(places.rows))
        away = np.clip(places.rows, 0.0, 1.0)
        away -= self._mean
        distance = self._distance(away)
        return np.asarray(distance / (distance + len(self.features)))

    def learn_at(self, places: Places) -> None:
        values = np.clip(places.rows, 0.0, 1.0)
        values -= 0.5
        present = ~np.isnan(values)
        complete = bool(present.all())
        if not complete:
            values[~present] = 0.0
        for piece, turn in pieces(len(values), self._seen, STEP):
            self._add(values[piece], None if complete else present[piece].astype(np.float64))
            if turn:
                self._sums *= 0.5 ** (self._fresh / self.half_life)
                self._sums += self._new
                self._new[:] = 0.0
                self._fresh = 0
                self._work_out()
        self._seen += len(values)

    def _add(self, values: FloatMatrix, present: FloatMatrix | None) -> None:
        """Adds rows about the middle of the scale, 0 where absent; `present` is 1 or 0, None if nothing is absent."""
        for piece in _small(*values.shape):
            z = values[piece]
            if present is None:
                self._new[0] += len(z)
                self._new[1] += z.sum(axis=0)[:, None]
            else:
                there = present[piece]
                self._new[0] += there.T @ there
                self._new[1] += z.T @ there
            self._new[2] += z.T @ z
        self._fresh += len(values)

    def _work_out(self) -> None:
        """Mean and covariance from the sums."""
        rows, first, products = self._sums
        weight = rows + PRIOR_ROWS
        self._mean = 0.5 + np.diagonal(first) / np.diagonal(weight)
        spread = products - first * first.T / np.maximum(rows, 1.0)
        self._covariance = spread / weight
        self._covariance += np.diag(PRIOR_ROWS * _EVEN_VARIANCE / np.diagonal(weight))
        self._whitenings: dict[bytes, FloatMatrix] = {}

    def _distance(self, away: FloatMatrix) -> FloatVector:
        """Squared distances of rows given as differences from the mean, NaN where absent."""
        present = ~np.isnan(away)
        if not len(away) or (present == present[0]).all():
            columns = np.asarray(present[:1].any(axis=0))
            return self._squares(away if columns.all() else away[:, columns], columns)
        distance = np.zeros(len(away))
        patterns, pattern_of = np.unique(np.packbits(present, axis=1), axis=0, return_inverse=True)
        order = np.argsort(pattern_of, kind="stable")
        ends = np.cumsum(np.bincount(pattern_of, minlength=len(patterns)))
        for rows in np.split(order, ends[:-1]):
            columns = present[rows[0]]
            distance[rows] = self._squares(away[np.ix_(rows, columns)], columns)
        return distance

    def _squares(self, away: FloatMatrix, columns: BoolVector) -> FloatVector:
        """Squared distances of rows that have these columns and no others."""
        whitening = self._whitening(columns)
        white = [away[piece] @ whitening for piece in _small(*away.shape)]
        return np.concatenate([np.einsum("ij,ij->i", rows, rows) for rows in white]) if white else np.zeros(0)

    def _whitening(self, columns: BoolVector) -> FloatMatrix:
        """The matrix that makes the given features unrelated and of variance 1."""
        key = columns.tobytes()
        known = self._whitenings.get(key)
        if known is not None:
            return known
        covariance = self._covariance[np.ix_(columns, columns)]
        ridge = self.ridge
        while True:
            try:
                lower = np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))
                break
            except np.linalg.LinAlgError:
                # Sums over pairs need not form a covariance when values are absent; a larger ridge makes
                # them one.
                ridge *= 4.0
        whitening = np.asarray(np.linalg.inv(lower).T)
        if len(self._whitenings) >= _PATTERNS:
            self._whitenings.clear()
        self._whitenings[key] = whitening
        return whitening

    def _settings(self) -> dict[str, Setting]:
        return {"features": self.features, "half_life": self.half_life, "ridge": self.ridge}

    def state(self) -> State:
        return State({"seen": self._seen, "fresh": self._fresh}, {"sums": self._sums, "new": self._new})

    def adopt(self, state: State) -> None:
        self._seen = int(state.numbers["seen"])
        self._fresh = int(state.numbers["fresh"])
        self._sums = state.arrays["sums"].astype(np.float64)
        self._new = state.arrays["new"].astype(np.float64)
        self._work_out()


def _small(rows: int, columns: int) -> Iterator[slice]:
    """Rows cut so that a product with a columns x columns matrix stays on one thread (see `_ONE_THREAD`)."""
    step = max(1, _ONE_THREAD // max(1, columns * columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
