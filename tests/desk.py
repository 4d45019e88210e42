"""Desk: what a worker does with its topics, by hand and step by step: read, count, store, commit."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from stories import T0, request

from gateway.request import encode
from sinks.enforcement import announcement
from sinks.policy import Policy
from streams import compacted
from streams.engine.changelog import Changelog
from streams.pipeline import Pipeline
from streams.profiles import TOTALS, Profiles
from streams.settings import Settings
from streams.topics import ENFORCEMENT, PROFILES, REQUESTS


@dataclass
class Desk:
    """One who works on the topics of `settings`."""

    settings: Settings
    policy: Policy

    async def ask(self, due: Counter[str], count: int, dice: random.Random, first: int) -> None:
        """Send requests of some accounts, numbered from `first`, and add what is due to each account."""
        async with self.settings.producer() as producer:
            sent = []
            for number in range(first, first + count):
                account = f"a{dice.randrange(20)}"
                value = encode(request(account, T0 + number, id=str(number)))
                sent.append(await producer.send(REQUESTS.name(self.settings), value, account.encode()))
                due[account] += 1
            await asyncio.gather(*sent)

    async def work(self, *, leave: int = 0, uncommitted: int = 0) -> None:
        """Count what was not counted, on each partition all but `leave`, and commit all of it but `uncommitted`.

        A crash between the checkpoint and the commit leaves such a rest.
        """
        name, partitions = REQUESTS.name(self.settings), self.settings.partitions
        async with self.settings.producer() as producer:
            changelog = Changelog(producer, self.settings, PROFILES)
            for number in range(partitions):
                start = (await compacted.committed(self.settings, name, partitions)).get(number, 0)
                records = [one for one in await self._records(name, number) if one.offset >= start]
                records = records[: max(0, len(records) - leave)]
                pipeline = Pipeline(self.policy)
                pipeline.restore((await changelog.read(number)).rows)
                decisions = pipeline.process(records).decisions if records else []
                for one in decisions:
                    key, value = announcement(one)
                    await producer.send_and_wait(ENFORCEMENT.name(self.settings), value, key)
                if records:
                    after = records[-1].offset + 1
                    await changelog.write(number, after, pipeline.snapshot_dirty(), b"models")
                    await compacted.commit(self.settings, name, {number: max(start, after - uncommitted)})

    async def _records(self, name: str, number: int) -> "list[object]":
        tp = TopicPartition(name, number)
        found = []
        async with AIOKafkaConsumer(**self.settings.connection(), enable_auto_commit=False) as consumer:
            consumer.assign([tp])
            end = (await consumer.end_offsets([tp]))[tp]
            consumer.seek(tp, 0)
            while await consumer.position(tp) < end:
                found += (await consumer.getmany(tp, timeout_ms=1_000)).get(tp, [])
        return found

    async def counted(self) -> dict[str, int]:
        """Requests that each account's stored profile holds."""
        counts: Counter[str] = Counter()
        async with self.settings.producer() as producer:
            changelog = Changelog(producer, self.settings, PROFILES)
            for number in range(self.settings.partitions):
                profiles = Profiles()
                profiles.restore((await changelog.read(number)).rows)
                totals = profiles.table["totals"][: profiles.height, TOTALS.index("requests")].astype(int).tolist()
                counts.update({profiles.name(row): count for row, count in enumerate(totals)})
        return dict(counts)

    async def announced(self) -> dict[bytes, bytes]:
        """The verdicts in force."""
        found = {}
        for number in range(6):
            for key, kept in (await compacted.newest(self.settings, ENFORCEMENT.name(self.settings), number)).items():
                if kept.value is not None:
                    found[key] = kept.value
        return found
