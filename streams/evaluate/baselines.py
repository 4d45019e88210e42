"""Baselines: what a platform has today, fed with the same requests as the detector."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import shapiro  # type: ignore[import-untyped]

from models.detector import IntVector

from ..batch import TOPIC_SIZE, Batch
from ..simulate.accounts import DAY_MS

DAILY_QUOTA: Final = 2_000
"""Requests an account may send on one UTC day. A round number: the picture shows every other quota as well."""

Floats32 = npt.NDArray[np.float32]


class RateLimit:
    """A quota for each account and day, and nothing else. What speaks against an account is its requests of the day."""

    rungs: Final[Mapping[str, float]] = {"throttle": DAILY_QUOTA}

    def __init__(self) -> None:
        self._sent: dict[str, tuple[int, int]] = {}

    def weigh(self, batch: Batch, own: IntVector, account: str) -> float:
        """Take the requests at the positions `own`, all of one account."""
        day = int(batch.at[own[-1]]) // DAY_MS
        was, sent = self._sent.get(account, (day, 0))
        sent = len(own) + (sent if was == day else 0)
        self._sent[account] = (day, sent)
        return float(sent)


class Prada:
    """PRADA's test on one account: distances between its prompts should be normally distributed.

    Each prompt's smallest distance to those before it is kept, and Shapiro and Wilk's W of the newest of them is
    compared with a threshold (Juuti and others, "PRADA: protecting against DNN model stealing attacks", 2019). The
    original keeps a growing set for each class of the model; here the distance is the cosine between topic vectors
    and the oldest prompts are forgotten. It was made for images, and is known to fail on text.
    """

    REMEMBERED: Final = 100
    TESTED: Final = 300
    LEAST: Final = 100
    THRESHOLD: Final = 0.90
    """The paper uses 0.90 to 0.96; the lowest accuses least."""

    def __init__(self) -> None:
        self._prompts: Floats32 = np.zeros((0, TOPIC_SIZE), np.float32)
        self._distances: npt.NDArray[np.float64] = np.zeros(0)
        self._untested = 0
        self.normality = 1.0

    def add(self, topics: npt.NDArray[np.int8]) -> None:
        """Take new prompts' topic vectors, one a row."""
        vectors = topics[-self.TESTED :].astype(np.float32)
        vectors /= np.maximum(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)), 1.0)[:, None]
        if len(self._prompts):
            nearest = 1.0 - (vectors @ self._prompts.T).max(axis=1)
            self._distances = np.concatenate((self._distances, nearest))[-self.TESTED :]
            self._untested += len(nearest)
        self._prompts = np.concatenate((self._prompts, vectors))[-self.REMEMBERED :]
        if len(self._distances) >= self.LEAST and self._untested >= self.LEAST:
            self._untested = 0
            # Distances that are all the same are anything but normal.
            spread = float(np.ptp(self._distances)) > 1e-6
            self.normality = float(shapiro(self._distances).statistic) if spread else 0.0


@dataclass(slots=True)
class _Habits:
    """What the rules count of one account; the first five since midnight UTC."""

    day: int = 0
    requests: int = 0
    hours: set[int] = field(default_factory=set)
    input: float = 0.0
    output: float = 0.0
    sent: int = 0
    sketched: int = 0
    cued: int = 0
    logprobs: int = 0
    opened_at: float = float("nan")
    addresses: set[int] = field(default_factory=set)
    prada: Prada = field(default_factory=Prada)


class FixedRules:
    """Thresholds that an experienced person would set, with a point for each, and PRADA as one of them."""

    rungs: Final[Mapping[str, float]] = {"watch": 2.0, "throttle": 3.0, "verify": 4.0}

    def __init__(self) -> None:
        self._habits: dict[str, _Habits] = {}

    def weigh(self, batch: Batch, own: IntVector, account: str) -> float:
        """Take the requests at the positions `own`, all of one account, and add up its points."""
        h = self._habits.setdefault(account, _Habits())
        at = batch.at[own]
        day = int(at[-1]) // DAY_MS
        if day != h.day:
            h.day, h.requests, h.hours, h.input, h.output = day, 0, set(), 0.0, 0.0
        h.requests += len(own)
        h.sent += len(own)
        h.hours.update((at // 3_600_000 % 24).tolist())
        h.input += float(batch.input_tokens[own].sum())
        h.output += float(batch.output_tokens[own].sum())
        h.logprobs += int(np.count_nonzero(batch.top_logprobs[own] > 0))
        h.opened_at = float(np.fmin(h.opened_at, batch.opened_at[own[0]]))
        if len(h.addresses) <= 20:
            h.addresses.update(batch.address[own].tolist())
        sketched = np.flatnonzero(np.isin(batch.sketched, own))
        if len(sketched):
            h.sketched += len(sketched)
            h.cued += int(np.count_nonzero(batch.cues[sketched].any(axis=1)))
            h.prada.add(batch.topic[sketched])
        return float(_points(h, int(at[-1])))


def _points(h: _Habits, at: int) -> int:
    enough = h.sent >= 100
    return sum(
        (
            h.requests > 1_000,
            h.requests > 5_000,
            h.requests >= 100 and h.output > 5 * h.input and h.output > 500 * h.requests,
            len(h.addresses - {0}) > 20,
            h.requests > 300 and at - h.opened_at < 7 * DAY_MS,
            len(h.hours) >= 22,
            enough and h.cued > 0.5 * h.sketched,
            enough and h.logprobs > 0.5 * h.sent,
            h.prada.normality < Prada.THRESHOLD,
        )
    )
