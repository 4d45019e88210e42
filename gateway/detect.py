"""Detect: whether texts carry a mark: an exact p-value over all of them together.

What a student writes holds little of its teacher's mark, so one text says nothing and a few thousand together say a lot
(Sander et al., Watermarking Makes Language Models Radioactive, NeurIPS 2024, arXiv:2402.14904: p below 10^-5 with one
training text in twenty marked). The test is one-sided and exact: each different (context, token) pair is a coin of
known chance to whoever does not know the key. It answers "does this text know our key?", not "who stole it": a customer
may publish what we served, and a student may learn it there.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .marks import pairs

_BLOCK: Final = 4096


class Mark(Protocol):
    """A watermark of one key: Green or Tournament."""

    width: int

    def process(self, so_far: Sequence[int], logits: NDArray[np.floating]) -> NDArray[np.floating]:
        """Logits of the next token as they should be sampled from."""

    def count(self, runs: NDArray[np.int64]) -> tuple[int, int, float]:
        """Successes, trials and the chance of each in runs of `width` + 1 tokens."""


class Evidence(NamedTuple):
    """What texts say of one mark."""

    successes: int
    trials: int
    chance: float
    log10_p: float
    """Of the p-value: the probability of as many successes or more without the key."""

    @property
    def p_value(self) -> float:
        """0 where it is below what a float can hold; then see log10_p."""
        return math.pow(10.0, self.log10_p)


def evidence(mark: Mark, texts: Sequence[Sequence[int]], known: Sequence[Sequence[int]] | None = None) -> Evidence:
    """Evidence of a mark in texts, each a sequence of token ids.

    Texts must not contain what we wrote ourselves, prompts included: that would be evidence of our own hand. With
    `known`, texts that we served under the mark, only contexts that occur in those count: where a student had something
    to learn.
    """
    runs = pairs(texts, mark.width)
    if known is not None and len(runs):
        served = pairs(known, mark.width)[:, :-1]
        runs = runs[_rows_in(runs[:, :-1], served)]
    successes, trials, chance = mark.count(runs)
    return Evidence(successes, trials, chance, log10_tail(successes, trials, chance))


def attribute(
    marks: Mapping[str, Mark], texts: Sequence[Sequence[int]], known: Sequence[Sequence[int]] | None = None
) -> dict[str, Evidence]:
    """Evidence of each of several marks, such as all campaigns', corrected for having tried them all (Bonferroni)."""
    tried = math.log10(max(len(marks), 1))
    found = {name: evidence(mark, texts, known) for name, mark in marks.items()}
    return {name: each._replace(log10_p=min(each.log10_p + tried, 0.0)) for name, each in found.items()}


def log10_tail(successes: int, trials: int, chance: float) -> float:
    """log10 of the probability of `successes` or more in `trials` of that chance, exact but for rounding."""
    if not 0 < chance < 1:
        raise ValueError(f"chance: {chance} is not between 0 and 1")
    if not 0 <= successes <= trials:
        raise ValueError(f"successes: {successes} is not from 0 to {trials}")
    if successes == 0:
        return 0.0
    if successes > trials * chance:
        return _log_sum(successes, trials, chance) / math.log(10)
    # The other tail is the smaller one: of fewer than that.
    below = math.exp(_log_sum(trials - successes + 1, trials, 1 - chance))
    return math.log10(max(1 - below, 5e-324))


def _log_sum(successes: int, trials: int, chance: float) -> float:
    """Natural log of the upper tail, from its first and largest term on."""
    first = (
        math.lgamma(trials + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(trials - successes + 1)
        + successes * math.log(chance)
        + (trials - successes) * math.log1p(-chance)
    )
    total, last, at = 1.0, 0.0, successes
    while at < trials and last > -40:
        steps = np.arange(at, min(at + _BLOCK, trials))
        terms = last + np.cumsum(np.log((trials - steps) / (steps + 1) * (chance / (1 - chance))))
        total += float(np.exp(terms).sum())
        last, at = float(terms[-1]), at + len(steps)
    return min(first + math.log(total), 0.0)


def _rows_in(rows: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.bool_]:
    wanted = set(map(bytes, np.ascontiguousarray(among)))
    return np.fromiter((bytes(row) in wanted for row in np.ascontiguousarray(rows)), np.bool_, len(rows))
