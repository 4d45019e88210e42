"""Drift: whether the crowd as a whole still behaves as it did.

For each feature one ADWIN (River's; Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing",
2007) over the means of `CHUNK` lessons. It compares every older part of what it remembers with the newer part, and
forgets the older one when the two differ by more than chance allows.

It fails where it must wait: a change of 7 % of a feature's range (answers twice as long) is found after about 100
means, in a crowd of 300 accounts after one or two days. It takes lessons for independent, and those of one account are
not; so `DELTA` is far smaller than the share of false alarms that one would accept. It sees nothing that leaves the
means alone.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from river.drift import ADWIN

from .detector import FloatMatrix
from .snapshot import Array, SnapshotError, State, pack, unpack

CHUNK: Final = 32
"""Lessons in a mean."""

DELTA: Final = 1e-4
"""ADWIN's confidence: in 14 simulated and 14 recorded days without a change it never spoke."""

RECENT: Final = 16
"""Newest means that say what a feature is now: what ADWIN keeps still holds some of the past."""

REMEMBERED: Final = 2_048
"""Means kept, to continue after a restart: more than a month of 300 accounts."""


class Change(NamedTuple):
    """A feature whose mean has moved: what it was before, and what it is now, both in [0, 1]."""

    feature: str
    before: float
    now: float


class Drift:
    """Watches the means of `features`, columns of rows in [0, 1]; NaN says absent."""

    kind: Final = "drift"

    def __init__(self, features: Sequence[str]) -> None:
        self.features = tuple(features)
        self._windows = [ADWIN(delta=DELTA, clock=1) for _ in self.features]  # type: ignore[no-untyped-call]
        self._means: deque[list[float]] = deque(maxlen=REMEMBERED)
        self._waiting: FloatMatrix = np.zeros((0, len(self.features)))

    def learn_many(self, X: FloatMatrix) -> list[Change]:
        """Take rows (rows x features) in their order; what has changed by now, once."""
        rows = np.concatenate((self._waiting, X))
        whole = len(rows) // CHUNK * CHUNK
        self._waiting = rows[whole:].copy()
        changes: list[Change] = []
        for chunk in rows[:whole].reshape(-1, CHUNK, len(self.features)):
            known = ~np.isnan(chunk)
            sums = np.where(known, chunk, 0.0).sum(axis=0)
            # One that nobody showed has no mean.
            counts = known.sum(axis=0)
            means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).tolist()
            self._means.append(means)
            changes += self._update(means)
        return changes

    def _update(self, means: list[float]) -> list[Change]:
        changes = []
        for column, (feature, window, mean) in enumerate(zip(self.features, self._windows, means, strict=True)):
            if np.isnan(mean):
                continue
            width, total = window.width, window.total
            window.update(mean)  # type: ignore[no-untyped-call]
            if window.drift_detected:
                forgotten = width + 1 - window.width
                before = (total + mean - window.total) / max(forgotten, 1)
                newest = [row[column] for row in list(self._means)[-RECENT:]]
                changes.append(Change(feature, float(before), float(np.nanmean(newest))))
        return changes

    def snapshot(self) -> bytes:
        """What it remembers, as bytes; `restore` goes through it again."""
        means = np.array(list(self._means), dtype=np.float64).reshape(-1, len(self.features))
        arrays: dict[str, Array] = {"means": means, "waiting": self._waiting}
        return pack(self.kind, {"features": self.features}, State({}, arrays))

    @classmethod
    def restore(cls, raw: bytes, features: Sequence[str]) -> "Drift":
        """The drift of a snapshot; one of other features begins anew. Raises `SnapshotError` for other bytes."""
        kind, settings, state = unpack(raw)
        if kind != cls.kind or state.arrays.keys() != {"means", "waiting"}:
            raise SnapshotError(f"snapshot of {kind!r}, not of {cls.kind!r} as this release keeps it")
        drift = cls(features)
        if settings.get("features") == drift.features:
            for means in state.arrays["means"].tolist():
                drift._means.append(means)
                drift._update(means)
            drift._waiting = state.arrays["waiting"].astype(np.float64)
        return drift
