"""Recent: the ids of the last requests before a position, so that one sent again across a restart counts once."""

from typing import Final, Protocol

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.settings import Settings
from streams.topics import REQUESTS

LOOKED_AT: Final = 4_096
"""Records read back of each partition: a producer repeats what it sent seconds ago."""


class _Id(msgspec.Struct):
    id: str


_decoder: Final = msgspec.json.Decoder(_Id)


class Recent(Protocol):
    """Where ids come from: the requests topic, or in tests a list."""

    async def __call__(self, partition: int, position: int) -> list[str]:
        """Ids of the requests of a partition just before a position, oldest first."""


class RecentRequests:
    """The ids that stand in the requests topic."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def __call__(self, partition: int, position: int) -> list[str]:
        """Ids of up to LOOKED_AT requests of a partition just before a position, oldest first."""
        tp = TopicPartition(REQUESTS.name(self._settings), partition)
        ids: list[str] = []
        async with AIOKafkaConsumer(**self._settings.connection(), enable_auto_commit=False) as consumer:
            consumer.assign([tp])
            start = max((await consumer.beginning_offsets([tp]))[tp], position - LOOKED_AT)
            end = min((await consumer.end_offsets([tp]))[tp], position)
            consumer.seek(tp, start)
            while start < end:
                records = (await consumer.getmany(tp, timeout_ms=1_000)).get(tp, ())
                ids += [found for record in records if record.offset < position and (found := _id(record.value))]
                start = await consumer.position(tp)
        return ids


def _id(message: bytes | None) -> str | None:
    try:
        return None if message is None else _decoder.decode(message).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # unreadable: it was set aside when it came
