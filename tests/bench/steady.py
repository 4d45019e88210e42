"""Steady: `python -m tests.bench.steady`. Half an hour of the same load, and whether memory and latency stay flat.

One worker on a real Apache Kafka. Requests are due at fixed instants; 100,000 accounts share them by Zipf's law, and
each minute has attackers of its own, so that verdicts are due all the time. By their own clock requests are 43 ms
apart: at 4,000 a second half an hour holds three and a half days, and what is kept for a day comes and goes.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import aiokafka
import click
import numpy as np

from streams import topics
from streams.settings import Settings
from tests.brokers import Broker, kafka_broker

from .__main__ import Track
from .latency import ATTACK_SHARE, TICK_SECONDS, caught_up, listen
from .machine import machine
from .topic import Batches, Sent, sendable
from .traffic import GAP_MS, Traffic
from .worker import Worker, worker

MINUTE_SECONDS: Final = 60


class Minute(NamedTuple):
    """What a minute left behind."""

    memory_mb: float
    cpu_s: float
    lag_s: float
    profiles: int
    late_ms: float
    """The most that the sender itself was behind: it counts as part of the latency."""


def minutes(rate: int, count: int, starts_at: int) -> Iterator[Iterator[Sent]]:
    """The requests of each minute, made as they are sent."""
    each = rate * MINUTE_SECONDS
    for minute in range(count):
        ends_at = starts_at + ((minute + 1) * each - 1) * GAP_MS
        yield sendable(
            Traffic(each, ends_at, attack_share=ATTACK_SHARE, seed=7 + minute, first=minute * each, chunk=rate // 2)
        )


async def steady(settings: Settings, running: Worker, rate: int, count: int) -> None:
    """Send, and tell each minute as it ends."""
    starts_at = time.time_ns() // 1_000_000 - rate * MINUTE_SECONDS * count * GAP_MS
    arrived: list[tuple[float, int]] = []
    consumer = aiokafka.AIOKafkaConsumer(
        topics.ENFORCEMENT.name(settings), **settings.connection(), auto_offset_reset="earliest"
    )
    await consumer.start()
    listening = asyncio.create_task(listen(consumer, arrived))
    told: list[Minute] = []
    try:
        async with Batches(settings) as batches:
            began = time.perf_counter()
            for minute, records in enumerate(minutes(rate, count, starts_at)):
                late = await _send(records, batches, rate, began + minute * MINUTE_SECONDS)
                told.append(await asyncio.to_thread(_minute, running, late))
                click.echo(row(minute, told, _latencies(arrived, began, rate, starts_at).get(minute, [])))
            await batches.delivered()
        await caught_up(running, rate * MINUTE_SECONDS * count)
    finally:
        listening.cancel()
        await asyncio.wait([listening])
        await consumer.stop()
    took = _latencies(arrived, began, rate, starts_at)
    third = max(1, count // 3)
    for name, span in (("first", range(third)), ("last", range(count - third, count))):
        spent = list(itertools.chain.from_iterable(took.get(minute, []) for minute in span))
        p50, p99 = np.percentile(spent, (50, 99)) if spent else (np.nan, np.nan)
        memory = max(told[minute].memory_mb for minute in span)
        click.echo(
            f"{name} {third} minutes: {len(spent)} verdicts, p50 {p50:.0f} ms, p99 {p99:.0f} ms, {memory:.0f} MB"
        )


async def _send(records: Iterator[Sent], batches: Batches, rate: int, began: float) -> float:
    """Send a minute's requests at their instants; the most, in ms, that the sender was behind."""
    total, sent, late = rate * MINUTE_SECONDS, 0, 0.0
    while sent < total:
        passed = time.perf_counter() - began
        due = min(total, int(passed * rate) + 1)
        late = max(late, passed - sent / rate)
        for record in itertools.islice(records, due - sent):
            await batches.add(record)
        await batches.leave()
        sent = due
        await asyncio.sleep(TICK_SECONDS)
    return late * 1_000


def _minute(running: Worker, late_ms: float) -> Minute:
    return Minute(
        running.number("process_resident_memory_bytes") / 1e6,
        running.number("process_cpu_seconds_total"),
        running.number("stillwatch_lag_seconds"),
        int(running.number("stillwatch_profiles")),
        late_ms,
    )


def _latencies(arrived: list[tuple[float, int]], began: float, rate: int, starts_at: int) -> dict[int, list[float]]:
    """By the minute in which its request was due: how long each verdict took, in ms."""
    found: dict[int, list[float]] = {}
    for when, at in arrived:
        due = (at - starts_at) / GAP_MS / rate
        found.setdefault(int(due / MINUTE_SECONDS), []).append((when - began - due) * 1_000)
    return found


def row(minute: int, told: list[Minute], spent: list[float]) -> str:
    """A line of the table: of the minute's verdicts those that have come by its end."""
    now = told[-1]
    cpu = now.cpu_s - told[-2].cpu_s if len(told) > 1 else now.cpu_s
    p50, p99 = np.percentile(spent, (50, 99)) if spent else (np.nan, np.nan)
    return (
        f"| {minute + 1} | {now.memory_mb:.0f} | {now.profiles:,} | {cpu / MINUTE_SECONDS:.0%} | {now.lag_s:.1f} | "
        f"{len(spent)} | {p50:.0f} | {p99:.0f} | {now.late_ms:.0f} |"
    )


def run(broker: Broker, rate: int, count: int) -> None:
    """All of it."""
    environment = Track(broker, 12).environment()
    settings = Settings.read(environment)
    asyncio.run(topics.create(settings))
    click.echo(f"{machine(f'Kafka at {broker.address}')}, {rate:,} requests/s")
    click.echo("| minute | MB | profiles | CPU | lag s | verdicts | p50 ms | p99 ms | sender late ms |")
    click.echo("|---|---|---|---|---|---|---|---|---|")
    with worker(environment) as running:
        running.wait_until_ready()
        asyncio.run(steady(settings, running, rate, count))


@click.command()
@click.option("--minutes", "count", type=click.IntRange(1), default=30, show_default=True)
@click.option("--rate", type=click.IntRange(100), default=4_000, show_default=True, help="Requests a second.")
def main(count: int, rate: int) -> None:
    """Send the same load for so long, and tell what becomes of memory and latency."""
    with tempfile.TemporaryDirectory(prefix="steady-") as folder, kafka_broker(Path(folder), java=()) as broker:
        run(broker, rate, count)


if __name__ == "__main__":
    main()
