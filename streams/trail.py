"""Trail: what the audit says of one subject."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from gateway.verdict import Verdict

from . import topics
from .partitioner import partition_of
from .settings import Settings

HEARD_MS: Final = 10_000
"""How long Kafka may stay silent before a topic counts as read to its end."""


class Said(msgspec.Struct, frozen=True):
    """What somebody said that led to a verdict, as far as it is shown."""

    kind: str
    by: str
    reason: str
    at: int


class Entry(msgspec.Struct, frozen=True):
    """One record of the audit, as far as it is shown; audit.verify says whether it is genuine."""

    writer: str
    number: int
    verdict: Verdict
    feedback: Said | None = None


_decoder: Final = msgspec.json.Decoder(Entry)


def entries(lines: Iterable[bytes], subject: str) -> Iterator[Entry]:
    """The records of a subject (`scope:value`), in the order of the lines. What is no record is skipped."""
    for line in lines:
        try:
            entry = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if entry.verdict.subject == subject:
            yield entry


async def read(settings: Settings, subject: str, since: int) -> list[Entry]:
    """The records of a subject on the audit topic, from an instant (ms UTC) to now. Raises KafkaError, TopicsError."""
    name = topics.AUDIT.name(settings)
    count = (await topics.counts(settings)).get(name)
    if not count:
        raise topics.TopicsError(f"there is no topic {name}")
    tp = TopicPartition(name, partition_of(subject.encode(), count))
    lines: list[bytes] = []
    async with AIOKafkaConsumer(**settings.connection(), enable_auto_commit=False) as consumer:
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        begin = (await consumer.offsets_for_times({tp: since}))[tp]
        consumer.seek(tp, end if begin is None else begin.offset)
        while await consumer.position(tp) < end:
            found = await consumer.getmany(tp, timeout_ms=HEARD_MS)
            if not found:
                break
            lines += [record.value for record in found[tp] if record.key == subject.encode() and record.value]
    return list(entries(lines, subject))
