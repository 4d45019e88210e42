"""Half-Space Trees in mini-batches: random cuts of the feature space, strange is where few rows were lately.

The scores equal those of River's `HalfSpaceTrees` to the last bit, for the same seed, trees, height and
window, at a fraction of the cost: scores use only the masses of the last finished window, so inside a
window order does not matter, rows fall into leaves by the batch, and each leaf's score is worked out once a
window.

Fails when anomalies fill a window of their own: they then are what is usual. So keep windows long. Source:
Tan, Ting and Liu, "Fast anomaly detection for streaming data", IJCAI 2011.
"""

import random
from collections.abc import Callable
from functools import lru_cache
from typing import ClassVar

import numpy as np
from river.tree.padded import PaddedBranch, make_padded_tree

from models.detector import FloatMatrix, FloatVector, IntMatrix, IntVector, Member, Places
from models.snapshot import Setting, State

_STOP_SHARE = 0.1
"""A walk ends at the first node with less than this share of a window (the paper's constant, and River's)."""

_PADDING = 0.15
"""Cuts keep this share of a side's length away from its ends (the paper's constant, and River's)."""


class HalfSpaceTrees(Member):
    """Half-Space Trees over `features`, one matrix at a time.

    `window_size` rows are counted before they become the masses that score; until the first window is full
    all scores are 0. A matrix without NaN costs under 1 us a row; a row with NaN follows the branch that
    more rows of this window took, which depends on order, so it is learned alone and costs about 0.1 ms.
    River builds its trees from the first row's features, so equality asks that the first row is complete.
    """

    kind: ClassVar[str] = "half_space_trees"
    complete_rows: ClassVar[bool] = True

    def __init__(
        self,
        features: tuple[str, ...],
        n_trees: int = 25,
        height: int = 8,
        window_size: int = 1024,
        seed: int = 0,
    ) -> None:
        super().__init__(features)
        if min(n_trees, height, window_size) < 1:
            raise ValueError("n_trees, height and window_size must be at least 1")
        self.n_trees = n_trees
        self.height = height
        self.window_size = window_size
        self.seed = seed
        # Node k of tree t at depth d has the number t * 2**d + k, so its children at depth d + 1 have the
        # numbers 2n and 2n + 1, whatever the tree.
        self._feature, self._threshold = _grow(features, n_trees, height, seed)
        self._leaves = 2**height
        self._seen = 0
        self._counts = np.zeros(n_trees * self._leaves, dtype=np.int64)
        self._masses = np.zeros(n_trees * self._leaves, dtype=np.int64)
        self._windows = 0
        self._scores = np.zeros(n_trees * self._leaves)

    @property
    def ready(self) -> bool:
        return self._windows > 0

    def locate(self, X: FloatMatrix) -> Places:
        """The leaf of each row in each tree (trees x rows); of rows with NaN, where they would fall now."""
        X = self._checked(X)
        return Places(X, self._descend(X, _by_depth(self._counts, self.n_trees) if np.isnan(X).any() else None))

    def score_at(self, places: Places) -> FloatVector:
        if not self._windows:
            return np.zeros(len(places.rows))
        greatest = self.n_trees * self.window_size * (2 ** (self.height + 1) - 1)
        return np.asarray(1 - self._scores.take(places.cells, mode="clip").sum(axis=0) / greatest)

    def learn_at(self, places: Places) -> None:
        start = 0
        while start < len(places.rows):
            end = min(len(places.rows), start + self.window_size - self._seen)
            self._count(places.rows[start:end], places.cells[:, start:end])
            self._seen += end - start
            if self._seen == self.window_size:
                self._turn()
            start = end

    def _count(self, rows: FloatMatrix, leaves: IntMatrix) -> None:
        """Counts rows of one window."""
        absent = np.flatnonzero(np.isnan(rows).any(axis=1))
        if not len(absent):
            self._counts += np.bincount(leaves.ravel(), minlength=len(self._counts))
            return
        start = 0
        for row in absent.tolist():
            self._counts += np.bincount(leaves[:, start:row].ravel(), minlength=len(self._counts))
            masses = _by_depth(self._counts, self.n_trees)
            self._counts[self._descend(rows[row : row + 1], masses)[:, 0]] += 1
            start = row + 1
        self._counts += np.bincount(leaves[:, start:].ravel(), minlength=len(self._counts))

    def _turn(self) -> None:
        """The window is full: its counts become the masses that score."""
        self._masses, self._counts = self._counts, np.zeros_like(self._counts)
        self._seen = 0
        self._windows += 1
        self._scores = self._score_of_leaves()

    def _score_of_leaves(self) -> FloatVector:
        """What a walk to each leaf adds up: mass * 2**depth of its nodes, up to the first light one."""
        masses = _by_depth(self._masses, self.n_trees)
        total = masses[0].astype(np.float64)
        light = masses[0] < _STOP_SHARE * self.window_size
        for depth in range(1, self.height + 1):
            mass = masses[depth].reshape(-1, 2)
            total = (total[:, None] + (mass << depth) * ~light[:, None]).ravel()
            light = (light[:, None] | (mass < _STOP_SHARE * self.window_size)).ravel()
        return total

    def _descend(self, X: FloatMatrix, masses: list[IntVector] | None) -> IntMatrix:
        """The number of each row's leaf, trees x rows. Absent values follow the heavier child in `masses`."""
        rows = len(X)
        values = np.ascontiguousarray(X.T)
        flat = values.ravel()
        offsets = np.arange(rows)
        node = np.empty((self.n_trees, rows), dtype=np.int64)
        node[:] = np.arange(self.n_trees)[:, None]
        place = np.empty_like(node)
        value = np.empty((self.n_trees, rows))
        threshold = np.empty_like(value)
        for depth in range(self.height):
            # mode="clip" spares numpy a pass over the indices, which are right by construction.
            (self._feature[depth] * rows).take(node, out=place, mode="clip")
            place += offsets
            flat.take(place, out=value, mode="clip")
            self._threshold[depth].take(node, out=threshold, mode="clip")
            right = value >= threshold
            if masses is not None:
                pairs = masses[depth + 1].reshape(-1, 2)
                right |= np.isnan(value) & (pairs[:, 0] < pairs[:, 1]).take(node)
            node += node
            node += right
        return node

    def _settings(self) -> dict[str, Setting]:
        return {
            "features": self.features,
            "n_trees": self.n_trees,
            "height": self.height,
            "window_size": self.window_size,
            "seed": self.seed,
        }

    def state(self) -> State:
        # The cuts follow from the seed, but only as long as Python's generator stays as it is.
        return State(
            {"seen": self._seen, "windows": self._windows},
            {
                "feature": np.concatenate(self._feature),
                "threshold": np.concatenate(self._threshold),
                "counts": self._counts,
                "masses": self._masses,
            },
        )

    def adopt(self, state: State) -> None:
        self._seen = int(state.numbers["seen"])
        self._windows = int(state.numbers["windows"])
        bounds = np.cumsum([self.n_trees * 2**depth for depth in range(self.height)])[:-1]
        self._feature = np.split(state.arrays["feature"].astype(np.int64), bounds)
        self._threshold = np.split(state.arrays["threshold"].astype(np.float64), bounds)
        self._counts = state.arrays["counts"].astype(np.int64)
        self._masses = state.arrays["masses"].astype(np.int64)
        self._scores = self._score_of_leaves()


