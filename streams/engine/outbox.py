"""Outbox: what a worker says, each message kept in sight until the broker has it.

Faust's own `send_soon` only logs what fails, and its flush is no barrier. Here every message has a future, and
nothing is acked before its futures are done. The producer itself retries for `delivery_seconds`; what fails after
that must stop the worker, because the offset behind it must not be committed.
"""

from asyncio import Future, gather
from collections.abc import Awaitable, Iterable, Sequence
from typing import Final, Protocol

from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from sinks import alerts
from sinks.audit import Chain
from sinks.enforcement import announcement
from sinks.policy import Decision
from sinks.unreadable import Headers, set_aside
from streams import topics
from streams.batch import SetAside
from streams.settings import Settings

from .register import TERM, Standings

KEPT_BYTES: Final = 64 * 1024
"""What is kept of an unreadable message that is too large to travel on with its headers."""


class DeliveryError(RuntimeError):
    """The broker did not take a message in time."""


class Send(Protocol):
    """Queue a message; the future is done when the broker has it. `AIOKafkaProducer.send` fits."""

    async def __call__(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        *,
        headers: Headers | None = None,
    ) -> Future[object]: ...


class Outbox:
    """Decisions to enforcement and audit, alerts and unreadable messages to their own topics."""

    def __init__(self, send: Send, settings: Settings) -> None:
        self._send = send
        self._settings = settings
        self._enforcement = topics.ENFORCEMENT.name(settings)
        self._audit = topics.AUDIT.name(settings)
        self._alerts = topics.ALERTS.name(settings)
        self._links = topics.LINKS.name(settings)
        self._standings = topics.STANDINGS.name(settings)
        self._unreadable = topics.UNREADABLE.name(settings)

    async def announce(self, decisions: Iterable[Decision], chain: Chain) -> list[Future[object]]:
        """Announce decisions in their order and record each in the audit's chain."""
        under_way = []
        for decision in decisions:
            key, value = announcement(decision)
            under_way.append(await self._send(self._enforcement, value, key))
            under_way.append(await self._send(self._audit, chain.append(decision), key))
        return under_way

    async def announce_again(self, decisions: Iterable[Decision]) -> list[Future[object]]:
        """Announce decisions that were announced and recorded before."""
        return [await self._send(self._enforcement, value, key) for key, value in map(announcement, decisions)]

    async def alert(self, said: Iterable[alerts.Alert]) -> list[Future[object]]:
        """Say what a person should see."""
        return [await self._send(self._alerts, value, key) for key, value in map(alerts.announcement, said)]

    async def sight(self, sightings: bytes) -> list[Future[object]]:
        """Tell the campaign agent what accounts have in common."""
        return [await self._send(self._links, sightings, None)]

    async def stand(self, standings: Standings, term: int) -> list[Future[object]]:
        """Tell the watch agents where accounts stand, as the campaign agent of a term."""
        headers = [(TERM, str(term).encode())]
        return [await self._send(self._standings, raw, name.encode(), headers=headers) for name, raw in standings]

    async def set_aside(
        self, unreadable: Iterable[SetAside], topic: topics.Topic, partition: int
    ) -> list[Future[object]]:
        """Pass on messages of a partition that could not be read, their bytes untouched."""
        under_way = []
        for record, reason, text in unreadable:
            key, value, headers = set_aside(
                record, reason=reason, text=text, topic=topic.name(self._settings), partition=partition
            )
            try:
                under_way.append(await self._send(self._unreadable, value, key, headers=headers))
            except MessageSizeTooLargeError:
                # Its producer may send more than we may. Stopping on it would stop us for ever.
                size = str(len(value or b"")).encode()
                cut = [*headers, ("cut_from_bytes", size)]
                kept = (value or b"")[:KEPT_BYTES]
                under_way.append(await self._send(self._unreadable, kept, None, headers=cut))
        return under_way


async def delivered(under_way: Sequence[Awaitable[object]]) -> None:
    """Wait until the broker has all of them. Raises DeliveryError when it does not take one."""
    try:
        await gather(*under_way)
    except KafkaError as error:
        raise DeliveryError(f"a message was not delivered: {error!r}") from error
