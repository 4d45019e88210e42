"""Watch: the partitions of one worker."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from aiokafka import ConsumerRecord
from faust.types import TP

from sinks.policy import Policy
from streams.topics import Topic

from . import gauges
from .acks import Acks
from .gauges import Held
from .links import LinksPartition
from .partition import Means
from .register import Standings
from .requests import RequestsPartition
from .transport import Chunk

TICK_SECONDS: Final = 0.5
"""How often a worker looks whether a checkpoint or the end of a verdict is due."""

RESTORED_AT_ONCE: Final = 2
"""Partitions restored at a time: while the rows of one are taken in, those of the next come."""


class Watch:
    """Takes partitions on, gives them micro-batches, lets them go.

    `kinds` says of each topic how its partitions are made.
    """

    def __init__(self, means: Means, kinds: Mapping[Topic, Callable[[int], Held]]) -> None:
        settings = means.settings
        self._new = {topic.name(settings): new for topic, new in kinds.items()}
        self.topics = frozenset(self._new)
        self.chunk = settings.chunk
        self.drain_seconds = settings.drain_seconds
        self.release: Callable[[TP], None] = lambda _: None
        """Lets a partition be fetched from; set by whoever owns the consumer."""
        self.fail: Callable[[BaseException], Awaitable[None]]
        """Stops the worker; set by whoever runs it."""
        self.partitions: dict[TP, Held] = {}
        self._settings = settings
        self._kept: dict[TP, Held] = {}
        # The newest policy, if there was another one than partitions begin with.
        self._policy: Policy | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._reading = asyncio.Semaphore(RESTORED_AT_ONCE)
        self._metrics = means.metrics
        self._clock = means.clock
        self._now = means.now
        self._committed_at = self._heard_at = means.clock()

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
        """Take partitions on: each is released when it is restored."""
        self._metrics.rebalances.inc()
        for tp in partitions:
            partition = self._kept.get(tp) or self._new[tp.topic](tp.partition)
            partition.restored, partition.assigned_at, partition.fail = False, self._clock(), self._stop
            self.partitions[tp] = partition
        owned = Counter(tp.topic for tp in self.partitions)
        for tp, partition in self.partitions.items():
            partition.siblings = owned[tp.topic]
        self._kept.clear()
        self._restoring = asyncio.create_task(self._restore(sorted(partitions)))

    async def _restore(self, partitions: list[TP]) -> None:
        try:
            async with asyncio.TaskGroup() as restoring:
                for tp in partitions:
                    restoring.create_task(self._restore_one(tp))
        except* Exception as faults:
            await self.fail(faults.exceptions[0])

    async def _restore_one(self, tp: TP) -> None:
        # What was said since is waited for beside the next partitions.
        async with self._reading:
            started = self._clock()
            await self.partitions[tp].restore()
        await self.partitions[tp].catch_up()
        if self._policy is not None:
            await self.partitions[tp].adopt(self._policy)
        self._metrics.restore_duration.observe(self._clock() - started)
        self.release(tp)

    def revoked(self, committed: set[TP]) -> None:
        """Let all partitions go, but keep those whose work is safe and committed, in case they come back."""
        if self._restoring is not None:
            self._restoring.cancel()
        self._kept = {tp: found for tp, found in self.partitions.items() if tp in committed and found.settled}
        self.partitions = {}

    def committed(self) -> None:
        """Note that there is progress."""
        self._committed_at = self._clock()

    async def take(self, chunk: Chunk) -> None:
        """Process a micro-batch."""
        partition = self.partitions.get(chunk.tp)
        if partition is not None:  # else it moved on while the chunk was queued; its next owner fetches it again
            await partition.take(chunk)

    async def adopt(self, policy: Policy) -> None:
        """Go by another policy, here and wherever we take over."""
        self._policy = policy
        for partition in self._restored():
            await partition.adopt(policy)

    async def hear(self, number: int, feedback: Sequence[ConsumerRecord]) -> None:
        """Pass feedback on: to the requests of the partition it stands on, and to campaigns."""
        for partition in list(self.partitions.values()):
            concerned = partition.number == number or isinstance(partition, LinksPartition)
            if partition.listening and concerned:
                await partition.hear(feedback)

    async def stand(self, news: Mapping[int, Standings]) -> None:
        """Pass standings on to the requests of the partitions they are sorted by."""
        for partition in list(self.partitions.values()):
            if isinstance(partition, RequestsPartition) and partition.listening and partition.number in news:
                await partition.stand(news[partition.number])

    async def correct(self, standings: Standings) -> None:
        """Let whoever holds campaigns say again what somebody has written over."""
        for partition in list(self.partitions.values()):
            if isinstance(partition, LinksPartition) and partition.listening:
                await partition.correct(standings)

    async def drain(self) -> None:
        """Checkpoint everything, models included."""
        await asyncio.gather(*(partition.checkpoint(with_models=True) for partition in self._restored()))

    async def tick(self) -> None:
        """Do what is due: ends of verdicts, accounts to forget, checkpoints. Raises DeliveryError."""
        for partition in self._restored():
            await partition.tick()
        if not any(partition.spans for partition in self.partitions.values()):
            self.committed()

    def heard(self, ends: Mapping[TP, int]) -> None:
        """Note where partitions end, as Kafka says."""
        self._heard_at = self._clock()
        for tp, end in ends.items():
            if partition := self.partitions.get(tp):
                partition.lag.look(end, self._now())

    def measure(self, acks: Mapping[TP, Acks]) -> None:
        """Set the gauges to how things are now."""
        self._metrics.kafka_silence.set(self._clock() - self._heard_at)
        gauges.stand(self._metrics, self.partitions, acks, self._clock(), self._now())

    async def _stop(self, fault: BaseException) -> None:
        await self.fail(fault)

    def _restored(self) -> list[Held]:
        return [partition for partition in self.partitions.values() if partition.restored]
