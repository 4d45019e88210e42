"""Kinds: what would be found of campaigns if accounts showed nothing of one kind of trait.

A campaign that one kind of trait alone gives away escapes as soon as the next attacker hides it. All agents hear what
one detector tells, so a run is one stream and many looks. Only the ties of a kind are taken away: an account's own
evidence, and what a group took together, stay as they are. Nobody is replaced here, so that all hear the same.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from rich.table import Table as RichTable

from models.detector import BoolVector
from models.rarity import GROUPS, KINDS, NAMES, Ties
from sinks.policy import Policy

from ..batch import Record
from ..campaigns import Campaigns
from ..replay import Recorded
from .judge import LADDER, Act, share_before
from .membership import Membership, matched
from .played import Played
from .watchers import Seen, Stillwatch, Watcher

NOTHING: Final = "nothing"

TAKEN: Final[Mapping[str, tuple[str, ...]]] = {
    NOTHING: (),
    **{group: tuple(name for name, kind in KINDS.items() if kind.group == group) for group in GROUPS},
    "settings, stack": ("settings", "stack"),
    "topic": ("topic",),
}
"""Kinds of traits taken away together: each independent group, and two of which much is made."""


class Deaf(Campaigns):
    """A campaign agent to which some kinds of traits say nothing."""

    def __init__(self, policy: Policy, kinds: Sequence[str]) -> None:
        super().__init__(policy)
        self._deaf = np.array([NAMES.index(name) for name in kinds], dtype=np.int64)

    def _ties(self, now: int, cut: int, present: BoolVector, newcomer: BoolVector) -> Ties:
        whole = super()._ties(now, cut, present, newcomer)
        kept = ~np.isin(whole.kind, self._deaf)
        return Ties(whole.account[kept], whole.kind[kept], whole.trait[kept], whole.old[kept])


class Overhears:
    """A campaign agent of its own that hears what a detector tells. It acts on each account that it names, with what
    the campaign earned."""

    def __init__(self, detector: Stillwatch, policy: Policy, kinds: Sequence[str]) -> None:
        self.membership = Membership()
        self._detector = detector
        self._campaigns = Deaf(policy, kinds)

    def watch(self, records: Sequence[Record], accounts: Sequence[str]) -> Seen:  # noqa: ARG002
        told = self._detector.sightings
        if told is None:
            return Seen([], np.zeros(len(accounts)))
        found = self._campaigns.process([Recorded(None, told, 0)])
        heights = self.membership.hear(found)
        at = self._campaigns.event_at
        return Seen([Act(account, height, at) for account, height in heights], np.zeros(len(accounts)))


def watcher_name(taken: str) -> str:
    """The name of the watcher from which kinds of traits are taken."""
    return f"traits without {taken}"


def overhearing(detector: Stillwatch) -> dict[str, Watcher]:
    """New agents by name, one for each row of TAKEN; they watch after the detector."""
    policy = detector.pipeline.policy
    return {watcher_name(taken): Overhears(detector, policy, kinds) for taken, kinds in TAKEN.items()}


class Missed(msgspec.Struct, frozen=True):
    """One family, or crowd, without some kinds of traits."""

    name: str
    seed: int
    crowd: bool
    taken: str
    kinds: tuple[str, ...]
    before_watch: float
    before_throttle: float
    """Shares of the extracting requests served before each."""
    named: int
    precision: float
    recall: float


def missed(played: Sequence[Played]) -> list[Missed]:
    """Every family and crowd that was played, without each row of TAKEN."""
    heights = {action: height for height, action in enumerate(LADDER, 1)}
    found = []
    for one in played:
        meant = {"family": "attack", "crowd": "crowd"}.get(one.job.kind)
        for taken, kinds in TAKEN.items() if meant else ():
            mets = one.accounts[watcher_name(taken)]
            own = {account: met for account, met in mets.items() if one.truth[account][0] == meant}
            named = [account for account, met in mets.items() if met.height]
            match = matched(named, own)
            watch, throttle = (share_before(own.values(), heights[action])[0] for action in ("watch", "throttle"))
            found.append(
                Missed(
                    one.job.name,
                    one.job.seed,
                    one.job.kind == "crowd",
                    taken,
                    kinds,
                    watch,
                    throttle,
                    match.named,
                    match.precision,
                    match.recall,
                )
            )
    return found


def missed_table(rows: Sequence[Missed]) -> RichTable:
    """Share served before a throttle, and members found, for each family and whatever was taken away."""
    table = RichTable(
        title="Without one kind of trait: served before a throttle / accounts named", title_justify="left"
    )
    table.add_column("campaign or crowd", min_width=9)
    for taken in TAKEN:
        table.add_column(f"without {taken}", justify="right")
    for name, seed in dict.fromkeys((row.name, row.seed) for row in rows):
        own = {row.taken: row for row in rows if (row.name, row.seed) == (name, seed)}
        table.add_row(name, *(f"{own[taken].before_throttle:.1%} / {own[taken].recall:.0%}" for taken in TAKEN))
    return table
