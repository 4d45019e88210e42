"""Recent: the ids of the last requests before a restart, so that one sent again across it counts once."""

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

    async def __call__(self, partition: int) -> list[str]:
        """Ids of the last requests of a partition that are committed, oldest first."""


class RecentRequests:
    """The ids that stand in the requests topic.

    Only what is committed is looked at: its profiles are stored for certain. What comes after will be read again, and
    an id remembered from there would be taken for its own repeat, and lost.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def __call__(self, partition: int) -> list[str]:
        """Ids of up to LOOKED_AT requests before the offset that our group has committed, oldest first."""
        tp = TopicPartition(REQUESTS.name(self._settings), partition)
        ids: list[str] = []
        # Without a subscription the group is only asked, not joined.
        async with AIOKafkaConsumer(
            **self._settings.connection(), group_id=self._settings.group, enable_auto_commit=False
        ) as consumer:
            # Asked before anything is fetched: behind an empty fetch the answer would wait half a second.
            committed = await consumer.committed(tp) or 0
            start = max((await consumer.beginning_offsets([tp]))[tp], committed - LOOKED_AT)
            end = min((await consumer.end_offsets([tp]))[tp], committed)
            consumer.assign([tp])
            consumer.seek(tp, start)
            while start < end:
                records = (await consumer.getmany(tp, timeout_ms=1_000)).get(tp, ())
                ids += [found for record in records if record.offset < committed and (found := _id(record.value))]
                start = await consumer.position(tp)
        return ids


def _id(message: bytes | None) -> str | None:
    try:
        return None if message is None else _decoder.decode(message).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # unreadable: it was set aside when it came