def _by_depth(leaves: IntVector, n_trees: int) -> list[IntVector]:
    """How many rows passed each node, for each depth from the roots to the leaves."""
    levels = [leaves]
    while len(levels[-1]) > n_trees:
        levels.append(levels[-1].reshape(-1, 2).sum(axis=1))
    return levels[::-1]


@lru_cache(maxsize=8)
def _grow(features: tuple[str, ...], n_trees: int, height: int, seed: int) -> tuple[list[IntVector], list[FloatVector]]:
    """River's trees, as the column and the threshold of each node, for each depth. To be read only.

    Remembered, because every partition grows the same trees and 25 of them take 40 ms.
    """
    grow: Callable[..., PaddedBranch] = make_padded_tree  # untyped in River
    dice = random.Random(seed)
    columns: list[list[int]] = [[] for _ in range(height)]
    thresholds: list[list[float]] = [[] for _ in range(height)]

    def lay_out(branch: PaddedBranch, depth: int) -> None:
        columns[depth].append(features.index(branch.feature))
        thresholds[depth].append(branch.threshold)
        for child in branch.children:
            if isinstance(child, PaddedBranch):
                lay_out(child, depth + 1)

    for _ in range(n_trees):
        limits = dict.fromkeys(sorted(features), (0.0, 1.0))
        lay_out(grow(limits, height, _PADDING, dice, l_mass=0, r_mass=0), 0)
    return [np.array(level) for level in columns], [np.array(level) for level in thresholds]
