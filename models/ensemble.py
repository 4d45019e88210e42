"""Ensemble: several detectors as one honest probability, which an attacker cannot teach.

Each member's score is ranked in its own slow reference, the mean of -log of these ranks is ranked once
more, and that is the answer: how rare a row as strange as this one is. Detectors fail in different places
(each says where), and ranks have no units, so the mean needs no weights.
"""

from typing import ClassVar, Final, NamedTuple

import numpy as np

from models.detector import BoolVector, Detector, FloatMatrix, FloatVector, IntVector, Places
from models.detectors import build
from models.ecod import Ecod
from models.reference import THINNED, Reference
from models.snapshot import Array, Number, Setting, State

REFUSED_BELOW: Final = 0.01
"""Rows ranked below this are not learned, and enter the references thinned.

Kept out of the references altogether, they would cut off its tail again and again, until half of the
traffic is refused; thinned, ordinary traffic is refused at most `THINNED * REFUSED_BELOW` of the time.
"""

PATIENCE_ROWS: Final = 32_768
"""Rows over which the share of refused ones is averaged: a run of 4,000 does not lift the protection."""

LIFTED_ABOVE: Final = 0.2
"""Share of refused rows at which not the rows are wrong but what was learned, and protection is lifted."""

RESTORED_BELOW: Final = 0.1
"""Share of rows that would be refused at which a lifted protection returns."""

TEACHING_WINDOW: Final = 1024
"""Rows in which the lessons of one account are counted."""

LESSONS: Final = 6
"""The most of these that one account gives: well below 1 %, so that it cannot make its own use look more usual than one
row in a hundred, where evidence is at its cap (see `models.score.anomaly`)."""

_WARM_UP_ROWS: Final = 128
"""During warm-up a batch is taken in so many rows at a time, so that it ends early for large ones too."""

_SLOTS: Final = 4096
"""Counters for the lessons of accounts. Two in one slot share its lessons: rare, and it only teaches less."""


class Observation(NamedTuple):
    """What one pass over a batch says of each row."""

    score: FloatVector
    """How strange, in [0, 1], against what was accepted as ordinary; 0 during warm-up."""

    tail: FloatVector
    """How probable a row as strange as this one is; 1 during warm-up."""

    taught: BoolVector
    """Whether it was learned."""


