"""Sight: whether requests still carry the fields that detection rests on.

What is absent is never evidence, so a producer that no longer fills a field makes no noise: attacks that only this
field would show pass. So the share of accounts that fill it, of about an hour, is held against that of about a week.
Accounts count, not requests: one account at volume that leaves a field away hides nothing.

It fails for a field that few ever filled (below `USUAL`), and it gets used to what stays away: a field that is gone
for good is no longer missed after some weeks.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from models.detector import BoolVector, FloatVector
from models.snapshot import SnapshotError, State, pack, unpack
from sinks.alerts import Alert, alert

from .batch import Batch
from .windows import Groups

FIELDS: Final[Mapping[str, str]] = {
    "sketch": "templates, breadth and cues say nothing, and campaigns are not found by what they ask",
    "ip": "changing addresses say nothing, and campaigns are not found by them",
    "client": "campaigns are not found by their clients",
    "payment": "campaigns are not found by their cards",
    "org": "accounts of one organisation may be taken for a campaign",
    "opened_at": "new accounts are known only by when they first came",
    "turns": "single questions cannot be told from conversations, so a harvest in full swing is not seen",
    "max_tokens": "answers cut at their limit are not seen",
}
"""Fields that are watched, and what a person loses with each."""

USUAL: Final = 0.1
"""Share of accounts from which a field is missed when it goes."""

FALLEN: Final = 0.25
"""It is missed when its share falls below this part of what it was, and found again above twice as much."""

LEAST: Final = 200.0
"""Accounts of an hour below which nothing is said: with the share `USUAL`, 20 of them would fill the field."""

AGAIN_MS: Final = 1_800_000
"""How often a field that stays away is announced again: the alert holds for twice as long."""

_SPANS_MS: Final = np.array([3_600_000.0, 7 * 86_400_000.0])


class Missing(NamedTuple):
    """A field that is no longer filled: its share of accounts within about an hour, and within about a week."""

    field: str
    now: float
    usual: float


class Sight:
    """What requests carry, of one partition."""

    kind: Final = "sight"

    def __init__(self) -> None:
        # Decayed over each span: accounts that filled each field, and in the last column all.
        self._seen: FloatVector = np.zeros((2, len(FIELDS) + 1))
        self._at = 0
        self._said: dict[str, Alert] = {}

    def look(self, batch: Batch, groups: Groups, at: int) -> None:
        """Take a batch of requests, none of it empty; `at` (ms) is the instant it stands for."""
        filled = np.stack([*_filled(batch), np.ones(len(batch), dtype=np.bool_)], axis=1)
        accounts = np.logical_or.reduceat(filled[groups.order], groups.starts, axis=0)
        passed = max(at - self._at, 0) if self._at else 0
        self._seen = self._seen * np.exp(-passed / _SPANS_MS)[:, None] + accounts.sum(axis=0)
        self._at = max(self._at, at)

    def missing(self) -> list[Missing]:
        """Fields that are missed now. One that was missed is found again only well above where it was lost."""
        accounts = self._seen[:, -1]
        if accounts[0] < LEAST:
            return [_of(one) for one in self._said.values()]
        now, usual = self._seen[:, :-1] / np.maximum(accounts, 1e-9)[:, None]
        found = []
        for field, short, long in zip(FIELDS, now.tolist(), usual.tolist(), strict=True):
            fallen = 2 * FALLEN if field in self._said else FALLEN
            if long >= USUAL and short < fallen * long:
                found.append(Missing(field, short, long))
        return found

    def alerts(self, at: int) -> list[Alert]:
        """What people should hear at an instant (ms): what is missed, again while it is, and its end."""
        missed = {one.field: one for one in self.missing()}
        told = []
        for field, said in list(self._said.items()):
            if field not in missed:
                told.append(said.ended(at))
                del self._said[field]
            elif at - said.at >= AGAIN_MS:
                self._said[field] = said.again(at)
                told.append(self._said[field])
        for field, one in missed.items():
            if field not in self._said:
                self._said[field] = _alert(one, at)
                told.append(self._said[field])
        return told

    def snapshot(self) -> bytes:
        """What it remembers, as bytes. What is missed is announced anew after `restore`."""
        return pack(self.kind, {"fields": tuple(FIELDS)}, State({"at": self._at}, {"seen": self._seen}))

    @classmethod
    def restore(cls, raw: bytes) -> "Sight":
        """The sight of a snapshot; of other fields it begins anew. Raises `SnapshotError` for other bytes."""
        kind, settings, state = unpack(raw)
        if kind != cls.kind or state.arrays.keys() != {"seen"} or "at" not in state.numbers:
            raise SnapshotError(f"snapshot of {kind!r}, not of {cls.kind!r} as this release keeps it")
        sight = cls()
        if settings.get("fields") == tuple(FIELDS) and state.arrays["seen"].shape == sight._seen.shape:
            sight._seen, sight._at = state.arrays["seen"].astype(np.float64), int(state.numbers["at"])
        return sight


def _filled(batch: Batch) -> list[BoolVector]:
    """For each of FIELDS, which requests of a batch carry it."""
    sketched = np.zeros(len(batch), dtype=np.bool_)
    sketched[batch.sketched] = True
    return [
        sketched, batch.address != 0, batch.client != 0, batch.payment != 0, batch.org != 0,
        ~np.isnan(batch.opened_at), ~np.isnan(batch.turns), ~np.isnan(batch.max_tokens),
    ]  # fmt: skip


def _alert(one: Missing, at: int) -> Alert:
    return alert(
        "detector_blind",
        f"field:{one.field}",
        at,
        f"{one.now:.1%} of accounts send `{one.field}`, where {one.usual:.0%} did: {FIELDS[one.field]}",
        details={"field": one.field, "now": one.now, "usual": one.usual},
    )


def _of(said: Alert) -> Missing:
    now, usual = said.details["now"], said.details["usual"]
    return Missing(str(said.details["field"]), float(str(now)), float(str(usual)))
