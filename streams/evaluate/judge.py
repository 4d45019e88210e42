"""Judge: what an attacker got before somebody acted, and whom we accused wrongly.

A request of a campaign is **served before a rung** when its account had not met that rung, or a harsher one, by the end
of the micro-batch before: a verdict binds from the next batch on. What the account sends afterwards was asked for, and
so it counts in the denominator, but it was not served before the rung. Unrelated customers' requests that a campaign
sends as cover count in neither.

An honest **account-day** is a UTC day on which an honest account sent something; it is acted on when a verdict of that
rung or a harsher one was announced or renewed on it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from scipy.stats import beta  # type: ignore[import-untyped]

from gateway.verdict import ACTIONS

from ..simulate.accounts import DAY_MS

LADDER: Final[tuple[str, ...]] = ACTIONS[1:]
"""Rungs, mildest first; the height of a rung is its place in here, from 1. Height 0 is no rung."""

WATCH: Final = LADDER.index("watch") + 1
THROTTLE: Final = LADDER.index("throttle") + 1


class Act(NamedTuple):
    """A verdict on an account: the height of its rung, and when (ms UTC)."""

    account: str
    height: int
    at: int


@dataclass(slots=True)
class Met:
    """What one account asked for, and what it met."""

    sent: int = 0
    """Requests, without cover traffic."""
    covered: int = 0
    """Requests of unrelated customers that hide the others."""
    reasoning: int = 0
    """Reasoning tokens of these."""
    output: int = 0
    first_at: int = 0
    at: dict[int, int] = field(default_factory=dict)
    """When it first met each height or a higher one."""
    before: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Requests and reasoning tokens sent by then."""
    covered_before: dict[int, int] = field(default_factory=dict)
    """Requests of unrelated customers sent by then."""
    rises: list[tuple[float, int]] = field(default_factory=list)
    """Each new maximum of what speaks against it, and the requests sent by then."""
    days: dict[int, int] = field(default_factory=dict)
    """For each day on which it sent something, the highest rung announced."""
    strongest: dict[int, float] = field(default_factory=dict)
    """For each of those days, the most that spoke against it."""
    scores: dict[int, float] = field(default_factory=dict)
    """For each of those days, the highest probability that it was given."""

    def served_before(self, height: int) -> tuple[int, int]:
        """Requests and reasoning tokens sent before it met this height."""
        return self.before.get(height, (self.sent, self.reasoning))

    def served_below(self, strength: float) -> int:
        """Requests sent before as much as this spoke against it."""
        for risen, sent in self.rises:
            if risen >= strength:
                return sent
        return self.sent

    @property
    def height(self) -> int:
        """The highest rung it met."""
        return max(self.at, default=0)


class Ledger:
    """Accounts, what they sent and what they met, as one watcher saw it."""

    def __init__(self) -> None:
        self.accounts: dict[str, Met] = {}

    def send(self, account: str, at: int, reasoning: int, output: int, *, cover: bool = False) -> None:
        """Count one request (tokens; `at` in ms)."""
        met = self.accounts.get(account)
        if met is None:
            met = self.accounts[account] = Met(first_at=at)
        met.days.setdefault(at // DAY_MS, 0)
        if cover:
            met.covered += 1
        else:
            met.sent += 1
            met.reasoning += reasoning
            met.output += output

    def act(self, act: Act) -> None:
        """Take note of a verdict; what was sent so far was served before it."""
        met = self.accounts[act.account]
        for height in range(1, act.height + 1):
            met.at.setdefault(height, act.at)
            met.before.setdefault(height, (met.sent, met.reasoning))
            met.covered_before.setdefault(height, met.covered)
        day = act.at // DAY_MS
        met.days[day] = max(met.days.get(day, 0), act.height)

    def weigh(self, accounts: Sequence[str], strengths: Iterable[float], at: int) -> None:
        """Take note of how much speaks against accounts at an instant (ms)."""
        day = at // DAY_MS
        for account, strength in zip(accounts, strengths, strict=True):
            met = self.accounts[account]
            if strength > met.strongest.get(day, -np.inf):
                met.strongest[day] = strength
            if not met.rises or strength > met.rises[-1][0]:
                met.rises.append((strength, met.sent))

    def believe(self, accounts: Sequence[str], scores: Iterable[float], at: int) -> None:
        """Take note of the probabilities given to accounts at an instant (ms)."""
        day = at // DAY_MS
        for account, score in zip(accounts, scores, strict=True):
            met = self.accounts[account]
            met.scores[day] = max(score, met.scores.get(day, 0.0))

    def height(self, account: str) -> int:
        """The highest rung an account has met; 0 when it is unknown."""
        met = self.accounts.get(account)
        return met.height if met else 0


def share_before(accounts: Iterable[Met], height: int) -> tuple[float, float]:
    """Shares of all requests and of all reasoning tokens served before a rung; 0 of nothing is 0."""
    sent = reasoning = before = before_reasoning = 0
    for met in accounts:
        sent += met.sent
        reasoning += met.reasoning
        requests, tokens = met.served_before(height)
        before += requests
        before_reasoning += tokens
    return before / max(sent, 1), before_reasoning / max(reasoning, 1)


def share_of_all_before(accounts: Iterable[Met], height: int) -> float:
    """The share of all requests, those of unrelated customers included, served before a rung; of nothing it is 0."""
    wanted = served = 0
    for met in accounts:
        wanted += met.sent + met.covered
        served += met.served_before(height)[0] + met.covered_before.get(height, met.covered)
    return served / max(wanted, 1)


def median_hours(accounts: Iterable[Met], height: int) -> float | None:
    """Half of the accounts that met the rung did so within this many hours of their first request; None: none did."""
    hours = [(met.at[height] - met.first_at) / 3_600_000 for met in accounts if height in met.at]
    return float(np.median(hours)) if hours else None


class Interval(NamedTuple):
    """A count among trials as a rate, with the bounds of its confidence interval."""

    acted: int
    trials: int
    rate: float
    low: float
    high: float


def interval(count: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact interval of a binomial proportion (Clopper and Pearson, 1934). ValueError when count > trials.

    It takes trials for independent. Days of one account are not, so where few accounts make many days it is too narrow.
    """
    if not 0 <= count <= trials:
        raise ValueError(f"{count} of {trials} is no proportion")
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, count, trials - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, trials - count)) if count < trials else 1.0
    return Interval(count, trials, count / trials if trials else 0.0, low, high)


def days_at(accounts: Mapping[str, Met], height: int) -> tuple[int, int]:
    """Account-days on which this rung or a harsher one was announced, and all account-days."""
    days = [announced for met in accounts.values() for announced in met.days.values()]
    return sum(announced >= height for announced in days), len(days)
