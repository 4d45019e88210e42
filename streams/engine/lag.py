"""Lag: how far a partition's processing is behind its end, in records and in seconds."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP

LOOK_SECONDS: Final = 5.0
"""How often Kafka is asked where our partitions end."""


class Ends(Protocol):
    """Where partitions end: Kafka, or in tests a dictionary."""

    async def __call__(self, partitions: Iterable[TP]) -> dict[TP, int]:
        """The offset that the next record of each partition will get."""


class KafkaEnds:
    """Asks Kafka.

    What fetches bring along says it too, but nothing is fetched while profiles are restored or a buffer is full, and
    that is when one wants to know. The consumer is not the worker's own: there a question that Kafka does not answer
    would hold up commits. It is started and stopped by its owner.
    """

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def __call__(self, partitions: Iterable[TP]) -> dict[TP, int]:
        """The offset that the next record of each partition will get. Raises KafkaError."""
        ends = await self._consumer.end_offsets([TopicPartition(*tp) for tp in partitions])
        return {TP(*tp): end for tp, end in ends.items()}


@dataclass(slots=True)
class Lag:
    """How far one partition is behind. Times are ms UTC."""

    since: int
    """When we took it on."""
    end: int = 0
    """Where it ended when we last heard of it."""
    position: int = 0
    """The offset after the last record that is processed."""
    committed: int = 0
    """The offset last committed."""
    sent_at: int = 0
    """The time on its topic of the last record that is processed."""
    even_at: int = 0
    """When we last knew that everything was processed."""

    def look(self, end: int, now: int) -> None:
        """Note where the partition ends at `now`."""
        self.end = max(self.end, end)
        if not self.records:
            self.even_at = now

    @property
    def records(self) -> int:
        """Records not processed."""
        return max(0, self.end - max(self.position, self.committed))

    @property
    def uncommitted(self) -> int:
        """Records not committed."""
        return max(0, self.end - self.committed)

    def seconds(self, now: int) -> float:
        """How long the oldest record not processed has been waiting, at most: it came after the last one that is
        processed, and after the last time that none was waiting.

        Before the first is processed nothing is known of their age: then it is the time since we took the partition on.
        """
        if not self.records:
            return 0.0
        return max(0, now - (max(self.sent_at, self.even_at) or self.since)) / 1000
