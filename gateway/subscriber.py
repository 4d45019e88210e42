"""Subscriber: keeps a guard as new as the enforcement topic."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from .guard import Guard
from .settings import Connection
from .verdict import UnreadableVerdictError, decode

logger: Final = logging.getLogger("stillwatch_gateway")

RETRY_SECONDS: Final = 1.0
"""Pause before a connection that broke is opened again."""

CHECK_SECONDS: Final = 1.0
"""How often the brokers are asked how far the topic goes: the only way to tell calm from a cut line."""

LONGEST_ABSENCE_SECONDS: Final = 43_200.0
"""Away for longer, and the table is made anew: compaction forgets nulls after a day, and with them what was lifted."""

SHARE: Final = 1 / 3
"""The most of the event loop's time that reading may take: replies go first. A million verdicts take half a minute."""

_SLICE: Final = 50
"""Records taken in one go: at about 10 microseconds each the replies of the same event loop wait half a millisecond."""


class Subscriber:
    """Reads all partitions of the enforcement topic, from their start, into a guard.

    Every replica reads everything, so there is no consumer group, nothing to commit and no rebalance. What is no
    verdict is counted and skipped; a null lifts its subject. The guard is confirmed as often as the brokers say how
    far the topic goes and we have read so far; while they cannot be reached it gets stale. `clock` gives ms UTC.
    """

    def __init__(self, guard: Guard, connection: Connection, topic: str, clock: Callable[[], int]) -> None:
        self.read = 0
        """Records read."""
        self.unreadable = 0
        """Records that were no verdict, or stood under another subject's key."""
        self.failures = 0
        """Times the brokers did not answer."""
        self.restored = asyncio.Event()
        """Set once everything that stood on the topic is in the guard."""
        self._guard = guard
        self._connection = connection
        self._topic = topic
        self._clock = clock

    async def run(self) -> None:
        """Follow the topic until cancelled; what breaks is opened again."""
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError) as error:
                self._failed(error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        """Read until the connection breaks, or until we were away for so long that we must begin anew."""
        if self._away():
            self._guard.clear()
        consumer = AIOKafkaConsumer(
            self._topic,
            **self._connection,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=10_000,
            metadata_max_age_ms=5_000,
        )
        loop = asyncio.get_running_loop()
        async with consumer:
            ends: dict[TopicPartition, int] = {}
            asked_at, next_check = 0, 0.0
            while not self._away():
                if not ends and loop.time() >= next_check:
                    next_check = loop.time() + CHECK_SECONDS
                    asked_at = self._clock()
                    ends = await self._ends(consumer)
                    self._guard.expire(asked_at)
                found = await consumer.getmany(timeout_ms=200, max_records=_SLICE)
                began, taken = loop.time(), bool(found)
                for records in found.values():
                    self._take(records)
                if ends and await self._reached(consumer, ends):
                    self._guard.confirm(asked_at)
                    self.restored.set()
                    ends = {}
                if taken:
                    await asyncio.sleep((loop.time() - began) * (1 / SHARE - 1))

    async def _ends(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
        """How far each partition goes; empty when the brokers do not answer, or know of no such topic."""
        try:
            ends: dict[TopicPartition, int] = await consumer.end_offsets(sorted(consumer.assignment()))
        except KafkaTimeoutError as error:
            # The consumer reconnects by itself and remembers its positions: a new one would read everything again.
            self._failed(error)
            return {}
        return ends

    async def _reached(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
        if consumer.assignment() != ends.keys():
            return False
        for partition, end in ends.items():
            # A fetch may know of more than that answer did: the embedded broker names too low an end in it.
            if await consumer.position(partition) < max(end, consumer.highwater(partition) or 0):
                return False
        return True

    def _take(self, records: Iterable[ConsumerRecord]) -> None:
        now = self._clock()
        for record in records:
            self.read += 1
            if record.value is None:
                self._guard.lift((record.key or b"").decode("utf-8", "replace"), now)
                continue
            try:
                verdict = decode(record.value)
            except UnreadableVerdictError:
                self.unreadable += 1
                continue
            if record.key != verdict.subject.encode("utf-8", "replace"):
                # Compaction and nulls go by the key: what stands under another one could never be lifted.
                self.unreadable += 1
                continue
            self._guard.take(verdict, now)

    def _away(self) -> bool:
        confirmed_at = self._guard.confirmed_at
        return confirmed_at is not None and self._clock() - confirmed_at > LONGEST_ABSENCE_SECONDS * 1000

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        logger.warning("%s cannot be read, trying again: %r", self._topic, error)
