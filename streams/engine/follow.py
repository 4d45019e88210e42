"""Follow: a topic that every worker reads for itself, from its beginning, without a group."""

import asyncio
import logging
from asyncio import Future
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from sinks.metrics import Metrics
from streams.settings import Settings
from streams.topics import Topic

_log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0
"""Between two tries to reach a topic that cannot be read; each pause is twice the one before."""

POLL_MS: Final = 100
"""How long a poll waits for records; whoever wants to catch up waits as long before it begins."""

HURRY_MS: Final = 10
"""How long it waits while somebody does. Not 0: then aiokafka does not let the loop go on."""

Hear = Callable[[int, Sequence[ConsumerRecord]], Awaitable[None]]
"""Takes records of one partition, in their order."""


class Hearing(Protocol):
    """A topic that is followed, as those see it who wait for what it says."""

    async def caught_up(self, again: Collection[int] = ()) -> None:
        """Return when everything that stands on it now has been heard; of the partitions `again`, once more."""


@dataclass(slots=True, eq=False)
class _Wish:
    """Somebody waits until all that stands on the topic is heard."""

    again: Collection[int]
    """Partitions to hear once more from their beginning."""
    done: Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    ends: dict[TopicPartition, int] | None = None


class Follower:
    """Hears all records of a topic, and then whatever is added.

    When Kafka does not answer or refuses, it tries again, later and later: nobody's work stops for it. It goes on where
    it was. What `hear` raises is none of Kafka's faults, and ends `run`.
    """

    def __init__(self, topic: Topic, settings: Settings, metrics: Metrics, hear: Hear) -> None:
        self._topic = topic
        self._settings = settings
        self._failures = metrics.follow_failures.labels(topic.noun)
        self._silent = metrics.following.labels(topic.noun)
        self._hear = hear
        self._consumer: AIOKafkaConsumer | None = None
        self._next: dict[TopicPartition, int] = {}
        self._wishes: list[_Wish] = []

    async def caught_up(self, again: Collection[int] = ()) -> None:
        """Return when everything that stands on the topic now has been heard; of the partitions `again`, once more."""
        wish = _Wish(again)
        self._wishes.append(wish)
        try:
            await wish.done
        finally:
            self._wishes.remove(wish)

    async def run(self) -> None:
        """Follow until cancelled."""
        pause = FIRST_PAUSE_SECONDS
        try:
            while True:
                try:
                    found = await self._poll()
                except KafkaError as error:
                    self._failures.inc()
                    self._silent.set(0)
                    if pause == FIRST_PAUSE_SECONDS:
                        _log.warning("%s cannot be read, trying again: %r", self._topic.noun, error)
                    await self._close()
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                    continue
                pause = FIRST_PAUSE_SECONDS
                self._silent.set(1)
                for tp, (records, position) in found.items():
                    if records:
                        await self._hear(tp.partition, records)
                    self._next[tp] = position
                self._answer()
        finally:
            await self._close()

    async def _poll(self) -> dict[TopicPartition, tuple[Sequence[ConsumerRecord], int]]:
        """Records by partition, and the position after them. Raises KafkaError."""
        if self._consumer is None:
            self._consumer = await self._open()
        consumer = self._consumer
        tps = sorted(consumer.assignment())
        asked = [wish for wish in self._wishes if wish.ends is None]
        if asked:
            ends = await consumer.end_offsets(tps)
            again = [tp for tp in tps if any(tp.partition in wish.again for wish in asked)]
            for tp, beginning in (await consumer.beginning_offsets(again)).items() if again else ():
                consumer.seek(tp, beginning)
                self._next[tp] = beginning
            for wish in asked:
                wish.ends = ends
        found = await consumer.getmany(timeout_ms=HURRY_MS if self._wishes else POLL_MS)
        return {tp: (found.get(tp, ()), await consumer.position(tp)) for tp in tps}

    async def _open(self) -> AIOKafkaConsumer:
        name = self._topic.name(self._settings)
        consumer = AIOKafkaConsumer(
            name,
            **self._settings.connection(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # Where the topic ends is asked on the connection that an empty fetch holds up for so long.
            fetch_max_wait_ms=POLL_MS,
        )
        try:
            await consumer.start()
            self._go_on(consumer)
        except BaseException:
            await consumer.stop()
            raise
        # What was asked for on the connection that was lost is asked for anew.
        for wish in self._wishes:
            wish.ends = None
        return consumer

    def _go_on(self, consumer: AIOKafkaConsumer) -> None:
        if not consumer.assignment():
            raise UnknownTopicOrPartitionError(self._topic.name(self._settings))
        for tp in consumer.assignment() & self._next.keys():
            consumer.seek(tp, self._next[tp])

    def _answer(self) -> None:
        for wish in self._wishes:
            ends = wish.ends
            if ends is not None and not wish.done.done() and all(self._next.get(tp, 0) >= ends[tp] for tp in ends):
                wish.done.set_result(None)

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()
