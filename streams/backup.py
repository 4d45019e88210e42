"""Backup: all state in one file, and back.

A zstd stream of frames, each a little-endian uint32 (its length) and as much MessagePack: a Head, Rows, an End with
their number. Offsets that the workers have committed are read before any row, so every request below them is in the
rows: who goes on there loses nothing, and what rows hold beyond is skipped by the offset in each of them.
"""

import os
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TypeAlias

import msgspec
import zstandard

from gateway.verdict import UnreadableVerdictError
from gateway.verdict import decode as decode_verdict

from . import compacted
from .compacted import Headers, Kept, StateError
from .profiles import LAYOUT, Profiles
from .rollback import lowered
from .settings import Settings
from .topics import ENFORCEMENT, PROFILES, REQUESTS, TOPICS, Topic, admin_client, counts, verify

FORMAT: Final = 1
LARGEST_FRAME: Final = 64 * 1024 * 1024

STATE: Final = tuple(topic for topic in TOPICS if topic.policy == "compact")
"""What is saved: profiles with their models, campaigns, and every verdict in force."""

READ: Final = tuple(topic for topic in TOPICS if topic.policy == "delete")
"""What workers read and commit offsets of, among others."""

_LENGTH: Final = struct.Struct("<I")


class Head(msgspec.Struct, tag="head", frozen=True):
    """Where and when the state was saved."""

    format: int
    release: str
    at: int
    cluster: str
    prefix: str
    partitions: dict[str, int]
    """By the topic's noun."""
    committed: dict[str, dict[int, int]]
    """Where the workers stood, by noun and partition."""


