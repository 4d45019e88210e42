"""Tournament: a watermark that changes which token is drawn, and on average not how often.

Dathathri et al., Scalable watermarking for identifying large language model outputs (SynthID-Text, Nature 634, 2024):
of two tokens drawn from the model the one with the better keyed bit goes on, in `layers` rounds. Here the rounds are
worked into the probabilities at once, in their closed form for two candidates. Over all keys each token keeps its
probability; a context that comes again in one text is left unmarked, so that this holds for whole texts. It marks
nothing where the model is sure, or always takes the likeliest token. `make countermeasures` measures the effect: see
Measured in README.md.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .marks import WIDTH, bits, bits_of, seed

LAYERS: Final = 12
"""Rounds. Later ones find less left to choose from, and all count alike at detection."""

CANDIDATES: Final = 1024
"""The likeliest tokens take part; all others keep their probability."""


class Tournament:
    """The mark of one key. `temperature` is what whoever samples afterwards divides the logits by."""

    def __init__(self, key: bytes, *, layers: int = LAYERS, width: int = WIDTH, temperature: float = 1.0) -> None:
        if not 1 <= layers <= 64:
            raise ValueError(f"layers: {layers} is not from 1 to 64")
        self.width = width
        self._key = key
        self._layers = layers
        self._temperature = temperature

    def process(self, so_far: Sequence[int], logits: NDArray[np.floating]) -> NDArray[np.floating]:
        """Logits of the next token, one for each of the vocabulary, as they should be sampled from.

        `so_far` is the text up to here: where its last tokens stood together before, nothing changes.
        """
        if len(so_far) < self.width or _again(so_far, self.width):
            return logits
        scaled = logits.astype(np.float64) / self._temperature
        chosen = np.flatnonzero(np.isfinite(scaled))
        if len(chosen) > CANDIDATES:
            chosen = chosen[np.argpartition(scaled[chosen], -CANDIDATES)[-CANDIDATES:]]
        if not len(chosen):
            return logits
        most = scaled[chosen].max()
        weights = np.exp(scaled[chosen] - most)
        total = weights.sum()
        won = self._won(weights / total, bits(seed(self._key, so_far[len(so_far) - self.width :]), chosen))
        marked = logits.copy()
        with np.errstate(divide="ignore"):
            marked[chosen] = (np.log(won * total) + most) * self._temperature
        return marked

    def _won(self, probabilities: NDArray[np.float64], drawn: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Probability of each candidate to win all rounds."""
        for layer in range(self._layers):
            bit = ((drawn >> np.uint64(layer)) & np.uint64(1)).astype(np.float64)
            # Rounding must not make a probability negative where one token has nearly all.
            probabilities = np.maximum(probabilities * (1 + bit - float(probabilities @ bit)), 0.0)
        probabilities /= probabilities.sum()
        return probabilities

    def count(self, runs: NDArray[np.int64]) -> tuple[int, int, float]:
        """Of these runs of `width` + 1 tokens: bits won by their last, bits in all, the chance of each."""
        drawn = bits_of(self._key, runs) & np.uint64(2**self._layers - 1)
        return int(np.bitwise_count(drawn).sum()), self._layers * len(runs), 0.5


def _again(so_far: Sequence[int], width: int) -> bool:
    """Whether the last `width` tokens stood together before."""
    text = np.asarray(so_far, np.int64)
    runs = np.lib.stride_tricks.sliding_window_view(text, width)
    return bool((runs[:-1] == runs[-1]).all(axis=1).any())
