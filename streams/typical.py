"""Typical: what active accounts usually show, so that a reason can say what would have been ordinary."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from gateway.verdict import Reason
from models.histogram import DecayedHistogram
from models.signals import WORDS

from .features import features, matrix, unscaled
from .profiles import Block, Profiles
from .whole import pick

ROUND_REQUESTS: Final = 2_048
"""Requests between two looks: medians move slowly."""

ROUND_PROFILES: Final = 128
"""Profiles in one look."""

RESTORED_PROFILES: Final = 512
"""At least so many, if there are, in the look after a restore: a median of theirs has, nineteen times of twenty, 46 to
54 % of all below it."""

_ENOUGH: Final = 200
"""Profiles to have learned from before a median is called typical."""

REASONS_SHOWN: Final = 5
REASON_FROM: Final = 0.25
"""Evidence below this is noise to the person who reads the verdict."""

_UNEXPLAINED: Final = {
    "anomaly": "its use as a whole is unlike that of other accounts",
    "judgement": "people confirmed attacks that looked like this one",
}


class Typical:
    """The median of every feature that a reason can name, over accounts: each counts alike, however much it sends."""

    def __init__(self) -> None:
        self._names = tuple(WORDS)
        self._histogram = DecayedHistogram(len(self._names), half_life=50_000)
        self._learned = 0
        self._next = 0
        self._requests = 0

    def look(self, profiles: Profiles, requests: int) -> None:
        """Count the requests of a batch, and from time to time look at the next few profiles of the table in turn."""
        self._requests += requests
        if self._requests < ROUND_REQUESTS:
            return
        self._requests = 0
        self._look(profiles)

    def look_again(self, profiles: Profiles) -> None:
        """Look at enough profiles to know what is typical, from all over the table, after they were restored."""
        if profiles.height:
            self._learn(profiles.table[: profiles.height : max(1, profiles.height // RESTORED_PROFILES)])

    def _look(self, profiles: Profiles) -> None:
        some = profiles.table[self._next : min(self._next + ROUND_PROFILES, profiles.height)]
        self._next = (self._next + len(some)) % profiles.height
        self._learn(some)

    def _learn(self, some: Block) -> None:
        some = pick(some, some["at"] > 0)
        self._histogram.learn_many(matrix(features(some), self._names))
        self._learned += len(some)

    def median(self, name: str) -> float | None:
        """The feature's median in its own unit; None before enough was seen."""
        if self._learned < _ENOUGH:
            return None
        value = float(self._histogram.quantile(0.5)[self._names.index(name)])
        return None if np.isnan(value) else unscaled(name, value)

    def reason(self, signal: str, weight: float, name: str | None, values: Mapping[str, float]) -> Reason:
        """One term of the evidence in plain words; `name` is the feature behind it, None when it shows no more."""
        if name is None:
            text = _UNEXPLAINED.get(signal, f"showed signs of {signal} earlier")
            return Reason(signal=signal, weight=round(weight, 3), text=text)
        observed, typical = values[name], self.median(name)
        words = WORDS[name]
        if typical is None:
            words = words.partition("; ")[0] if "; " in words else words.partition(" where ")[0]
        return Reason(
            signal=signal,
            weight=round(weight, 3),
            text=words.format(observed=Amount(observed), typical=Amount(typical or 0.0)),
            observed=rounded(observed),
            typical=None if typical is None else rounded(typical),
        )


def rounded(value: float) -> float:
    """Three significant digits: a reason is read by a person, and medians are no more exact than that."""
    return float(f"{value:.3g}")


class Amount(float):
    """A number as a person writes it: `{:%}` as whole per cent, else grouped digits, decimals only when small."""

    def __format__(self, spec: str) -> str:
        value = float(self)
        if spec == "%":
            return f"{100 * value:.0f} %"
        return f"{value:,.0f}" if value >= 10 else f"{rounded(value):g}"
