"""Forget: everything that is remembered of an account, erased where it can be; and a look whether anything is left."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway.feedback import Feedback

from . import compacted
from .partitioner import partition_of
from .settings import Settings
from .spoken import Told, send
from .topics import CAMPAIGNS, ENFORCEMENT, PROFILES, STANDINGS, Topic, counts, verify

STAYS: Final = {
    "requests": "what the account sent, until the topic's retention (Kafka's default: 7 days)",
    "links": "what it shares with others, for a day",
    "unreadable": "messages of it that could not be read, for 7 days",
    "feedback": "what was said of it, this message too, for 30 days",
    "alerts": "campaigns it was named in, for 30 days",
    "audit": "every decision on it, for 400 days: append-only and hash-chained, so that nobody can change it unnoticed",
}
"""What cannot be taken out of a topic, only wait for its end, by the topic's noun."""


class Left(NamedTuple):
    """Something that is still there."""

    topic: str
    partition: int
    key: bytes


async def forget(settings: Settings, account: str, *, by: str, reason: str, at: int, number: str) -> Told:
    """Tell the worker that owns the account to erase it; `number` names the message. Raises TopicsError, KafkaError.

    It must be the worker: what is in its memory would be written again with its next checkpoint.
    """
    one = Feedback(id=number, at=at, scope="account", value=account, kind="forget", by=by, reason=reason)
    return await send(settings, one)


async def left(settings: Settings, account: str) -> list[Left]:
    """What compacted topics still hold of an account. Raises TopicsError, KafkaError."""
    found = await counts(settings)
    verify(found, settings)
    remains = []
    for topic, key in _places(account):
        partitions = found[topic.name(settings)]
        for partition in [partition_of(key, partitions)] if topic is not PROFILES else range(partitions):
            kept = (await compacted.newest(settings, topic.name(settings), partition)).get(key)
            if kept is not None and kept.value is not None:
                remains.append(Left(topic.name(settings), partition, key))
    return remains


def _places(account: str) -> Iterator[tuple[Topic, bytes]]:
    """Compacted topics that name an account, and under which key. A stray's profile may lie on any partition."""
    yield PROFILES, account.encode()
    yield ENFORCEMENT, f"account:{account}".encode()
    yield STANDINGS, account.encode()
    yield CAMPAIGNS, f"account:{account}".encode()
