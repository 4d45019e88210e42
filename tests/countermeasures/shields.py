"""Shields: the countermeasures of the gateway as the experiment puts them in front of a model."""

from collections.abc import Callable
from functools import cache, partial
from typing import Final

import numpy as np

from gateway.dice import derived
from gateway.perturb import Vector, bounded_random, content_of, reverse_sigmoid
from gateway.privacy import Ledger, private

SECRET: Final = "the secret of the experiment"

Shield = Callable[[list[str], Vector, str, bytes], Vector | None]
"""What is told of one answer, of names and their true probabilities, who asks, what was asked.

None: the text alone. A probability that is not told is NaN.
"""


def none(names: list[str], p: Vector, account: str, asked: bytes) -> Vector | None:
    """The truth."""
    return p


def withhold(names: list[str], p: Vector, account: str, asked: bytes) -> Vector | None:
    """Nothing."""
    return None


def top(names: list[str], p: Vector, account: str, asked: bytes) -> Vector | None:
    """The truth of the top choice, and nothing of any other."""
    return np.where(np.arange(len(p)) == p.argmax(), p, np.nan)


def top_random(names: list[str], p: Vector, account: str, asked: bytes, *, bound: float) -> Vector | None:
    """The top choice's probability, perturbed, and nothing of any other."""
    alone = np.full(len(p), np.nan)
    first = int(p.argmax())
    alone[first] = random([names[first]], p[first : first + 1], account, asked, bound=bound)[0]
    return alone


def reverse(names: list[str], p: Vector, account: str, asked: bytes, *, bound: float) -> Vector | None:
    """The reverse sigmoid within a bound."""
    return reverse_sigmoid(p, bound)


def random(names: list[str], p: Vector, account: str, asked: bytes, *, bound: float) -> Vector:
    """Keyed random within a bound, as the gateway keys it: by account, and by the answer's order."""
    return bounded_random(p, bound, _key(account), content_of(names, p))


@cache
def _key(account: str) -> bytes:
    return derived(SECRET, b"perturb", account)


class Unkeyed:
    """The same with fresh chance for each answer: what the key is good for shows beside it."""

    def __init__(self, bound: float) -> None:
        self._bound = bound
        self._answers = 0

    def __call__(self, names: list[str], p: Vector, account: str, asked: bytes) -> Vector | None:
        """A perturbed answer unlike any before."""
        self._answers += 1
        return bounded_random(p, self._bound, derived(SECRET, b"unkeyed"), str(self._answers).encode())


def dp(names: list[str], p: Vector, account: str, asked: bytes, *, epsilon: float) -> Vector | None:
    """Differentially private, without a limit on how much is asked."""
    whole = bool(np.isclose(p.sum(), 1, atol=1e-9))
    return private(p, epsilon, derived(SECRET, b"private", account), asked, whole=whole)


class Budgeted:
    """Differentially private until an account's budget is spent, then nothing: as the gateway ships it."""

    def __init__(self, epsilon: float, budget: float) -> None:
        self._epsilon = epsilon
        self._ledger = Ledger(budget)

    def __call__(self, names: list[str], p: Vector, account: str, asked: bytes) -> Vector | None:
        """A private answer, or none."""
        if not self._ledger.spend(account, self._epsilon):
            return None
        return dp(names, p, account, asked, epsilon=self._epsilon)


def shields() -> dict[str, Shield]:
    """Every shield by the name it has in the tables, none of them asked before."""
    return {
        "none": none,
        "withhold": withhold,
        "top choice only": top,
        "top choice only, random, bound 0.5": partial(top_random, bound=0.5),
        "reverse sigmoid, bound 0.5": partial(reverse, bound=0.5),
        "random, bound 0.25": partial(random, bound=0.25),
        "random, bound 0.5": partial(random, bound=0.5),
        "random, bound 0.5, no key": Unkeyed(0.5),
        "private, epsilon 4": partial(dp, epsilon=4.0),
        "private, epsilon 4, budget 1,000": Budgeted(4.0, 1_000.0),
        "private, epsilon 16": partial(dp, epsilon=16.0),
    }
