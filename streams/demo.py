"""Demo: a broker, a worker and an attack on one machine, watched as they happen."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import IO, Final, Protocol

import aiohttp
from aiokafka import AIOKafkaConsumer
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from gateway.verdict import Verdict, decode

from . import topics
from .engine.embedded import _free_port, embedded
from .settings import PREFIX, Settings
from .simulate.accounts import Label
from .simulate.live import Due, produce
from .tally import BEFORE, Report, Tally, merged

PARTITIONS: Final = 4

STOP_SECONDS: Final = 15.0
"""How long the worker may take to end."""

PATIENCE_SECONDS: Final = 60.0
"""How long the worker may take to become ready, and afterwards to catch up."""

LOOK_SECONDS: Final = 0.25
"""How often numbers are read and shown."""

STATUS_SECONDS: Final = 5.0
"""How often a demo without a terminal prints its numbers."""

_STYLES: Final = {"watch": "yellow", "throttle": "red", "verify": "bold red", "degrade": "bold magenta"}


class DemoError(RuntimeError):
    """The demo could not run to its end; the message says what stopped it."""


@dataclass(slots=True)
class Scene:
    """What can be seen from outside: what was sent, what the worker says of itself, what its verdicts say."""

    seconds: float
    attack_at: float
    """Seconds from the start."""
    tally: Tally
    started_at: float = field(default_factory=time.monotonic)
    elapsed: float = 0.0
    sent: int = 0
    counted: int = 0
    """Requests that the worker has processed, readable or not."""
    rate: float = 0.0
    """Requests a second, over about the last second."""
    accounts: int = 0
    announced: int = 0
    """Messages on the enforcement topic according to the worker; `read` is what arrived of them."""
    read: int = 0
    latest: deque[Verdict] = field(default_factory=lambda: deque(maxlen=12))


class View(Protocol):
    """Who looks on."""

    def numbers(self, scene: Scene) -> None: ...
    def verdict(self, scene: Scene, verdict: Verdict) -> None: ...


class Lines:
    """A view for logs and scripts: a line for each verdict, and the numbers every few seconds."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._told_at = -STATUS_SECONDS

    def numbers(self, scene: Scene) -> None:
        """Say the numbers when they are due."""
        if scene.elapsed - self._told_at >= STATUS_SECONDS:
            self._told_at = scene.elapsed
            self._say(f"{scene.elapsed:5.0f} s  {_numbers(scene)}")

    def verdict(self, scene: Scene, verdict: Verdict) -> None:
        """Say it as it comes."""
        self._say(f"{scene.elapsed:5.0f} s  {verdict.action} {verdict.subject}: {_why(verdict)}")


class Screen:
    """A view for a terminal."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4)

    def __enter__(self) -> "Screen":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def numbers(self, scene: Scene) -> None:
        """Draw everything anew."""
        table = Table("verdict", "account", "score", "served", "why", expand=True)
        for verdict in reversed(scene.latest):
            served = f"{verdict.exposure.requests:,.0f}" if verdict.exposure else ""
            style = _STYLES.get(verdict.action, "")
            table.add_row(
                f"[{style}]{verdict.action}[/]" if style else verdict.action,
                escape(verdict.value),
                f"{verdict.score:.2f}",
                served,
                escape(_why(verdict)),
            )
        left = scene.attack_at - scene.elapsed
        attack = f"the attack starts in {left:.0f} s" if left > 0 else f"under attack for {-left:.0f} s"
        head = f"[bold]{scene.elapsed:.0f} of {scene.seconds:.0f} s[/]  {attack}\n{_numbers(scene)}"
        self._live.update(Group(head, table))

    def verdict(self, scene: Scene, verdict: Verdict) -> None:
        """Nothing: the next drawing shows it."""


def _numbers(scene: Scene) -> str:
    return (
        f"{scene.rate:,.0f} requests/s, {scene.counted:,} so far, {scene.sent - scene.counted:,} waiting, "
        f"{scene.accounts:,} accounts, {scene.announced:,} verdicts"
    )


def _why(verdict: Verdict) -> str:
    return "; ".join(reason.text for reason in verdict.reasons[:2]) or "no reason given"


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended."""

    report: Report
    attackers: int
    missed: list[str]
    """Attacking accounts that never met throttle or worse."""
    wronged: list[str]
    """Accounts that attack nobody and met throttle or worse all the same."""

    @property
    def good(self) -> bool:
        """The attack was caught, all of it, and nobody else was throttled."""
        return self.attackers > 0 and not self.missed and not self.wronged


def ending(tally: Tally, labels: Mapping[str, Label]) -> Ending:
    """Judge what was decided by the truth about the accounts."""
    report = tally.report()
    stopped = {row.subject.removeprefix("account:") for row in report.subjects if "throttle" in row.first}
    attackers = {account for account, label in labels.items() if label.label == "attack"}
    return Ending(report, len(attackers), sorted(attackers - stopped), sorted(stopped - attackers))


