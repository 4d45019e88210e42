"""What is provoked: Kafka, workers, the forwarder, and steady requests."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

from aiokafka import AIOKafkaProducer
from brokers import Broker
from prometheus_client.parser import text_string_to_metric_families
from stories import request

from gateway.request import encode
from sinks.alerts import Alert, announcement
from streams import topics
from streams.settings import Settings

from .observers import ROOT, People

PATIENCE_SECONDS = 240.0
RATE = 200
"""Requests a second when all is well."""


@dataclass
class Stage:
    """Everything that runs."""

    folder: Path
    broker: Broker
    settings: Settings
    environment: dict[str, str]
    people: People
    stack: ExitStack
    producer: AIOKafkaProducer
    ports: dict[str, int]
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    flowing: bool = True
    number: int = 0

    def start(self, name: str, *command: str) -> None:
        """Start one of our processes under a name, at its own port. Only w0 is a static member, as in Kubernetes."""
        own = {"STILLWATCH_WEB_PORT": str(self.ports[name])} | (
            {"STILLWATCH_INSTANCE_ID": name} if name == "w0" else {}
        )
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", *(command or ("worker",))],
                env={**os.environ, **self.environment, **own},
                cwd=ROOT, stdout=log, stderr=log,
            )  # fmt: skip

    def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End one of them and wait for it."""
        process = self.processes[name]
        process.send_signal(how)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kafka(self, how: signal.Signals) -> None:
        """Freeze the broker or let it go on."""
        assert self.broker.java is not None
        assert self.broker.java.process is not None
        self.broker.java.process.send_signal(how)

    async def metric(self, name: str, metric: str) -> float | None:
        """The sum of a metric of one process; None when it does not answer."""

        def ask() -> float | None:
            try:
                with urlopen(f"http://127.0.0.1:{self.ports[name]}/metrics", timeout=2) as page:
                    text = page.read().decode()
            except OSError:
                return None
            families = text_string_to_metric_families(text)
            return sum(one.value for family in families for one in family.samples if one.name == metric)

        return await asyncio.to_thread(ask)

    async def ready(self, name: str) -> None:
        """Wait until a worker counts requests."""
        before = await self.metric(name, "stillwatch_partitions")
        await until(lambda: self._works(name), f"{name} works (partitions before: {before})")

    async def _works(self, name: str) -> bool:
        return bool(await self.metric(name, "stillwatch_partitions")) and not await self.metric(
            name, "stillwatch_restoring_seconds"
        )

    async def flow(self) -> None:
        """Steady requests; each account sends 150 and earns a verdict at its hundredth."""
        topic = topics.REQUESTS.name(self.settings)
        while True:
            await asyncio.sleep(0.1)
            for _ in range(RATE // 10 if self.flowing else 0):
                self.number += 1
                account = f"a{self.number // 150}"
                message = encode(request(account, int(time.time() * 1000), id=str(self.number)))
                await self.producer.send(topic, message, key=account.encode())

    async def say(self, *alerts: Alert) -> None:
        """Publish on the alerts topic."""
        for one in alerts:
            key, value = announcement(one)
            await self.producer.send_and_wait(topics.ALERTS.name(self.settings), value, key)


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something, or say what was waited for in vain."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain: {what}")
        await asyncio.sleep(0.1)
