"""Partition: what a worker does with one partition while it owns it.

Micro-batches are processed at once, in order. From time to time a checkpoint waits until all that was said is
delivered, stores the rows that changed, waits again, and only then acks the micro-batches. So an offset is never
committed before its consequences are safe, and a row is never stored before what it led to was said: whoever restores
it needs to repeat nothing.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from asyncio import Future
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from aiokafka import ConsumerRecord

from models.snapshot import SnapshotError
from sinks.alerts import Alert
from sinks.audit import Chain
from sinks.metrics import Metrics
from sinks.policy import Decision, Policy
from streams.settings import Settings
from streams.topics import Topic

from .acks import Span
from .changelog import Log
from .lag import Lag
from .outbox import DeliveryError, Outbox, delivered
from .transport import Chunk

_log = logging.getLogger(__name__)

MODELS_SECONDS: Final = 60.0
"""How often a partition's models are stored: half a megabyte that changes slowly."""

HEARD_SECONDS: Final = 30.0
"""How long the release of a partition waits for what is said on topics that every worker reads."""

RESTORE_ROWS: Final = 4_000
"""How many rows are restored in one piece: 7 MB of profiles, for which memory is used again. More than 32 MB at once
come from the system anew each time, and a row takes a third more."""


class Memory(Protocol):
    """What a partition remembers and must not lose: a Pipeline, or Campaigns."""

    def snapshot_dirty(self) -> list[tuple[str, bytes | None]]:
        """Rows changed since the last call; None for one that was forgotten."""

    def restore(self, rows: Iterable[tuple[str, bytes | None]], count: int = 0, /) -> None:
        """Take stored rows back, before the first micro-batch; `count` says how many there are in all."""

    def snapshot_models(self) -> bytes:
        """What was learned."""

    def restore_models(self, stored: bytes) -> None:
        """Continue from what `snapshot_models` gave. Raises SnapshotError when it is not of this release."""

    def live(self) -> list[Decision]:
        """The verdicts in force, each as it was announced."""


M = TypeVar("M", bound=Memory)


@dataclass(frozen=True, slots=True)
class Means:
    """What the partitions of one worker have in common.

    `clock` gives seconds that only rise, `now` the time in ms UTC: for metrics, and for verdicts that end while their
    partition is silent.
    """

    settings: Settings
    outbox: Outbox
    metrics: Metrics
    clock: Callable[[], float]
    now: Callable[[], int]
    run: int
    """Tells the runs of a worker apart: when it began (ms UTC)."""


