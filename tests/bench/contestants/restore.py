"""Restore: what a worker does before its first request, from the changelog that another one has left."""

import asyncio
import os
import time

from sinks.policy import Policy
from streams.commands.process import settle
from streams.engine.changelog import Changelog
from streams.engine.partition import RESTORE_ROWS
from streams.engine.watch import RESTORED_AT_ONCE
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.topics import PROFILES

from ..contest import Report, Task, cpu_seconds, peak_mb, report, task


class Restore(Report, frozen=True, kw_only=True):
    """All partitions, as a worker restores them."""

    profiles: int
    seconds: float
    cpu_seconds: float
    """What it takes on a machine that others use too."""


async def restore(told: Task) -> Restore:
    """Read the changelog of every partition into a pipeline of its own."""
    settings = Settings.read(os.environ)
    policy = Policy.load()
    reading = asyncio.Semaphore(RESTORED_AT_ONCE)
    async with settings.producer() as producer:
        changelog = Changelog(producer, settings, PROFILES)

        async def one(partition: int) -> Pipeline:
            async with reading:
                stored = await changelog.read(partition)
                pipeline = Pipeline(policy)
                for start in range(0, len(stored.rows), RESTORE_ROWS):
                    pipeline.restore(stored.rows[start : start + RESTORE_ROWS], len(stored.rows))
                    await asyncio.sleep(0)
                return pipeline

        began_at, started, cpu = time.time(), time.perf_counter(), cpu_seconds()
        pipelines = await asyncio.gather(*map(one, range(told.partitions)))
        seconds, spent = time.perf_counter() - started, cpu_seconds() - cpu
    profiles = sum(pipeline.accounts for pipeline in pipelines)
    return Restore(peak_mb=peak_mb(), began_at=began_at, profiles=profiles, seconds=seconds, cpu_seconds=spent)


if __name__ == "__main__":
    settle()
    TOLD = task()
    report(TOLD, asyncio.run(restore(TOLD)))
