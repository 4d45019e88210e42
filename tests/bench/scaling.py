"""Scaling: one worker more, and a hundred times the profiles."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

import msgspec

from streams import topics
from streams.settings import Settings
from tests.brokers import free_port

from .topic import Batches, Sent
from .worker import PAUSE_SECONDS, worker

WORKERS: Final = (1, 2, 4)
PROFILES: Final = (10_000, 100_000, 1_000_000, 2_000_000)


class Team(msgspec.Struct, frozen=True):
    """Workers that share the partitions of one topic."""

    workers: int
    requests_per_s: float


def teams() -> Sequence[int]:
    """As many workers as there are cores for."""
    return [size for size in WORKERS if size <= (os.cpu_count() or 1)]


def team(size: int, records: Sequence[Sent], environment: Callable[[], dict[str, str]]) -> Team:
    """How fast `size` workers are together.

    They are ready before the first record is sent, and timed from the instant the last one is: by then each has plenty
    to do, and neither joining nor sending takes part in the figure.
    """
    where = environment()
    settings = Settings.read({name: value for name, value in where.items() if name.startswith("STILLWATCH_")})
    asyncio.run(topics.create(settings))
    with ExitStack() as stack:
        members = [stack.enter_context(worker({**where, "STILLWATCH_WEB_PORT": str(free_port())})) for _ in range(size)]
        for member in members:
            member.wait_until_ready()
        asyncio.run(_send(settings, records))
        started, before = time.perf_counter(), sum(member.requests() for member in members)
        done = before
        while done < len(records):
            time.sleep(PAUSE_SECONDS)
            done = sum(member.requests() for member in members)
        seconds = time.perf_counter() - started
    return Team(size, (done - before) / seconds)


async def _send(settings: Settings, records: Sequence[Sent]) -> None:
    async with Batches(settings) as batches:
        for record in records:
            await batches.add(record)
        await batches.delivered()
