"""Fleet: workers as processes of their own, what is sent to them, and what they said."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from brokers import Broker, free_port
from prometheus_client.parser import text_string_to_metric_families

from streams import topics
from streams.settings import Settings
from streams.topics import REQUESTS, Topic

PATIENCE_SECONDS = 60.0

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


@dataclass
class Worker:
    """One worker process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

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
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as page:
                return int(page.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit status."""
        self.process.send_signal(how)
        return self.process.wait(timeout=PATIENCE_SECONDS)


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

    def start(self, **more: str) -> Worker:
        """Start one more worker."""
        port = free_port()
        log = self.folder / f"worker-{len(self.workers)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", "worker"],
                env={**os.environ, **self.environment, "STILLWATCH_WEB_PORT": str(port), **more},
                cwd=Path(__file__).parents[1],
                stdout=out,
                stderr=out,
            )
        self.workers.append(Worker(process, port, log))
        return self.workers[-1]

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
                logs = "\n".join(worker.log.read_text()[-3000:] for worker in self.workers)
                raise AssertionError(f"waited {seconds} s in vain; the workers' logs:\n{logs}")
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
