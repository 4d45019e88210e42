"""RiverDetector: any of River's anomaly detectors, row by row, under our contract."""

from collections.abc import Callable
from typing import ClassVar, Final

import numpy as np
from river import anomaly
from river.base import AnomalyDetector

from models.detector import FloatMatrix, FloatVector, Member, Places
from models.snapshot import Setting, State

NAMES: Final = tuple(
    name for name, kind in vars(anomaly).items() if isinstance(kind, type) and issubclass(kind, AnomalyDetector)
)
"""River's detectors that need nothing but the row (some of its others judge a target)."""


class RiverDetector(Member):
    """River's detector of the name `detector`, built with its defaults and, where it takes one, with `seed`.

    Values are clipped to [0, 1]. Scores s that know no limits become 1/2 + s / (2 + 2 |s|), in the same
    order. Each row costs what River costs, 5 us to 60 ms: grep the bench before you put one on the hot
    path.

    River's state has no portable form but pickle. So a snapshot holds the last `remembered` rows, and a
    restored detector learns these again: exact while it has learned no more rows than that, close
    afterwards.
    """

    kind: ClassVar[str] = "river"

    def __init__(
        self,
        features: tuple[str, ...],
        detector: str = "HalfSpaceTrees",
        seed: int = 0,
        warm_up: int = 1024,
        remembered: int = 2048,
    ) -> None:
        super().__init__(features)
        if detector not in NAMES:
            raise ValueError(f"River's {detector!r} is not one of {', '.join(NAMES)}")
        if min(warm_up, remembered) < 1:
            raise ValueError("warm_up and remembered must be at least 1")
        self.detector = detector
        self.seed = seed
        self.warm_up = warm_up
        self.remembered = remembered
        self._learned = 0
        self._rows = np.zeros((remembered, len(features)))
        self._river = self._built()

    @property
    def ready(self) -> bool:
        return self._learned >= self.warm_up

    def score_at(self, places: Places) -> FloatVector:
        scores = np.array([self._river.score_one(row) for row in self._dicts(places.rows)], dtype=np.float64)
        return np.asarray(0.5 + scores / (2.0 + 2.0 * np.abs(scores)))

    def learn_at(self, places: Places) -> None:
        for row in self._dicts(places.rows):
            self._river.learn_one(row)
        last = places.rows[-self.remembered :]
        start = self._learned + len(places.rows) - len(last)
        self._rows[(start + np.arange(len(last))) % self.remembered] = last
        self._learned += len(places.rows)

    def _built(self) -> AnomalyDetector:
        build: Callable[..., AnomalyDetector] = getattr(anomaly, self.detector)
        try:
            return build(seed=self.seed)
        except TypeError:
            return build()

    def _dicts(self, rows: FloatMatrix) -> list[dict[object, float]]:
        return [
            {name: value for name, value in zip(self.features, row, strict=True) if value == value}
            for row in np.clip(rows, 0.0, 1.0).tolist()
        ]

    def _settings(self) -> dict[str, Setting]:
        return {
            "features": self.features,
            "detector": self.detector,
            "seed": self.seed,
            "warm_up": self.warm_up,
            "remembered": self.remembered,
        }

    def state(self) -> State:
        return State({"learned": self._learned}, {"rows": self._rows})

    def adopt(self, state: State) -> None:
        self._learned = int(state.numbers["learned"])
        self._rows = state.arrays["rows"].astype(np.float64)
        kept = min(self._learned, self.remembered)
        order = (self._learned - kept + np.arange(kept)) % self.remembered
        for row in self._dicts(self._rows[order]):
            self._river.learn_one(row)
