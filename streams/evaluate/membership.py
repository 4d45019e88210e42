"""Membership: which accounts the detector held to be one campaign, and whether they were."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..campaigns import Outcome
from ..standing import decode
from .judge import LADDER


class Told(NamedTuple):
    """What was said of an account: the highest rung that a campaign of its earned, and when it was first named (ms)."""

    height: int
    at: int


@dataclass(slots=True)
class Membership:
    """Everybody who was ever told to belong to a campaign that had earned a rung, and the highest rung of each."""

    campaigns: dict[str, int] = field(default_factory=dict)
    members: dict[str, Told] = field(default_factory=dict)

    def hear(self, found: Outcome) -> list[tuple[str, int]]:
        """Take note of what campaigns decided and whom they named; those named now, with the rung of each."""
        for decision in found.decisions:
            verdict = decision.verdict
            if verdict.action in LADDER:
                height = LADDER.index(verdict.action) + 1
                self.campaigns[verdict.value] = max(height, self.campaigns.get(verdict.value, 0))
        now = []
        for account, raw in found.standings:
            if raw is None:
                continue
            standing = decode(raw)
            height = LADDER.index(standing.action) + 1
            before = self.members.get(account, Told(0, standing.at))
            self.members[account] = Told(max(before.height, height), before.at)
            now.append((account, height))
        return now


@dataclass(frozen=True, slots=True)
class Match:
    """Those named against those who were meant; precision of nobody named is 1."""

    named: int
    meant: int
    both: int

    @property
    def precision(self) -> float:
        """Share of those named that were meant."""
        return self.both / self.named if self.named else 1.0

    @property
    def recall(self) -> float:
        """Share of those meant that were named."""
        return self.both / self.meant if self.meant else 1.0


def matched(members: Iterable[str], meant: Mapping[str, object]) -> Match:
    """Compare the accounts named with those meant."""
    named = set(members)
    return Match(len(named), len(meant), len(named & meant.keys()))
