"""Provoke: each alert brought about for real, with Prometheus and Alertmanager running, and whether it comes and goes.

`make alerts` runs it: a real Apache Kafka, workers, the forwarder, Prometheus with our rules and an Alertmanager that
tells us what it would tell people. Windows and waiting times of the rules are twenty times shorter than in production,
thresholds in seconds six times lower, so that it takes half an hour and not a day. Nothing else is changed.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml
from aiohttp import web
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from brokers import Broker, free_port, kafka_broker  # noqa: E402
from crowds import campaign, settled  # noqa: E402
from fleet import WATCH_EVERYONE  # noqa: E402
from stories import request  # noqa: E402

from gateway.request import encode  # noqa: E402
from sinks.alerts import Alert, alert, announcement  # noqa: E402
from streams import topics  # noqa: E402
from streams.settings import Settings  # noqa: E402

SHORTER = 20
LOWER = 6
PATIENCE_SECONDS = 240.0
RATE = 200
"""Requests a second when all is well."""

STOP_EVERYONE = """
[[rungs]]
action = "throttle"
score = 0.0021
leave = 0.001
kinds = 0
requests = 120
seconds = 86_400
parameters = { rpm = 20 }
[brake]
accounts = 0.001
traffic = 0.001
least = 1
seconds = 3_600
"""
"""Beside WATCH_EVERYONE: a policy so harsh that its own brake must be pulled."""

UNITS = {"s": 1, "m": 60, "h": 3600}


def shortened(text: str) -> str:
    """The rules with windows and waiting times SHORTER, and thresholds in seconds LOWER."""

    def window(match: re.Match[str]) -> str:
        seconds = int(match[2]) * UNITS[match[3]] / SHORTER
        return f"{match[1]}{max(round(seconds), 5 if match[1] == '[' else 1)}s"

    text = re.sub(r"(\[)(\d+)([smh])(?=\])", window, text)
    text = re.sub(r"(for: )(\d+)([smh])", window, text)
    return re.sub(
        r"(_seconds(?:\{[^}]*\})?(?:\[[^\]]*\])?\)*) > (\d+)$", lambda found: f"{found[1]} > {int(found[2]) / LOWER:g}",
        text, flags=re.MULTILINE,
    )  # fmt: skip


@dataclass
class People:
    """Whom the Alertmanager and the forwarder tell, and when they told what."""

    told: list[tuple[float, str, str, dict[str, str]]] = field(default_factory=list)
    """When, firing or resolved, the alert's name, its labels."""
    hooked: list[tuple[float, str, str]] = field(default_factory=list)
    away: bool = False
    """The webhook answers 503."""

    async def manager(self, message: web.Request) -> web.Response:
        for one in (await message.json())["alerts"]:
            self.told.append((time.monotonic(), one["status"], one["labels"]["alertname"], one["labels"]))
        return web.Response()

    async def hook(self, message: web.Request) -> web.Response:
        if self.away:
            return web.Response(status=503)
        body = await message.json()
        self.hooked.append((time.monotonic(), body["state"], body["name"]))
        return web.Response()

    def first(self, status: str, name: str, since: float, of_topic: bool) -> float | None:
        """When it was first told after an instant. Alerts of the topic have a subject, those of the rules have none."""
        return next(
            (at for at, how, what, labels in self.told
             if at >= since and (how, what, "subject" in labels) == (status, name, of_topic)), None,
        )  # fmt: skip

    def firing(self) -> set[str]:
        """The alerts that were told last as firing."""
        last: dict[tuple[str, str], str] = {}
        for _, how, what, labels in self.told:
            last[what, json.dumps(labels, sort_keys=True)] = how
        return {what for (what, _), how in last.items() if how == "firing"}


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
            from urllib.request import urlopen

            from prometheus_client.parser import text_string_to_metric_families

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


