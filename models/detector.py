"""Detector: the contract of everything that learns online how strange a row of features is.

Rows are float64, one column a feature, scaled to [0, 1] by fixed documented limits; NaN says absent. Scores
lie in [0, 1], higher is stranger. A detector is a River anomaly detector (`score_one`, `learn_one` with a
dict) with two verbs more, `score_many` and `learn_many` with a matrix.
"""

import abc
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from river.base import AnomalyDetector

from models.snapshot import Setting, SnapshotError, State, pack, unpack

FloatMatrix: TypeAlias = npt.NDArray[np.float64]
"""rows x features"""
FloatVector: TypeAlias = npt.NDArray[np.float64]
IntVector: TypeAlias = npt.NDArray[np.int64]
IntMatrix: TypeAlias = npt.NDArray[np.int64]
BoolVector: TypeAlias = npt.NDArray[np.bool_]


class Places(NamedTuple):
    """Where rows fall, as far as no learning moves it: found once, then used to score and to learn.

    `rows` is the matrix itself (rows x features); `cells` (anything x rows) numbers the leaves or bins they
    fall into, and is empty where a detector knows neither.
    """

    rows: FloatMatrix
    cells: IntMatrix

    def keep(self, mask: BoolVector) -> "Places":
        """The places of the rows where `mask` is true."""
        if mask.all():
            return self
        kept = np.flatnonzero(mask)
        return Places(self.rows.take(kept, axis=0), self.cells.take(kept, axis=1))


class Detector(AnomalyDetector):
    """What every detector can do.

    `features` names the columns of a matrix and the keys of a dict; unknown keys are ignored, missing ones
    are absent. Nothing here reads a clock or rolls dice: equal rows in equal order give equal scores.
    """

    kind: ClassVar[str]
    """The name in a snapshot: which class can read it."""

    def __init__(self, features: tuple[str, ...]) -> None:
        if not features or len(set(features)) != len(features):
            raise ValueError(f"features must be distinct names, at least one: {features!r}")
        self.features = features

    @abc.abstractmethod
    def score_many(self, X: FloatMatrix) -> FloatVector:
        """How strange each row of `X` (rows x features) is, in [0, 1]. Changes nothing."""

    @abc.abstractmethod
    def learn_many(self, X: FloatMatrix) -> None:
        """Learns the rows of `X` (rows x features) in their order."""

    @property
    @abc.abstractmethod
    def ready(self) -> bool:
        """Whether it has learned enough for its scores to mean anything; until then they are 0."""

    @abc.abstractmethod
    def _settings(self) -> dict[str, Setting]:
        """The constructor's arguments."""

    @abc.abstractmethod
    def state(self) -> State:
        """All that learning changes, as arrays of fixed shape. May alias what the detector holds."""

    @abc.abstractmethod
    def adopt(self, state: State) -> None:
        """Takes over a state with the names, types and shapes of `state()`."""

    def score_one(self, x: Mapping[object, float]) -> float:
        """How strange one row is, in [0, 1]. For River's pipelines; a matrix is far cheaper a row."""
        return float(self.score_many(self._row(x))[0])

    def learn_one(self, x: Mapping[object, float]) -> None:
        """Learns one row."""
        self.learn_many(self._row(x))

    def snapshot(self) -> bytes:
        """What was learned, as bytes; `restore` continues from them as if nothing had happened."""
        return pack(self.kind, self._settings(), self.state())

    @classmethod
    def restore(cls, raw: bytes) -> Self:
        """The detector of a snapshot. Raises `SnapshotError` for bytes that are not one of this class."""
        kind, settings, state = unpack(raw)
        if kind != cls.kind:
            raise SnapshotError(f"snapshot of {kind!r}, not of {cls.kind!r}")
        build: Callable[..., Self] = cls
        try:
            detector = build(**settings)
        except (TypeError, ValueError) as error:
            raise SnapshotError(f"snapshot with settings this release does not take: {error}") from error
        expected = detector.state()
        if state.numbers.keys() != expected.numbers.keys() or state.arrays.keys() != expected.arrays.keys():
            raise SnapshotError(f"snapshot of {kind!r} with other parts than this release keeps")
        for name, array in expected.arrays.items():
            found = state.arrays[name]
            if found.shape != array.shape or found.dtype != array.dtype:
                raise SnapshotError(
                    f"snapshot array {name!r} is {found.dtype}{found.shape}, not {array.dtype}{array.shape}"
                )
        detector.adopt(state)
        return detector

    @property
    def memory_bytes(self) -> int:
        """What the state takes; it does not grow with the rows learned."""
        return sum(array.nbytes for array in self.state().arrays.values())

    def _checked(self, X: FloatMatrix) -> FloatMatrix:
        if X.ndim != 2 or X.shape[1] != len(self.features):
            raise ValueError(f"a matrix of rows x {len(self.features)} features is needed, not one of {X.shape}")
        # In one memory order for all: sums in another order differ in their last bits.
        return np.ascontiguousarray(X, dtype=np.float64)

    def _row(self, x: Mapping[object, float]) -> FloatMatrix:
        absent = float("nan")
        return np.array([[x.get(feature, absent) for feature in self.features]], dtype=np.float64)

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, tuple[str, ...]]]:
        """River's checks build a detector from these."""
        yield {"features": ("first", "second")}


class Member(Detector):
    """A detector that can stand in an ensemble: it first finds where rows fall, then scores and learns them
    there.

    So the dearer half of the work is done once, and an ensemble may score all rows and learn some of them.
    """

    complete_rows: ClassVar[bool] = False
    """Whether an ensemble should fill absent features with typical values before it shows rows here."""

    @abc.abstractmethod
    def score_at(self, places: Places) -> FloatVector:
        """How strange the located rows are, each in [0, 1]. Changes nothing."""

    @abc.abstractmethod
    def learn_at(self, places: Places) -> None:
        """Learns the located rows, in their order."""

    def locate(self, X: FloatMatrix) -> Places:
        """Where the rows of `X` (rows x features) fall."""
        return Places(self._checked(X), np.empty((0, len(X)), dtype=np.int64))

    def score_many(self, X: FloatMatrix) -> FloatVector:
        return self.score_at(self.locate(X))

    def learn_many(self, X: FloatMatrix) -> None:
        self.learn_at(self.locate(X))