class Partition(ABC, Generic[M]):
    """One partition while we own it: its memory, what was said, and how far both are safe."""

    stores: Topic
    """The topic of its changelog."""

    def __init__(self, number: int, writer: str, means: Means, new_memory: Callable[[], M], changelog: Log) -> None:
        """`writer` names its chain in the audit."""
        self.number = number
        self.memory = new_memory()
        self.chain = Chain(writer)
        self.fail: Callable[[BaseException], Awaitable[None]]
        """Stops the worker; set by whoever runs it."""
        self.assigned_at = means.clock()
        """When it was given to us, on the worker's clock."""
        self.siblings = 1
        """Partitions of its topic that this worker has, itself among them."""
        self.restored = False
        self.listening = False
        """True when it wants to hear what is said elsewhere."""
        self.lag = Lag(means.now())
        self.position = 0
        """The offset after the last record its memory has seen."""
        self.newest_at = 0
        """The newest `at` (ms) of its records."""
        self.spans: list[Span] = []
        """Micro-batches processed since the last checkpoint."""
        self.storing: asyncio.Task[None] | None = None
        """The checkpoint that came by count and may still be under way."""
        self._means = means
        self._new_memory = new_memory
        self._changelog = changelog
        # Where the changelog ended after our last write: while it stands there, nobody else has changed the rows.
        self._end = 0
        self._anew = True
        self._checkpointed_at = self._models_at = means.clock()
        # Since the last checkpoint: messages sent, and records that count towards the next one.
        self._under_way: list[Future[object]] = []
        self._counted = 0
        # Held while something is processed and its messages are queued: a checkpoint sees all of it or nothing.
        self._busy = asyncio.Lock()
        self._checkpointing = asyncio.Lock()

    @property
    def settled(self) -> bool:
        """True when all it did is safe."""
        return self.restored and not (self.spans or self._under_way or self._checkpointing.locked())

    @abstractmethod
    async def process(self, chunk: Chunk) -> int:
        """Take a micro-batch in and queue what comes of it; how much it counts towards the next checkpoint."""

    @abstractmethod
    async def expire(self) -> None:
        """End what is over, and forget what is old."""

    @abstractmethod
    async def hear(self, feedback: Sequence[ConsumerRecord]) -> None:
        """Take in what people say, from one partition of the feedback topic."""

    @abstractmethod
    async def adopt(self, policy: Policy) -> None:
        """Go by another policy from here on."""

    @abstractmethod
    async def hear_all(self) -> None:
        """Hear what was said elsewhere while we did not own it, and say what holds."""

    async def restore(self) -> None:
        """Bring back what is stored. It is worked on after `catch_up`."""
        self.restored = self.listening = False
        # What a rebalance gives back to us is still here. It is as good as stored if nobody has stored since.
        self._anew = not self._end or self._end != await self._changelog.end(self.number)
        if self._anew:
            await self.read_back()

    async def catch_up(self) -> None:
        """After `restore`, bring in what was said since, and say again what is in force."""
        self.listening = True
        await self.hear_all()
        if self._anew:
            async with self._busy:
                self._under_way += await self._means.outbox.announce_again(self.memory.live())
        self._checkpointed_at = self._means.clock()
        self.restored = True

    async def read_back(self) -> None:
        """Start anew from the changelog."""
        stored = await self._changelog.read(self.number)
        self.memory = self._new_memory()
        for start in range(0, len(stored.rows), RESTORE_ROWS):
            self.memory.restore(stored.rows[start : start + RESTORE_ROWS], len(stored.rows))
            await asyncio.sleep(0)  # probes and heartbeats go on
        self._means.metrics.restored(self.stores.noun, len(stored.rows))
        if stored.models is not None:
            self._restore_models(stored.models)
        self.position, self._end = stored.position, stored.end

    def _restore_models(self, stored: bytes) -> None:
        try:
            self.memory.restore_models(stored)
        except SnapshotError as error:
            # Rows are what was seen and must not be lost; models learn again within a day.
            _log.warning("%s, partition %d: models start anew: %s", self.stores.noun, self.number, error)

    async def take(self, chunk: Chunk) -> None:
        """Process a micro-batch."""
        async with self._busy:
            self.position = max(self.position, chunk.span.last + 1)
            self._counted += await self.process(chunk)
            self.spans.append(chunk.span)
            self.lag.position, self.lag.sent_at = self.position, chunk.records[-1].timestamp
        if self._counted >= self._means.settings.checkpoint_rows:
            # Beside the next micro-batches, not before them; but of two checkpoints the later waits for the earlier, so
            # that what is not yet safe stays bounded.
            if self.storing is not None:
                await self.storing
            self.storing = asyncio.create_task(self._store())

    async def tick(self) -> None:
        """Do what is due: ends, what to forget, a checkpoint. Raises DeliveryError."""
        async with self._busy:
            await self.expire()
        if self._means.clock() - self._checkpointed_at >= self._means.settings.checkpoint_seconds:
            await self.checkpoint()

    async def _store(self) -> None:
        try:
            await self.checkpoint()
        except DeliveryError as fault:
            await self.fail(fault)

    async def checkpoint(self, *, with_models: bool = False) -> None:
        """Make what was processed so far safe, then let its offsets be committed. Raises DeliveryError."""
        clock, metrics = self._means.clock, self._means.metrics
        async with self._checkpointing:
            async with self._busy:
                spans, self.spans = self.spans, []
                under_way, self._under_way = self._under_way, []
                rows = self.memory.snapshot_dirty()
                position, self._counted = self.position, 0
                started = self._checkpointed_at = clock()
                models = None
                if rows and (with_models or started - self._models_at >= MODELS_SECONDS):
                    models, self._models_at = self.memory.snapshot_models(), started
            await delivered(under_way)
            if rows:
                try:
                    self._end = await self._changelog.write(self.number, position, rows, models)
                except DeliveryError:
                    metrics.failed_deliveries.labels(self.stores.noun).inc()
                    raise
                metrics.stored(self.stores.noun, len(rows))
            if spans or rows:
                metrics.checkpoint_duration.observe(clock() - started)
            for span in spans:
                span.done = True

    async def heard(self, topic: Topic, hearing: Awaitable[None]) -> None:
        """Wait until something is heard, but not for ever: what comes late is heard late, and nobody's work stops."""
        try:
            async with asyncio.timeout(HEARD_SECONDS):
                await hearing
        except TimeoutError:
            _log.warning("%s not heard within %.0f s: going on without", topic.noun, HEARD_SECONDS)

    async def alert(self, said: Sequence[Alert]) -> None:
        """Queue what a person should see."""
        self._under_way += await self._means.outbox.alert(said)
        for one in said:
            self._means.metrics.alerts.labels(one.kind).inc()

    async def announce(self, decisions: list[Decision]) -> list[Future[object]]:
        """Queue decisions for enforcement and audit; their messages, in order."""
        if not decisions:
            return []
        announced = await self._means.outbox.announce(decisions, self.chain)
        self._under_way += announced
        self._means.metrics.decided(decisions)
        return announced
