"""Replay: recorded requests through the pipeline, in event time."""

import gzip
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Final, NamedTuple, cast

import msgspec
import zstandard

from . import campaigns as campaigning
from .campaigns import Campaigns
from .pipeline import Outcome, Pipeline

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BATCH: Final = 1_000
"""Batches close when one has this many records: about what a worker takes at a time under load."""

SPAN_MS: Final = 60_000
"""Batches close when event time has moved on by this much, so that a quiet hour delays no verdict."""

CHUNK: Final = 1 << 18
"""Bytes read at a time from a compressed file."""

STDIN: Final = Path("-")


class RecordingError(RuntimeError):
    """A recording that cannot be opened or decompressed to its end; the message names the file."""


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """One line of a recording in the shape of a broker's record. No broker, so no time of its own (-1)."""

    key: bytes | None
    value: bytes | None
    offset: int
    timestamp: int = -1


class Step(NamedTuple):
    """One batch of one partition: what went in and what came of it."""

    partition: int
    records: Sequence[Recorded]
    outcome: Outcome


class _Peek(msgspec.Struct, gc=False):
    at: int | None = None
    account: str | None = None


_peek: Final = msgspec.json.Decoder(_Peek)


def account_of(line: bytes) -> str | None:
    """The account a line names, if it names one; the line need not be readable as a request."""
    try:
        return _peek.decode(line).account
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def replay(lines: Iterable[bytes], pipelines: Sequence[Pipeline], campaigns: Campaigns | None = None) -> Iterator[Step]:
    """Cut lines into batches, give each to the pipeline of its partition, and yield what comes of it.

    With `campaigns` it hears what each round of batches has to tell, and what it says of accounts is heard by their
    pipelines before the next. What it decides comes as a step of its own. Lines may come in any order; empty ones
    are skipped. Accounts go to partitions as a producer with Kafka's default partitioner (murmur2) sends them; a
    line that names no account goes to the first. The same lines and as many pipelines give the same steps, always.
    At the end verdicts whose time is over are lifted, and those that would end after the newest request are left
    standing.
    """
    partition_of = _partitioner(len(pipelines))
    batches: list[list[Recorded]] = [[] for _ in pipelines]
    offsets = [0] * len(pipelines)
    opened_at: int | None = None
    event_at = 0

    def close() -> Iterator[Step]:
        nonlocal event_at
        sightings = []
        for partition, records in enumerate(batches):
            if records:
                batches[partition] = []
                step = Step(partition, records, pipelines[partition].process(records))
                event_at = max(event_at, step.outcome.event_at)
                if step.outcome.sightings is not None:
                    sightings.append(Recorded(None, step.outcome.sightings, 0))
                yield step
        if campaigns is not None:
            yield from _kindred(campaigns, campaigns.process(sightings), pipelines, partition_of)

    for line in lines:
        line = line.rstrip(b"\r\n")
        if not line:
            continue
        at = _at(line)
        partition = partition_of(account_of(line)) if len(pipelines) > 1 else 0
        full = len(batches[partition]) >= BATCH
        if full or (at is not None and opened_at is not None and at - opened_at >= SPAN_MS):
            yield from close()
            opened_at = None
        if opened_at is None:
            opened_at = at
        batches[partition].append(Recorded(None, line, offsets[partition]))
        offsets[partition] += 1
    yield from close()
    if campaigns is not None:
        yield from _kindred(campaigns, campaigns.expire(event_at), pipelines, partition_of)
    for partition, pipeline in enumerate(pipelines):
        if over := pipeline.expire(event_at):
            yield Step(partition, (), Outcome(decisions=over, event_at=event_at))


def _kindred(
    campaigns: Campaigns, found: campaigning.Outcome, pipelines: Sequence[Pipeline], partition_of: Callable[[str], int]
) -> Iterator[Step]:
    """What campaigns decided, and what the pipelines make of it."""
    if found.decisions:
        yield Step(0, (), Outcome(decisions=found.decisions, event_at=campaigns.event_at))
    if not found.standings:
        return
    for partition, pipeline in enumerate(pipelines):
        own = [said for said in found.standings if partition_of(said[0]) == partition]
        if decisions := pipeline.stand(own):
            yield Step(partition, (), Outcome(decisions=decisions, event_at=campaigns.event_at))


def _at(line: bytes) -> int | None:
    """Event time of a line, only to cut batches by. Looked up first, parsed where that fails."""
    start = line.find(b'"at":') + 5
    if start > 4:
        try:
            return int(line[start : line.find(b",", start)])
        except ValueError:
            pass
    try:
        return _peek.decode(line).at
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _partitioner(partitions: int) -> Callable[[str | None], int]:
    if partitions == 1:
        return lambda _: 0
    from .partitioner import partition_of as place  # loads aiokafka

    known: dict[str | None, int] = {None: 0}

    def partition_of(account: str | None) -> int:
        partition = known.get(account)
        if partition is None:
            partition = place((account or "").encode(), partitions)
            known[account] = partition
        return partition

    return partition_of


class Recording:
    """The lines of recorded files one after the other: plain, `.gz`, `.zst`, or `-` for standard input.

    `total` is the size of the files in bytes (None with standard input), `position` how much of it was read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._done = 0
        self._raw: BinaryIO | None = None
        self.total: int | None = None
        try:
            if STDIN not in paths:
                self.total = sum(path.stat().st_size for path in paths)
        except OSError as error:
            raise RecordingError(f"{error.filename}: {error.strerror}") from error

    @property
    def position(self) -> int:
        """Bytes of the files read so far, as they lie on the disk."""
        return self._done + (self._raw.tell() if self._raw is not None and self.total is not None else 0)

    def __iter__(self) -> Iterator[bytes]:
        for path in self._paths:
            with ExitStack() as stack:
                try:
                    self._raw = sys.stdin.buffer if path == STDIN else stack.enter_context(path.open("rb"))
                    yield from _decompressed(self._raw, path.suffix)
                    self._done = self.position
                except (OSError, EOFError, zstandard.ZstdError) as error:
                    raise RecordingError(f"{path}: {error}") from error
                finally:
                    self._raw = None


def _decompressed(raw: BinaryIO, suffix: str) -> IO[bytes]:
    if suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if suffix == ".zst":
        return io.BufferedReader(_Frames(raw), CHUNK)
    return raw


class _Frames(io.RawIOBase):
    """The plain bytes of Zstandard frames. The library's own reader takes a file cut short for a whole one."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        while not self._plain:
            packed = self._frame.unused_data if self._frame.eof else b""
            packed = packed or self._raw.read(CHUNK)
            if not packed:
                if self._begun and not self._frame.eof:
                    raise EOFError("Compressed file ended before the end-of-stream marker was reached")
                return 0
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._begun = True
            self._plain = memoryview(self._frame.decompress(packed))
        into = memoryview(buffer)
        count = min(len(into), len(self._plain))
        into[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count
