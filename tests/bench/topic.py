"""Topic: requests onto Kafka in bulk, keyed by account, as fast as a client can."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.partitioner import murmur2

from gateway.request import Request, encode
from streams import topics
from streams.settings import Settings

BATCH_BYTES: Final = 256 * 1024


class Sent(NamedTuple):
    """A request on its way."""

    account: str
    message: bytes
    at: int


def sendable(traffic: Iterable[Request]) -> Iterator[Sent]:
    """Each request as it is sent."""
    return (Sent(request.account, encode(request), request.at) for request in traffic)


class Batches:
    """A producer that gathers records by partition and sends them as whole batches.

    `AIOKafkaProducer.send` makes a future for each record, and would be the slowest part of the bench.
    """

    def __init__(self, settings: Settings) -> None:
        self._topic = topics.REQUESTS.name(settings)
        self._partitions = settings.partitions
        self._producer = aiokafka.AIOKafkaProducer(
            **settings.connection(), acks="all", compression_type="lz4", max_batch_size=BATCH_BYTES
        )
        self._open: dict[int, aiokafka.producer.message_accumulator.BatchBuilder] = {}
        self._under_way: set[asyncio.Future[object]] = set()
        self._partition_of: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._producer.stop()

    async def add(self, record: Sent) -> None:
        """Add one record; a batch that is full leaves."""
        partition = self._partition_of.get(record.account)
        key = record.account.encode()
        if partition is None:
            partition = self._partition_of[record.account] = (murmur2(key) & 0x7FFFFFFF) % self._partitions
        batch = self._open.get(partition)
        if batch is None:
            batch = self._open[partition] = self._producer.create_batch()
        if batch.append(key=key, value=record.message, timestamp=record.at) is None:
            await self._send(partition)
            await self.add(record)

    async def leave(self) -> None:
        """Send what was gathered."""
        for partition in list(self._open):
            await self._send(partition)

    async def delivered(self) -> None:
        """Send what was gathered and wait until the broker has everything. Raises aiokafka's KafkaError."""
        await self.leave()
        await asyncio.gather(*self._under_way)

    async def _send(self, partition: int) -> None:
        batch = self._open.pop(partition)
        delivery = await self._producer.send_batch(batch, self._topic, partition=partition)
        self._under_way.add(delivery)
        delivery.add_done_callback(self._settled)

    def _settled(self, delivery: "asyncio.Future[object]") -> None:
        # A failed one stays, for `delivered` to raise.
        if delivery.exception() is None:
            self._under_way.discard(delivery)


async def fill(settings: Settings, records: Iterable[Sent], recording: Path) -> float:
    """Create the topics, put records onto `requests` and as lines into a file; the seconds this took."""
    await topics.create(settings)
    started = time.perf_counter()
    async with Batches(settings) as batches:
        with recording.open("wb") as lines:
            for record in records:
                await batches.add(record)
                lines.write(record.message + b"\n")
        await batches.delivered()
    return time.perf_counter() - started


async def forget_profiles(settings: Settings) -> None:
    """Empty the changelog, so that the next worker knows no account."""
    name = topics.PROFILES.name(settings)
    admin = AIOKafkaAdminClient(**settings.connection())
    await admin.start()
    try:
        await admin.delete_topics([name])
    finally:
        await admin.close()
    while name in await topics.counts(settings):  # noqa: ASYNC110  (the broker has nothing to wait on)
        await asyncio.sleep(0.1)
    await topics.create(settings)
