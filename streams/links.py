"""Links: what accounts have in common, as the watch agent tells the campaign agent.

A **link** says that an account showed a trait. It is told once a day and account, however often the trait comes, so
their number follows accounts and not requests; what every request brings anew (prompts) is told when the same account
shows it a second time, or when its hash is in a sample of one in SAMPLE that is the same for everybody. A **report** is
an account's whole profile, told when its requests have grown by half. Links and reports of a micro-batch travel as one
message of columns. All of it may be told twice: sets and newest-wins do not mind.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from models.detector import BoolVector, FloatVector, IntVector
from models.rarity import NAMES

from . import whole
from .batch import Batch
from .distinct import Hashes, mix
from .profiles import Block, packed, unpacked
from .traits import traits
from .windows import DAY, Groups

VERSION: Final = 1

SAMPLE: Final = 16
"""Of prompts that an account sends once, one in so many is told."""

SLOW: Final = 2.5
"""Requests of the last minute up to which an account is slow enough for a shared second to mean anything."""

SECONDS_SAMPLE: Final = 32
"""One second in so many is looked at."""

GROWTH: Final = 1.5
"""A profile is reported again when its requests have grown by this factor,"""

GROWTH_OF_KIN: Final = 1.1
"""or by this one where its account belongs to a campaign."""

REPORTS: Final = 256
"""Reports in one message at most; the rest goes with the next batches, whoever is in them."""

SEEN_SLOTS: Final = 2**18
"""Links remembered as told: 2 MiB. A link whose slot was taken by another is told again."""

DAY_MS: Final = DAY * 1_000

LINK: Final = np.dtype([("of", "<u4"), ("kind", "u1"), ("trait", "<u8"), ("at", "<i8")])
"""One link: the account by its position in the message, the kind by its place in `models.rarity.NAMES`, ms UTC."""

_PREFIX, _BAND, _PROMPT = (NAMES.index(name) for name in ("prefix", "band", "prompt"))
_SECOND_TIME: Final = np.uint64(0xA5A5_5A5A_C3C3_3C3C)


class Sightings(msgspec.Struct, frozen=True, array_like=True):
    """One message of the links topic (MessagePack). Bytes are little-endian columns."""

    v: int
    accounts: list[str]
    owners: bytes
    """The organisation of each account: uint64 hashes, 0 where unknown."""
    links: bytes
    """Rows of LINK."""
    reported: bytes
    """Accounts reported, by position: uint32."""
    rows: bytes
    """Their profiles, as they are stored."""


class UnreadableSightingsError(ValueError):
    """A message of the links topic that cannot be read; the text says what is wrong."""


class Told(NamedTuple):
    """What a message held: accounts and their owners, links as rows of LINK, reports as profiles of the accounts at
    `reported`."""

    accounts: list[str]
    owners: Hashes
    links: npt.NDArray[np.void]
    reported: IntVector
    profiles: Block


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Sightings)


def decode(raw: bytes) -> Told:
    """Read one message. Raises UnreadableSightingsError."""
    try:
        said = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableSightingsError(f"no sightings: {error}") from error
    if said.v != VERSION:
        raise UnreadableSightingsError(f"v: {said.v}, where this release reads {VERSION}")
    for name, size in (("owners", 8), ("links", LINK.itemsize), ("reported", 4)):
        if len(getattr(said, name)) % size:
            raise UnreadableSightingsError(f"{name}: {len(getattr(said, name))} bytes are no rows of {size}")
    owners = np.frombuffer(said.owners, dtype="<u8")
    links = np.frombuffer(said.links, dtype=LINK)
    reported = np.frombuffer(said.reported, dtype="<u4").astype(np.int64)
    known = len(said.accounts)
    if len(owners) != known:
        raise UnreadableSightingsError(f"owners: {len(owners)} for {known} accounts")
    for name, largest in (("links", links["of"].max(initial=0)), ("reported", reported.max(initial=0))):
        if largest >= max(known, 1) or (not known and len(links) + len(reported)):
            raise UnreadableSightingsError(f"{name}: account {largest} of {known}")
    if links["kind"].max(initial=0) >= len(NAMES):
        raise UnreadableSightingsError(f"links: kind {links['kind'].max()} of {len(NAMES)}")
    try:
        profiles = unpacked(said.rows)
    except ValueError as error:
        raise UnreadableSightingsError(f"rows: {error}") from error
    if len(profiles) != len(reported):
        raise UnreadableSightingsError(f"rows: {len(profiles)} for {len(reported)} accounts reported")
    return Told(said.accounts, owners, links, reported, profiles)


class Linker:
    """Finds what is worth telling in the micro-batches of one partition. What it remembers is only to tell less."""

    def __init__(self) -> None:
        self._seen: Hashes = np.zeros(SEEN_SLOTS, dtype=np.uint64)
        self._told: FloatVector = np.zeros(0)
        self._waiting: IntVector = np.zeros(0, dtype=np.int64)
        """Rows to be reported with one of the next batches, those that wait longest first."""

    def look(
        self,
        batch: Batch,
        groups: Groups,
        block: Block,
        fresh: BoolVector,
        kin: BoolVector,
        table: Block,
        name: Callable[[int], str],
    ) -> bytes | None:
        """The message for a batch, or None when there is nothing to tell.

        `block` holds the profiles of `groups` with the batch in them, and so does `table`, the profiles of all rows;
        `fresh` says which of the groups were empty before, `kin` which belong to a campaign; `name` gives the account
        of a row.
        """
        of_request = groups.unsorted(groups.of)
        links = self._links(batch, of_request, groups.rows, block, fresh)
        of_link = groups.rows[links["of"]]
        due = self._due(groups.rows, block["totals"][:, 0], kin, table)
        told = np.union1d(of_link, due)
        if not len(told):
            return None
        owner_of = np.zeros(len(groups.rows), dtype=np.uint64)
        owner_of[of_request] = batch.org
        owners = np.zeros(len(told), dtype="<u8")
        came = np.isin(told, groups.rows)
        owners[came] = owner_of[np.searchsorted(groups.rows, told[came])]
        links["of"] = np.searchsorted(told, of_link)
        return _encoder.encode(
            Sightings(
                v=VERSION,
                accounts=[name(row) for row in told.tolist()],
                owners=owners.tobytes(),
                links=links.tobytes(),
                reported=np.searchsorted(told, due).astype("<u4").tobytes(),
                rows=packed(whole.pick(table, due)),
            )
        )

    def _links(
        self, batch: Batch, of_request: IntVector, rows: IntVector, block: Block, fresh: BoolVector
    ) -> npt.NDArray[np.void]:
        found: list[tuple[str, IntVector, Hashes, IntVector]] = []
        place = np.where(batch.block != 0, mix(batch.block ^ (batch.client << np.uint64(1))), np.uint64(0))
        columns = {"payment": batch.payment, "place": place, "system": batch.system, "settings": batch.settings}
        stack = np.where((batch.settings != 0) & (batch.client != 0), batch.settings ^ mix(batch.client), np.uint64(0))
        columns |= {"stack": stack, "prefix": batch.prefix, "band": batch.band}
        for kind, hashes in columns.items():
            shown = np.flatnonzero(hashes)
            found.append((kind, of_request[shown], hashes[shown], batch.at[shown]))
        at = block["at"]
        opened = np.flatnonzero(block["opened_at"] > 0)
        hour = (block["opened_at"][opened] // 3_600_000).astype(np.uint64)
        found.append(("signup", opened, mix(hour), at[opened]))
        new = np.flatnonzero(fresh)
        first = block["first_at"][new]
        for kind, length in (("debut", 60_000), ("cohort", DAY_MS)):
            # Two divisions, half a length apart: what lies within half a length shares one of them.
            halves = np.concatenate((first // length * 2, (first + length // 2) // length * 2 + 1)).astype(np.uint64)
            found.append((kind, np.tile(new, 2), mix(halves), np.tile(first, 2)))
        slow = np.flatnonzero(block["volumes"][of_request, 0, 0] <= SLOW)
        second = traits("second", (batch.at[slow] // 1_000).astype(np.uint64))
        sampled = second % np.uint64(SECONDS_SAMPLE) == 0
        found.append(("second", of_request[slow[sampled]], second[sampled], batch.at[slow[sampled]]))
        return self._untold(found, rows)

    def _untold(
        self, found: Sequence[tuple[str, IntVector, Hashes, IntVector]], rows: IntVector
    ) -> npt.NDArray[np.void]:
        of = np.concatenate([of for _, of, _, _ in found])
        kind = np.repeat([NAMES.index(kind) for kind, *_ in found], [len(of) for _, of, _, _ in found])
        trait = np.concatenate([traits(kind, hashes) for kind, _, hashes, _ in found])
        at = np.concatenate([at for *_, at in found])
        keys = mix(trait ^ mix(rows[of].astype(np.uint64) << np.uint64(24) ^ (at // DAY_MS).astype(np.uint64)))
        text = (kind == _PREFIX) | (kind == _BAND)
        # Most of what a batch shows was told before today: it goes before anything is sorted.
        left = np.flatnonzero(text | ~self._known(keys))
        keys, position, times = np.unique(keys[left], return_index=True, return_counts=True)
        position = left[position]
        of, kind, trait, at, text = of[position], kind[position], trait[position], at[position], text[position]
        known = self._known(keys)
        again = np.flatnonzero(text & (known | (times > 1)))
        repeated = again[~self._known(keys[again] ^ _SECOND_TIME)]
        # Copies word for word share a band too, so a sample of bands is a sample of prompts.
        once = np.flatnonzero((kind == _BAND) & ~known & (trait % np.uint64(SAMPLE) == 0))
        told = np.concatenate((np.flatnonzero(~text & ~known), repeated, once))
        links = np.zeros(len(told), dtype=LINK)
        links["of"], links["kind"], links["trait"], links["at"] = of[told], kind[told], trait[told], at[told]
        prompts = links[len(told) - len(once) :]
        prompts["kind"] = _PROMPT
        prompts["trait"] = traits("prompt", trait[once])
        self._remember(keys[repeated] ^ _SECOND_TIME)
        self._remember(keys)
        return links

    def _known(self, keys: Hashes) -> BoolVector:
        known: BoolVector = self._seen[keys % np.uint64(SEEN_SLOTS)] == keys
        return known

    def _remember(self, keys: Hashes) -> None:
        self._seen[keys % np.uint64(SEEN_SLOTS)] = keys

    def _due(self, rows: IntVector, requests: FloatVector, kin: BoolVector, table: Block) -> IntVector:
        """The rows to report now: those that waited longest, and those that have grown."""
        if len(rows) and rows[-1] >= len(self._told):
            self._told = np.append(self._told, np.zeros(int(rows[-1]) + 4_096 - len(self._told)))
        told = self._told[rows]
        grown = requests >= told * np.where(kin, GROWTH_OF_KIN, GROWTH)
        # A row given to another account begins again.
        due = rows[grown | (requests < told)]
        self._told[due] = table["totals"][due, 0]
        waiting = np.concatenate((self._waiting, due[~np.isin(due, self._waiting)]))
        now, self._waiting = waiting[:REPORTS], waiting[REPORTS:]
        # Of those that waited some were forgotten meanwhile, and others sent more.
        now = now[table["at"][now] > 0]
        self._told[now] = table["totals"][now, 0]
        return now
