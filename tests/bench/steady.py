"""Steady: `python -m tests.bench.steady`. Half an hour of the same load, and whether memory and latency stay flat.

One worker on a real Apache Kafka. Requests are due at fixed instants; 100,000 accounts share them by Zipf's law, and
each minute has attackers of its own, so that verdicts are due all the time. By their own clock all of it takes five
hours and ends now: with more, verdicts would be over before they are given.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import click
import numpy as np

from streams import topics
from streams.settings import Settings
from tests.brokers import Broker, kafka_broker

from .__main__ import Track
from .latency import ATTACK_SHARE, caught_up, send, verdicts
from .machine import machine
from .topic import Batches, Sent, sendable
from .traffic import Traffic
from .worker import Worker, worker

MINUTE_SECONDS: Final = 60
SPAN_MS: Final = 5 * 3_600_000


class Minute(NamedTuple):
    """What a minute left behind."""

    memory_mb: float
    cpu_s: float
    lag_s: float
    profiles: int
    late_ms: float
    """The most that the sender itself was behind: it counts as part of the latency."""


class Course(NamedTuple):
    """Requests a second, for how many minutes, from which instant on and how far apart by their own clock (ms)."""

    rate: int
    length: int
    starts_at: int
    gap_ms: int

    @classmethod
    def ending_now(cls, rate: int, count: int) -> "Course":
        """By its own clock SPAN_MS long, or as long as whole milliseconds allow."""
        total = rate * MINUTE_SECONDS * count
        gap = max(1, SPAN_MS // total)
        return cls(rate, count, time.time_ns() // 1_000_000 - total * gap, gap)

    def minutes(self) -> Iterator[Iterator[Sent]]:
        """The requests of each minute, made as they are sent."""
        each = self.rate * MINUTE_SECONDS
        for minute in range(self.length):
            yield sendable(
                Traffic(
                    each,
                    self.starts_at + ((minute + 1) * each - 1) * self.gap_ms,
                    attack_share=ATTACK_SHARE,
                    seed=7 + minute,
                    first=minute * each,
                    chunk=self.rate // 2,
                    gap_ms=self.gap_ms,
                )
            )

    def latencies(self, arrived: list[tuple[float, int]], began: float) -> dict[int, list[float]]:
        """By the minute in which its request was due: how long each verdict took, in ms."""
        found: dict[int, list[float]] = {}
        for when, at in arrived:
            due = (at - self.starts_at) / self.gap_ms / self.rate
            found.setdefault(int(due / MINUTE_SECONDS), []).append((when - began - due) * 1_000)
        return found


async def steady(settings: Settings, running: Worker, course: Course) -> None:
    """Send, and tell each minute as it ends."""
    told: list[Minute] = []
    async with verdicts(settings) as arrived:
        async with Batches(settings) as batches:
            began = time.perf_counter()
            for minute, records in enumerate(course.minutes()):
                starts = began + minute * MINUTE_SECONDS
                late = await send(records, course.rate * MINUTE_SECONDS, batches, course.rate, starts)
                told.append(await asyncio.to_thread(_minute, running, late * 1_000))
                click.echo(row(minute, told, course.latencies(arrived, began).get(minute, [])))
            await batches.delivered()
        await caught_up(running, course.rate * MINUTE_SECONDS * course.length)
    took = course.latencies(arrived, began)
    third = max(1, course.length // 3)
    for name, span in (("first", range(third)), ("last", range(course.length - third, course.length))):
        spent = list(itertools.chain.from_iterable(took.get(minute, []) for minute in span))
        p50, p99 = np.percentile(spent, (50, 99)) if spent else (np.nan, np.nan)
        memory = max(told[minute].memory_mb for minute in span)
        click.echo(
            f"{name} {third} minutes: {len(spent)} verdicts, p50 {p50:.0f} ms, p99 {p99:.0f} ms, {memory:.0f} MB"
        )


def _minute(running: Worker, late_ms: float) -> Minute:
    return Minute(
        running.number("process_resident_memory_bytes") / 1e6,
        running.number("process_cpu_seconds_total"),
        running.number("stillwatch_lag_seconds"),
        int(running.number("stillwatch_profiles")),
        late_ms,
    )


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
        asyncio.run(steady(settings, running, Course.ending_now(rate, count)))


@click.command()
@click.option("--minutes", "count", type=click.IntRange(1), default=30, show_default=True)
@click.option("--rate", type=click.IntRange(100), default=4_000, show_default=True, help="Requests a second.")
def main(count: int, rate: int) -> None:
    """Send the same load for so long, and tell what becomes of memory and latency."""
    with tempfile.TemporaryDirectory(prefix="steady-") as folder, kafka_broker(Path(folder), java=()) as broker:
        run(broker, rate, count)


if __name__ == "__main__":
    main()