def say(line: str) -> None:
    """A line of the table, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


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


# --- what is done to it ---


@asynccontextmanager
async def worker_stopped(stage: Stage) -> AsyncIterator[None]:
    stage.end("w0")
    yield
    stage.start("w0")
    await stage.ready("w0")


@asynccontextmanager
async def worker_killed_four_times(stage: Stage) -> AsyncIterator[None]:
    for _ in range(4):
        stage.end("w0", signal.SIGKILL)
        stage.start("w0")
        await until(lambda: _answers(stage), "w0 answers")
        await asyncio.sleep(2)  # Prometheus has to see it
    yield
    await stage.ready("w0")


async def _answers(stage: Stage) -> bool:
    return await stage.metric("w0", "stillwatch_memory_limit_bytes") is not None


@asynccontextmanager
async def limit_near_what_is_used(stage: Stage) -> AsyncIterator[None]:
    used = await stage.metric("w0", "process_resident_memory_bytes") or 0.0
    group = Path("/sys/fs/cgroup/memory/stillwatch-provoked")
    second = Path("/sys/fs/cgroup/stillwatch-provoked")
    place, name = (group, "memory.limit_in_bytes") if group.parent.is_dir() else (second, "memory.max")
    place.mkdir()
    (place / name).write_text(str(int(used / 0.94)))
    (place / "cgroup.procs").write_text(str(stage.processes["w0"].pid))
    try:
        yield
        (place / name).write_text(str(int(used * 4)))
        await until(
            lambda: "StillwatchMemoryNearLimit" not in stage.people.firing(), "memory is no longer near its limit"
        )
    finally:
        stage.end("w0")
        place.rmdir()
        stage.start("w0")
        await stage.ready("w0")


@asynccontextmanager
async def kafka_frozen_during_a_restore(stage: Stage) -> AsyncIterator[None]:
    stage.end("w0", signal.SIGKILL)
    stage.start("w0")

    async def restoring() -> bool:
        return bool(await stage.metric("w0", "stillwatch_restoring_seconds"))

    await until(restoring, "w0 restores")
    stage.kafka(signal.SIGSTOP)
    yield
    stage.kafka(signal.SIGCONT)
    await stage.ready("w0")


@asynccontextmanager
async def a_second_worker_comes_and_goes(stage: Stage) -> AsyncIterator[None]:
    for _ in range(5):
        stage.start("w1")
        await stage.ready("w1")
        stage.end("w1")
    yield


@asynccontextmanager
async def kafka_frozen(stage: Stage) -> AsyncIterator[None]:
    stage.kafka(signal.SIGSTOP)
    yield
    stage.kafka(signal.SIGCONT)


@asynccontextmanager
async def enforcement_deleted(stage: Stage) -> AsyncIterator[None]:
    admin = AIOKafkaAdminClient(**stage.settings.connection())
    await admin.start()
    try:
        await admin.delete_topics([topics.ENFORCEMENT.name(stage.settings)])
    finally:
        await admin.close()
    yield
    await topics.create(stage.settings)
    await asyncio.sleep(5)  # it may still give up
    if stage.processes["w0"].poll() is not None:  # Kubernetes would start it anew
        stage.start("w0")
    await stage.ready("w0")


@asynccontextmanager
async def kafka_hangs_again_and_again(stage: Stage) -> AsyncIterator[None]:
    async def stutter() -> None:
        while True:
            stage.kafka(signal.SIGSTOP)
            await asyncio.sleep(20)
            stage.kafka(signal.SIGCONT)
            await asyncio.sleep(0.3)

    stuttering = asyncio.create_task(stutter())
    try:
        yield
    finally:
        stuttering.cancel()
        stage.kafka(signal.SIGCONT)


@asynccontextmanager
async def nobody_sends(stage: Stage) -> AsyncIterator[None]:
    stage.flowing = False
    yield
    stage.flowing = True


@asynccontextmanager
async def again_and_again(send: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Send without a pause; what was begun is finished."""
    done = asyncio.Event()

    async def keep_on() -> None:
        while not done.is_set():
            await send()
            await asyncio.sleep(0)

    sending = asyncio.create_task(keep_on())
    yield
    done.set()
    await sending


@asynccontextmanager
async def requests_of_ten_minutes_ago(stage: Stage) -> AsyncIterator[None]:
    """A backlog as after a long pause: sent ten minutes ago by their own time, more than is worked off at once."""
    topic, at = topics.REQUESTS.name(stage.settings), int(time.time() * 1000) - 600_000
    numbers = itertools.count(1)

    async def send() -> None:
        for number in itertools.islice(numbers, 2_000):
            account = f"b{number % 5_000}"
            message = encode(request(account, at, id=f"b{number}"))
            await stage.producer.send(topic, message, key=account.encode(), timestamp_ms=at)

    async with again_and_again(send):
        yield


