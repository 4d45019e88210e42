"""Changelog: what a partition remembers and has learned, kept safe on the same partition of a compacted topic.

Each row is stamped, in a header, with the position its partition had reached: all records of its account below that
are contained in it. Of two rows of one account the one with the higher position wins, not the later one.
A worker that was frozen, lost its partitions and wakes up may still write what it held; by position that is either
superseded or right. Compaction keeps the later row, so it is told to wait (`settle_ms` of the topic), and reading
repairs what was written out of order.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Final, Protocol, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.settings import Settings
from streams.topics import Topic

from .bare import make_bare
from .outbox import delivered

Rows: TypeAlias = Iterable[tuple[str, bytes | None]]
"""Accounts and their rows; None forgets the account."""

_FETCH_BYTES: Final = 8 * 1024 * 1024
_NEVER: Final = (b"", None)
_MODELS: Final = b"\xffmodels"
"""The key of a partition's models: no account is called so, for its name would not be UTF-8."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a partition's changelog holds."""

    rows: list[tuple[str, bytes]]
    models: bytes | None
    """What the partition's models had learned; None before they were stored."""
    position: int
    """The highest position of a row: every record of an account below its row's position is in its row."""
    end: int
    """The offset the next row will get, if nobody else writes."""


class Log(Protocol):
    """Where checkpoints go and come from: the topic, or in tests a list."""

    async def write(self, partition: int, position: int, rows: Rows, models: bytes | None = None) -> int:
        """Store rows, and models if given, and wait until they are safe; the offset that follows them.

        Raises DeliveryError.
        """

    async def read(self, partition: int) -> Stored:
        """Everything stored of a partition."""

    async def end(self, partition: int) -> int:
        """The offset the next row will get."""


class Changelog:
    """One compacted topic. `producer` is started and stopped by its owner."""

    def __init__(self, producer: AIOKafkaProducer, settings: Settings, topic: Topic) -> None:
        self._producer = producer
        self._settings = settings
        self._topic = topic.name(settings)

    async def write(self, partition: int, position: int, rows: Rows, models: bytes | None = None) -> int:
        """Store rows, and models if given, and wait until they are safe; the offset that follows them.

        Raises DeliveryError.
        """
        stamp = position.to_bytes(8, "big")
        messages: Iterable[tuple[bytes, bytes | None, bytes]] = ((name.encode(), row, stamp) for name, row in rows)
        if models is not None:
            messages = chain(messages, [(_MODELS, models, stamp)])
        return await self._append(partition, messages)

    async def _append(self, partition: int, messages: Iterable[tuple[bytes, bytes | None, bytes]]) -> int:
        # Whole batches: `send` costs some 20 microseconds a row, this about 3.
        under_way = []
        batch = self._producer.create_batch()
        for key, value, stamp in messages:
            headers = [("position", stamp)]
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                under_way.append(await self._producer.send_batch(batch, self._topic, partition=partition))
                batch = self._producer.create_batch()
                batch.append(key=key, value=value, timestamp=None, headers=headers)
                await asyncio.sleep(0)  # a large checkpoint must not hold up the loop
        if batch.record_count():
            under_way.append(await self._producer.send_batch(batch, self._topic, partition=partition))
        await delivered(under_way)
        if not under_way:
            return 0
        last: int = under_way[-1].result().offset
        count: int = batch.record_count()
        return last + count

    async def read(self, partition: int) -> Stored:
        """Everything stored of a partition. An account whose last row is not its newest gets it written again."""
        newest: dict[bytes, tuple[bytes, bytes | None]] = {}
        disordered: set[bytes] = set()
        async with self._consumer() as consumer:
            make_bare(consumer, {self._topic})
            tp = TopicPartition(self._topic, partition)
            # Asked before anything is fetched: behind an empty fetch the answer would wait half a second.
            start = (await consumer.beginning_offsets([tp]))[tp]
            end = (await consumer.end_offsets([tp]))[tp]
            consumer.assign([tp])
            consumer.seek(tp, start)
            while (position := await consumer.position(tp)) < end:
                for record in (await consumer.getmany(tp, timeout_ms=1000)).get(tp, ()):
                    key, ((_, stamp),) = record.key, record.headers
                    if key in newest and stamp < newest[key][0]:
                        disordered.add(key)
                        continue
                    newest[key] = stamp, record.value
                    if disordered:
                        disordered.discard(key)
        if disordered:
            rows = ((key, newest[key][1], newest[key][0]) for key in disordered)
            position = await self._append(partition, rows)
        _, models = newest.pop(_MODELS, _NEVER)
        highest, _ = max(newest.values(), default=_NEVER, key=itemgetter(0))
        return Stored(
            models=models,
            rows=[(key.decode(), row) for key, (_, row) in newest.items() if row is not None],
            position=int.from_bytes(highest, "big"),
            end=position,
        )

    async def end(self, partition: int) -> int:
        """The offset the next row will get."""
        async with self._consumer() as consumer:
            tp = TopicPartition(self._topic, partition)
            end: int = (await consumer.end_offsets([tp]))[tp]
            return end

    def _consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._settings.connection(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES,
        )
