"""Theft: a small language model is copied, token by token, from its answers and the probabilities beside them.

Each position of an answer tells the sampled token and the five likeliest ones. A student counts what it was told: of
the listed tokens their probabilities, of an unlisted one that it was said; over many answers that is right for every
token. Before that it has read some public text of the same kind.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .digits import calibration_error
from .language import Corpus, Ngram
from .shields import Shield, shields

TOP: Final = 5
ANSWER_TOKENS: Final = 100
REPEATS: Final = 5

Targets = list[dict[int, float]]


class Answers(NamedTuple):
    """What a model said and meant, one row a token: the token, the likeliest ones, their true probabilities."""

    tokens: list[int]
    top: NDArray[np.int64]
    true: NDArray[np.float64]

    def first(self, many: int) -> "Answers":
        """The first so many tokens."""
        return Answers(self.tokens[:many], self.top[:many], self.true[:many])


def answers(teacher: Ngram, many: int, dice: np.random.Generator) -> Answers:
    """A teacher's answers, one after the other."""
    tokens: list[int] = []
    top, true = np.empty((many, TOP), np.int64), np.empty((many, TOP))
    for place in range(many):
        p = teacher.after(tokens[len(tokens) - place % ANSWER_TOKENS :])
        likeliest = np.argpartition(p, -TOP)[-TOP:]
        top[place] = likeliest[np.argsort(-p[likeliest], kind="stable")]
        true[place] = p[top[place]]
        tokens.append(drawn(p, dice))
    return Answers(tokens, top, true)


def drawn(p: NDArray[np.float64], dice: np.random.Generator) -> int:
    """One token."""
    steps = np.cumsum(p)
    return int(np.searchsorted(steps, dice.random() * steps[-1], side="right"))


def told(said: Answers, shield: Shield, account: str = "thief", asked: str = "") -> NDArray[np.float64] | None:
    """The probabilities of the likeliest tokens as a client reads them, NaN for one withheld; None for all of them."""
    rows = np.full(said.true.shape, np.nan)
    for place, (top, true) in enumerate(zip(said.top, said.true, strict=True)):
        row = shield([str(token) for token in top], true, account, f"{asked}/{place}".encode())
        if row is not None:
            rows[place] = row
    return None if np.isnan(rows).all() else rows


Thief = Callable[[Answers, Shield, int], tuple[list[int], Targets | None]]
"""Makes training data of answers behind a shield and a budget of tokens: a text, and what to count for each token."""


def plain(said: Answers, shield: Shield, budget: int) -> tuple[list[int], Targets | None]:
    """Believes what it is told."""
    said = said.first(budget)
    p = told(said, shield)
    return said.tokens, None if p is None else targets(said, p)


def text(said: Answers, shield: Shield, budget: int) -> tuple[list[int], Targets | None]:
    """Takes the text alone."""
    return said.tokens[:budget], None


def both(said: Answers, shield: Shield, budget: int) -> tuple[list[int], Targets | None]:
    """Half what it is told, half the text."""
    said = said.first(budget)
    p = told(said, shield)
    if p is None:
        return said.tokens, None
    halves = targets(said, p / 2)
    for token, counts in zip(said.tokens, halves, strict=True):
        counts[token] = counts.get(token, 0.0) + 0.5
    return said.tokens, halves


def recalibrated(said: Answers, shield: Shield, budget: int) -> tuple[list[int], Targets | None]:
    """Learns from the text what told probabilities mean: for each rank, in twenty classes, how often the token came."""
    said = said.first(budget)
    p = told(said, shield)
    if p is None:
        return said.tokens, None
    came = said.top == np.array(said.tokens)[:, None]
    for rank in range(TOP):
        known = ~np.isnan(p[:, rank])
        if not known.any():
            continue
        edges = np.quantile(p[known, rank], np.linspace(0, 1, 21)[1:-1])
        classes = np.searchsorted(edges, p[known, rank])
        means = np.bincount(classes, came[known, rank], 20) / np.maximum(np.bincount(classes, minlength=20), 1)
        p[known, rank] = means[classes]
    return said.tokens, targets(said, p)


def averaged(said: Answers, shield: Shield, budget: int, *, linked: bool) -> tuple[list[int], Targets | None]:
    """Asks for each position five times and averages: as one account with small changes, or as five accounts."""
    said = said.first(budget // REPEATS)
    rounds = [
        told(said, shield, "thief" if linked else f"thief-{number}", f"round {number}") for number in range(REPEATS)
    ]
    known = [each for each in rounds if each is not None]
    if not known:
        return said.tokens, None
    times = np.sum(~np.isnan(known), axis=0)
    means = np.where(times > 0, np.nansum(known, axis=0) / np.maximum(times, 1), np.nan)
    return said.tokens, targets(said, means)


THIEVES: Final[dict[str, Thief]] = {
    "plain": plain,
    "text": text,
    "both": both,
    "recalibrated": recalibrated,
    "repeats": partial(averaged, linked=True),
    "accounts": partial(averaged, linked=False),
}


def targets(said: Answers, p: NDArray[np.float64]) -> Targets:
    """What to count at each position: listed tokens as told, an unlisted one as said."""
    found = [
        {token: value for token, value in zip(top, row, strict=True) if not math.isnan(value)}
        for top, row in zip(said.top.tolist(), p.tolist(), strict=True)
    ]
    for token, counts in zip(said.tokens, found, strict=True):
        counts.setdefault(token, 1.0)
    return found


class Result(NamedTuple):
    """What one thief got behind one shield: 0 is what it knew from public text alone, 1 its teacher (cross-entropy)."""

    shield: str
    thief: str
    budget: int
    seed: int
    kept: float


class Honest(NamedTuple):
    """What honest customers get: how far the likeliest token's probability is from how often it comes; NaN for none."""

    shield: str
    top_choice_kept: float
    calibration_error: float
    mean_change: float


def experiment(
    have: Corpus, teacher: Ngram, budgets: tuple[int, ...], adaptive: int, seeds: tuple[int, ...]
) -> tuple[list[Result], list[Honest]]:
    """Every shield: the plain thief at each budget, and every thief at the `adaptive` one."""
    floor, best = public(have).tuned(have.own).bits(have.test), teacher.bits(have.test)
    results, honest = [], []
    for seed in seeds:
        said = answers(teacher, max(budgets), np.random.default_rng(seed))
        for name in shields():
            for thief, budget in sorted({("plain", each) for each in budgets} | {(each, adaptive) for each in THIEVES}):
                student = public(have).learn(*THIEVES[thief](said, shields()[name], budget)).tuned(have.own)
                kept = (floor - student.bits(have.test)) / (floor - best)
                results.append(Result(name, thief, budget, seed, kept))
            if seed == seeds[0]:
                honest.append(_honest(name, said.first(adaptive), shields()[name]))
    return results, honest


def public(have: Corpus) -> Ngram:
    """What anybody can know without asking."""
    return Ngram().learn(have.public)


def _honest(name: str, said: Answers, shield: Shield) -> Honest:
    p = told(said, shield, "honest")
    if p is None:
        return Honest(name, 1.0, float("nan"), float("nan"))
    known = ~np.isnan(p).all(1)
    p, true, came = p[known], said.true[known], (said.top[:, 0] == np.array(said.tokens))[known]
    kept = float((np.nanargmax(p, 1) == 0).mean())
    return Honest(name, kept, calibration_error(p[:, 0], came), float(np.nanmax(np.abs(p - true), 1).mean()))
