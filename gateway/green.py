"""Green: a watermark that makes a keyed half of the tokens likelier.

Kirchenbauer, Geiping, Wen, Katz, Miers and Goldstein, A Watermark for Large Language Models (ICML 2023,
arXiv:2301.10226): after each context a share `gamma` of the tokens is green, and their logits rise by `delta`. Theirs
draws the list by a permutation of the vocabulary; here each token is green by its own keyed bits. It changes what the
model says (the larger `delta`, the more), also where it always takes the likeliest token, and students take it over
(Sander et al., Watermarking Makes Language Models Radioactive, NeurIPS 2024, arXiv:2402.14904).
`make countermeasures` measures both: see Measured in README.md.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .marks import WIDTH, bits, bits_of, seed

DELTA: Final = 2.0
GAMMA: Final = 0.5


class Green:
    """The mark of one key. `delta` is what a green token's logit gains, `gamma` the share of green ones."""

    def __init__(self, key: bytes, *, delta: float = DELTA, gamma: float = GAMMA, width: int = WIDTH) -> None:
        self.delta = delta
        self.width = width
        self._key = key
        self._gamma = gamma
        self._limit = np.uint64(min(round(gamma * 2.0**64), 2**64 - 1))

    def process(self, so_far: Sequence[int], logits: NDArray[np.floating]) -> NDArray[np.floating]:
        """Logits of the next token, one for each of the vocabulary, as they should be sampled from."""
        if len(so_far) < self.width:
            return logits
        green = bits(seed(self._key, so_far[len(so_far) - self.width :]), np.arange(len(logits))) < self._limit
        return logits + np.where(green, self.delta, 0.0).astype(logits.dtype)

    def count(self, runs: NDArray[np.int64]) -> tuple[int, int, float]:
        """Of these runs of `width` + 1 tokens: how many end green, how many there are, the chance of each."""
        return int((bits_of(self._key, runs) < self._limit).sum()), len(runs), float(self._limit) / 2.0**64
