"""Outlet: messages onto Kafka, and whether it takes any."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ..settings import Settings
from ..topics import REQUESTS
from .messages import Message

logger: Final = logging.getLogger("stillwatch")

PULSE_SECONDS: Final = 1.0
"""How often Kafka is asked whether it is there."""

_SLICE: Final = 500
"""Messages handed to the producer before other senders get their turn."""


class AwayError(RuntimeError):
    """Kafka takes nothing at the moment. What was handed over may have arrived in part: to be sent again."""


class Outlet:
    """A producer that outlives the broker. `run` keeps it open; until Kafka answers, `deliver` refuses at once.

    Messages go to the partition that murmur2 finds for their key, as those of Java clients do. What is handed over
    is acknowledged by all replicas in sync before `deliver` returns, or not at all within `seconds`.
    """

    def __init__(self, settings: Settings, seconds: float) -> None:
        self.there = False
        """Whether Kafka answered when it was last asked, and took what it was last given."""
        self._settings = replace(settings, delivery_seconds=seconds)
        self._seconds = seconds
        self._topic = REQUESTS.name(settings)
        self._producer: AIOKafkaProducer | None = None

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            producer = self._settings.producer()
            try:
                await producer.start()
                await producer.partitions_for(self._topic)
                self._producer = producer
                await self._watch(producer)
            except (KafkaError, OSError) as error:
                self._lost(error)
            finally:
                self.there, self._producer = False, None
                await producer.stop()
            await asyncio.sleep(PULSE_SECONDS)

    async def _watch(self, producer: AIOKafkaProducer) -> None:
        while True:
            self.there = await producer.client.force_metadata_update()
            await asyncio.sleep(PULSE_SECONDS)

    async def deliver(self, messages: Sequence[Message]) -> None:
        """Hand messages to Kafka; returns when it has them all. Raises AwayError."""
        producer = self._producer
        if producer is None or not self.there:
            raise AwayError("Kafka is away")
        try:
            async with asyncio.timeout(self._seconds):
                await _delivered(producer, self._topic, messages)
        except (KafkaError, TimeoutError) as error:
            self._lost(error)
            raise AwayError(f"Kafka did not take it within {self._seconds:g} s") from error

    def _lost(self, error: Exception) -> None:
        if self.there:
            logger.warning("%s cannot be written: %r", self._topic, error)
        self.there = False


async def _delivered(producer: AIOKafkaProducer, topic: str, messages: Sequence[Message]) -> None:
    under_way: list[asyncio.Future[object]] = []
    try:
        for index, message in enumerate(messages):
            under_way.append(await producer.send(topic, message.value, message.key))
            if index % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        await asyncio.gather(*under_way)
    finally:
        for each in under_way:
            # Nobody waits for those behind a failure any more, and asyncio would complain of each.
            each.add_done_callback(lambda done: done.cancelled() or done.exception())
