"""Latency: from the instant a request is due to the arrival of the verdict it earned."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

import aiokafka
import msgspec
import numpy as np

from gateway.verdict import decode
from streams import topics
from streams.settings import Settings

from .topic import Batches, Sent, sendable
from .traffic import Traffic
from .worker import PAUSE_SECONDS, Worker, WorkerError

TICK_SECONDS: Final = 0.01
"""Records leave in batches so far apart: it counts as part of the latency."""

ATTACK_SHARE: Final = 0.1
"""More attackers than in the other rows: a percentile needs some hundred verdicts."""

_QUIET_SECONDS: Final = 2
_CAUGHT_UP_SECONDS: Final = 60


class Latency(msgspec.Struct, frozen=True):
    """How soon verdicts came."""

    requests_per_s: float
    verdicts: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    late_ms: float
    """The most that the sender itself was behind: it counts as part of the latency."""


async def latency(settings: Settings, worker: Worker, rate: float, seconds: float, end_at: int) -> Latency:
    """Send `rate` requests a second for so many seconds to a ready worker, and time the verdicts.

    A verdict carries the `at` of the request that earned it, and no two requests have the same. Raises WorkerError when
    the worker cannot follow.
    """
    traffic = Traffic(int(rate * seconds), end_at, attack_share=ATTACK_SHARE)
    records = list(sendable(traffic))
    async with verdicts(settings) as arrived:
        async with Batches(settings) as batches:
            started = time.perf_counter()
            late = await send(iter(records), len(records), batches, rate, started)
            await batches.delivered()
        await caught_up(worker, len(records))
        await asyncio.sleep(_QUIET_SECONDS)
    if not arrived:
        raise WorkerError(f"no verdict came of {len(records)} requests: send for longer")
    ats = np.array([record.at for record in records])
    when, earned_at = np.array(arrived).T
    due = started + np.searchsorted(ats, earned_at.astype(np.int64)) / rate
    spent = (when - due) * 1_000
    return Latency(
        requests_per_s=rate,
        verdicts=len(arrived),
        p50_ms=float(np.percentile(spent, 50)),
        p99_ms=float(np.percentile(spent, 99)),
        max_ms=float(spent.max()),
        late_ms=late * 1_000,
    )


async def send(records: Iterator[Sent], total: int, batches: Batches, rate: float, began: float) -> float:
    """Send so many records at their instants from `began` on; the most, in seconds, that the sender was behind."""
    sent, late = 0, 0.0
    while sent < total:
        passed = time.perf_counter() - began
        due = min(total, int(passed * rate) + 1)
        late = max(late, passed - sent / rate)
        for record in islice(records, due - sent):
            await batches.add(record)
        await batches.leave()
        sent = due
        await asyncio.sleep(TICK_SECONDS)
    return late


@asynccontextmanager
async def verdicts(settings: Settings) -> AsyncIterator[list[tuple[float, int]]]:
    """The verdicts that arrive meanwhile: when, and the `at` of the request that earned each."""
    arrived: list[tuple[float, int]] = []
    consumer = aiokafka.AIOKafkaConsumer(
        topics.ENFORCEMENT.name(settings), **settings.connection(), auto_offset_reset="earliest"
    )
    await consumer.start()
    listening = asyncio.create_task(_listen(consumer, arrived))
    try:
        yield arrived
    finally:
        listening.cancel()
        await asyncio.wait([listening])
        await consumer.stop()


async def _listen(consumer: aiokafka.AIOKafkaConsumer, arrived: list[tuple[float, int]]) -> None:
    async for record in consumer:
        now = time.perf_counter()
        # A null lifts a verdict: that is due to time, not to a request.
        if record.value is not None:
            arrived.append((now, decode(record.value).at))


async def caught_up(worker: Worker, requests: int) -> None:
    """Wait until it has processed so many. Raises WorkerError when that takes too long."""
    deadline = time.monotonic() + _CAUGHT_UP_SECONDS
    while (done := await asyncio.to_thread(worker.requests)) < requests:
        if time.monotonic() > deadline:
            raise WorkerError(f"{_CAUGHT_UP_SECONDS} s after the last request {done:,} of {requests:,} were processed")
        await asyncio.sleep(PAUSE_SECONDS)
