"""Marks: which tokens a keyed watermark favours after which context, and how to count them in a text.

A context is the `width` tokens before. The context and the key give a secret number (BLAKE2b), and that number and the
token 64 bits (splitmix64, the finalizer of Steele, Lea and Flood, OOPSLA 2014). Each token has bits of its own, so that
a detector needs neither the model nor its vocabulary, and under a key that a text has never met the bits of different
(context, token) pairs are independent and even: what makes a p-value exact.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH: Final = 2
"""Tokens of context. Fewer are easier to learn for a student and for a forger; more break with every edit."""

Bits = NDArray[np.uint64]

_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)


def seed(key: bytes, context: Sequence[int]) -> int:
    """The secret number of a context: 64 bits."""
    raw = np.asarray(context, "<i8").tobytes()
    return int.from_bytes(blake2b(raw, digest_size=8, key=key, person=b"context").digest(), "little")


def bits(seeds: ArrayLike, tokens: ArrayLike) -> Bits:
    """64 even bits for each token under its context's number; both may be one or an array."""
    mixed: Bits = np.asarray(seeds, np.uint64) + (np.asarray(tokens).astype(np.uint64) + np.uint64(1)) * _STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed


def pairs(texts: Sequence[Sequence[int]], width: int) -> NDArray[np.int64]:
    """Every different run of `width` + 1 tokens in any of the texts, one a row.

    What comes again is the same evidence again, and counts once (Fernandez et al., Three Bricks to Consolidate
    Watermarks for Large Language Models, WIFS 2023, arXiv:2308.00113).
    """
    runs = [
        np.lib.stride_tricks.sliding_window_view(np.asarray(text, np.int64), width + 1)
        for text in texts
        if len(text) > width
    ]
    if not runs:
        return np.empty((0, width + 1), np.int64)
    found: NDArray[np.int64] = np.unique(np.concatenate(runs), axis=0)
    return found


def bits_of(key: bytes, runs: NDArray[np.int64]) -> Bits:
    """The bits of the last token of each run under the context before it."""
    if not len(runs):
        return np.empty(0, np.uint64)
    # Rows are sorted, so that equal contexts stand together.
    contexts = runs[:, :-1]
    fresh = np.concatenate([[True], (contexts[1:] != contexts[:-1]).any(axis=1)])
    seeds = np.array([seed(key, context) for context in contexts[fresh]], np.uint64)
    return bits(seeds[np.cumsum(fresh) - 1], runs[:, -1])
