"""Acquaintance: what the campaign agent remembers of one account: its traits, and its profile as last reported."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.detector import BoolVector, IntVector
from models.rarity import KINDS, NAMES, Ties

from . import whole
from .distinct import Hashes
from .layouts import LAYOUTS
from .links import Told
from .profiles import PROFILE, Block, blank, unpacked
from .rows import Rows
from .windows import DAY, Groups

LINK_DAYS: Final = 14
"""A trait not shown again for so long is forgotten, and with it what it tied together."""

MINUTE_MS: Final = 60_000

_HELD: Final = {name: kind.kept for name, kind in KINDS.items() if kind.kept}

SLOTS: Final = sum(_HELD.values())
_FIRST: Final = {
    NAMES.index(name): slot for name, slot in zip(_HELD, np.cumsum([0, *_HELD.values()])[:-1].tolist(), strict=True)
}
KIND_OF_SLOT: Final = np.repeat([NAMES.index(name) for name in _HELD], list(_HELD.values()))
_SAMPLED: Final = frozenset(NAMES.index(name) for name in ("prefix", "band", "prompt"))
"""Kinds of which the smallest hashes are kept, not the newest: two accounts then keep the same ones."""

LAYOUT: Final = 3

_FIRST_KEPT: Final = {
    "payment": 2, "place": 4, "system": 4, "settings": 4, "prefix": 4, "band": 4, "prompt": 6, "signup": 1, "debut": 2,
    "second": 4,
}  # fmt: skip
"""How many traits of each kind a row of layout 1 held, in the order of its slots."""


def _shape(slots: int, profile: "np.dtype[np.void]") -> "np.dtype[np.void]":
    return np.dtype(
        [
            ("layout", np.int64),
            ("at", np.int64),  # the newest we heard, ms; 0: no account here
            ("first_at", np.int64),  # the oldest request we know of, ms
            ("owner", np.uint64),  # its organisation, 0 while unknown
            ("campaign", np.uint64),  # the campaign it belongs to, 0: none
            ("joined_at", np.int64),  # since when, ms
            ("cleared_at", np.int64),  # when somebody cleared it: what was shown before ties it to nobody
            ("belonging", np.float64),  # how likely it is one of them, 0 to 1
            ("trait", np.uint64, slots),
            ("since", np.uint32, slots),  # minutes since 1970: when the trait was first shown
            ("seen", np.uint32, slots),  # and when last; 0: the slot is free
            ("profile", profile),
        ]
    )


ACQUAINTANCE: Final = _shape(SLOTS, PROFILE)
"""One account: some 2.5 KB, most of it the profile."""


class _Earlier(NamedTuple):
    """How an earlier release stored an account: the layout of the profile in it, and how many traits of each kind."""

    profile: int
    kept: Mapping[str, int]

    @property
    def shape(self) -> "np.dtype[np.void]":
        return _shape(sum(self.kept.values()), LAYOUTS[self.profile].profile)


_EARLIER: Final = {1: _Earlier(2, _FIRST_KEPT), 2: _Earlier(3, _FIRST_KEPT | {"settings": 8, "stack": 4, "cohort": 2})}


def _brought_up(row: bytes) -> bytes:
    """A stored row of an earlier layout as one of this; its traits go to the slots of their kinds. Raises ValueError
    when it is of no known layout."""
    number = int.from_bytes(row[:8], "little")
    earlier = _EARLIER.get(number)
    if earlier is None and number != LAYOUT:
        raise ValueError(f"layout {number}, which this release does not know")
    shape = earlier.shape if earlier else ACQUAINTANCE
    if earlier is None or len(row) != shape.itemsize:
        raise ValueError(f"{len(row)} bytes, where layout {number} has {shape.itemsize}")
    (was,) = np.frombuffer(row, dtype=shape)
    now = np.zeros(1, dtype=ACQUAINTANCE)
    for name in ("at", "first_at", "owner", "campaign", "joined_at", "cleared_at", "belonging"):
        now[name] = was[name]
    kinds = np.repeat([NAMES.index(name) for name in earlier.kept], list(earlier.kept.values()))
    for kind in np.unique(kinds).tolist():
        slots = np.flatnonzero(kinds == kind)
        for name in ("trait", "since", "seen"):
            now[name][0, _FIRST[kind] + np.arange(len(slots))] = was[name][slots]
    now["layout"] = LAYOUT
    if was["profile"]["at"]:
        now["profile"] = unpacked(earlier.profile.to_bytes(8, "little") + was["profile"].tobytes())
    return now.tobytes()


class Acquaintances(Rows):
    """The accounts the campaign agent has heard of: a table with one row each. At most `most`; when there are more,
    those not heard of for longest that belong to no campaign go first."""

    def __init__(self, most: int) -> None:
        super().__init__(lambda size: np.zeros(size, dtype=ACQUAINTANCE))
        self.most = most

    def hear(self, told: Told) -> IntVector:
        """Take in a message; the rows of its accounts, in the order of the message."""
        rows = self.rows(told.accounts)
        if not len(rows):
            return rows
        table = self.table
        known = told.owners != 0
        table["owner"][rows[known]] = told.owners[known]
        links = told.links
        if len(links):
            own = rows[links["of"].astype(np.int64)]
            at = links["at"].astype(np.int64)
            first = np.where(table["first_at"][own] == 0, at, table["first_at"][own])
            np.minimum.at(table["first_at"], own, first)
            unknown = table["first_at"][own] == 0
            table["first_at"][own[unknown]] = at[unknown]
            np.maximum.at(table["at"], own, at)
            self._keep(own, links["kind"].astype(np.int64), links["trait"].astype(np.uint64), at // MINUTE_MS)
        if len(told.reported):
            own, profiles = rows[told.reported], told.profiles
            newer = profiles["at"] >= table["profile"]["at"][own]
            own, profiles = own[newer], whole.pick(profiles, newer)
            whole.put(table["profile"], own, profiles)
            table["at"][own] = np.maximum(table["at"][own], profiles["at"])
            first = table["first_at"][own]
            table["first_at"][own] = np.where(first == 0, profiles["first_at"], np.minimum(first, profiles["first_at"]))
        self.touch(rows)
        return rows

    def _keep(self, own: IntVector, kind: IntVector, trait: Hashes, minute: IntVector) -> None:
        """Put links into their accounts' slots, as many rounds as one account has links of one kind."""
        order = np.lexsort((minute, trait, kind, own))
        own, kind, trait, minute = own[order], kind[order], trait[order], minute[order]
        same = np.zeros(len(own), dtype=bool)
        same[1:] = (own[1:] == own[:-1]) & (kind[1:] == kind[:-1]) & (trait[1:] == trait[:-1])
        begin = np.flatnonzero(~same)
        since, seen = minute[begin], np.maximum.reduceat(minute, begin)
        own, kind, trait = own[begin], kind[begin], trait[begin]
        groups = Groups.by(own * len(NAMES) + kind)
        turn = groups.unsorted(np.arange(len(own)) - groups.starts[groups.of])
        for round_ in range(int(turn.max()) + 1):
            now = turn == round_
            for number, first in _FIRST.items():
                chosen = np.flatnonzero(now & (kind == number))
                if len(chosen):
                    slots = slice(first, first + _HELD[NAMES[number]])
                    self._put(own[chosen], slots, trait[chosen], since[chosen], seen[chosen], number in _SAMPLED)

    def _put(
        self, own: IntVector, slots: slice, trait: Hashes, since: IntVector, seen: IntVector, sampled: bool
    ) -> None:
        """One link of one kind for each of some accounts."""
        table = self.table
        held = table["trait"][own, slots]
        held_at = table["seen"][own, slots].astype(np.int64)
        match = (held == trait[:, None]) & (held_at > 0)
        known = match.any(axis=1)
        expired = held_at < seen[:, None] - LINK_DAYS * 1_440
        if sampled:
            worth = np.where(expired, np.uint64(2**64 - 1), held)
            slot = worth.argmax(axis=1)
            free = expired[np.arange(len(own)), slot]
            enters = free | (trait < held[np.arange(len(own)), slot])
        else:
            slot = np.where(expired, -1, held_at).argmin(axis=1)
            enters = seen > held_at[np.arange(len(own)), slot]
        slot = np.where(known, match.argmax(axis=1), slot) + slots.start
        fresh = np.flatnonzero(~known & enters)
        table["trait"][own[fresh], slot[fresh]] = trait[fresh]
        table["since"][own[fresh], slot[fresh]] = since[fresh]
        table["seen"][own[fresh], slot[fresh]] = seen[fresh]
        again = np.flatnonzero(known)
        table["since"][own[again], slot[again]] = np.minimum(table["since"][own[again], slot[again]], since[again])
        table["seen"][own[again], slot[again]] = np.maximum(table["seen"][own[again], slot[again]], seen[again])

    def ties(self, now: int, old_before: int) -> Ties:
        """All live links as columns; `now` and `old_before` in ms UTC."""
        table = self.table[: self.height]
        minute = now // MINUTE_MS
        seen, since = table["seen"], table["since"]
        live = seen > max(minute - LINK_DAYS * 1_440, 0)
        cleared = np.flatnonzero(table["cleared_at"])
        live[cleared] &= since[cleared] >= table["cleared_at"][cleared, None] // MINUTE_MS
        slot = np.flatnonzero(live)
        account = slot // SLOTS
        slot -= account * SLOTS
        old = since[account, slot] <= old_before // MINUTE_MS
        return Ties(account, KIND_OF_SLOT[slot], table["trait"][account, slot], old)

    def sweep(self, now: int) -> int:
        """Forget accounts whose every link has expired, and the surplus; how many went."""
        table = self.table[: self.height]
        here = table["at"] > 0
        gone = np.flatnonzero(here & (table["at"] < now - LINK_DAYS * DAY * 1_000) & (table["campaign"] == 0))
        surplus = len(self) - len(gone) - self.most
        if surplus > 0:
            surplus += self.most // 16
            order = np.where(here & (table["campaign"] == 0), table["at"], np.iinfo(np.int64).max)
            oldest = np.argsort(order, kind="stable")[: surplus + len(gone)]
            more = np.setdiff1d(oldest[order[oldest] < np.iinfo(np.int64).max], gone)
            gone = np.union1d(gone, more)
        self._drop(gone)
        return len(gone)

    def erase(self, account: str) -> None:
        """Forget an account at once, if it is known."""
        row = self._row.get(account)
        if row is not None:
            self._drop(np.array([row]))

    def changed(self) -> list[tuple[str, bytes | None]]:
        """Every account changed since the last call with its row as bytes; None for one that was forgotten."""
        self.table["layout"][self._dirty] = LAYOUT
        return self.stored(lambda rows: rows.tobytes())

    def restore(self, rows: Iterable[tuple[str, bytes | None]]) -> None:
        """Take rows back that `changed` once gave; those of an earlier layout are brought up to date. Raises ValueError
        for one of a layout or length that is not known."""
        newest = {account: row for account, row in dict(rows).items() if row is not None}
        for account, row in newest.items():
            if len(row) != ACQUAINTANCE.itemsize or int.from_bytes(row[:8], "little") != LAYOUT:
                try:
                    newest[account] = _brought_up(row)
                except ValueError as error:
                    raise ValueError(f"stored acquaintance {account!r}: {error}") from error
        stored = np.frombuffer(b"".join(newest.values()), dtype=ACQUAINTANCE)
        places = self.rows(newest)
        whole.put(self.table, places, stored)

    def present(self) -> BoolVector:
        """Which rows hold an account, for the first `height` rows."""
        present: BoolVector = self.table["at"][: self.height] > 0
        return present


def reported(table: npt.NDArray[np.void], rows: IntVector) -> Block:
    """The profiles of some acquaintances; blank ones for those that have reported none."""
    profiles = whole.pick(table["profile"], rows)
    profiles[profiles["at"] == 0] = blank(1)
    return profiles
