"""Transport: Faust's Kafka transport, taught to hand over micro-batches.

Faust awaits two futures and takes a lock for each message, which is most of its cost. Here a poll of a
batched topic becomes a few messages whose value is a Chunk of raw records. All other topics stay record by
record, as Faust knows them. What Faust does about acks and rebalances rests on one message being one offset.
So batched topics are kept out of it: they are consumed with `noack()`, and `streams.engine.acks` says what may
be committed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol, cast

import faust
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as stock
from faust.types import TP, ConsumerMessage, Message

from streams.batch import Record

from .acks import Acks, Span
from .bare import make_bare

GATHER_BYTES: Final = 262_144
"""A broker answers a fetch once it has so much for us, some 1,500 compressed requests of all partitions, ..."""

GATHER_MS: Final = 200
"""... or after so long. Answered at once, a batch would hold a handful of requests and cost as much as hundreds do."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Raw records of one partition in offset order. Set `span.done` when nothing of them can be lost."""

    tp: TP
    records: list[Record]
    span: Span


class Batching(Protocol):
    """What the transport needs to know of the worker, and tells it."""

    @property
    def topics(self) -> frozenset[str]:
        """Topics that are handed over in chunks."""

    @property
    def chunk(self) -> int:
        """Most records in a chunk."""

    @property
    def drain_seconds(self) -> float:
        """Time allowed to finish work in hand before partitions move or the worker ends."""

    @property
    def clock(self) -> Callable[[], float]:
        """Gives seconds that only rise."""

    def assigned(self, partitions: set[TP]) -> None:
        """Called with all batched partitions of a new assignment, none of which is fetched from until
        `Consumer.release`. Must not wait.
        """

    async def drain(self) -> None:
        """Called when fetching has stopped: finish what is in hand, set its spans done. May be cancelled."""

    def committed(self) -> None:
        """Called after each commit."""

    def revoked(self, committed: set[TP]) -> None:
        """Called after `drain`, or its deadline: what is still undone belongs to the next owner.

        `committed` are the partitions of which all that was done is committed.
        """


class App(faust.App):
    """A Faust application whose transport hands over chunks."""

    batching: Batching

    def _create_directories(self) -> None:
        """Make none: state lives in Kafka, and a container's disk is often read-only."""


