"""Language: the text that installed packages ship, its words as tokens, and a model that counts what follows what."""

import hashlib
import itertools
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

ORDER: Final = 4
"""A word is predicted from up to three before it."""

WORDS: Final = 1_500
UNKNOWN: Final = 0
PUBLIC_TOKENS: Final = 10_000
TEST_TOKENS: Final = 8_000
OWN_TOKENS: Final = 3_000

PRIORS: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Among these the smoothing is chosen, by the text at hand."""

Vector = NDArray[np.float64]
Context = tuple[int, ...]


class Corpus(NamedTuple):
    """A text as tokens, cut in four. The thief reads `public`, and `own` to choose its smoothing by."""

    teacher: list[int]
    public: list[int]
    own: list[int]
    test: list[int]
    words: list[str]
    fingerprint: str
    """Of the text: results are the same where this is."""


def corpus() -> Corpus:
    """The docstrings of scikit-learn, which tests need anyway: technical English, in an order drawn once for all."""
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise ImportError("scikit-learn is not installed: make .venv/ready")
    texts: list[str] = []
    for path in sorted(Path(spec.origin).parent.rglob("*.py")):
        if "tests" not in path.parts and "externals" not in path.parts:
            texts += re.findall(r'"""(.*?)"""', path.read_text("utf-8"), re.S)
    # Parameters that many classes share stand there once for each.
    parts = dict.fromkeys(part.strip().lower() for text in texts for part in text.split("\n\n"))
    prose = [part for part in parts if ">>>" not in part and "---" not in part]
    np.random.default_rng(0).shuffle(prose)
    pieces = re.findall(r"[a-z]+|\d|[^\sa-z\d]", "\n".join(prose))
    words = ["?", *(word for word, _ in Counter(pieces).most_common(WORDS - 1))]
    number = {word: place for place, word in enumerate(words)}
    tokens = [number.get(piece, UNKNOWN) for piece in pieces]
    fingerprint = hashlib.sha256(" ".join(pieces).encode()).hexdigest()[:12]
    *starts, end = np.cumsum([0, PUBLIC_TOKENS, OWN_TOKENS, TEST_TOKENS]).tolist()
    public, own, test = (tokens[start:stop] for start, stop in itertools.pairwise([*starts, end]))
    return Corpus(tokens[end:], public, own, test, words, fingerprint)


class Ngram:
    """Counts, whole or in parts, smoothed towards shorter contexts (a hierarchical Dirichlet prior of weight `prior`).

    Teacher and student are both of this kind, so that a student with endless data becomes its teacher.
    """

    def __init__(self, vocabulary: int = WORDS, prior: float = 3.0) -> None:
        self.prior = prior
        self.vocabulary = vocabulary
        self._counts: dict[Context, dict[int, float]] = {}
        self._totals: dict[Context, float] = {}
        self._plain = np.full(vocabulary, 1 / vocabulary)

    def learn(self, text: Sequence[int], targets: Iterable[dict[int, float]] | None = None) -> "Ngram":
        """Count each token of a text in its contexts, or in its place what `targets` says of it. Returns itself."""
        told = ({token: 1.0} for token in text) if targets is None else targets
        for place, weights in enumerate(told):
            for size in range(min(ORDER, place + 1)):
                context = tuple(text[place - size : place])
                counts = self._counts.setdefault(context, {})
                for token, weight in weights.items():
                    counts[token] = counts.get(token, 0.0) + weight
                self._totals[context] = self._totals.get(context, 0.0) + sum(weights.values())
        unigrams = self._counts.get((), {})
        self._plain = np.full(self.vocabulary, self.prior / self.vocabulary)
        self._plain[list(unigrams)] += list(unigrams.values())
        self._plain /= self._plain.sum()
        return self

    def tuned(self, text: Sequence[int]) -> "Ngram":
        """Choose the smoothing that suits a text best. Returns itself."""

        def bits(prior: float) -> float:
            self.prior = prior
            return self.bits(text)

        self.prior = min(PRIORS, key=bits)
        return self

    def after(self, text: Sequence[int]) -> Vector:
        """Probabilities of the next token."""
        p = self._plain
        for size in range(1, min(ORDER, len(text) + 1)):
            context = tuple(text[len(text) - size :])
            counts = self._counts.get(context)
            if counts is None:
                break
            p = p * (self.prior / (self.prior + self._totals[context]))
            p[list(counts)] += np.fromiter(counts.values(), np.float64, len(counts)) / (
                self.prior + self._totals[context]
            )
        return p

    def draw(self, text: Sequence[int], dice: random.Random) -> int:
        """One next token, with the probabilities of `after`."""
        for size in range(min(ORDER - 1, len(text)), -1, -1):
            context = tuple(text[len(text) - size :])
            counts = self._counts.get(context)
            if counts is not None and dice.random() * (self._totals[context] + self.prior) < self._totals[context]:
                return dice.choices(list(counts), list(counts.values()))[0]
        return dice.randrange(self.vocabulary)

    def bits(self, text: Sequence[int]) -> float:
        """Cross-entropy of a text, in bits a token."""
        lost = [-np.log2(self._one(text[max(place - ORDER + 1, 0) : place], text[place])) for place in range(len(text))]
        return float(np.mean(lost))

    def _one(self, before: Sequence[int], token: int) -> float:
        p = float(self._plain[token])
        for size in range(1, len(before) + 1):
            context = tuple(before[len(before) - size :])
            counts = self._counts.get(context)
            if counts is None:
                break
            p = (counts.get(token, 0.0) + self.prior * p) / (self._totals[context] + self.prior)
        return p
