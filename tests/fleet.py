"""Fleet: workers as processes of their own, what is sent to them, and what they said."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from brokers import Broker, free_port
from prometheus_client.parser import text_string_to_metric_families
from stories import request

from gateway.request import encode
from streams import topics
from streams.engine.changelog import Changelog
from streams.profiles import TOTALS, Profiles
from streams.settings import Settings
from streams.topics import REQUESTS, Topic

PATIENCE_SECONDS = 120.0

WORKER = (sys.executable, "-m", "streams.cli", "worker")

WATCH_EVERYONE = """
version = "everyone"
[budget]
requests = 17_000
output_tokens = 51_000_000
reasoning_tokens = 34_000_000
[prices]
input = 3.0
output = 15.0
[[rungs]]
action = "watch"
score = 0.002
leave = 0.001
kinds = 0
requests = 100
seconds = 86_400
"""
"""A policy under which every account is watched from its 100th request on: what is due can be counted by hand."""


def status(port: int, path: str) -> int:
    """The HTTP status of a path on this machine; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as page:
            return int(page.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@dataclass
class Worker:
    """One worker process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    environment: dict[str, str]
    dismissed: bool = False
    """True when it is not to be started anew."""

    def metric(self, name: str, **labels: str) -> float:
        """A number the worker states, 0 when it does not (yet) answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as page:
                text = page.read().decode()
        except OSError:
            return 0.0
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def status(self, path: str) -> int:
        """The HTTP status of a path; 0 when nobody answers."""
        return status(self.port, path)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it for good and return its exit status."""
        self.dismissed = True
        self.process.send_signal(how)
        return self.process.wait(timeout=PATIENCE_SECONDS)


@dataclass
class Load:
    """Steady requests of many accounts, each fiftieth unreadable, each fiftieth sent twice, and what of them is due."""

    fleet: "Fleet"
    dice: random.Random
    accounts: int = 50
    rate: int = 2_000
    due: Counter[str] = field(default_factory=Counter)
    """Requests of each account."""
    garbage: list[bytes] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    """The offset after the last message of each partition."""
    _stopped: bool = False

    async def run(self) -> None:
        """Produce until `stop`; returns when the broker has everything."""
        topic = REQUESTS.name(self.fleet.settings)
        number, sent = 0, []
        async with self.fleet.settings.producer() as producer:
            while not self._stopped:
                for _ in range(self.rate // 20):
                    number += 1
                    if number % 50 == 0:
                        self.garbage.append(b"garbage %d" % number)
                        sent.append(await producer.send(topic, self.garbage[-1], key=b"g%d" % number))
                        continue
                    account = f"a{int(self.accounts * self.dice.random() ** 2)}"
                    value = encode(request(account, int(time.time() * 1000), id=str(number)))
                    self.due[account] += 1
                    times = 2 if number % 50 == 25 else 1
                    sent += [await producer.send(topic, value, key=account.encode()) for _ in range(times)]
                await asyncio.sleep(0.05)  # the pace of the load
            for meta in await asyncio.gather(*sent):
                self.ends[meta.partition] = max(self.ends.get(meta.partition, 0), meta.offset + 1)

    def stop(self) -> None:
        """Let `run` come to its end."""
        self._stopped = True


@dataclass
class Fleet:
    """The workers of one test on one broker."""

    broker: Broker
    folder: Path
    environment: dict[str, str]
    settings: Settings
    workers: list[Worker] = field(default_factory=list)

    @classmethod
    async def assemble(cls, broker: Broker, folder: Path, **more: str) -> "Fleet":
        """Create the topics of one test."""
        policy = folder / "policy.toml"
        policy.write_text(WATCH_EVERYONE)
        environment = broker.environment(STILLWATCH_POLICY=str(policy), **more)
        settings = Settings.read(environment)
        await topics.create(settings)
        return cls(broker, folder, environment, settings)

    def start(self, program: Sequence[str | Path] = WORKER, **more: str) -> Worker:
        """Start one more worker, by another program if need be."""
        port = free_port()
        log = self.folder / f"worker-{len(self.workers)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                program,
                env={**os.environ, **self.environment, "STILLWATCH_WEB_PORT": str(port), **more},
                cwd=Path(__file__).parents[1],
                stdout=out,
                stderr=out,
            )
        self.workers.append(Worker(process, port, log, more))
        return self.workers[-1]

    async def settled(self, ends: dict[int, int]) -> None:
        """Wait until the group has committed the given end of each partition, starting anew what has died."""
        deadline = time.monotonic() + 2 * PATIENCE_SECONDS
        while (committed := await self.committed()) != ends:
            if time.monotonic() > deadline:
                raise AssertionError(f"committed {committed} of {ends}; {self.logs()}")
            self.tend()
            await asyncio.sleep(0.2)

    def tend(self) -> None:
        """Start anew what has died, as Kubernetes would."""
        for position, worker in enumerate(self.workers):
            if worker.process.poll() is not None and not worker.dismissed:
                worker.dismissed = True
                self.start(**self.workers[position].environment)

    def logs(self) -> str:
        """The end of what each worker logged."""
        return "\n".join(f"--- {worker.log.name}\n{worker.log.read_text()[-3000:]}" for worker in self.workers)

    def dismiss(self) -> None:
        """End all workers that still run."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()

    async def until(self, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for a condition; on giving up, show what the workers logged."""
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(condition):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds} s in vain; {self.logs()}")
            await asyncio.sleep(0.05)

    async def produce(self, messages: Iterable[tuple[bytes, bytes]]) -> list[tuple[int, int]]:
        """Send (key, value) pairs to requests; their (partition, offset)."""
        async with self.settings.producer() as producer:
            topic = REQUESTS.name(self.settings)
            sent = [await producer.send(topic, value, key=key) for key, value in messages]
            return [(meta.partition, meta.offset) for meta in await asyncio.gather(*sent)]

    async def heard(self, topic: Topic, count: int, seconds: float = PATIENCE_SECONDS) -> list[ConsumerRecord]:
        """All records of a topic: at least `count`, and whatever else is there."""
        found: list[ConsumerRecord] = []
        deadline = time.monotonic() + seconds
        consumer = AIOKafkaConsumer(
            topic.name(self.settings), **self.settings.connection(), auto_offset_reset="earliest"
        )
        async with consumer:
            while time.monotonic() < deadline:
                batch = await consumer.getmany(timeout_ms=500)
                found += [record for records in batch.values() for record in records]
                if not batch and len(found) >= count:
                    break
        return found

    async def committed(self) -> dict[int, int | None]:
        """What the group has committed of requests, by partition."""
        consumer = AIOKafkaConsumer(
            **self.settings.connection(), group_id=self.settings.group, enable_auto_commit=False
        )
        async with consumer:
            tps = [TopicPartition(REQUESTS.name(self.settings), number) for number in range(self.settings.partitions)]
            consumer.assign(tps)
            return {tp.partition: await consumer.committed(tp) for tp in tps}

    async def counted(self) -> dict[str, int]:
        """Requests that each account's stored profile holds."""
        counts: dict[str, int] = {}
        async with self.settings.producer() as producer:
            changelog = Changelog(producer, self.settings, topics.PROFILES)
            for number in range(self.settings.partitions):
                profiles = Profiles()
                profiles.restore((await changelog.read(number)).rows)
                totals = profiles.table["totals"][: profiles.height, TOTALS.index("requests")].astype(int).tolist()
                counts |= {profiles.name(row): count for row, count in enumerate(totals)}
        return counts
