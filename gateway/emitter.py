"""Emitter: requests onto Kafka without ever delaying a reply."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final, Generic, Literal, Protocol, TypeVar

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from .exchange import Draft
from .request import MAX_BYTES, Request, encode
from .settings import Connection
from .sketch import sketch_many

logger: Final = logging.getLogger("stillwatch_gateway")

Prompts = Literal["sketch", "text", "none"]


class Drafted(Protocol):
    """What becomes a draft: a draft itself, or an exchange, which is read when nobody waits for it."""

    def draft(self) -> Draft: ...


T = TypeVar("T")

LINGER_SECONDS: Final = 0.02
"""So long a request waits for others: sketches cost a quarter, and messages less, when they come in batches."""

RETRY_SECONDS: Final = 1.0
"""Pause before a connection that broke is opened again."""

CLOSING_SECONDS: Final = 3.0
"""Time allowed at the end to send what still waits."""

SHARE: Final = 1 / 3
"""The most of the event loop's time that drafts may take: replies go first. What is left is dropped, oldest first."""

DELIVERY_MS: Final = 60_000
"""What Kafka has not taken after so long is lost, and counted: brokers with many partitions take half a minute to come
back."""

_TIMER_SECONDS: Final = 0.001
_BATCH: Final = 200
_SLICE: Final = 8
_SLICE_BYTES: Final = 24 * 1024
"""Drafts of so few bytes are finished on the loop, half a millisecond at a time. A longer one goes to a thread: there
it competes for Python's lock, for which a reply may wait up to 5 ms; here it would wait for all of it.
"""