class Ensemble(Detector):
    """Ecod and the `others` (names in DETECTORS) over the same `features`.

    Learning is protected. Rows that look extreme are refused (`REFUSED_BELOW`); rows that say nothing teach
    nothing; and with `groups` (whose row it is, any integers) one account teaches at most `lessons` rows in
    `TEACHING_WINDOW`. When more than `LIFTED_ABOVE` of the traffic is refused, `lifted` turns true:
    everything is learned and the references follow at full speed, until most rows are ordinary again.

    For the first 650 rows or so tails are 1 and scores 0. A member joins once it and its reference are
    ready: its warm-up accuses nobody, refuses nothing, and leaves no trace in the references. `member_size`
    and `size` are the scores held for each member and for the answer; no tail is below 1 / (1 + what these
    stand for).
    """

    kind: ClassVar[str] = "ensemble"

    def __init__(
        self,
        features: tuple[str, ...],
        others: tuple[str, ...] = ("mahalanobis", "half_space_trees"),
        seed: int = 0,
        lessons: int = LESSONS,
        member_size: int = 8192,
        size: int = 50_000,
    ) -> None:
        super().__init__(features)
        if lessons < 1:
            raise ValueError("lessons must be at least 1")
        self.others = others
        self.seed = seed
        self.lessons = lessons
        self.member_size = member_size
        self.size = size
        self._ecod = Ecod(features)
        self._members = (self._ecod, *(build(name, features, seed) for name in others))
        self._references = tuple(Reference(member_size) for _ in self._members)
        self._answers = Reference(size)
        self._lifted = False
        self._lifts = 0
        self._refused = 0
        self._refused_share = 0.0
        self._thinned = 0
        self._window = 0
        self._given = np.zeros(_SLOTS, dtype=np.int64)

    @property
    def ready(self) -> bool:
        return self._answers.ready

    @property
    def lifted(self) -> bool:
        """Whether protection is lifted, because too much of what arrives looks extreme."""
        return self._lifted

    @property
    def lifts(self) -> int:
        """How often protection was lifted so far."""
        return self._lifts

    @property
    def refused(self) -> int:
        """How many rows were refused so far."""
        return self._refused

    @property
    def refused_share(self) -> float:
        """The share of recent rows that looked too extreme to learn (averaged over `PATIENCE_ROWS`)."""
        return self._refused_share

    def score_many(self, X: FloatMatrix) -> FloatVector:
        statistic = self._statistic(self._scores(self._locate(X)))
        return np.asarray(1.0 - self._answers.rank(statistic))

    def tail_many(self, X: FloatMatrix) -> FloatVector:
        """How probable a row as strange as each of `X` is; 1 during warm-up. Changes nothing."""
        statistic = self._statistic(self._scores(self._locate(X)))
        return self._answers.rank_and_tail(statistic)[1]

    def learn_many(self, X: FloatMatrix, groups: IntVector | None = None) -> None:
        """Learns the rows of `X` (rows x features) that may teach. `groups` says whose each row is."""
        self.observe_many(X, groups)

    def observe_many(self, X: FloatMatrix, groups: IntVector | None = None) -> Observation:
        """Scores the rows of `X`, then learns those that may teach, in one pass."""
        seen: list[Observation] = []
        start = 0
        while start < len(X) or not seen:
            end = len(X) if self.ready else min(len(X), start + _WARM_UP_ROWS)
            seen.append(self._observe(X[start:end], None if groups is None else groups[start:end]))
            start = end
        return seen[0] if len(seen) == 1 else Observation(*map(np.concatenate, zip(*seen, strict=True)))

    def _observe(self, X: FloatMatrix, groups: IntVector | None) -> Observation:
        places = self._locate(X)
        scores = self._scores(places)
        statistic = self._statistic(scores)
        rank, tail = self._answers.rank_and_tail(statistic)
        extreme = rank < REFUSED_BELOW
        self._watch(extreme)
        counted = ~np.isnan(X).all(axis=1)
        if groups is not None:
            counted &= self._within_lessons(groups)
        refused = np.zeros(len(X), dtype=np.bool_) if self._lifted else counted & extreme
        self._refused += int(np.count_nonzero(refused))
        taught = counted & ~refused
        entering = np.flatnonzero(taught | self._one_in_so_many(refused))
        answered = any(reference.ready for reference in self._references)
        for member, reference, place, score in zip(self._members, self._references, places, scores, strict=True):
            if member.ready:
                reference.add(score[entering], refused[entering], every=self._lifted)
            member.learn_at(place.keep(taught))
        if answered:
            self._answers.add(statistic[entering], refused[entering], every=self._lifted)
        return Observation(1.0 - rank, tail, taught)

    def contributions(self, X: FloatMatrix) -> FloatMatrix:
        """What made each row strange: -log of each two-sided tail, rows x features; 0 where absent."""
        return self._ecod.contributions(X)

    def typical(self) -> FloatVector:
        """The median of each feature; NaN for one that was never seen."""
        return self._ecod.typical()

    def _locate(self, X: FloatMatrix) -> list[Places]:
        complete = X = self._checked(X)
        absent = np.isnan(X)
        if absent.any():
            complete = np.where(absent, np.nan_to_num(self._ecod.typical(), nan=0.5), X)
        return [member.locate(complete if member.complete_rows else X) for member in self._members]

    def _scores(self, places: list[Places]) -> list[FloatVector]:
        return [member.score_at(place) for member, place in zip(self._members, places, strict=True)]

    def _statistic(self, scores: list[FloatVector]) -> FloatVector:
        """The mean of -log of the ranks, over the members that have a reference by now."""
        product = np.ones(len(scores[0]))
        members = 0
        for reference, score in zip(self._references, scores, strict=True):
            if reference.ready:
                product *= reference.rank(score)
                members += 1
        # One logarithm for all: ranks are above 1e-5, so the product of a few is far from underflow.
        return np.asarray(np.log(product) / -max(members, 1))

    def _watch(self, extreme: BoolVector) -> None:
        """Follows the share of extreme rows, and lifts or restores the protection."""
        if not len(extreme):
            return
        kept = float(np.exp(-len(extreme) / PATIENCE_ROWS))
        share = int(np.count_nonzero(extreme)) / len(extreme)
        self._refused_share = kept * self._refused_share + (1.0 - kept) * share
        if self._lifted:
            self._lifted = self._refused_share >= RESTORED_BELOW
        elif self._refused_share > LIFTED_ABOVE:
            self._lifted = True
            self._lifts += 1

    def _one_in_so_many(self, refused: BoolVector) -> BoolVector:
        """Every `THINNED`-th of the refused rows, counted over all batches."""
        if not refused.any():
            return refused
        number = np.cumsum(refused) + self._thinned
        self._thinned = int(number[-1]) % THINNED
        return np.asarray(refused & (number % THINNED == 0))

    def _within_lessons(self, groups: IntVector) -> BoolVector:
        """Which rows are among the first `lessons` of their account in the current teaching window."""
        within = np.ones(len(groups), dtype=np.bool_)
        slots = groups % _SLOTS
        start = 0
        while start < len(groups):
            end = min(len(groups), start + TEACHING_WINDOW - self._window)
            piece = slots[start:end]
            before = self._given
            self._given = before + np.bincount(piece, minlength=_SLOTS)
            if self._given.max() > self.lessons:
                within[start:end] = before[piece] + _occurrence(piece) < self.lessons
            self._window += end - start
            if self._window == TEACHING_WINDOW:
                self._window = 0
                self._given = np.zeros_like(before)
            start = end
        return within

    def _settings(self) -> dict[str, Setting]:
        return {
            "features": self.features,
            "others": self.others,
            "seed": self.seed,
            "lessons": self.lessons,
            "member_size": self.member_size,
            "size": self.size,
        }

    def state(self) -> State:
        numbers: dict[str, Number] = {
            "lifted": self._lifted,
            "lifts": self._lifts,
            "refused": self._refused,
            "refused_share": self._refused_share,
            "thinned": self._thinned,
            "window": self._window,
        }
        arrays: dict[str, Array] = {"given": self._given}
        for name, part in self._parts():
            state = part.state()
            numbers.update({f"{name}.{key}": value for key, value in state.numbers.items()})
            arrays.update({f"{name}.{key}": value for key, value in state.arrays.items()})
        return State(numbers, arrays)

    def adopt(self, state: State) -> None:
        self._lifted = bool(state.numbers["lifted"])
        self._lifts = int(state.numbers["lifts"])
        self._refused = int(state.numbers["refused"])
        self._refused_share = float(state.numbers["refused_share"])
        self._thinned = int(state.numbers["thinned"])
        self._window = int(state.numbers["window"])
        self._given = state.arrays["given"].astype(np.int64)
        for name, part in self._parts():
            start = f"{name}."
            part.adopt(
                State(
                    {k.removeprefix(start): v for k, v in state.numbers.items() if k.startswith(start)},
                    {k.removeprefix(start): v for k, v in state.arrays.items() if k.startswith(start)},
                )
            )

    def _parts(self) -> list[tuple[str, Detector | Reference]]:
        members = [(f"member{i}", member) for i, member in enumerate(self._members)]
        references = [(f"reference{i}", reference) for i, reference in enumerate(self._references)]
        return [*members, *references, ("answers", self._answers)]


def _occurrence(groups: IntVector) -> IntVector:
    """How many earlier rows have the same number."""
    order = np.argsort(groups, kind="stable")
    sorted_ = groups[order]
    position = np.arange(len(groups))
    first = np.maximum.accumulate(np.where(np.diff(sorted_, prepend=-1) != 0, position, 0))
    earlier = np.empty_like(order)
    earlier[order] = position - first
    return earlier
