"""Judgement: what people's verdicts on earlier cases say about a new one.

A logistic regression over the columns of evidence, with River's steps in mini-batches. It starts from what the evidence
itself says of each case (`PRIOR` and the sum of its row) and learns only how far that is wrong: a case that came out as
its score said teaches next to nothing. It is additive, so each column's share of an opinion can be named. Labels are
rare and biased, and that is met in five ways:

- **Rare.** Every label is kept, up to `KEPT`, and all of them are learned again with each new one, from nothing: labels
  count alike, whenever they came, and the same labels give the same opinion in any order.
- **Rarer on one side.** Both classes weigh the same, and there is no intercept: that people confirm more than they
  clear, or the other way round, says nothing about the next account.
- **Few.** The most that an opinion may weigh grows with the number of the rarer class: nothing without labels of both
  kinds, half of `CAP` with `HALF` of each.
- **Biased.** People only look at accounts that already look bad. Whom they look at depends on the evidence, and what
  they find is learned given that evidence, so their choice by itself teaches nothing: learned without it, what they
  cleared, which had less evidence of everything, spoke against every attack in its first hours. And an opinion counts
  only about such accounts, not at all about those with less evidence than any that people saw.
- **Not independent.** An account has one label, its newest: whoever is looked at ten times teaches once.

It fails where a new attack resembles what people once cleared, which is why its say is capped, and why it says nothing
where the evidence of one case does not differ from that of another.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from .detector import BoolVector, FloatMatrix, FloatVector, IntVector
from .score import PRIOR
from .snapshot import Array, SnapshotError, State, pack, unpack

CAP: Final = 1.5
"""The most log-odds that people's judgement may weigh, for or against."""

HALF: Final = 10
"""Labels of the rarer class at which an opinion may weigh half of `CAP`."""

KEPT: Final = 512
"""Labels kept; the oldest go first."""

SPAN: Final = 1.0
"""Log-odds of evidence over which an opinion fades, below the least that people have looked at."""

PASSES: Final = 60
RATE: Final = 0.5
SHRINK: Final = 0.02
"""Steps over all labels, the rate of each, and its pull towards no opinion (l2)."""


def step(
    weights: FloatVector, rows: FloatMatrix, labels: IntVector, importance: FloatVector, said: FloatVector | float = 0.0
) -> FloatVector:
    """One step down the gradient of the log loss of a mini-batch, as River's LogisticRegression does it with SGD.

    `importance` says how much each row counts; it adds up to 1 over the batch. `said` is what is known of each row
    already, in log-odds; with 0 the steps are River's.
    """
    wrong = 1.0 / (1.0 + np.exp(-(said + rows @ weights))) - labels
    stepped: FloatVector = weights - RATE * ((wrong * importance) @ rows + SHRINK * weights)
    return stepped


class Judgement:
    """Opinions on rows of evidence (log-odds, one column for each of `columns`), from labels of such rows."""

    kind: Final = "judgement"

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self._rows: FloatMatrix = np.zeros((0, len(self.columns)))
        self._labels: IntVector = np.zeros(0, dtype=np.int64)
        self._of: IntVector = np.zeros(0, dtype=np.int64)
        self._weights = np.zeros(len(self.columns))

    @property
    def labels(self) -> int:
        """How many labels it knows."""
        return len(self._labels)

    @property
    def most(self) -> float:
        """The most that an opinion may weigh by now."""
        rarer = int(min(self._labels.sum(), len(self._labels) - self._labels.sum()))
        return CAP * rarer / (rarer + HALF)

    def learn_labels(self, rows: FloatMatrix, labels: BoolVector, accounts: IntVector) -> None:
        """Learn that the accounts (any numbers that tell them apart) with these rows of evidence were attacks, or were
        none. A later label of an account takes the place of its earlier one."""
        if rows.shape != (len(labels), len(self.columns)) or len(accounts) != len(labels):
            raise ValueError(
                f"{rows.shape} rows, {len(labels)} labels and {len(accounts)} accounts do not fit together"
            )
        if not len(labels):
            return
        all_rows = np.concatenate((self._rows, rows))
        all_labels = np.concatenate((self._labels, labels.astype(np.int64)))
        all_of = np.concatenate((self._of, accounts.astype(np.int64)))
        # The last of each account, in the order in which they came.
        _, last = np.unique(all_of[::-1], return_index=True)
        kept = np.sort(len(all_of) - 1 - last)[-KEPT:]
        self._rows, self._labels, self._of = all_rows[kept], all_labels[kept], all_of[kept]
        self._learn()

    def forget(self, account: int) -> None:
        """Unlearn the label of an account."""
        kept = self._of != account
        if not kept.all():
            self._rows, self._labels, self._of = self._rows[kept], self._labels[kept], self._of[kept]
            self._learn()

    def weigh(self, rows: FloatMatrix) -> FloatVector:
        """What people's judgement says of each row, in log-odds: for an attack, or (negative) against one."""
        if not self.most:
            return np.zeros(len(rows))
        seen = self._rows.sum(axis=1).min()
        alike = np.clip((rows.sum(axis=1) - seen) / SPAN + 1.0, 0.0, 1.0)
        opinion: FloatVector = np.clip(rows @ self._weights, -self.most, self.most) * alike
        return opinion

    def terms(self, row: FloatVector) -> dict[str, float]:
        """What each column adds to the opinion on one row, before the cap."""
        return dict(zip(self.columns, (row * self._weights).tolist(), strict=True))

    def _learn(self) -> None:
        attacks = int(self._labels.sum())
        others = len(self._labels) - attacks
        self._weights = np.zeros(len(self.columns))
        if not attacks or not others:
            return
        # One order for the same labels, so that sums come out the same to the last bit.
        order = np.lexsort((*self._rows.T, self._labels))
        rows, labels = self._rows[order], self._labels[order]
        importance = np.where(labels > 0, 0.5 / attacks, 0.5 / others)
        said = PRIOR + rows.sum(axis=1)
        for _ in range(PASSES):
            self._weights = step(self._weights, rows, labels, importance, said)

    def snapshot(self) -> bytes:
        """Its labels as bytes; `restore` learns them again."""
        arrays: dict[str, Array] = {"rows": self._rows, "labels": self._labels, "of": self._of}
        return pack(self.kind, {"columns": self.columns}, State({}, arrays))

    @classmethod
    def restore(cls, raw: bytes, columns: Sequence[str]) -> "Judgement":
        """The judgement of a snapshot, over these columns: those it did not know are 0, those that are gone go.

        Raises `SnapshotError` for bytes that are none.
        """
        kind, settings, state = unpack(raw)
        known, shapes = settings.get("columns"), {name: array.shape for name, array in state.arrays.items()}
        if kind != cls.kind or not isinstance(known, tuple) or shapes.keys() != {"rows", "labels", "of"}:
            raise SnapshotError(f"snapshot of {kind!r}, not of {cls.kind!r} as this release keeps it")
        count = shapes["labels"][0]
        if shapes != {"rows": (count, len(known)), "labels": (count,), "of": (count,)}:
            raise SnapshotError(f"snapshot of {kind!r} with arrays that do not fit together: {shapes}")
        rows = np.zeros((count, len(columns)))
        for position, column in enumerate(columns):
            if column in known:
                rows[:, position] = state.arrays["rows"][:, known.index(column)]
        judgement = cls(columns)
        judgement.learn_labels(rows, state.arrays["labels"] > 0, state.arrays["of"].astype(np.int64))
        return judgement
