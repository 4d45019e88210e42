"""Countermeasures: which of them a degraded request meets here, and how hard.

Always: one choice, no raw reasoning, no `logit_bias` (with it the true numbers can be measured by search, whatever is
told: Carlini et al., Stealing Part of a Production Language Model, ICML 2024, arXiv:2403.06634). As the settings say:
probabilities withheld, perturbed or private, and a watermark in the text. How hard grows with the standing's strength.
"""

from hashlib import blake2b
from typing import Literal

import numpy as np

from . import degrade
from .dice import derived
from .guard import Standing
from .marking import spelled
from .perturb import Vector, bounded_random, content_of
from .privacy import Ledger, private
from .probabilities import Retell, Telling

Probabilities = Literal["withhold", "perturb", "private"]
WhenSpent = Literal["withhold", "refuse"]
Watermark = Literal["none", "green", "tournament"]


class Countermeasures:
    """What degrading means in one process. `replicas` processes share a subject's privacy budget evenly."""

    def __init__(
        self,
        *,
        secret: str | None,
        probabilities: Probabilities,
        bound: float,
        alternatives: int,
        epsilon: float,
        budget: float,
        when_spent: WhenSpent,
        replicas: int,
        watermark: Watermark,
    ) -> None:
        self._secret = secret
        self._probabilities = probabilities
        self._bound = bound
        self._alternatives = alternatives
        self._epsilon = epsilon
        self._when_spent = when_spent
        self._watermark = watermark
        self.ledger = Ledger(budget / replicas)

    def against(self, standing: Standing) -> "Measures":
        """What one request of a degraded subject meets."""
        return Measures(self, standing)

    def telling(self, standing: Standing, asked: bytes) -> Telling | None:
        """How probabilities are told to a subject that asked this; None withholds them."""
        if self._probabilities == "withhold" or self._secret is None or standing.strength <= 0:
            return None
        subject = subject_of(standing)
        if self._probabilities == "perturb":
            # A key for each level: answers at two strengths cannot be drawn out to none.
            key = derived(self._secret, b"perturb", subject, f"{standing.strength:g}")
            return Telling(_perturbed(self._bound * standing.strength, key), self._alternatives)
        epsilon = self.epsilon(standing)
        key = derived(self._secret, b"private", subject, f"{standing.strength:g}")
        return Telling(_private(self.ledger, subject, epsilon, key, asked), self._alternatives)

    def mark(self, standing: Standing) -> str | None:
        """The watermark of an answer to a subject, spelled for its request; None for none."""
        if self._watermark == "none" or self._secret is None or standing.strength <= 0:
            return None
        return spelled(self._watermark, mark_key(self._secret, subject_of(standing)), standing.strength)

    def epsilon(self, standing: Standing) -> float:
        """Epsilon of one position: the setting at full strength, more where the strength is less."""
        return self._epsilon / max(standing.strength, 1e-9)

    def spent(self, standing: Standing, asked: bytes) -> bool:
        """Whether a request is to be refused: it asks for private probabilities and the budget is spent."""
        return (
            self._probabilities == "private"
            and self._when_spent == "refuse"
            and self.ledger.exhausted(subject_of(standing), self.epsilon(standing))
            and degrade.asks_probabilities(asked)
        )


class Measures:
    """One degraded request on its way in and back. `request` comes first; an answer is whole or streamed."""

    def __init__(self, countermeasures: Countermeasures, standing: Standing) -> None:
        self._countermeasures = countermeasures
        self._standing = standing
        self._telling: Telling | None = None
        self.spent = False
        """Whether to refuse the request: it wants numbers, and the subject's privacy budget is used up."""

    def request(self, body: bytes) -> bytes:
        """The request as the model should see it."""
        self.spent = self._countermeasures.spent(self._standing, body)
        self._telling = self._countermeasures.telling(self._standing, body)
        mark = self._countermeasures.mark(self._standing)
        return degrade.request(body, telling=self._telling, mark=mark)

    def answer(self, body: bytes) -> bytes:
        """The answer as the client should see it."""
        return degrade.answer(body, self._telling)

    def stream(self) -> degrade.Stream:
        """The same for an answer that comes as server-sent events."""
        return degrade.Stream(self._telling)


def mark_key(secret: str, subject: str) -> bytes:
    """The key of a subject's watermark (`campaign:NAME`, `account:NAME`, ...): detection needs it again."""
    return derived(secret, b"watermark", subject)


def subject_of(standing: Standing) -> str:
    """Whom a key is for: the campaign, where there is one, so that its accounts cannot average each other's noise."""
    return f"campaign:{standing.campaign}" if standing.campaign is not None else standing.subject


def _perturbed(bound: float, key: bytes) -> Retell:
    def retell(names: list[str], probabilities: Vector) -> Vector:
        return bounded_random(probabilities, bound, key, content_of(names, probabilities))

    return retell


def _private(ledger: Ledger, subject: str, epsilon: float, key: bytes, asked: bytes) -> Retell:
    # The question and the answer up to here: what the numbers depend on.
    so_far = blake2b(asked, key=key)

    def retell(names: list[str], probabilities: Vector) -> Vector | None:
        if not ledger.spend(subject, epsilon):
            return None
        order = np.argsort(-probabilities, kind="stable")
        so_far.update("\0".join([names[0], *(names[place] for place in order)]).encode("utf-8", "surrogatepass"))
        return private(probabilities, epsilon, key, so_far.digest())

    return retell