class _Thread(stock.AIOKafkaConsumerThread):
    """Faust's thread around aiokafka's consumer, which fetches whatever there is and has no setting for it."""

    def _create_worker_consumer(self, transport: stock.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_min_bytes = GATHER_BYTES
        consumer._fetch_max_wait_ms = GATHER_MS
        return consumer

    async def on_start(self) -> None:
        """Connect; records that go into chunks stay as they were unpacked."""
        await super().on_start()
        make_bare(self._ensure_consumer(), cast(App, self.app).batching.topics)


class Consumer(stock.Consumer):
    """Faust's consumer with chunks, their own acks, and a drain with a deadline."""

    app: App

    acks: dict[TP, Acks]
    """The batched partitions we own."""

    _withheld: set[TP]
    """Partitions of ours that nobody may fetch from yet: their profiles are being restored."""

    _dropped: bool
    """True when records were fetched that nobody was given."""

    def _new_consumer_thread(self) -> stock.AIOKafkaConsumerThread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.acks = {}
        self._withheld = set()
        self._dropped = False

    # Fetching

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109
        """Messages of the next poll: other topics by record, then chunks, partitions taking turns."""
        if self._dropped:
            await self._fetch_again()
        records, _ = await self._wait_next_records(timeout)
        if not records or self.should_stop:
            return
        if any(tp.topic in self.app.batching.topics and tp not in self.acks for tp in records):
            self._dropped = True  # a partition moved on while they came: nobody here makes messages of its bare records
            return
        generation = self.app.consumer_generation_id
        for tp, message in self._messages(records):
            if not self.flow_active or self.app.consumer_generation_id != generation or tp in self._withheld:
                self._dropped = True
                return
            yield tp, message

    async def _fetch_again(self) -> None:
        """Go back for records that were fetched and dropped.

        A fetch may be under way through a whole rebalance and come back after Faust's own seek, but before the flow
        resumes. Whoever drops its records then has lost them: the position is past them. Nothing else delivers
        meanwhile, so going back to what is committed repeats nothing.
        """
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]  # mode's stub knows only its own Event
        if self.assignment() and not self.should_stop:
            with suppress(IllegalStateError):  # moved on again: the new assignment starts from what is committed
                await self.perform_seek()
                self._dropped = False

    def _messages(self, records: Mapping[TP, list[ConsumerRecord]]) -> Iterator[tuple[TP, Message]]:
        size = self.app.batching.chunk
        batched = {tp: found for tp, found in records.items() if tp in self.acks}
        others = {tp: found for tp, found in records.items() if tp not in self.acks}
        for tp, record in self.scheduler.iterate(others):
            yield tp, self._to_message(tp, record)
        for start in range(0, max(map(len, batched.values()), default=0), size):
            for tp, found in batched.items():
                piece = found[start : start + size]
                if piece:
                    yield tp, self._to_chunk(tp, piece)

    def _to_chunk(self, tp: TP, records: list[Record]) -> ConsumerMessage:
        first, last = records[0], records[-1]
        span = self.acks[tp].fetched(first.offset, last.offset, self.app.batching.clock())
        message = ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=last.offset,
            timestamp=last.timestamp / 1000,
            timestamp_type=0,  # nobody asks a chunk
            headers=None,
            key=None,
            value=cast(bytes, Chunk(tp, records, span)),
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=0,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )
        # Faust waits for tracked messages by their own acks, which chunks do not use.
        message.tracked = True
        return message

    def on_buffer_full(self, tp: TP) -> None:
        """Leave backpressure on chunks to their bounded queue: the fetcher waits until it has room.

        Faust's own way takes the partition out of the active set and puts it back when the queue drains,
        even if it was revoked in between.
        """
        if tp not in self.acks:
            super().on_buffer_full(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        # Faust's gaps include the offset just fetched, and grow by one integer a record.
        if tp not in self.acks:
            await super()._add_gap(tp, offset_from, offset_to)

    # Committing

    def _filter_tps_with_pending_acks(self, topics: Set[str | TP] | None = None) -> Iterator[TP]:
        yield from super()._filter_tps_with_pending_acks(topics)
        yield from (tp for tp in self.acks if topics is None)

    def _new_offset(self, tp: TP) -> int | None:
        if tp in self.acks:
            return self.acks[tp].committable()
        return super()._new_offset(tp)

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        committed = await super()._commit_offsets(offsets, start_new_transaction)
        if committed:
            for tp, offset in offsets.items():
                if tp in self.acks:
                    self.acks[tp].commit(offset)
            self.app.batching.committed()
        return committed

    async def perform_seek(self) -> None:
        """Go back to what is committed, or to the beginning, and forget what was fetched past it."""
        await super().perform_seek()
        # aiokafka leaves a partition without a commit where it is: perhaps past records we dropped.
        fresh = [tp for tp in self.assignment() if not self._committed_offset[tp]]
        if fresh:
            await self._thread.seek_to_beginning(*map(stock.ensure_aiokafka_TP, fresh))
        for tp, acks in self.acks.items():
            acks.seek(self._committed_offset[tp])

    # Moving partitions

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit before Faust hears of it: Faust forgets acked offsets before its last commit."""
        owned = self.assignment()
        self.stop_flow()
        self.app.flow_control.suspend()
        self.pause_partitions(owned)
        self.app.flow_control.clear()
        async with self._fatal():
            await self.wait_empty()
            committed = {tp for tp, acks in self.acks.items() if acks.committable() is None}
            self.acks.clear()
            self._withheld.clear()
            self.app.batching.revoked(committed)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Withhold the batched partitions until the worker releases them."""
        batched = {tp for tp in assigned if tp.topic in self.app.batching.topics}
        self.acks = {tp: Acks() for tp in batched}
        self._withheld = set(batched)
        async with self._fatal():
            self.app.batching.assigned(batched)
        await super().on_partitions_assigned(assigned, generation_id)

    @asynccontextmanager
    async def _fatal(self) -> AsyncIterator[None]:
        # aiokafka only logs what its listeners raise, and would go on with partitions that nobody holds.
        try:
            yield
        except Exception as fault:
            await self.app.crash(fault)
            raise

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resume all but what is withheld."""
        super().resume_partitions({tp for tp in tps if tp not in self._withheld})

    def release(self, tp: TP) -> None:
        """Let a withheld partition be fetched from."""
        if tp in self._withheld:
            self._withheld.discard(tp)
            super().resume_partitions({tp})

    async def wait_empty(self) -> None:
        """Finish and commit work in hand within a deadline: before partitions move, and at the end."""
        if self.app.crashed:
            return
        try:
            async with asyncio.timeout(self.app.batching.drain_seconds):
                await self.app.batching.drain()
                await super().wait_empty()
                # Faust's commit only waited if another was under way, and that one may not hold our acks.
                await self.commit()
        except TimeoutError:
            # The next owner repeats what is undone. Its profiles know what they already hold.
            self.log.warning("Draining took longer than %s s: giving up", self.app.batching.drain_seconds)


class Transport(stock.Transport):
    """Faust's transport for `stillwatch://` brokers."""

    Consumer: ClassVar[type[stock.Consumer]] = Consumer