@asynccontextmanager
async def garbage(stage: Stage) -> AsyncIterator[None]:
    topic = topics.REQUESTS.name(stage.settings)

    async def flood() -> None:
        while True:
            await asyncio.sleep(0.1)
            for _ in range(RATE // 5):
                await stage.producer.send(topic, random.randbytes(200), key=b"g%d" % random.randrange(100))

    flooding = asyncio.create_task(flood())
    yield
    flooding.cancel()


@asynccontextmanager
async def another_partitioner(stage: Stage) -> AsyncIterator[None]:
    topic = topics.REQUESTS.name(stage.settings)

    async def scatter() -> None:
        number = 0
        while True:
            await asyncio.sleep(0.05)
            for _ in range(5):
                number += 1
                message = encode(request(f"s{number % 50}", int(time.time() * 1000), id=f"s{number}"))
                partition = number % stage.settings.partitions
                await stage.producer.send(topic, message, key=b"s%d" % (number % 50), partition=partition)

    scattering = asyncio.create_task(scatter())
    yield
    scattering.cancel()
    # It would run out within an hour; so long we do not wait.
    now = int(time.time() * 1000)
    said = alert("strays", f"topic:{topic}", now, "Over.")
    await stage.say(said.ended(now + 1))


@asynccontextmanager
async def webhook_away(stage: Stage) -> AsyncIterator[None]:
    stage.people.away = True
    now = int(time.time() * 1000)
    said = alert("detector_blind", "field:sketch", now, "No request carries a sketch any more.")
    await stage.say(said)
    yield
    stage.people.away = False
    await stage.say(said.ended(int(time.time() * 1000)))


@asynccontextmanager
async def said_on_the_topic(stage: Stage) -> AsyncIterator[None]:
    now = int(time.time() * 1000)
    said = [alert(kind, f"provoked:{kind}", now, "Provoked.") for kind in ("detector_blind", "drift")]
    await stage.say(*said)
    yield
    await stage.say(*(one.ended(int(time.time() * 1000)) for one in said))


@asynccontextmanager
async def policy_written_wrong(stage: Stage) -> AsyncIterator[None]:
    async with _policy(stage, WATCH_EVERYONE.replace("score", "scroe")):
        yield


@asynccontextmanager
async def policy_that_would_stop_everyone(stage: Stage) -> AsyncIterator[None]:
    async with _policy(stage, WATCH_EVERYONE + STOP_EVERYONE):
        yield


@asynccontextmanager
async def _policy(stage: Stage, text: str) -> AsyncIterator[None]:
    path = stage.folder / "policy.toml"
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(WATCH_EVERYONE)


@asynccontextmanager
async def standings_deleted(stage: Stage) -> AsyncIterator[None]:
    admin = AIOKafkaAdminClient(**stage.settings.connection())
    await admin.start()
    try:
        await admin.delete_topics([topics.STANDINGS.name(stage.settings)])
    finally:
        await admin.close()
    yield
    await topics.create(stage.settings)
    if stage.processes["w0"].poll() is not None:  # Kubernetes would start it anew
        stage.start("w0")
    await stage.ready("w0")


@asynccontextmanager
async def links_of_ten_minutes_ago(stage: Stage) -> AsyncIterator[None]:
    """What accounts have in common, as after a long pause, faster than it is looked at."""
    topic, at = topics.LINKS.name(stage.settings), int(time.time() * 1000) - 600_000

    async def send() -> None:
        for _ in range(500):
            await stage.producer.send(topic, random.randbytes(200), key=b"w", timestamp_ms=at)

    async with again_and_again(send):
        yield


@asynccontextmanager
async def a_real_campaign(stage: Stage) -> AsyncIterator[None]:
    """Twelve new accounts with one card behind one server, among seventy that have been here for five days."""
    topic = topics.REQUESTS.name(stage.settings)
    sent = sorted((*settled(days=4.5), *campaign()), key=lambda one: one.at)
    later = int(time.time() * 1000) - sent[-1].at
    for one in sent:
        moved = {"at": one.at + later, "opened_at": None if one.opened_at is None else one.opened_at + later}
        message = encode(msgspec.structs.replace(one, **moved))
        await stage.producer.send(topic, message, key=one.account.encode(), timestamp_ms=moved["at"])
    await stage.producer.flush()
    yield
    # It would hold for a day; so long we do not wait.
    now = int(time.time() * 1000)
    names = {labels.get("subject") for _, _, what, labels in stage.people.told if what.endswith("CampaignFound")}
    await stage.say(*(alert("campaign_found", name, now, "Over.").ended(now + 1) for name in names if name))


@dataclass
class Provocation:
    """What is done, and which alerts must come of it: of the rules, and of the topic."""

    what: str
    done: Callable[[Stage], contextlib.AbstractAsyncContextManager[None]]
    rules: Sequence[str] = ()
    topic: Sequence[str] = ()
    seconds: float = PATIENCE_SECONDS
    """How long it may take until each is told."""


PROVOCATIONS = [
    Provocation("the only worker ended", worker_stopped, ["Absent"]),
    Provocation("the worker killed four times (kill -9)", worker_killed_four_times, ["Restarting"]),
    Provocation("a control group's limit near what it uses", limit_near_what_is_used, ["MemoryNearLimit"]),
    Provocation("Kafka frozen while profiles are restored", kafka_frozen_during_a_restore, ["RestoreTooLong"]),
    Provocation("a second worker comes and goes five times", a_second_worker_comes_and_goes, ["RebalanceStorm"]),
    Provocation("Kafka frozen (SIGSTOP)", kafka_frozen, ["KafkaSilent"]),
    Provocation("the enforcement topic deleted", enforcement_deleted, ["EnforcementUnwritable"]),
    Provocation("Kafka hangs for 20 s, again and again", kafka_hangs_again_and_again, ["CheckpointOld"]),
    Provocation("nobody sends requests", nobody_sends, ["NoRequests"]),
    Provocation(
        "requests of ten minutes ago, faster than they are worked off",
        requests_of_ten_minutes_ago,
        ["Lagging", "FarBehind", "VerdictsLateFast", "VerdictsLateSlow"],
    ),
    Provocation("garbage, twice as much as requests", garbage, ["Unreadable", "MostlyUnreadable"]),
    Provocation("a producer with another partitioner", another_partitioner, ["Strays"], ["Strays"]),
    Provocation("a policy file with a slip in it", policy_written_wrong, ["PolicyRefused"]),
    Provocation("a policy that would stop everyone", policy_that_would_stop_everyone, ["BrakePulled"], ["BrakePulled"]),
    Provocation("the standings topic deleted", standings_deleted, ["Deaf"]),
    Provocation("links of ten minutes ago, faster than looked at", links_of_ten_minutes_ago, ["CampaignsBehind"]),
    # Groups are looked for every five minutes.
    Provocation("a real campaign of twelve accounts", a_real_campaign, ["CampaignFound"], ["CampaignFound"], 400),
    Provocation("a webhook that answers 503", webhook_away, ["AlertsStuck"], ["DetectorBlind"]),
    Provocation(
        "a message on the alerts topic",
        said_on_the_topic,
        topic=["DetectorBlind", "Drift"],
    ),
]


async def provoke(stage: Stage, one: Provocation) -> list[tuple[str, str, str, str, str]]:
    """Rows of the table: alert, source, what was done, seconds to the notification, and from mending to the end."""
    await until(lambda: not stage.people.firing(), f"nothing fires before: {one.what}", 300)
    started = time.monotonic()
    awaited = [(f"Stillwatch{name}", False) for name in one.rules]
    awaited += [(f"Stillwatch{name}", True) for name in one.topic]
    rows, mended = [], None
    fault = ""
    try:
        async with one.done(stage):
            for name, of_topic in awaited:
                await until(
                    lambda n=name, t=of_topic: stage.people.first("firing", n, started, t) is not None,
                    f"{name} fires",
                    one.seconds,
                )
            mended = time.monotonic()
        for name, of_topic in awaited:
            since = stage.people.first("firing", name, started, of_topic) or started
            await until(
                lambda n=name, t=of_topic, s=since: stage.people.first("resolved", n, s, t) is not None, f"{name} ends"
            )
    except TimeoutError as error:
        fault = str(error)
    for name, of_topic in awaited:
        fired = stage.people.first("firing", name, started, of_topic)
        ended = stage.people.first("resolved", name, fired or started, of_topic)
        rows.append((
            name, "topic" if of_topic else "rule", one.what,
            f"{fired - started:.0f} s" if fired else "NOT TOLD",
            f"{max(0, ended - (mended or started)):.0f} s" if ended else f"NOT ENDED {fault}",
        ))  # fmt: skip
    return rows


async def play(stage: Stage, only: Sequence[str]) -> int:
    """All provocations, or those whose words are given; how many alerts did not come and go."""
    flowing = asyncio.create_task(stage.flow())
    await stage.ready("w0")
    failed = 0
    try:
        say("| alert | of | provoked by | told after | over, after mending |\n| --- | --- | --- | --- | --- |")
        for one in PROVOCATIONS:
            if only and not any(word in one.what for word in only):
                continue
            for row in await provoke(stage, one):
                failed += any("NOT" in cell for cell in row[3:])
                say("| " + " | ".join(row) + " |")
        hooked = sorted({(name, state) for _, state, name in stage.people.hooked})
        say(f"webhook was told: {', '.join(f'{name} {state}' for name, state in hooked)}")
        never = {rule["alert"] for group in rules() for rule in group["rules"] if "alert" in rule}
        never -= {what for _, _, what, labels in stage.people.told if "subject" not in labels}
        if not only:
            say(f"rules never seen firing: {', '.join(sorted(never)) or 'none'}")
            failed += len(never)
    finally:
        flowing.cancel()
    return failed


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "k8s/observe/rules.yaml").read_text())["groups"]
    return found