class Buffer(Generic[T]):
    """What waits, bounded in number and in bytes; of too much, what waited longest is dropped and counted."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self.dropped = 0
        self._most, self._most_bytes = most, most_bytes
        self._waiting: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, item: T, size: int) -> None:
        """Add one at the end; `size` is in bytes, as far as it is known."""
        self._waiting.append((item, size))
        self._bytes += size
        while len(self._waiting) > self._most or self._bytes > self._most_bytes:
            self._bytes -= self._waiting.popleft()[1]
            self.dropped += 1
        self._filled.set()

    async def wait(self) -> None:
        """Wait until there is something."""
        if not self._waiting:
            self._filled.clear()
            await self._filled.wait()

    def take(self, most: int, most_bytes: int | None = None) -> list[T]:
        """Take out what waited longest: at most so many, and of more than so many bytes only one."""
        taken: list[T] = []
        total = 0
        while self._waiting and len(taken) < most:
            item, size = self._waiting[0]
            total += size
            if taken and most_bytes is not None and total > most_bytes:
                break
            self._waiting.popleft()
            self._bytes -= size
            taken.append(item)
        return taken

    @property
    def first_bytes(self) -> int:
        """Size of what waited longest; 0 when nothing waits."""
        return self._waiting[0][1] if self._waiting else 0


class Emitter:
    """Takes requests on the reply path in about a microsecond, and sends them from a task of its own.

    `emit` neither waits nor raises. What cannot be sent because Kafka is away, or too slow, is kept within bounds;
    then the oldest goes first, for the newest tell what happens now. Prompts become sketches ("sketch", with
    `sketch_key` for its hashes), travel as text cut to 16,384 characters ("text"), or stay here ("none").
    Messages go to the partition that murmur2 finds for their account, as those of Java clients do, and at least once:
    one that is sent twice counts once, by its id.
    """

    def __init__(
        self,
        connection: Connection,
        topic: str,
        *,
        prompts: Prompts = "sketch",
        sketch_key: bytes | None = None,
        most: int = 20_000,
        most_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self.sent = 0
        """Messages that the brokers have."""
        self.failed = 0
        """Messages that could not be made, or that the brokers did not take in time."""
        self._connection = connection
        self._topic = topic
        self._prompts: Prompts = prompts
        self._sketch_key = sketch_key
        self._drafts = Buffer[Drafted](most, most_bytes)
        self._messages = Buffer[tuple[bytes, bytes]](most, most_bytes)
        self._under_way: set[asyncio.Future[object]] = set()
        self._warned = False

    @property
    def dropped(self) -> int:
        """Requests given up because too many waited."""
        return self._drafts.dropped + self._messages.dropped

    @property
    def waiting(self) -> int:
        """Requests that wait to be sent."""
        return len(self._drafts) + len(self._messages)

    def emit(self, draft: Drafted, size: int = 0) -> None:
        """Send a request, soon. `size` is what it keeps in memory until then, in bytes. Call it on the event loop."""
        self._drafts.put(draft, size)

    async def run(self) -> None:
        """Send until cancelled, and then for a moment more what still waits."""
        making = asyncio.create_task(self._make())
        sending = asyncio.create_task(self._send())
        try:
            # Unlike gather, wait leaves both alive when we are cancelled.
            done, _ = await asyncio.wait({making, sending}, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        finally:
            making.cancel()
            await asyncio.gather(making, return_exceptions=True)
            await self._finish(sending)

    async def _finish(self, sending: "asyncio.Task[None]") -> None:
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                while len(self._drafts):
                    await self._make_some()
                while not sending.done() and (len(self._messages) or self._under_way):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        except TimeoutError:
            logger.warning("%d requests were not sent before the end", self.waiting)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _make(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._drafts.wait()
            await asyncio.sleep(LINGER_SECONDS)
            owed = 0.0
            while len(self._drafts):
                began = loop.time()
                await self._make_some()
                ended = loop.time()
                owed += (ended - began) * (1 / SHARE - 1)
                # Whoever waits gets a turn after every slice; the loop's timers are no finer than a millisecond, so
                # what is owed is gathered, and what was slept too long is taken off. A loop that is late owes nothing.
                await asyncio.sleep(owed if owed >= _TIMER_SECONDS else 0)
                owed = max(owed - (loop.time() - ended), -_TIMER_SECONDS)

    async def _make_some(self) -> None:
        """Turn some drafts into messages."""
        long = self._drafts.first_bytes > _SLICE_BYTES
        made = self._drafts.take(_SLICE, _SLICE_BYTES)
        messages = await asyncio.to_thread(self._finished, made) if long else self._finished(made)
        for key, value in messages:
            self._messages.put((key, value), len(value))
        if self.dropped and not self._warned:
            self._warned = True
            logger.warning("%s cannot keep up: the oldest requests are dropped", self._topic)

    def _finished(self, made: Sequence[Drafted]) -> list[tuple[bytes, bytes]]:
        """Keys and values of the messages; a draft that turns out to be faulty is counted and left out."""
        drafts = []
        for each in made:
            try:
                drafts.append(each.draft())
            except Exception:
                # Whatever a caller's code or a caller's caller wrote: one request is lost, its neighbours are not.
                self.failed += 1
                logger.exception("a request could not be described")
        if self._prompts == "sketch":
            sketched = [each for each in drafts if each.text is not None and each.request.sketch is None]
            sketches = sketch_many(
                [each.text or "" for each in sketched],
                [each.instructions for each in sketched],
                key=self._sketch_key,
            )
            found = dict(zip(map(id, sketched), sketches, strict=True))
        messages = []
        for each in drafts:
            request = each.request
            if self._prompts == "sketch" and id(each) in found:
                whole = found[id(each)]
                if each.chars is not None:
                    whole = msgspec.structs.replace(whole, chars=each.chars)
                request = msgspec.structs.replace(request, sketch=whole)
            elif self._prompts == "text":
                request = msgspec.structs.replace(request, text=each.text, instructions=each.instructions)
            messages.append((request.account.encode("utf-8", "replace"), fitted(request)))
        return messages

    async def _send(self) -> None:
        while True:
            try:
                # Every message is safe to send twice, so no idempotence is asked of the brokers.
                async with AIOKafkaProducer(**self._connection, acks="all", request_timeout_ms=DELIVERY_MS) as producer:
                    partitions = len(await producer.partitions_for(self._topic))
                    while True:
                        await self._messages.wait()
                        await self._send_some(producer, partitions)
            except (KafkaError, OSError) as error:
                logger.warning("%s cannot be written, trying again: %r", self._topic, error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _send_some(self, producer: AIOKafkaProducer, partitions: int) -> None:
        """Send what waits, at most some, one batch a partition: each message alone would cost ten times as much."""
        shares: dict[int, list[tuple[bytes, bytes]]] = {}
        taken = self._messages.take(_BATCH)
        for key, value in taken:
            shares.setdefault((murmur2(key) & 0x7FFFFFFF) % partitions, []).append((key, value))
        handed = 0
        try:
            for partition, share in shares.items():
                while share:
                    batch, count = producer.create_batch(), 0
                    # An empty batch takes one message of any size that a Request may have.
                    while count < len(share) and _appended(batch, *share[count]):
                        count += 1
                    batch.close()
                    share = share[count:]
                    delivery = await producer.send_batch(batch, self._topic, partition=partition)
                    handed += count
                    self._under_way.add(delivery)
                    delivery.add_done_callback(lambda done, count=count: self._delivered(done, count))
        finally:
            self.failed += len(taken) - handed
        await asyncio.sleep(0)

    def _delivered(self, delivery: asyncio.Future[object], count: int) -> None:
        self._under_way.discard(delivery)
        if delivery.cancelled() or delivery.exception() is not None:
            self.failed += count
        else:
            self.sent += count


def _appended(batch: BatchBuilder, key: bytes, value: bytes) -> bool:
    return batch.append(key=key, value=value, timestamp=None) is not None


def fitted(request: Request) -> bytes:
    """A request as bytes that are read: its texts are cut in half until it is no longer too large."""
    while True:
        try:
            raw = encode(request)
        except UnicodeEncodeError:
            request = msgspec.structs.replace(
                request, text=_whole(request.text), instructions=_whole(request.instructions)
            )
            continue
        if len(raw) <= MAX_BYTES or not (request.text or request.instructions):
            return raw
        request = msgspec.structs.replace(request, text=_half(request.text), instructions=_half(request.instructions))


def _whole(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", "replace").decode()


def _half(text: str | None) -> str | None:
    return None if not text else text[: len(text) // 2]
