"""Guard: the newest live verdict for each subject, ready for the reply path."""

import heapq
import sys
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from .strength import strength
from .verdict import ACTIONS, Action, Verdict

MOST: Final = 1_000_000
"""Subjects remembered by default; the README says what they weigh."""

STALE_SECONDS: Final = 60.0
"""So long without news that we are up to date, and the verdicts held are no longer trusted."""

WhenStale = Literal["allow", "keep"]

_LONGEST_REASON: Final = 400
_LONGEST_LINK: Final = 2_000

_SLOT_MS: Final = 60_000
"""Verdicts that end in the same minute are forgotten together."""


class Standing(msgspec.Struct, frozen=True, gc=False, eq=False):
    """What stands against one subject: as much of its verdict as a reply needs.

    `until` is when it ends on our clock, in ms UTC. `rpm` is the rate of a throttle, None when none was stated.
    """

    id: str
    seq: int
    until: int
    action: Action
    enforced: bool
    """False for what is only tried in shadow mode, and for what was lifted."""
    scope: str
    value: str
    campaign: str | None
    reason: str | None
    rpm: float | None
    link: str | None
    strength: float
    """How hard to degrade, from 0 to 1; 0 for every other action."""

    @property
    def subject(self) -> str:
        """The subject it speaks of: `scope:value`."""
        return f"{self.scope}:{self.value}"


# The strings of this table are shared by all that stands: a million copies of "watch" weigh 54 MB.
_SHARED: Final = {action: action for action in ACTIONS}
_SEVERITY: Final = {action: severity for severity, action in enumerate(ACTIONS)}


class Guard:
    """A table from subjects to what stands against them. It reads no clock: every instant comes in as ms UTC.

    All doubt is resolved here, and to the same side: no verdict, an expired one, one in shadow mode, an action that
    this release does not know (it counts as watch), a table that was not confirmed for `stale_seconds` (unless
    `when_stale` is "keep"): allow. Enforcement must never be an outage.

    At most `most` subjects are held. When one more comes, the mildest action goes first, and of those the verdict
    that ends soonest; a newcomer that is itself milder than all others is not taken.
    """

    def __init__(
        self, *, most: int = MOST, stale_seconds: float = STALE_SECONDS, when_stale: WhenStale = "allow"
    ) -> None:
        self.late = 0
        """Verdicts refused because a newer one of their subject was known."""
        self.dropped = 0
        """Verdicts given up, or not taken, because the table was full."""
        self._most = most
        self._stale_ms = int(stale_seconds * 1000)
        self._when_stale = when_stale
        self.confirmed_at: int | None = None
        """Everything announced until then (ms UTC) is known; None before the topic was read."""
        # One table a scope, so that a look-up builds no string.
        self._tables: dict[str, dict[str, Standing]] = {"account": {}, "org": {}, "key": {}, "campaign": {}}
        self._accounts, self._orgs, self._keys, self._campaigns = self._tables.values()
        self._ends = [_Ends() for _ in ACTIONS]

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    def __iter__(self) -> Iterator[Standing]:
        """Everything held: live, in shadow, lifted and not yet forgotten."""
        for table in self._tables.values():
            yield from table.values()

    def find(self, now: int, account: str, org: str | None = None, keys: tuple[str, ...] = ()) -> Standing | None:
        """The harshest live verdict that concerns a request; None means allow. `all` tells the others.

        It may speak of the account, its organisation, its API key (several hashes where the secret was rotated), or
        the campaign that a live verdict counts one of them to.
        """
        if self.stale(now) and self._when_stale == "allow":
            return None
        worst = None
        if (held := self._accounts.get(account)) is not None:
            worst = self._worse(worst, held, now)
        if org is not None and (held := self._orgs.get(org)) is not None:
            worst = self._worse(worst, held, now)
        for key in keys:
            if (held := self._keys.get(key)) is not None:
                worst = self._worse(worst, held, now)
        return worst

    def _worse(self, worst: Standing | None, other: Standing, now: int) -> Standing | None:
        if not other.enforced or other.until <= now:
            return worst
        if worst is None or _SEVERITY[other.action] > _SEVERITY[worst.action]:
            worst = other
        if other.campaign is not None and (campaign := self._campaigns.get(other.campaign)) is not None:
            return self._worse(worst, campaign, now)  # A campaign belongs to none itself: this goes one step deep.
        return worst

    def all(self, now: int, account: str, org: str | None = None, keys: tuple[str, ...] = ()) -> list[Standing]:
        """Every live verdict that concerns a request, each subject once: a request must get past all of them."""
        if self.stale(now) and self._when_stale == "allow":
            return []
        own = [self._accounts.get(account), self._orgs.get(org) if org is not None else None]
        own += [self._keys.get(key) for key in keys]
        live = [held for held in own if held is not None and held.enforced and held.until > now]
        campaigns = [self._campaigns.get(name) for name in dict.fromkeys(held.campaign for held in live) if name]
        return live + [held for held in campaigns if held is not None and held.enforced and held.until > now]

    def harsh(self, now: int) -> Iterator[Standing]:
        """Every live verdict that does more than watch; none while the table is not trusted."""
        if self.stale(now) and self._when_stale == "allow":
            return
        for ends in self._ends[_SEVERITY["throttle"] :]:
            yield from (held for held in ends if held.enforced and held.until > now)

    def stale(self, now: int) -> bool:
        """Whether nobody has confirmed for `stale_seconds` that the table is up to date."""
        return self.confirmed_at is None or now - self.confirmed_at > self._stale_ms

    def confirm(self, at: int) -> None:
        """Say that the table holds everything that was announced until `at`."""
        self.confirmed_at = at

    def take(self, verdict: Verdict, now: int) -> bool:
        """Remember a verdict; False when it is late, over, or finds no room.

        Late is one with a lower `seq` than a live one, or one that was lifted. An equal `seq` replaces: after a crash
        a detector announces its live verdicts again, and what it says last holds. A verdict ends when it says, but
        lasts no longer on our clock than it was meant to: a clock that is slow prolongs nobody's trouble.
        """
        table = self._tables[verdict.scope]
        held = table.get(verdict.value)
        live = held is not None and held.until > now
        if (
            held is not None
            and live
            and (verdict.seq < held.seq or (verdict.seq == held.seq and held.action == "allow"))
        ):
            self.late += 1
            return False
        until = min(verdict.expires_at, now + max(verdict.expires_at - verdict.at, 0))
        if until <= now:
            # It speaks last all the same: what it replaces no longer holds.
            if held is not None:
                self._forget(held)
            return False
        self._put(_standing(verdict, until), now)
        return True

    def lift(self, subject: str, now: int) -> None:
        """Clear a subject (`scope:value`). Its `seq` is kept while its verdict would have lived, against latecomers."""
        scope, _, value = subject.partition(":")
        held = self._tables.get(scope, {}).get(value)
        if held is None:
            return
        if held.until <= now:
            self._forget(held)
        else:
            self._put(msgspec.structs.replace(held, action="allow", enforced=False, reason=None), now)

    def clear(self) -> None:
        """Forget everything; stale until confirmed again."""
        self.confirmed_at = None
        for table in self._tables.values():
            table.clear()
        self._ends = [_Ends() for _ in ACTIONS]

    def expire(self, now: int) -> int:
        """Forget what is over; how many went. Look-ups do not need it: it frees memory."""
        over = [held for ends in self._ends for held in ends.due(now)]
        for held in over:
            del self._tables[held.scope][held.value]
        return len(over)

    def _put(self, new: Standing, now: int) -> None:
        held = self._tables[new.scope].get(new.value)
        if held is not None:
            self._forget(held)
        elif len(self) >= self._most and not self.expire(now):
            milder = next((ends for ends in self._ends[: _SEVERITY[new.action] + 1] if len(ends)), None)
            self.dropped += 1
            if milder is None:
                return
            self._forget(milder.soonest())
        self._tables[new.scope][new.value] = new
        self._ends[_SEVERITY[new.action]].add(new)

    def _forget(self, held: Standing) -> None:
        del self._tables[held.scope][held.value]
        self._ends[_SEVERITY[held.action]].discard(held)


