"""Watch: what a worker does with the partitions it was given.

A partition is a pipeline and what it has said. Its micro-batches are processed at once, in order; from time to time
a checkpoint waits until all that was said is delivered, and only then are its micro-batches acked. So an offset is
never committed before its consequences are safe.
"""

import asyncio
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from faust.types import TP

from sinks.audit import Chain
from sinks.metrics import Metrics
from sinks.policy import Decision
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.topics import REQUESTS

from .acks import Span
from .outbox import Outbox, delivered
from .transport import Chunk

TICK_SECONDS: Final = 0.5
"""How often a worker looks whether a checkpoint or the end of a verdict is due."""


@dataclass(slots=True, eq=False)
class Partition:
    """One partition of `requests` while we own it."""

    number: int
    pipeline: Pipeline
    chain: Chain
    checkpointed_at: float
    """On the watch's clock."""
    spans: list[Span] = field(default_factory=list)
    """Micro-batches processed since the last checkpoint."""
    under_way: list[Future[object]] = field(default_factory=list)
    """Messages sent since then."""
    requests: int = 0
    """Requests counted since then."""
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a micro-batch is processed and its messages are queued: a checkpoint sees all of it or nothing."""
    checkpointing: asyncio.Lock = field(default_factory=asyncio.Lock)


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
        metrics: Metrics,
        clock: Callable[[], float],
        now: Callable[[], int],
    ) -> None:
        self.topics = frozenset({REQUESTS.name(settings)})
        self.chunk = settings.chunk
        self.drain_seconds = settings.drain_seconds
        self.release: Callable[[TP], None] = lambda _: None
        """Lets a partition be fetched from; set by whoever owns the consumer."""
        self.partitions: dict[int, Partition] = {}
        self._settings = settings
        self._new_pipeline = new_pipeline
        self._outbox = outbox
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._run = now()
        self._committed_at = clock()

    @property
    def ready(self) -> bool:
        """True when there are partitions and all of them may be fetched from."""
        return bool(self.partitions)

    @property
    def alive(self) -> bool:
        """False when work has been in hand for long without a commit."""
        longest = 2 * (self._settings.checkpoint_seconds + self._settings.delivery_seconds)
        return self._clock() - self._committed_at < longest

    def assigned(self, partitions: set[TP]) -> None:
        """Take partitions on."""
        for tp in sorted(partitions):
            writer = f"{self._settings.group}/{tp.partition}/{self._run}"
            self.partitions[tp.partition] = Partition(tp.partition, self._new_pipeline(), Chain(writer), self._clock())
            self.release(tp)

    def revoked(self) -> None:
        """Let all partitions go."""
        self.partitions.clear()

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
                await self._announce(partition, outcome.decisions)
                partition.under_way += await self._outbox.set_aside(outcome.unreadable, partition.number)
            partition.spans.append(chunk.span)
            partition.requests += outcome.requests
        self._metrics.batch_size.observe(len(chunk.records))
        self._metrics.requests.inc(outcome.requests)
        for aside in outcome.unreadable:
            self._metrics.unreadable.labels(aside.reason).inc()
        if outcome.event_at:
            self._metrics.event_lag.set((self._now() - outcome.event_at) / 1000)
        if partition.requests >= self._settings.checkpoint_rows:
            await self.checkpoint(partition)

    async def checkpoint(self, partition: Partition) -> None:
        """Make what was processed so far safe, then let its offsets be committed. Raises DeliveryError."""
        async with partition.checkpointing:
            async with partition.busy:
                spans, partition.spans = partition.spans, []
                under_way, partition.under_way = partition.under_way, []
                partition.requests = 0
                partition.checkpointed_at = self._clock()
            await delivered(under_way)
            for span in spans:
                span.done = True

    async def drain(self) -> None:
        """Checkpoint everything."""
        await asyncio.gather(*map(self.checkpoint, list(self.partitions.values())))

    async def tick(self) -> None:
        """Do what is due: ends of verdicts, checkpoints, gauges. Raises DeliveryError."""
        for partition in list(self.partitions.values()):
            async with partition.busy:
                await self._announce(partition, partition.pipeline.expire(self._now()))
            if self._clock() - partition.checkpointed_at >= self._settings.checkpoint_seconds:
                await self.checkpoint(partition)
        if not any(partition.spans for partition in self.partitions.values()):
            self.committed()
        self._metrics.profiles.set(sum(partition.pipeline.accounts for partition in self.partitions.values()))
        self._metrics.commit_age.set(self._clock() - self._committed_at)

    async def _announce(self, partition: Partition, decisions: list[Decision]) -> None:
        if decisions:
            partition.under_way += await self._outbox.announce(decisions, partition.chain)
            self._metrics.decided(decisions)
