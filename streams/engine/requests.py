"""Requests: what a worker does with one partition of the requests topic."""

from collections.abc import Callable

from streams.pipeline import Outcome, Pipeline
from streams.topics import PROFILES, REQUESTS

from . import measure
from .changelog import Log
from .partition import Means, Partition
from .recent import Recent
from .strays import Strays, stray
from .transport import Chunk


class RequestsPartition(Partition[Pipeline]):
    """Requests go through a pipeline; what it decides is announced."""

    stores = PROFILES

    def __init__(
        self,
        number: int,
        means: Means,
        *,
        new_pipeline: Callable[[], Pipeline],
        changelog: Log,
        recent: Recent,
        strays: Strays,
    ) -> None:
        super().__init__(number, f"{means.settings.group}/{number}/{means.run}", means, new_pipeline, changelog)
        self._recent = recent
        self._strays = strays

    async def read_back(self) -> None:
        """Profiles and models from the changelog, ids of the last requests from the topic itself."""
        await super().read_back()
        self.memory.recall(await self._recent(self.number))
        self.newest_at = self.memory.event_at

    async def catch_up(self) -> None:
        """There is nothing to hear."""

    async def process(self, chunk: Chunk) -> int:
        """Requests counted in profiles."""
        metrics, outbox = self._means.metrics, self._means.outbox
        with metrics.batch_duration.time():
            outcome = self.memory.process(chunk.records)
            announced = await self.announce(outcome.decisions)
            self._under_way += await outbox.set_aside(outcome.unreadable, REQUESTS, self.number)
        await self._look_for_strays(outcome)
        self.newest_at = max(self.newest_at, outcome.event_at)
        measure.took(metrics, chunk, outcome, announced, self._means.now)
        return outcome.requests

    async def expire(self) -> None:
        """Lift verdicts that are over, forget accounts that were silent for long."""
        await self.announce(self.memory.expire(self._means.now()))
        self.memory.profiles.most = self._means.settings.profiles // self.siblings
        self._means.metrics.forgotten.inc(self.memory.sweep())

    async def _look_for_strays(self, outcome: Outcome) -> None:
        metrics = self._means.metrics
        partitions = self._means.settings.partitions
        metrics.strays.inc(sum(stray(account, self.number, partitions) for account in outcome.appeared))
        if outcome.one_account:
            astray, said = self._strays.look(outcome.one_account, self.number, self._means.now())
            metrics.placed.labels("stray" if astray else "right").inc()
            if said:
                self._under_way += await self._means.outbox.alert([said])
