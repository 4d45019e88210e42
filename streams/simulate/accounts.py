"""Account: a simulated customer, what stays the same about it and what it sends."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

DAY_MS: Final = 86_400_000

Rows = NDArray[np.void]
"""Requests as a structured array of dtype `ROW`."""

ROW: Final = np.dtype(
    [
        ("at", np.int64),  # ms UTC
        ("number", np.int64),  # of this account's requests, from 0: makes the request id
        ("input", np.int32),
        ("output", np.int32),
        ("reasoning", np.int32),  # -1 in this and the next three: absent
        ("cached", np.int32),
        ("session", np.int64),
        ("turns", np.int32),
        ("prompt", np.int32),  # row of the prompt table; -1: no sketch
        ("variation", np.uint64),  # 0: the prompt word for word (see prompts.py)
        ("place", np.int32),  # index into `Account.places`
        ("setting", np.int16),  # index into `Account.settings`
        ("tools", np.int16),  # -1: absent
        ("status", np.int16),
        ("finish", np.int8),  # index into `FINISHES`
        ("latency", np.float64),  # ms; negative: absent
    ]
)

FINISHES: Final = ("stop", "length", "tool_calls", "refusal", "error")
STOP, LENGTH, TOOL_CALLS, REFUSAL, ERROR = range(5)


class Label(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The truth about one account: one line of the label file.

    `label` says what a detector should think of it, a `lookalike` being honest traffic that looks guilty; `kind`
    what it is; `scenario` and `campaign` name the attack it belongs to; `source` says what was recorded and
    what was composed, where recordings were used.
    """

    account: str
    label: Literal["honest", "lookalike", "attack"]
    kind: str
    scenario: str | None = None
    campaign: str | None = None
    source: str = "simulated"


class Place(NamedTuple):
    """Where a request comes from; None is absent."""

    ip: str | None
    asn: int | None
    country: str | None
    network: str | None


class Setting(NamedTuple):
    """How a request asks for its answer; None is absent."""

    model: str
    client: str | None = None
    operation: str | None = "chat"
    stream: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    choices: int | None = None
    top_logprobs: int | None = None


@dataclass(slots=True, kw_only=True)
class Account:
    """A simulated account: `rows` yields its requests in time order, as chunks of any length.

    `daily` is about how many requests it sends a day, `system` the hash of its system prompt (None: it has none).
    """

    label: Label
    places: list[Place]
    settings: list[Setting]
    rows: Iterator[Rows]
    daily: float
    tag: str = ""
    system: str | None = None
    org: str | None = None
    key: str | None = None
    plan: str | None = None
    opened_at: int | None = None
    pathway: str | None = None
    payment: str | None = None
    billing_country: str | None = None
    lacks: frozenset[str] = field(default_factory=frozenset)
    cover: bool = False
    """Whether these requests hide those of an attacking account of the same name."""

    def __post_init__(self) -> None:
        self.tag = self.tag or f"{zlib.crc32(self.label.account.encode()):08x}"
        if "identity" in self.lacks:
            self.key = self.org = self.opened_at = self.payment = self.billing_country = None
        if "network" in self.lacks:
            self.places = [Place(place.ip, None, None, None) for place in self.places]
            self.settings = [setting._replace(client=None) for setting in self.settings]
        if "settings" in self.lacks:
            self.settings = [s._replace(max_tokens=None, temperature=None, top_p=None) for s in self.settings]

    def chunk(self) -> Rows:
        """The next requests, without what the account's gateway leaves out; empty at the end."""
        rows = next(self.rows, None)
        if rows is None:
            return empty(0)
        if "session" in self.lacks:
            rows["session"] = rows["turns"] = -1
        if "sketch" in self.lacks:
            rows["prompt"] = -1
        return rows


LACKS: Final = ("identity", "network", "session", "sketch", "settings")
"""Groups of fields a gateway may not send. Both honest and attacking accounts lack them: absence tells nothing."""


def lacking(dice: np.random.Generator) -> frozenset[str]:
    """The groups of fields one account's gateway leaves out: none for five accounts in six."""
    if dice.random() > 1 / 6:
        return frozenset()
    return frozenset(name for name in LACKS if dice.random() < 0.5)


def dice_for(seed: int, *path: str | int) -> np.random.Generator:
    """The dice of one thing, named by a path: they do not depend on how many other things there are."""
    spawn = tuple(part if isinstance(part, int) else zlib.crc32(part.encode()) for part in path)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=spawn)))


def luck_of(dice: np.random.Generator) -> Random:
    """Python's own dice, seeded by numpy's: ten times as fast for one draw at a time."""
    return Random(int(dice.integers(0, 2**63)))


def token_hex(dice: np.random.Generator) -> str:
    """16 hex digits, as a keyed hash looks."""
    return f"{int(dice.integers(0, 2**63)):016x}"


def account_name(dice: np.random.Generator) -> str:
    """A name that does not tell what the account is."""
    return f"acct-{token_hex(dice)[:12]}"


def empty(count: int) -> Rows:
    """`count` rows of a plain answered request: optional columns absent, everything else zero."""
    rows = np.zeros(count, ROW)
    for name in ("reasoning", "cached", "session", "turns", "prompt", "tools"):
        rows[name] = -1
    rows["status"] = 200
    rows["latency"] = -1.0
    return rows


def in_order(chunks: Iterator[tuple[int, Rows]], start_at: int, end_at: int) -> Iterator[Rows]:
    """Rows in time order from chunks that spill over: each comes with the instant (ms) no later chunk goes before.

    Numbers the requests, and cuts what lies outside of `start_at` (included) to `end_at` (not included).
    """
    held = empty(0)
    number = 0
    for settled_at, chunk in chunks:
        rows = np.concatenate([held, chunk]) if len(held) else chunk
        rows = rows[np.argsort(rows["at"], kind="stable")]
        first, cut = np.searchsorted(rows["at"], [start_at, min(settled_at, end_at)])
        held = rows[cut:].copy()
        ready = rows[first:cut]
        if len(ready):
            ready["number"] = np.arange(number, number + len(ready))
            number += len(ready)
            yield ready
        if settled_at >= end_at:
            return
    rest = held[held["at"] < end_at]
    if len(rest):
        rest["number"] = np.arange(number, number + len(rest))
        yield rest