class Row(msgspec.Struct, tag="row", frozen=True):
    """One record of a compacted topic."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers


class End(msgspec.Struct, tag="end", frozen=True):
    """The last frame: without it the file was cut short."""

    rows: dict[str, int]


Frame: TypeAlias = Head | Row | End
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Frame)


class Summary(NamedTuple):
    """What a file holds."""

    head: Head
    rows: dict[str, int]
    """Rows by noun."""


async def save(settings: Settings, path: Path, at: int, layout: int = LAYOUT) -> Summary:
    """Write all state to a file that only we may read. Workers may go on meanwhile.

    With the `layout` of an earlier release that one can restore it. Raises StateError, KafkaError, OSError.
    """
    found = await counts(settings)
    verify(found, settings)
    head = Head(
        format=FORMAT,
        release=version("stillwatch"),
        at=at,
        cluster=await cluster(settings),
        prefix=settings.topic_prefix,
        partitions={topic.noun: found[topic.name(settings)] for topic in TOPICS},
        committed={
            topic.noun: await compacted.committed(settings, topic.name(settings), found[topic.name(settings)])
            for topic in READ
        },
    )
    saved: Counter[str] = Counter()
    partial = path.with_name(path.name + ".partial")
    # Account names and what they did are in it: nobody else may read it.
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        with zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(file, closefd=False) as out:
            _put(out, head)
            async for row in _rows(settings, head, layout):
                _put(out, row)
                saved[row.topic] += 1
            _put(out, End(dict(saved)))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    return Summary(head, dict(saved))


async def _rows(settings: Settings, head: Head, layout: int) -> AsyncIterator[Row]:
    for topic in STATE:
        for partition in range(head.partitions[topic.noun]):
            found = await compacted.newest(settings, topic.name(settings), partition)
            if topic is PROFILES and layout != LAYOUT:
                found = _lowered(found, layout)
            for key, kept in found.items():
                if kept.value is not None:
                    yield Row(topic.noun, partition, key, kept.value, kept.headers)


def _lowered(found: dict[bytes, Kept], layout: int) -> dict[bytes, Kept]:
    # Models are left out: an earlier release may not read them, and they learn again within a day.
    held = {key: kept for key, kept in found.items() if not key.startswith(b"\xff") and kept.value is not None}
    rows = lowered([(key.decode(), kept.value or b"") for key, kept in held.items()], layout)
    return {key: Kept(row, kept.headers) for (key, kept), row in zip(held.items(), rows, strict=True)}


async def cluster(settings: Settings) -> str:
    """The name the brokers give to their cluster."""
    async with admin_client(settings) as admin:
        return str((await admin.describe_cluster()).get("cluster_id") or "")


def _put(out: BinaryIO | zstandard.ZstdCompressionWriter, frame: Frame) -> None:
    raw = _encoder.encode(frame)
    out.write(_LENGTH.pack(len(raw)) + raw)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Head, Iterator[Frame]]]:
    """The head of a file and what follows it. Raises StateError, OSError."""
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        frames = _frames(stream, path)
        head = next(frames, None)
        if not isinstance(head, Head):
            raise StateError(f"{path}: not a backup of Stillwatch")
        if head.format != FORMAT:
            raise StateError(
                f"{path}: format {head.format}, written by release {head.release}; this one reads {FORMAT}"
            )
        yield head, frames


def _frames(stream: zstandard.ZstdDecompressionReader, path: Path) -> Iterator[Frame]:
    try:
        while prefix := _exactly(stream, _LENGTH.size):
            (length,) = _LENGTH.unpack(prefix)
            if length > LARGEST_FRAME:
                raise StateError(f"{path}: damaged: a frame of {length:,} bytes")
            yield _decoder.decode(_exactly(stream, length))
    except (zstandard.ZstdError, msgspec.DecodeError, struct.error, EOFError) as error:
        raise StateError(f"{path}: damaged, or not a backup: {error}") from error


def _exactly(stream: zstandard.ZstdDecompressionReader, length: int) -> bytes:
    """So many bytes, or none at the end of the stream."""
    raw = b""
    while len(raw) < length:
        piece = stream.read(length - len(raw))
        if not piece:
            if raw:
                raise EOFError("it ends in the middle of a frame")
            break
        raw += piece
    return raw


def inspect(path: Path) -> Summary:
    """Read a whole file and check that nothing is missing. Raises StateError, OSError."""
    counted: Counter[str] = Counter()
    end: End | None = None
    with opened(path) as (head, frames):
        for frame in frames:  # to the last byte: only there stands the checksum
            if isinstance(frame, Row):
                counted[frame.topic] += 1
            elif isinstance(frame, End):
                end = frame
    if end is None:
        raise StateError(f"{path}: cut short: its end is missing")
    if end.rows != counted:
        raise StateError(f"{path}: damaged: {dict(counted)} rows, where {end.rows} were written")
    return Summary(head, dict(counted))


class Target(NamedTuple):
    """How a file is to be put back."""

    replace: bool = False
    """Where there is state already, put this in its place."""
    new_requests: bool = False
    """The requests to come are not those the state was made of: their offsets begin anew."""


async def restore(settings: Settings, path: Path, target: Target, now: int) -> Summary:
    """Put a file's state back and let the workers go on where it was saved.

    Verdicts that have ended by `now` (ms) stay out. Nothing is written before all of the file was read and found whole.
    Raises StateError, KafkaError, OSError.
    """
    summary = inspect(path)
    head = summary.head
    found = await counts(settings)
    verify(found, settings)
    _check_partitions(head, found, settings)
    await compacted.require_no_workers(settings)
    if not target.new_requests:
        await _check_requests(settings, head)
    # Campaigns and standings rest on positions in topics; where those begin anew, so do they.
    topics = (PROFILES, ENFORCEMENT) if target.new_requests else STATE
    if not target.replace:
        await _check_empty(settings, topics, found)
    restored: Counter[str] = Counter()
    async with settings.producer() as producer:
        for topic, partition, rows in _by_partition(path, topics):
            if topic is PROFILES and target.new_requests:
                rows = _begun_anew(rows)
            elif topic is ENFORCEMENT:
                rows = {key: kept for key, kept in rows.items() if _in_force(kept.value, now)}
            if target.replace:
                held = await compacted.newest(settings, topic.name(settings), partition)
                restored[topic.noun] += len(rows)
                rows = _instead_of(held, rows)
            else:
                restored[topic.noun] += len(rows)
            await compacted.write(producer, topic.name(settings), partition, rows.items())
    await _go_on(settings, head, found, new=target.new_requests)
    return Summary(head, dict(+restored))


def _check_partitions(head: Head, found: dict[str, int], settings: Settings) -> None:
    for topic in STATE:
        here, there = found[topic.name(settings)], head.partitions.get(topic.noun)
        if here != there:
            raise StateError(
                f"{topic.name(settings)} has {here} partitions, the backup {there}: restore it into topics like those "
                "it was made of, then: stillwatch grow"
            )


async def _check_requests(settings: Settings, head: Head) -> None:
    hint = "if they are other requests, whose offsets begin anew, say --new-requests"
    here = await cluster(settings)
    if (here, settings.topic_prefix) != (head.cluster, head.prefix):
        raise StateError(
            f"saved from {head.prefix}requests of cluster {head.cluster}, this is {settings.topic_prefix}requests of "
            f"cluster {here}; {hint}"
        )
    _, after = await compacted.ends(settings, REQUESTS.name(settings), head.partitions[REQUESTS.noun])
    for partition, offset in head.committed[REQUESTS.noun].items():
        if after[partition] < offset:
            raise StateError(
                f"{REQUESTS.name(settings)} ends at {after[partition]} on partition {partition}, where the backup was "
                f"made at {offset}; {hint}"
            )


async def _check_empty(settings: Settings, topics: Iterable[Topic], found: dict[str, int]) -> None:
    for topic in topics:
        _, after = await compacted.ends(settings, topic.name(settings), found[topic.name(settings)])
        if any(after.values()):
            raise StateError(f"{topic.name(settings)} is not empty; to put the backup in its place say --replace")


def _by_partition(path: Path, topics: Iterable[Topic]) -> Iterator[tuple[Topic, int, dict[bytes, Kept]]]:
    """The rows of a file, a partition at a time, as they stand in it; with `--replace` empty ones count as well."""
    nouns = {topic.noun: topic for topic in topics}
    with opened(path) as (head, frames):
        left = [(topic.noun, number) for topic in topics for number in range(head.partitions[topic.noun])]
        place: tuple[str, int] | None = None
        rows: dict[bytes, Kept] = {}
        for frame in frames:
            if not isinstance(frame, Row) or frame.topic not in nouns:
                continue
            if place is not None and place != (frame.topic, frame.partition):
                yield nouns[place[0]], place[1], rows
                rows = {}
            place = frame.topic, frame.partition
            if place in left:
                left.remove(place)
            rows[frame.key] = Kept(frame.value, frame.headers)
        if place is not None:
            yield nouns[place[0]], place[1], rows
        for noun, number in left:
            yield nouns[noun], number, {}


def _begun_anew(rows: dict[bytes, Kept]) -> dict[bytes, Kept]:
    """Profiles that hold nothing of the requests to come."""
    profiles = Profiles()
    # Models keep to no offset, but their stamp must not outrank the rows to come.
    anew = [(compacted.POSITION, bytes(8))]
    accounts = {key.decode(): kept.value for key, kept in rows.items() if not key.startswith(b"\xff")}
    profiles.restore((account, row) for account, row in accounts.items())
    profiles.begin_anew()
    written = {account.encode(): Kept(row, anew) for account, row in profiles.changed() if row is not None}
    return written | {key: Kept(kept.value, anew) for key, kept in rows.items() if key.startswith(b"\xff")}


def _instead_of(held: dict[bytes, Kept], rows: dict[bytes, Kept]) -> dict[bytes, Kept]:
    """Rows so stamped that they win over what is held, which goes where it is not among them."""
    highest = max((kept.stamp for kept in held.values()), default=b"")
    gone = {key: Kept(None, kept.headers) for key, kept in held.items() if key not in rows and kept.value is not None}
    return {key: _restamped(kept, max(highest, kept.stamp)) for key, kept in (gone | rows).items()}


def _restamped(kept: Kept, stamp: bytes) -> Kept:
    return Kept(kept.value, [(compacted.POSITION, stamp)]) if stamp else kept


def _in_force(raw: bytes | None, now: int) -> bool:
    try:
        return raw is not None and decode_verdict(raw).expires_at > now
    except UnreadableVerdictError:
        return False


async def _go_on(settings: Settings, head: Head, found: dict[str, int], *, new: bool) -> None:
    for topic in READ:
        name = topic.name(settings)
        if new:
            first, _ = await compacted.ends(settings, name, found[name])
            await compacted.commit(settings, name, first)
        else:
            await compacted.commit(settings, name, head.committed.get(topic.noun, {}))