class _Ends:
    """Standings of one action by the minute in which they end."""

    def __init__(self) -> None:
        # Dicts for sets: the garbage collector leaves a dict alone that holds nothing for it, a set never.
        self._slots: dict[int, dict[Standing, None]] = {}
        self._order: list[int] = []  # a heap of the slots, and of some that are gone
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Standing]:
        for slot in self._slots.values():
            yield from slot

    def add(self, held: Standing) -> None:
        slot = held.until // _SLOT_MS
        if slot not in self._slots:
            self._slots[slot] = {}
            heapq.heappush(self._order, slot)
            if len(self._order) > 2 * len(self._slots) + 64:
                self._order = sorted(self._slots)
        self._slots[slot][held] = None
        self._size += 1

    def discard(self, held: Standing) -> None:
        slot = held.until // _SLOT_MS
        del self._slots[slot][held]
        self._size -= 1
        if not self._slots[slot]:
            del self._slots[slot]

    def soonest(self) -> Standing:
        """One of those that end in the first minute in which any ends."""
        while self._order[0] not in self._slots:
            heapq.heappop(self._order)
        return next(iter(self._slots[self._order[0]]))

    def due(self, now: int) -> Iterator[Standing]:
        """Take out everything in minutes that are over."""
        while self._order and (self._order[0] + 1) * _SLOT_MS <= now:
            gone = self._slots.pop(heapq.heappop(self._order), {})
            self._size -= len(gone)
            yield from gone


def _standing(verdict: Verdict, until: int) -> Standing:
    action = _SHARED[verdict.effective_action]
    rpm, link = verdict.parameters.get("rpm"), verdict.parameters.get("link")
    # Nobody is told why they are watched, and the watched are most.
    told = verdict.reasons and action not in ("allow", "watch")
    return Standing(
        id=verdict.id,
        seq=verdict.seq,
        until=until,
        action=action,
        enforced=verdict.mode == "enforce" and action != "allow",
        scope=verdict.scope,
        value=verdict.value,
        campaign=sys.intern(verdict.campaign) if verdict.campaign and verdict.scope != "campaign" else None,
        reason=verdict.reasons[0].text[:_LONGEST_REASON] if told else None,
        rpm=rpm if isinstance(rpm, float) else None,
        link=sys.intern(link) if isinstance(link, str) and len(link) <= _LONGEST_LINK else None,
        strength=strength(verdict),
    )
