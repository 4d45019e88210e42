"""Compacted: what a compacted topic holds, read in whole and written in whole batches."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from .settings import Settings
from .topics import admin_client

Headers: TypeAlias = list[tuple[str, bytes]]

POSITION: Final = "position"
"""The header by which changelogs are ordered; see streams.engine.changelog."""

_FETCH_BYTES: Final = 8 * 1024 * 1024
_UNDER_WAY: Final = 64


class StateError(RuntimeError):
    """State cannot be moved; the message says why, and what to do."""


class Kept(NamedTuple):
    """The newest record of a key; None as value is a tombstone."""

    value: bytes | None
    headers: Headers

    @property
    def stamp(self) -> bytes:
        """What its changelog orders it by; empty where the topic is ordered by offset."""
        return dict(self.headers).get(POSITION, b"")


async def newest(settings: Settings, name: str, partition: int) -> dict[bytes, Kept]:
    """The newest record of each key of a partition: by its stamp where it has one, else by its offset."""
    found: dict[bytes, Kept] = {}
    tp = TopicPartition(name, partition)
    async with AIOKafkaConsumer(
        **settings.connection(), enable_auto_commit=False, max_partition_fetch_bytes=_FETCH_BYTES
    ) as consumer:
        consumer.assign([tp])
        consumer.seek(tp, (await consumer.beginning_offsets([tp]))[tp])
        end = (await consumer.end_offsets([tp]))[tp]
        while await consumer.position(tp) < end:
            for record in (await consumer.getmany(tp, timeout_ms=1_000)).get(tp, ()):
                kept = Kept(record.value, list(record.headers))
                held = found.get(record.key)
                if record.key is not None and (held is None or kept.stamp >= held.stamp):
                    found[record.key] = kept
    return found


async def write(producer: AIOKafkaProducer, name: str, partition: int, rows: Iterable[tuple[bytes, Kept]]) -> int:
    """Write records and wait until the brokers have them; how many. Raises KafkaError."""
    under_way: list[asyncio.Future[object]] = []
    batch, count = producer.create_batch(), 0
    for key, kept in rows:
        count += 1
        if batch.append(key=key, value=kept.value, timestamp=None, headers=kept.headers) is None:
            under_way.append(await producer.send_batch(batch, name, partition=partition))
            batch = producer.create_batch()
            batch.append(key=key, value=kept.value, timestamp=None, headers=kept.headers)
            if len(under_way) >= _UNDER_WAY:
                await asyncio.gather(*under_way)
                under_way.clear()
    if batch.record_count():
        under_way.append(await producer.send_batch(batch, name, partition=partition))
    await asyncio.gather(*under_way)
    return count


async def ends(settings: Settings, name: str, partitions: int) -> tuple[dict[int, int], dict[int, int]]:
    """First and next offset of each partition of a topic."""
    tps = [TopicPartition(name, number) for number in range(partitions)]
    async with AIOKafkaConsumer(**settings.connection(), enable_auto_commit=False) as consumer:
        consumer.assign(tps)
        first, after = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    return {tp.partition: first[tp] for tp in tps}, {tp.partition: after[tp] for tp in tps}


async def committed(settings: Settings, name: str, partitions: int, group: str | None = None) -> dict[int, int]:
    """What a group, the workers' if not said otherwise, has committed of a topic, by partition."""
    tps = [TopicPartition(name, number) for number in range(partitions)]
    async with AIOKafkaConsumer(
        **settings.connection(), group_id=group or settings.group, enable_auto_commit=False
    ) as consumer:
        consumer.assign(tps)  # a partition assigned by hand: the group is asked, not joined
        found = {tp.partition: await consumer.committed(tp) for tp in tps}
    return {number: offset for number, offset in found.items() if offset is not None}


async def commit(settings: Settings, name: str, offsets: Mapping[int, int], group: str | None = None) -> None:
    """Let a group that has no members go on at these offsets of a topic."""
    if not offsets:
        return
    placed = {TopicPartition(name, number): offset for number, offset in offsets.items()}
    async with AIOKafkaConsumer(
        **settings.connection(), group_id=group or settings.group, enable_auto_commit=False
    ) as consumer:
        consumer.assign(list(placed))
        await consumer.commit(placed)


async def require_no_workers(settings: Settings) -> None:
    """Raise StateError while somebody is in the workers' group."""
    # A group that never was has no coordinator yet; asking for offsets makes Kafka find it one.
    await committed(settings, settings.topic_prefix + "requests", 1)
    async with admin_client(settings) as admin:
        (described,) = await admin.describe_consumer_groups([settings.group])
    members = described.groups[0][-1]
    if members:
        raise StateError(
            f"{len(members)} workers are in group {settings.group}: stop them first "
            f"(one that was killed leaves within {settings.session_seconds:g} s)"
        )
