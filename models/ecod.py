"""Ecod: a row is strange when its values lie far out in the tails of their features, and it can say which.

A streaming form of ECOD: the evidence of a feature is -log of its two-sided tail probability, read from
decayed histograms instead of a sorted sample. Fails where each value alone is ordinary and only the
combination is not: that is what Mahalanobis and the trees are for. Source: Li et al., "ECOD: Unsupervised
Outlier Detection Using Empirical Cumulative Distribution Functions", IEEE TKDE 2022.
"""

from typing import ClassVar

import numpy as np

from models.detector import FloatMatrix, FloatVector, Member, Places
from models.histogram import DecayedHistogram
from models.snapshot import Setting, State


class Ecod(Member):
    """Tail probabilities of each feature, added up as -log. Absent features add nothing.

    The sum S of n features becomes the score S / (S + n): half for what independent features give on average.
    """

    kind: ClassVar[str] = "ecod"

    def __init__(self, features: tuple[str, ...], bins: int = 256, half_life: int = 200_000) -> None:
        super().__init__(features)
        self.bins = bins
        self.half_life = half_life
        self._histogram = DecayedHistogram(len(features), bins, half_life)
        self._work_out()

    @property
    def ready(self) -> bool:
        return bool(self._weights.any())

    def locate(self, X: FloatMatrix) -> Places:
        """The bin of each value, features x rows."""
        X = self._checked(X)
        return Places(X, self._histogram.locate(X))

    def score_at(self, places: Places) -> FloatVector:
        total = self._weights.take(places.cells, mode="clip").sum(axis=0)
        return np.asarray(total / (total + len(self.features)))

    def learn_at(self, places: Places) -> None:
        if self._histogram.learn_at(places.cells):
            self._work_out()

    def contributions(self, X: FloatMatrix) -> FloatMatrix:
        """What each value adds: -log of its two-sided tail probability, rows x features; 0 where absent."""
        return self._weights.take(self.locate(X).cells).T

    def typical(self) -> FloatVector:
        """The median of each feature; NaN for one that was never seen."""
        return self._typical.copy()

    def _work_out(self) -> None:
        two_sided = 2.0 * np.minimum(self._histogram.upper, self._histogram.lower)
        self._weights = -np.log(np.minimum(two_sided, 1.0))
        self._typical = self._histogram.quantile(0.5)

    def _settings(self) -> dict[str, Setting]:
        return {"features": self.features, "bins": self.bins, "half_life": self.half_life}

    def state(self) -> State:
        return self._histogram.state()

    def adopt(self, state: State) -> None:
        self._histogram.adopt(state)
        self._work_out()
