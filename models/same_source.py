"""Same source: do two accounts draw their prompts from one distribution?

Accounts that split one question list have topic means that differ by no more than sampling explains. That alone is
weak: an account with few prompts, or broad ones, fits anybody. So a comparison is a Bayes factor: how likely is this
distance for one source, how likely for two of the background, at these numbers of prompts?

Means are normal, m ~ N(theta, W / n) with n prompts, and sources are spread as theta ~ N(mu, B). With W = I and B
diagonal (both are made so by one change of coordinates) the factor is a product over coordinates. It is the
likelihood-ratio score of two-covariance speaker verification (Brümmer and de Villiers, "The speaker partitioning
problem", 2010). Fails: prompts of one account that hang together (a conversation) count as several; so what it says is
bounded wherever it is used.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from .detector import FloatMatrix, FloatVector
from .snapshot import SnapshotError

VERSION: Final = 1

LEAST_PROMPTS: Final = 8.0
"""Effective prompts below which a mean says nothing."""

BANDS: Final = 8
BITS: Final = 7
"""Two means share a region when all BITS hyperplanes of a band see them on one side; there are BANDS such chances."""

_DIMENSIONS: Final = 16
_PRIOR_BLOCKS: Final = 100.0


class Sources:
    """What is known of how topic means vary: within an account by sampling, and between accounts.

    `learn` takes means of separate stretches of the same accounts, `fit` the means of all accounts; after that `place`,
    `regions` and `log_bayes_factor` speak in its coordinates, which the next `fit` changes.
    """

    def __init__(self, size: int = 64) -> None:
        self.size = size
        self.blocks = 0.0
        self.within: FloatMatrix = np.zeros((size, size))
        self.mean: FloatVector = np.zeros(size)
        self.axes: FloatMatrix = np.zeros((size, 0))
        self.between: FloatVector = np.zeros(0)
        dice = np.random.default_rng(7)
        self._planes: FloatMatrix = dice.standard_normal((_DIMENSIONS, BANDS * BITS))

    def snapshot(self) -> bytes:
        """What was learned within accounts; `fit` finds the rest anew."""
        head = np.array([VERSION, self.size, self.blocks], dtype="<f8")
        return head.tobytes() + self.within.astype("<f8").tobytes()

    @classmethod
    def restore(cls, stored: bytes) -> "Sources":
        """Continue from what `snapshot` gave. Raises SnapshotError when it is not of this release."""
        numbers = np.frombuffer(stored, dtype="<f8") if len(stored) % 8 == 0 else np.zeros(0)
        if len(numbers) < 3 or numbers[0] != VERSION or len(numbers) != 3 + numbers[1] ** 2:
            raise SnapshotError(f"{len(stored)} bytes are no snapshot of sources of version {VERSION}")
        sources = cls(int(numbers[1]))
        sources.blocks = float(numbers[2])
        sources.within = numbers[3:].reshape(sources.size, sources.size).copy()
        return sources

    def learn(self, before: FloatMatrix, after: FloatMatrix, n_before: FloatVector, n_after: FloatVector) -> None:
        """Two means of each of some accounts, from separate prompts (accounts, size), and how many prompts each has.

        Their difference, scaled by n1 n2 / (n1 + n2), has the covariance of a single prompt.
        """
        scaled = (after - before) * np.sqrt(n_before * n_after / (n_before + n_after))[:, None]
        self.within = self.within + scaled.T @ scaled
        self.blocks += len(scaled)
        if self.blocks > 100_000:
            self.within, self.blocks = self.within / 2, self.blocks / 2

    def fit(self, means: FloatMatrix, prompts: FloatVector) -> None:
        """Take the spread of accounts from their means (accounts, size) and numbers of prompts."""
        if len(means) < 2:
            return
        # Until enough stretches were seen: what is left of vectors of length 1, alike in all directions.
        rest = max(1.0 - float((means**2).sum(axis=1).mean()), 0.05) / self.size
        prior = _PRIOR_BLOCKS * rest * np.eye(self.size)
        within = (self.within + prior) / (self.blocks + _PRIOR_BLOCKS)
        scale, axes = np.linalg.eigh(within)
        whiten = axes / np.sqrt(np.maximum(scale, 1e-3 * float(scale.max())))
        self.mean = means.mean(axis=0)
        seen = (means - self.mean) @ whiten
        spread = seen.T @ seen / len(seen) - float((1.0 / prompts).mean()) * np.eye(self.size)
        between, turn = np.linalg.eigh(spread)
        strongest = np.argsort(-between)[:_DIMENSIONS]
        strongest = strongest[between[strongest] > 1e-3]
        self.between = between[strongest]
        self.axes = whiten @ turn[:, strongest]

    def place(self, means: FloatMatrix) -> FloatMatrix:
        """Means in coordinates in which one prompt has variance 1: (accounts, dimensions), 16 at most."""
        placed: FloatMatrix = (means - self.mean) @ self.axes
        return placed

    def regions(self, placed: FloatMatrix) -> npt.NDArray[np.int64]:
        """The region of each mean in each of BANDS divisions of the space: (accounts, BANDS)."""
        balanced = placed / np.sqrt(self.between)
        signs = balanced @ self._planes[: placed.shape[1]] > 0
        bits = np.packbits(signs.reshape(len(placed), BANDS, BITS), axis=2, bitorder="little")
        return bits[:, :, 0].astype(np.int64)

    def log_bayes_factor(
        self, one: FloatMatrix, other: FloatMatrix, n_one: FloatVector, n_other: FloatVector
    ) -> FloatVector:
        """The log of how much likelier each pair of placed means is from one source than from two."""
        a, b = 1.0 / n_one[:, None], 1.0 / n_other[:, None]
        both = 1.0 / (n_one + n_other)[:, None]
        pooled = (one * n_one[:, None] + other * n_other[:, None]) * both
        same = _log_normal(one - other, a + b) + _log_normal(pooled, self.between + both)
        apart = _log_normal(one, self.between + a) + _log_normal(other, self.between + b)
        factor: FloatVector = (same - apart).sum(axis=1)
        return factor


def _log_normal(x: FloatMatrix, variance: FloatMatrix) -> FloatMatrix:
    density: FloatMatrix = -0.5 * (np.log(variance) + x * x / variance)
    return density
