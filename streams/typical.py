"""Typical: what the peers of an account show: it bounds what evidence is worth, and reasons tell it."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from gateway.verdict import Reason
from models.detector import BoolVector, FloatMatrix
from models.peers import Group, Peers
from models.signals import SIGNALS, WORDS, evidence

from .features import Features, features
from .profiles import Block, Profiles
from .whole import pick

_DAY_MS: Final = 86_400_000

LOOK_MS: Final = 6 * 3_600_000
"""Event time between two looks: what peers show moves slowly, and a look takes as long as 2,000 requests."""

SAMPLE: Final = 4_096
"""Profiles in one look, from all over the table."""

SETTLED_MS: Final = 7 * _DAY_MS
"""An account is a peer of others after so long, or if it was there when watching began,"""

STEADY: Final = 2.0
"""if it sends at most so many times what it does on an average day: an attack in its first days is nobody's peer, so
thousands of them do not make each other typical."""

REASONS_SHOWN: Final = 5
REASON_FROM: Final = 0.25
"""Evidence below this is noise to the person who reads the verdict."""

_UNEXPLAINED: Final = {
    "anomaly": "its use as a whole is unlike that of other accounts",
    "judgement": "people confirmed attacks that looked like this one",
}

_WORDS: Final = tuple(WORDS)
_CAPS: Final = np.array([signal.cap for signal in SIGNALS.values()])
_VOLUME: Final = np.array([signal.kind == "volume" for signal in SIGNALS.values()])
_VOLUME_WORDS: Final = np.array([word in ("requests_hour", "requests_day") for word in WORDS])


class Typical:
    """What settled accounts show, of which each counts alike, however much it sends.

    It is worked out anew from the profiles at each look, so there is nothing of it to keep.
    """

    def __init__(self) -> None:
        self._peers: Peers | None = None
        self._next_at = 0
        self._known = 0

    def look(self, profiles: Profiles, at: int, watched_since: int) -> None:
        """Look at the profiles if it is time to: six hours after the last look, or when there are twice as many."""
        if at >= self._next_at or profiles.height >= 2 * self._known:
            self.look_again(profiles, at, watched_since)

    def look_again(self, profiles: Profiles, at: int, watched_since: int) -> None:
        """Look at the profiles of all accounts at an instant (ms)."""
        self._next_at, self._known = at + LOOK_MS, profiles.height
        some = pick(profiles.table, slice(0, profiles.height, max(1, profiles.height // SAMPLE)))
        some = pick(some, settled(some, at, watched_since))
        found = features(some, watched_since)
        self._peers = Peers(
            group(some, found),
            evidence(found, len(some)).weights,
            _CAPS,
            _VOLUME,
            np.stack([found[word] for word in _WORDS], axis=1),
            _VOLUME_WORDS,
        )

    def bounded(self, weights: FloatMatrix, block: Block, found: Features) -> FloatMatrix:
        """What signals said of the profiles of a block (rows x SIGNALS), none worth more than among its peers."""
        return weights if self._peers is None else self._peers.bounded(weights, group(block, found))

    def median(self, name: str, one: Block) -> float | None:
        """A feature's median among the peers of a profile (a block of 1); None before enough were seen."""
        if self._peers is None:
            return None
        return self._peers.median(_WORDS.index(name), group(one, {"requests_day": one["volumes"][:, 2, 0]}))

    def reason(self, signal: str, weight: float, name: str | None, values: Mapping[str, float], one: Block) -> Reason:
        """One term of the evidence on a profile (a block of 1) in plain words; `name` is the feature behind it, None
        when it shows no more."""
        if name is None:
            text = _UNEXPLAINED.get(signal, f"showed signs of {signal} earlier")
            return Reason(signal=signal, weight=round(weight, 3), text=text)
        observed, typical = values[name], self.median(name, one)
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


def settled(block: Block, at: int, watched_since: int) -> BoolVector:
    """Which profiles of a block show what honest use is: active this week, at their pace for long, on no rung.

    What a decayed sum of a week holds of a steady day is worked out for as long as anybody was watched.
    """
    newest, first = block["at"], block["first_at"]
    long = (first < watched_since + _DAY_MS) | (first <= newest - SETTLED_MS)
    watched_days = np.maximum(newest - watched_since, 1) / _DAY_MS
    average_day = block["volumes"][:, 3, 0] / (7.0 * -np.expm1(-watched_days / 7.0))
    steady = block["volumes"][:, 2, 0] <= STEADY * average_day * -np.expm1(-watched_days)
    found: BoolVector = (newest > at - SETTLED_MS) & long & steady & (block["rung"] == 0)
    return found


def group(block: Block, found: Features) -> Group:
    """Which peers the profiles of a block have."""
    return Group(block["plan"].astype(np.int64), block["models"][:, 1].argmax(axis=1), found["requests_day"])


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
