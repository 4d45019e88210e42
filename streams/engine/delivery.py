"""Delivery: which of our messages Kafka has not acknowledged yet, by topic."""

from asyncio import Future
from collections.abc import Callable
from functools import partial

from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from sinks.metrics import SPOKEN, Metrics
from sinks.unreadable import Headers
from streams.settings import Settings

from .outbox import Send


class Delivery:
    """Stands between the outbox and the producer, and keeps in sight what is under way.

    `clock` gives seconds that only rise.
    """

    def __init__(self, send: Send, settings: Settings, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._send = send
        self._prefix = settings.topic_prefix
        self._metrics = metrics
        self._clock = clock
        self._number = 0
        self._under_way: dict[str, dict[int, float]] = {}
        """For each topic when each message was handed over, oldest first."""

    async def send(
        self, topic: str, value: bytes | None, key: bytes | None, *, headers: Headers | None = None
    ) -> Future[object]:
        """Queue a message; the future is done when the broker has it."""
        self._number += 1
        number, under_way = self._number, self._under_way.setdefault(topic, {})
        # From here on it waits: a producer whose buffer is full lets us wait too.
        under_way[number] = self._clock()
        try:
            future = await self._send(topic, value, key, headers=headers)
        except BaseException as error:
            self._ended(topic, number, error)
            raise
        future.add_done_callback(partial(self._done, topic, number))
        return future

    def waiting(self, topic: str) -> float:
        """Seconds that the oldest message of a topic has been waiting; 0 where none is."""
        under_way = self._under_way.get(topic)
        return self._clock() - next(iter(under_way.values())) if under_way else 0.0

    def measure(self) -> None:
        """Set the gauges to how things are now."""
        for noun in SPOKEN:
            self._metrics.undelivered.labels(noun).set(self.waiting(self._prefix + noun))

    def _done(self, topic: str, number: int, future: Future[object]) -> None:
        self._ended(topic, number, None if future.cancelled() else future.exception())

    def _ended(self, topic: str, number: int, error: BaseException | None) -> None:
        del self._under_way[topic][number]
        # What is too large for one topic is cut and sent again: that is no failure.
        if isinstance(error, KafkaError) and not isinstance(error, MessageSizeTooLargeError):
            self._metrics.failed_deliveries.labels(topic.removeprefix(self._prefix)).inc()
