"""Marked: a student learns from answers of which some carry a watermark; does what it writes carry it too?"""

import random
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from gateway.detect import Mark, evidence
from gateway.dice import derived
from gateway.green import Green
from gateway.tournament import Tournament

from .language import Corpus, Ngram
from .shields import SECRET
from .theft import drawn

TEXT_TOKENS: Final = 200

MARKS: Final[dict[str, Callable[[bytes], Mark]]] = {
    "green, delta 2": Green,
    "green, delta 2, 1 token of context": partial(Green, width=1),
    "tournament": Tournament,
}

SHARES: Final = (0.0, 0.01, 0.05, 0.2, 1.0)
REPLACED: Final = (0.1, 0.3, 1.0)
"""Shares of the marked words that a paraphrase replaces by what the teacher would say there without a mark."""

LARGER: Final = 20
"""Once more with so many times the texts, of which as many are marked as before in all: one in twenty."""

Texts = list[list[int]]


class Result(NamedTuple):
    """One kind of mark, looked for in a student's writing: log10 of p-values.

    `texts` is how many the student read. `log10_p_known` counts only contexts that occur in what was served under the
    mark; `log10_p_other` is for a key that nobody used.
    """

    mark: str
    seed: int
    texts: int
    share: float
    replaced: float
    log10_p: float
    log10_p_known: float
    log10_p_other: float


class Cost(NamedTuple):
    """What a mark costs honest readers: how surprised the unmarked teacher is by marked text, in bits a token."""

    mark: str
    bits: float
    log10_p_200: float
    """Of one marked text of 200 tokens."""


def written(model: Ngram, many: int, dice: random.Random) -> Texts:
    """So many texts by a model."""
    texts: Texts = [[] for _ in range(many)]
    for text in texts:
        while len(text) < TEXT_TOKENS:
            text.append(model.draw(text, dice))
    return texts


def marked_by(mark: Mark, model: Ngram, many: int, seed: int) -> Texts:
    """The same under a mark."""
    dice = np.random.default_rng(seed)
    texts: Texts = [[] for _ in range(many)]
    for text in texts:
        while len(text) < TEXT_TOKENS:
            text.append(drawn(np.exp(mark.process(text, np.log(model.after(text)))), dice))
    return texts


def paraphrased(teacher: Ngram, texts: Texts, replaced: float, dice: random.Random) -> Texts:
    """The same texts with a share of their words replaced by what the teacher says there."""
    changed = [list(text) for text in texts]
    for text in changed:
        for place in range(len(text)):
            if dice.random() < replaced:
                text[place] = teacher.draw(text[:place], dice)
    return changed


def experiment(have: Corpus, teacher: Ngram, training: int, seeds: tuple[int, ...]) -> tuple[list[Result], list[Cost]]:
    """Students of `training` texts, a share of them marked, each writing as many; and one of many more."""
    results, costs = [], []
    for seed in seeds:
        dice = random.Random(seed)
        unmarked = written(teacher, training * LARGER, dice)
        plain_bits = _bits(teacher, unmarked[:training])
        for name, kind in MARKS.items():
            mark, other = (kind(derived(SECRET, b"watermark", f"campaign:{each}-{seed}")) for each in ("ours", "other"))
            marked = marked_by(mark, teacher, training, seed)
            if seed == seeds[0]:
                single = float(np.median([evidence(mark, [text]).log10_p for text in marked]))
                costs.append(Cost(name, _bits(teacher, marked) - plain_bits, single))
            cases = [(share, 0.0, training, marked[: round(share * training)]) for share in SHARES]
            for replaced in REPLACED:
                changed = paraphrased(teacher, marked[: training // 5], replaced, dice)
                cases.append((0.2, replaced, training, changed))
            cases.append((1 / LARGER, 0.0, training * LARGER, marked))
            for share, replaced, many, stolen in cases:
                student = Ngram(teacher.vocabulary)
                for text in [*stolen, *unmarked[len(stolen) : many]]:
                    student.learn(text)
                wrote = written(student.tuned(have.own), round(training * (many / training) ** 0.5), dice)
                served = marked[: len(stolen)] or marked
                found = (evidence(mark, wrote), evidence(mark, wrote, served), evidence(other, wrote))
                results.append(Result(name, seed, many, share, replaced, *(each.log10_p for each in found)))
    return results, costs


def _bits(model: Ngram, texts: Texts) -> float:
    return float(np.mean([model.bits(text) for text in texts]))
