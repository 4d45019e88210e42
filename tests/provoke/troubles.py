"""What is done to it, and which alerts must come of it."""

import asyncio
import contextlib
import itertools
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from crowds import campaign, settled
from fleet import WATCH_EVERYONE
from stories import request

from gateway.request import encode
from sinks.alerts import alert
from streams import topics
from streams.topics import Topic

from .stage import PATIENCE_SECONDS, RATE, Stage, until

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
async def deleted(stage: Stage, topic: Topic) -> AsyncIterator[None]:
    """A topic is gone, and made anew afterwards; a worker that gave up is started again."""
    admin = AIOKafkaAdminClient(**stage.settings.connection())
    await admin.start()
    try:
        await admin.delete_topics([topic.name(stage.settings)])
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
    """Send for as long as the body lasts, also where it fails; what was begun is finished."""
    done = asyncio.Event()

    async def keep_on() -> None:
        while not done.is_set():
            await send()
            await asyncio.sleep(0)

    sending = asyncio.create_task(keep_on())
    try:
        yield
    finally:
        done.set()
        await sending


@asynccontextmanager
async def starved(stage: Stage) -> AsyncIterator[None]:
    """The worker gets a fifth of its core, as beside greedy neighbours: whoever sends outruns it, on any machine."""
    worker = stage.processes["w0"]

    async def breath() -> None:
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.4)
        worker.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.1)

    async with again_and_again(breath):
        yield


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

    async with starved(stage), again_and_again(send):
        yield
    await _worked_off(stage, "stillwatch_lag_seconds")


@asynccontextmanager
async def garbage(stage: Stage) -> AsyncIterator[None]:
    topic = topics.REQUESTS.name(stage.settings)

    async def flood() -> None:
        await asyncio.sleep(0.1)
        for _ in range(RATE // 5):
            await stage.producer.send(topic, random.randbytes(200), key=b"g%d" % random.randrange(100))

    async with again_and_again(flood):
        yield


@asynccontextmanager
async def another_partitioner(stage: Stage) -> AsyncIterator[None]:
    topic = topics.REQUESTS.name(stage.settings)
    numbers = itertools.count(1)

    async def scatter() -> None:
        await asyncio.sleep(0.05)
        for number in itertools.islice(numbers, 5):
            message = encode(request(f"s{number % 50}", int(time.time() * 1000), id=f"s{number}"))
            partition = number % stage.settings.partitions
            await stage.producer.send(topic, message, key=b"s%d" % (number % 50), partition=partition)

    async with again_and_again(scatter):
        yield
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
async def links_of_ten_minutes_ago(stage: Stage) -> AsyncIterator[None]:
    """What accounts have in common, as after a long pause, faster than it is looked at."""
    topic, at = topics.LINKS.name(stage.settings), int(time.time() * 1000) - 600_000

    async def send() -> None:
        for _ in range(500):
            await stage.producer.send(topic, random.randbytes(200), key=b"w", timestamp_ms=at)

    async with again_and_again(send):
        yield
    await _worked_off(stage, "stillwatch_lag_links_seconds")


async def _worked_off(stage: Stage, lag: str) -> None:
    """What was sent too fast has been looked at: from here on the alerts may end."""

    async def caught_up() -> bool:
        behind = await stage.metric("w0", lag)
        return behind is not None and behind < 5

    await until(caught_up, f"{lag} is below 5", 600)


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
    Provocation("the enforcement topic deleted", partial(deleted, topic=topics.ENFORCEMENT), ["EnforcementUnwritable"]),
    Provocation("Kafka hangs for 20 s, again and again", kafka_hangs_again_and_again, ["CheckpointOld"]),
    Provocation("nobody sends requests", nobody_sends, ["NoRequests"]),
    Provocation(
        "requests of ten minutes ago, faster than a starved worker works them off",
        requests_of_ten_minutes_ago,
        ["Lagging", "FarBehind", "VerdictsLateFast", "VerdictsLateSlow"],
    ),
    Provocation("garbage, twice as much as requests", garbage, ["Unreadable", "MostlyUnreadable"]),
    Provocation("a producer with another partitioner", another_partitioner, ["Strays"], ["Strays"]),
    Provocation("a policy file with a slip in it", policy_written_wrong, ["PolicyRefused"]),
    Provocation("a policy that would stop everyone", policy_that_would_stop_everyone, ["BrakePulled"], ["BrakePulled"]),
    Provocation("the standings topic deleted", partial(deleted, topic=topics.STANDINGS), ["Deaf"]),
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