async def main(only: Sequence[str]) -> int:
    """Set everything up, provoke, take everything down."""
    for name in ("prometheus", "prometheus-alertmanager"):
        if shutil.which(name) is None:
            sys.exit(f"needs {name}: apt-get install prometheus prometheus-alertmanager")
    people = People()
    app = web.Application()
    app.add_routes([web.post("/people", people.manager), web.post("/hook", people.hook)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    here = f"http://127.0.0.1:{runner.addresses[0][1]}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="provoke-")))
        broker = stack.enter_context(kafka_broker(folder))
        ports = {name: free_port() for name in ("w0", "w1", "forwarder", "prometheus", "alertmanager")}
        (folder / "policy.toml").write_text(WATCH_EVERYONE)
        environment = broker.environment(
            STILLWATCH_POLICY=str(folder / "policy.toml"),
            STILLWATCH_ALERTMANAGER=f"http://127.0.0.1:{ports['alertmanager']}",
            STILLWATCH_WEBHOOK=f"{here}/hook",
            STILLWATCH_DELIVERY_SECONDS="30",
            STILLWATCH_SESSION_SECONDS="45",
        )
        settings = Settings.read(environment)
        await topics.create(settings)
        _configure(folder, ports, here)
        _start(stack, folder, [
            "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
        ])  # fmt: skip
        _start(stack, folder, [
            "prometheus-alertmanager", f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}", "--cluster.listen-address=",
            f"--web.listen-address=127.0.0.1:{ports['alertmanager']}",
        ])  # fmt: skip
        async with AsyncExitStack() as clients:
            producer = await clients.enter_async_context(settings.producer())
            stage = Stage(folder, broker, settings, environment, people, stack, producer, ports)
            try:
                stage.start("w0")
                stage.start("forwarder", "alerts", "forward")
                return await play(stage, only)
            finally:
                broker_process = broker.java and broker.java.process
                if broker_process:
                    broker_process.send_signal(signal.SIGCONT)
                for process in stage.processes.values():
                    if process.poll() is None:
                        process.kill()
                        process.wait()
                await runner.cleanup()


def _configure(folder: Path, ports: dict[str, int], here: str) -> None:
    (folder / "rules.yml").write_text(shortened((ROOT / "k8s/observe/rules.yaml").read_text()))
    targets = [f"127.0.0.1:{ports[name]}" for name in ("w0", "w1", "forwarder")]
    (folder / "prometheus.yml").write_text(yaml.safe_dump({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ports['alertmanager']}"]}]}]},
        "scrape_configs": [{"job_name": "stillwatch", "static_configs": [{"targets": targets}]}],
    }))  # fmt: skip
    (folder / "alertmanager.yml").write_text(yaml.safe_dump({
        "route": {"receiver": "people", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s",
                  "repeat_interval": "1h"},
        "receivers": [{"name": "people", "webhook_configs": [{"url": f"{here}/people", "send_resolved": True}]}],
    }))  # fmt: skip


def _start(stack: ExitStack, folder: Path, command: list[str]) -> None:
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.terminate)


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(main(sys.argv[1:])) else 0)
