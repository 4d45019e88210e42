"""Rolling: `python -m tests.bench.rolling`. Workers restarted one after another, as a StatefulSet restarts them.

A real Apache Kafka, workers with static membership, steady requests. From the highest ordinal down each worker gets
SIGTERM, ends, starts again under its name, and is ready before the next one goes. Every account earns a verdict at its
hundredth request, so what is timed is the way from that request to its verdict: before, during, and after the roll.
In the end every account's count, and every verdict, must be there once.
"""

import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
import numpy as np
from aiokafka import AIOKafkaConsumer

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests import each other as modules of their own

from brokers import NoKafkaError, kafka_broker
from fleet import Fleet, Worker
from stories import request

from gateway.request import encode
from gateway.verdict import decode
from streams.topics import ENFORCEMENT, REQUESTS

TURNS_AT: Final = 100
"""The request of an account that earns its verdict, by the policy of tests/fleet.py."""

LIFE: Final = 150
"""Requests of one account; then another one takes its place."""

TICK_SECONDS: Final = 0.05


@dataclass
class Flow:
    """Steady requests of accounts that come and go, each at another point of its life."""

    fleet: Fleet
    rate: int
    slots: int = 60
    due: Counter[str] = field(default_factory=Counter)
    turned_at: dict[str, float] = field(default_factory=dict)
    """When each account's hundredth request was sent."""
    ends: dict[int, int] = field(default_factory=dict)
    stopped: bool = False

    async def run(self) -> None:
        """Send until stopped."""
        topic = REQUESTS.name(self.fleet.settings)
        sent, number, began = [], 0, time.monotonic()
        lives = [random.Random(slot).randrange(LIFE) for slot in range(self.slots)]
        async with self.fleet.settings.producer() as producer:
            while not self.stopped:
                # By the clock, so that a sender held up for a moment makes up for it.
                while number < (time.monotonic() - began) * self.rate:
                    slot = number % self.slots
                    life = lives[slot] = lives[slot] + 1
                    account = f"s{slot}-{life // LIFE}"
                    number += 1
                    value = encode(request(account, int(time.time() * 1000), id=str(number)))
                    sent.append(await producer.send(topic, value, key=account.encode()))
                    self.due[account] += 1
                    if self.due[account] == TURNS_AT:
                        self.turned_at[account] = time.monotonic()
                await asyncio.sleep(TICK_SECONDS)
            for meta in await asyncio.gather(*sent):
                self.ends[meta.partition] = max(self.ends.get(meta.partition, 0), meta.offset + 1)


@dataclass
class Verdicts:
    """What was heard of the enforcement topic, and when first."""

    first_at: dict[str, float] = field(default_factory=dict)
    seen: set[tuple[str, int, str]] = field(default_factory=set)
    """Account, seq and action of each: one that is announced again is the same."""
    again: int = 0

    async def listen(self, fleet: Fleet) -> None:
        """Hear until cancelled."""
        consumer = AIOKafkaConsumer(
            ENFORCEMENT.name(fleet.settings), **fleet.settings.connection(), auto_offset_reset="earliest"
        )
        async with consumer:
            async for record in consumer:
                verdict = decode(record.value)
                told = verdict.value, verdict.seq, verdict.action
                self.again += told in self.seen
                self.seen.add(told)
                self.first_at.setdefault(verdict.value, time.monotonic())


async def roll(fleet: Fleet, workers: list[Worker], names: list[str]) -> list[float]:
    """Restart each, the last first; for how many seconds each was away."""
    away = []
    for place in reversed(range(len(workers))):
        began = time.monotonic()
        if status := await asyncio.to_thread(workers[place].end, signal.SIGTERM):
            raise AssertionError(f"{names[place]} ended with {status}\n{fleet.logs()}")
        worker = workers[place] = fleet.start(STILLWATCH_INSTANCE_ID=names[place])
        await fleet.until(lambda worker=worker: worker.status("/ready") == 200)
        away.append(time.monotonic() - began)
    return away


def row(name: str, flow: Flow, heard: Verdicts, since: float, until: float) -> str:
    """Of accounts that turned between two instants: how many, and how long their verdicts took."""
    took = [heard.first_at[account] - at for account, at in flow.turned_at.items() if since <= at < until]
    if not took:
        return f"| {name} | 0 | | | |"
    p50, p99 = np.percentile(took, (50, 99))
    return f"| {name} | {len(took)} | {p50:.2f} s | {p99:.2f} s | {max(took):.2f} s |"


async def run(folder: Path, *, workers: int, rate: int, calm_seconds: float) -> bool:
    """All of it; whether everything was there once."""
    with kafka_broker(folder, java=()) as broker:
        fleet = await Fleet.assemble(broker, folder, STILLWATCH_PARTITIONS="12", STILLWATCH_SESSION_SECONDS="45")
        names = [f"stillwatch-worker-{number}" for number in range(workers)]
        try:
            running = [fleet.start(STILLWATCH_INSTANCE_ID=name) for name in names]
            await fleet.until(lambda: all(worker.status("/ready") == 200 for worker in running))
            flow, heard = Flow(fleet, rate), Verdicts()
            listening = asyncio.create_task(heard.listen(fleet))
            sending = asyncio.create_task(flow.run())
            await asyncio.sleep(calm_seconds)
            began = time.monotonic()
            away = await roll(fleet, running, names)
            ended = time.monotonic()
            await asyncio.sleep(calm_seconds)
            flow.stopped = True
            await sending
            await fleet.settled(flow.ends)
            turned = set(flow.turned_at)
            await fleet.until(lambda: turned <= heard.first_at.keys())
            for worker in running:
                await asyncio.to_thread(worker.end)
            listening.cancel()
            counted = await fleet.counted()
        finally:
            fleet.dismiss()
    lost = sum((flow.due - Counter(counted)).values())
    twice = sum((Counter(counted) - flow.due).values())
    wrong = len(heard.seen) - len(turned)
    click.echo(f"{workers} workers, {rate} requests/s, each away for {', '.join(f'{each:.1f} s' for each in away)}")
    click.echo("| accounts that turned | verdicts | p50 | p99 | longest |\n| --- | --- | --- | --- | --- |")
    click.echo(row("before", flow, heard, 0, began))
    click.echo(row("during the roll", flow, heard, began, ended))
    click.echo(row("after it", flow, heard, ended, ended + calm_seconds))
    click.echo(
        f"{sum(flow.due.values()):,} requests: {lost} lost, {twice} counted twice; {len(turned):,} verdicts due, "
        f"{wrong} more or other ones, {heard.again} announced again as they were"
    )
    return not (lost or twice or wrong)


@click.command()
@click.option("--workers", default=3, show_default=True)
@click.option("--rate", default=1_500, show_default=True, help="Requests a second.")
@click.option("--calm", default=20.0, show_default=True, help="Seconds before and after.")
def main(workers: int, rate: int, calm: float) -> None:
    """Roll, and tell. Exit status 1 when something was lost, counted twice, or decided otherwise."""
    with tempfile.TemporaryDirectory(prefix="rolling-") as folder:
        try:
            right = asyncio.run(run(Path(folder), workers=workers, rate=rate, calm_seconds=calm))
        except NoKafkaError as error:
            sys.exit(str(error))
    sys.exit(not right)


if __name__ == "__main__":
    main()
