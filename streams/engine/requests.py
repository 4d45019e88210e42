"""Requests: what a worker does with one partition of the requests topic."""

from collections.abc import Callable, Sequence

from aiokafka import ConsumerRecord
from msgspec import structs

from sinks.policy import Policy
from streams.pipeline import Outcome, Pipeline
from streams.topics import FEEDBACK, PROFILES, REQUESTS, STANDINGS

from . import measure
from .changelog import Log
from .follow import Hearing
from .partition import Means, Partition
from .recent import Recent
from .register import Register, Standings
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
        register: Register,
        feedback: Hearing,
    ) -> None:
        super().__init__(number, f"{means.settings.group}/{number}/{means.run}", means, new_pipeline, changelog)
        self._recent = recent
        self._strays = strays
        self._register = register
        self._feedback = feedback
        self._contained = -1
        """The last message of feedback up to which what cannot be read is set aside."""

    async def read_back(self) -> None:
        """Profiles and models from the changelog, ids of the last requests from the topic itself."""
        await super().read_back()
        self.memory.recall(await self._recent(self.number))
        self.newest_at = self.memory.event_at
        # A profile is stored after all that was said before it is delivered.
        profiles = self.memory.profiles
        self._contained = int(profiles.table["heard"][: profiles.height].max(initial=-1))

    async def hear_all(self) -> None:
        """Standings as they are, and all feedback: what a profile contains already is skipped."""
        await self.heard(STANDINGS, self._register.caught_up())
        await self.stand(self._register.of(self.number))
        await self.heard(FEEDBACK, self._feedback.caught_up({self.number}))

    async def stand(self, standings: Standings) -> None:
        """Take in which accounts belong to campaigns."""
        async with self._busy:
            await self.announce(self.memory.stand(standings))

    async def adopt(self, policy: Policy) -> None:
        """Go by another policy, and announce the verdicts that it changes."""
        async with self._busy:
            await self.announce(self.memory.adopt(policy))

    async def hear(self, feedback: Sequence[ConsumerRecord]) -> None:
        """Change profiles as people say, and announce how they stand."""
        metrics, outbox = self._means.metrics, self._means.outbox
        async with self._busy:
            heard = self.memory.hear(feedback)
            await self.announce(heard.decisions)
            unreadable = [aside for aside in heard.unreadable if aside.record.offset > self._contained]
            self._under_way += await outbox.set_aside(unreadable, FEEDBACK, self.number)
            self._contained = max(self._contained, feedback[-1].offset)
        for outcome, count in (("heard", heard.heard), ("held", heard.skipped), ("unreadable", len(unreadable))):
            metrics.feedback.labels(outcome).inc(count)

    async def process(self, chunk: Chunk) -> int:
        """Requests counted in profiles."""
        metrics, outbox = self._means.metrics, self._means.outbox
        with metrics.batch_duration.time():
            outcome = self.memory.process(chunk.records)
            announced = await self.announce(outcome.decisions)
            self._under_way += await outbox.set_aside(outcome.unreadable, REQUESTS, self.number)
            if outcome.sightings is not None:
                self._under_way += await outbox.sight(outcome.sightings)
        where = {"partition": str(self.number)}
        await self.alert([structs.replace(one, labels=where) for one in outcome.alerts])
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
                await self.alert([said])