def summary(end: Ending) -> list[str]:
    """What the attack got and who was wronged, in sentences."""
    lines = []
    for group in merged(end.report.groups or []):
        if group.label == "attack":
            before = ", ".join(f"{group.served_before[rung]:.0%} before {rung}" for rung in BEFORE)
            lines.append(f"The attack: {group.accounts} accounts, {group.requests:,} requests. Served {before}.")
    if end.missed:
        lines.append(f"Never throttled: {len(end.missed)} of {end.attackers} attacking accounts.")
    if end.wronged:
        lines.append(f"Throttled though honest: {', '.join(end.wronged)}.")
    if end.good:
        lines.append("All of it was throttled or worse, and no honest account was.")
    return lines


async def demo(
    traffic: Iterable[Due], labels: Mapping[str, Label], *, seconds: float, attack_at: float, view: View
) -> Ending:
    """Play traffic to a worker on an embedded broker and watch it from outside, as a customer and an operator do.

    Verdicts are read from the enforcement topic, numbers from the worker's `/metrics`. Raises `DemoError`, and
    `EmbeddedError` where there is no embedded broker.
    """
    scene = Scene(seconds, attack_at, Tally(labels))
    with embedded() as broker:
        port = _free_port()
        environment = broker.environment() | {
            f"{PREFIX}PARTITIONS": f"{PARTITIONS}",
            f"{PREFIX}WEB_PORT": f"{port}",
            # The embedded broker keeps a first member waiting for half of this.
            f"{PREFIX}SESSION_SECONDS": "6",
        }
        settings = Settings.read(environment)
        await topics.create(settings)
        with _worker(environment) as worker:
            async with aiohttp.ClientSession(f"http://{settings.web_host}:{port}") as web:
                await _ready(worker, web)
                tasks = [
                    asyncio.create_task(_play(traffic, settings, scene)),
                    asyncio.create_task(_listen(settings, scene, view)),
                    asyncio.create_task(_measure(worker, web, scene, view)),
                ]
                try:
                    # Only playing comes to an end by itself; whichever does first has something to say.
                    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
    return ending(scene.tally, labels)


@contextmanager
def _worker(environment: Mapping[str, str]) -> Iterator["Worker"]:
    """A worker as a process of its own, as in real life; what it says is shown only when it fails."""
    # Settings of the caller's shell are for another Kafka.
    ours = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "worker"],
            env={**ours, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Worker(process, log)
        finally:
            process.terminate()
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass(frozen=True, slots=True)
class Worker:
    """The worker's process and what it said so far."""

    process: "subprocess.Popen[bytes]"
    log: IO[bytes]

    def check(self) -> None:
        """Raise `DemoError` with its last words when it has ended."""
        if self.process.poll() is not None:
            self.log.seek(0)
            last = self.log.read().decode(errors="replace").strip().splitlines()[-5:]
            raise DemoError("\n".join([f"the worker ended with status {self.process.returncode}", *last]))


async def _ready(worker: Worker, web: aiohttp.ClientSession) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        worker.check()
        try:
            async with web.get("/ready") as answer:
                if answer.status == HTTPStatus.OK:
                    return
        except aiohttp.ClientError:
            pass  # It does not listen yet.
        await asyncio.sleep(LOOK_SECONDS)
    raise DemoError(f"the worker was not ready within {PATIENCE_SECONDS:.0f} s")


async def _play(traffic: Iterable[Due], settings: Settings, scene: Scene) -> None:
    """Send everything when it is due, then wait until its consequences have arrived."""

    def sent(due: Due) -> None:
        scene.sent += 1
        scene.tally.sent([due.account])

    scene.started_at = time.monotonic()
    async with settings.producer() as producer:
        await produce(traffic, producer, topics.REQUESTS.name(settings), clock=time.monotonic, sent=sent)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while scene.counted < scene.sent or scene.read < scene.announced:
        if time.monotonic() > deadline:
            raise DemoError(
                f"after {PATIENCE_SECONDS:.0f} s the worker had counted {scene.counted:,} of {scene.sent:,} requests, "
                f"and {scene.read:,} of {scene.announced:,} verdicts had arrived"
            )
        await asyncio.sleep(LOOK_SECONDS)


async def _listen(settings: Settings, scene: Scene, view: View) -> None:
    """Read verdicts as a serving tier does: from the enforcement topic, all of it, in no group."""
    topic = topics.ENFORCEMENT.name(settings)
    async with AIOKafkaConsumer(topic, auto_offset_reset="earliest", **settings.connection()) as consumer:
        async for message in consumer:
            scene.read += 1
            if message.value is not None:  # null: a verdict is lifted
                verdict = decode(message.value)
                scene.tally.meet(verdict)
                scene.latest.append(verdict)
                view.verdict(scene, verdict)


async def _measure(worker: Worker, web: aiohttp.ClientSession, scene: Scene, view: View) -> None:
    """Read the worker's metrics, as Prometheus does, and show them."""
    while True:
        worker.check()
        async with web.get("/metrics") as answer:
            text = await answer.text()
        totals: Counter[str] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                totals[sample.name] += int(sample.value)
        now = time.monotonic() - scene.started_at
        counted = totals["stillwatch_requests_total"]
        if now > scene.elapsed:
            latest = (counted - scene.counted) / (now - scene.elapsed)
            scene.rate += (latest - scene.rate) * min(1.0, now - scene.elapsed)
        scene.elapsed, scene.counted = now, counted
        scene.accounts = totals["stillwatch_profiles"]
        scene.announced = totals["stillwatch_verdicts_total"]
        view.numbers(scene)
        await asyncio.sleep(LOOK_SECONDS)
