"""Watch: what a worker does with the partitions it was given.

A partition is a pipeline and what it has said. Its micro-batches are processed at once, in order. From time to
time a checkpoint waits until all that was said is delivered, stores the profiles that changed, waits again, and only
then acks the micro-batches. So an offset is never committed before its consequences are safe, and a profile is
never stored before what it led to was said: whoever restores it needs to repeat nothing.
"""

import asyncio
import logging
from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from faust.types import TP

from models.snapshot import SnapshotError
from sinks.audit import Chain
from sinks.metrics import Metrics
from sinks.policy import Decision
from streams.pipeline import Outcome, Pipeline
from streams.settings import Settings
from streams.topics import REQUESTS

from . import measure
from .acks import Acks, Span
from .changelog import Log
from .lag import Lag
from .outbox import DeliveryError, Outbox, delivered
from .recent import Recent
from .strays import Strays, stray
from .transport import Chunk

_log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.5
"""How often a worker looks whether a checkpoint or the end of a verdict is due."""

MODELS_SECONDS: Final = 60.0
"""How often a partition's models are stored: half a megabyte that changes slowly."""

RESTORE_ROWS: Final = 20_000
"""How many profiles are restored in one piece."""


@dataclass(slots=True, eq=False)
class Partition:
    """One partition of `requests` while we own it."""

    number: int
    pipeline: Pipeline
    chain: Chain
    checkpointed_at: float
    """On the watch's clock."""
    models_at: float
    """When its models were last stored, on the watch's clock."""
    lag: Lag
    assigned_at: float
    """When it was given to us, on the watch's clock."""
    restored: bool = False
    position: int = 0
    """The offset after the last request its pipeline has seen."""
    newest_at: int = 0
    """The newest `at` (ms) of its requests."""
    end: int = 0
    """The changelog's end after our last write: while it stands there, nobody else has changed the profiles."""
    spans: list[Span] = field(default_factory=list)
    """Micro-batches processed since the last checkpoint."""
    under_way: list[Future[object]] = field(default_factory=list)
    """Messages sent since then."""
    requests: int = 0
    """Requests counted since then."""
    storing: asyncio.Task[None] | None = None
    """The checkpoint that came by count and may still be under way."""
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a micro-batch is processed and its messages are queued: a checkpoint sees all of it or nothing."""
    checkpointing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def settled(self) -> bool:
        """True when all it did is safe."""
        return self.restored and not (self.spans or self.under_way or self.checkpointing.locked())


class Watch:
    """The partitions of one worker.

    `clock` gives seconds that only rise, `now` the time in ms UTC: for metrics and for verdicts that end while their
    partition is silent.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        new_pipeline: Callable[[], Pipeline],
        outbox: Outbox,
        changelog: Log,
        recent: Recent,
        metrics: Metrics,
        clock: Callable[[], float],
        now: Callable[[], int],
    ) -> None:
        self.topics = frozenset({REQUESTS.name(settings)})
        self.chunk = settings.chunk
        self.drain_seconds = settings.drain_seconds
        self.release: Callable[[TP], None] = lambda _: None
        """Lets a partition be fetched from; set by whoever owns the consumer."""
        self.fail: Callable[[BaseException], Awaitable[None]]
        """Stops the worker; set by whoever runs it."""
        self.partitions: dict[int, Partition] = {}
        self._settings = settings
        self._new_pipeline = new_pipeline
        self._outbox = outbox
        self._changelog = changelog
        self._recent = recent
        self._kept: dict[int, Partition] = {}
        self._restoring: asyncio.Task[None] | None = None
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._run = now()
        self._strays = Strays(REQUESTS.name(settings), settings.partitions)
        self._committed_at = clock()
        self._heard_at = clock()

    @property
    def clock(self) -> Callable[[], float]:
        """Gives seconds that only rise."""
        return self._clock

    @property
    def ready(self) -> bool:
        """True when there are partitions and all of them are restored."""
        return bool(self.partitions) and all(partition.restored for partition in self.partitions.values())

    @property
    def alive(self) -> bool:
        """False when work has been in hand for long without a commit."""
        longest = 2 * (self._settings.checkpoint_seconds + self._settings.delivery_seconds)
        return self._clock() - self._committed_at < longest

    def assigned(self, partitions: set[TP]) -> None:
        """Take partitions on: each is released when its profiles are restored."""
        self._metrics.rebalances.inc()
        clock = self._clock()
        for tp in partitions:
            writer = f"{self._settings.group}/{tp.partition}/{self._run}"
            partition = self._kept.get(tp.partition) or Partition(
                tp.partition, self._new_pipeline(), Chain(writer), clock, clock, Lag(self._now()), clock
            )
            partition.restored, partition.assigned_at = False, clock
            self.partitions[tp.partition] = partition
        self._kept.clear()
        self._restoring = asyncio.create_task(self._restore(sorted(partitions)))

    async def _restore(self, partitions: list[TP]) -> None:
        try:
            for tp in partitions:
                with self._metrics.restore_duration.time():
                    await self._restore_one(self.partitions[tp.partition])
                self.release(tp)
        except Exception as fault:
            await self.fail(fault)

    async def _restore_one(self, partition: Partition) -> None:
        # What a rebalance gives back to us is still here. It is as good as stored if nobody has stored since.
        if not partition.end or partition.end != await self._changelog.end(partition.number):
            stored = await self._changelog.read(partition.number)
            partition.pipeline = self._new_pipeline()
            for start in range(0, len(stored.rows), RESTORE_ROWS):
                partition.pipeline.restore(stored.rows[start : start + RESTORE_ROWS], len(stored.rows))
                await asyncio.sleep(0)  # probes and heartbeats go on
            self._metrics.restored.inc(len(stored.rows))
            if stored.models is not None:
                self._restore_models(partition, stored.models)
            partition.pipeline.recall(await self._recent(partition.number))
            partition.position, partition.end = stored.position, stored.end
            partition.newest_at = partition.pipeline.event_at
            partition.under_way += await self._outbox.announce_again(partition.pipeline.live())
        partition.checkpointed_at = self._clock()
        partition.restored = True

    def _restore_models(self, partition: Partition, stored: bytes) -> None:
        try:
            partition.pipeline.restore_models(stored)
        except SnapshotError as error:
            # Profiles are what was seen and must not be lost; models learn again within a day.
            _log.warning("partition %d: models start anew: %s", partition.number, error)

    def revoked(self, committed: set[TP]) -> None:
        """Let all partitions go, but keep those whose work is safe and committed, in case they come back."""
        if self._restoring is not None:
            self._restoring.cancel()
        numbers = {tp.partition for tp in committed}
        self._kept = {number: found for number, found in self.partitions.items() if number in numbers and found.settled}
        self.partitions = {}

    def committed(self) -> None:
        """Note that there is progress."""
        self._committed_at = self._clock()

    async def take(self, chunk: Chunk) -> None:
        """Process a micro-batch."""
        partition = self.partitions.get(chunk.partition)
        if partition is None:
            return  # It moved on while the chunk was queued; its next owner fetches it again.
        async with partition.busy:
            with self._metrics.batch_duration.time():
                outcome = partition.pipeline.process(chunk.records)
                announced = await self._announce(partition, outcome.decisions)
                partition.under_way += await self._outbox.set_aside(outcome.unreadable, partition.number)
            await self._look_for_strays(partition, outcome)
            partition.spans.append(chunk.span)
            partition.requests += outcome.requests
            partition.position = max(partition.position, chunk.span.last + 1)
            partition.newest_at = max(partition.newest_at, outcome.event_at)
            partition.lag.position, partition.lag.sent_at = partition.position, chunk.records[-1].timestamp
        measure.took(self._metrics, chunk, outcome, announced, self._now)
        if partition.requests >= self._settings.checkpoint_rows:
            # Beside the next micro-batches, not before them; but of two checkpoints the later waits for the earlier, so
            # that what is not yet safe stays bounded.
            if partition.storing is not None:
                await partition.storing
            partition.storing = asyncio.create_task(self._store(partition))

    async def _store(self, partition: Partition) -> None:
        try:
            await self.checkpoint(partition)
        except DeliveryError as fault:
            await self.fail(fault)

    async def _look_for_strays(self, partition: Partition, outcome: Outcome) -> None:
        appeared = (stray(account, partition.number, self._settings.partitions) for account in outcome.appeared)
        self._metrics.strays.inc(sum(appeared))
        if outcome.one_account:
            astray, said = self._strays.look(outcome.one_account, partition.number, self._now())
            self._metrics.placed.labels("stray" if astray else "right").inc()
            if said:
                partition.under_way += await self._outbox.alert([said])

    async def checkpoint(self, partition: Partition, *, with_models: bool = False) -> None:
        """Make what was processed so far safe, then let its offsets be committed. Raises DeliveryError."""
        async with partition.checkpointing:
            async with partition.busy:
                spans, partition.spans = partition.spans, []
                under_way, partition.under_way = partition.under_way, []
                rows = partition.pipeline.snapshot_dirty()
                position, partition.requests = partition.position, 0
                partition.checkpointed_at = self._clock()
                models = None
                if rows and (with_models or self._clock() - partition.models_at >= MODELS_SECONDS):
                    models, partition.models_at = partition.pipeline.snapshot_models(), self._clock()
                started = partition.checkpointed_at
            await delivered(under_way)
            if rows:
                try:
                    partition.end = await self._changelog.write(partition.number, position, rows, models)
                except DeliveryError:
                    self._metrics.failed_deliveries.labels("profiles").inc()
                    raise
                self._metrics.stored.inc(len(rows))
            if spans or rows:
                self._metrics.checkpoint_duration.observe(self._clock() - started)
            for span in spans:
                span.done = True

    async def drain(self) -> None:
        """Checkpoint everything, models included."""
        await asyncio.gather(*(self.checkpoint(partition, with_models=True) for partition in self._restored()))

    async def tick(self) -> None:
        """Do what is due: ends of verdicts, accounts to forget, checkpoints. Raises DeliveryError."""
        for partition in self._restored():
            async with partition.busy:
                await self._announce(partition, partition.pipeline.expire(self._now()))
                self._metrics.forgotten.inc(partition.pipeline.sweep())
            if self._clock() - partition.checkpointed_at >= self._settings.checkpoint_seconds:
                await self.checkpoint(partition)
        if not any(partition.spans for partition in self.partitions.values()):
            self.committed()

    def heard(self, ends: Mapping[int, int]) -> None:
        """Note where partitions of `requests` end, as Kafka says."""
        self._heard_at = self._clock()
        for number, end in ends.items():
            if partition := self.partitions.get(number):
                partition.lag.look(end, self._now())

    def measure(self, acks: Mapping[TP, Acks]) -> None:
        """Set the gauges to how things are now."""
        self._metrics.kafka_silence.set(self._clock() - self._heard_at)
        measure.stand(self._metrics, self.partitions.values(), acks, self._clock(), self._now())

    def _restored(self) -> list[Partition]:
        return [partition for partition in self.partitions.values() if partition.restored]

    async def _announce(self, partition: Partition, decisions: list[Decision]) -> list[Future[object]]:
        if not decisions:
            return []
        announced = await self._outbox.announce(decisions, partition.chain)
        partition.under_way += announced
        self._metrics.decided(decisions)
        return announced
