"""Links: what a worker does with the one partition of the links topic."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from aiokafka import ConsumerRecord

from sinks.policy import Policy
from streams.batch import Record
from streams.campaigns import Campaigns, Outcome
from streams.topics import CAMPAIGNS, FEEDBACK, LINKS, STANDINGS

from .changelog import Log
from .follow import Hearing
from .partition import Means, Partition
from .register import Register, Standings
from .transport import Chunk

AT_ONCE: Final = 16
"""Messages taken in at once, each with the links of a whole micro-batch: what came of them is said before the next."""


class LinksPartition(Partition[Campaigns]):
    """Links go into campaigns; verdicts on campaigns, standings of their members and alerts come out.

    Links heard twice change nothing, so what is read again after a crash needs no skipping.
    """

    stores = CAMPAIGNS

    def __init__(
        self,
        number: int,
        means: Means,
        *,
        new_campaigns: Callable[[], Campaigns],
        changelog: Log,
        register: Register,
        feedback: Hearing,
    ) -> None:
        super().__init__(number, f"{means.settings.group}/links/{means.run}", means, new_campaigns, changelog)
        self._register = register
        self._feedback = feedback
        self._term = 0

    async def read_back(self) -> None:
        """Accounts and campaigns from the changelog."""
        await super().read_back()
        self.newest_at = self.memory.event_at

    async def hear_all(self) -> None:
        """Take office: hear the standings there are, and say what differs from what we hold."""
        await self.heard(STANDINGS, self._register.caught_up())
        self._term = max(self._means.now(), self._register.term + 1)
        async with self._busy:
            await self._stand(self._register.missing(self.memory.standings()))
        await self.heard(FEEDBACK, self._feedback.caught_up(range(self._means.settings.partitions)))

    async def correct(self, standings: Standings) -> None:
        """Say again what holds, where somebody whose term was over has written over it."""
        async with self._busy:
            await self._stand(standings)

    async def adopt(self, policy: Policy) -> None:
        """Go by another policy with the next decision."""
        async with self._busy:
            self.memory.policy = policy

    async def hear(self, feedback: Sequence[ConsumerRecord]) -> None:
        """Clear the members and campaigns that people cleared. What is unreadable is set aside with the requests."""
        async with self._busy:
            await self._say(self.memory.hear(feedback))

    async def process(self, chunk: Chunk) -> int:
        """Links and reports taken in."""
        metrics, count = self._means.metrics, 0
        for start in range(0, len(chunk.records), AT_ONCE):
            with metrics.links_duration.time():
                outcome = await self._take_in(chunk.records[start : start + AT_ONCE])
                await self._say(outcome)
            self.newest_at = max(self.newest_at, outcome.event_at)
            metrics.links.inc(outcome.links)
            metrics.reports.inc(outcome.reports)
            metrics.unreadable_links.inc(len(outcome.unreadable))
            self._under_way += await self._means.outbox.set_aside(outcome.unreadable, LINKS, self.number)
            count += outcome.links + outcome.reports
        return count

    async def _take_in(self, records: Sequence[Record]) -> Outcome:
        """In a thread: a look at a quarter of a million accounts takes seconds, and requests do not wait for it."""
        work = asyncio.ensure_future(asyncio.to_thread(self.memory.process, records))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await work  # What has begun is finished: a checkpoint must never see half of it.
            raise

    async def expire(self) -> None:
        """End verdicts that are over, forget accounts that were silent for long."""
        await self._say(self.memory.expire(self._means.now()))
        self._means.metrics.forgotten_acquaintances.inc(self.memory.sweep())

    async def _say(self, outcome: Outcome) -> None:
        await self.announce(outcome.decisions)
        await self._stand(outcome.standings)
        await self.alert(outcome.alerts)

    async def _stand(self, standings: Standings) -> None:
        self._under_way += await self._means.outbox.stand(standings, self._term)
        self._means.metrics.standings_said.inc(len(standings))
