"""Forward: from the alerts topic to Alertmanagers and a webhook, whoever is away for a while."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from brokers import Broker
from prometheus_client import CollectorRegistry

from sinks.alerts import Alert, alert, announcement
from sinks.forwarding import ForwardingMetrics
from streams import topics
from streams.access import FORWARDERS
from streams.forward import Forwarder, group
from streams.settings import Settings
from streams.topics import ALERTS

MANAGER, HOOK = "http://manager", "http://hook"


def wall() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class People:
    """Whom we tell: what they took, and who is away."""

    away: set[str] = field(default_factory=set)
    refuses: str = "\0"
    """A text for which the Alertmanager refuses a post."""
    taken: list[tuple[str, Any]] = field(default_factory=list)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        to = url.removesuffix("/api/v2/alerts")
        if to in self.away:
            raise ConnectionRefusedError
        if self.refuses in body.decode():
            return 400
        self.taken.append((to, json.loads(body)))
        return 200

    def hooked(self) -> list[tuple[str, str]]:
        """What the webhook was told, in order."""
        return [(body["subject"], body["state"]) for to, body in self.taken if to == HOOK]

    def managed(self) -> dict[str, tuple[str, bool]]:
        """What the Alertmanager was told last of each subject: its severity, and whether it holds."""
        found = {}
        for to, rows in self.taken:
            for row in rows if to == MANAGER else ():
                ends_at = time.mktime(time.strptime(row["endsAt"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
                found[row["labels"]["subject"]] = row["labels"]["severity"], ends_at > time.time()
        return found


@dataclass
class Desk:
    """A topic, and forwarders that come and go."""

    settings: Settings
    people: People
    now: Callable[[], int] = wall
    metrics: ForwardingMetrics = field(default_factory=lambda: ForwardingMetrics(CollectorRegistry()))

    async def say(self, *alerts: Alert | bytes) -> None:
        async with self.settings.producer() as producer:
            for one in alerts:
                key, value = (b"", one) if isinstance(one, bytes) else announcement(one)
                await producer.send_and_wait(ALERTS.name(self.settings), value, key)

    @asynccontextmanager
    async def forwarding(self) -> AsyncIterator[Forwarder]:
        consumer = AIOKafkaConsumer(
            **self.settings.connection(), group_id=group(self.settings), enable_auto_commit=False
        )
        self.metrics = ForwardingMetrics(CollectorRegistry())
        async with consumer:
            forwarder = Forwarder(
                self.settings, consumer, self.people.post, self.metrics,
                now=self.now, clock=time.monotonic, sleep=lambda _: asyncio.sleep(0.01),
            )  # fmt: skip
            running = asyncio.create_task(forwarder.run())
            try:
                await until(lambda: forwarder.ready or running.done())
                yield forwarder
                if HOOK not in self.people.away:  # what it was told is committed a moment later
                    await until(lambda: (forwarder._told is None and forwarder._news.empty()) or running.done())
                if running.done():
                    running.result()
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    async def committed(self) -> int | None:
        consumer = AIOKafkaConsumer(
            **self.settings.connection(), group_id=group(self.settings), enable_auto_commit=False
        )
        async with consumer:
            tp = TopicPartition(ALERTS.name(self.settings), 0)
            consumer.assign([tp])
            return await consumer.committed(tp)


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  (a condition of others has nothing to wait on)
            await asyncio.sleep(0.01)


@pytest.fixture
async def desk(broker: Broker) -> Desk:
    settings = Settings.read(broker.environment(STILLWATCH_ALERTMANAGER=f"{MANAGER}/", STILLWATCH_WEBHOOK=HOOK))
    await topics.create(settings)
    return Desk(settings, People())


def strays(subject: str = "topic:a", at: int | None = None) -> Alert:
    return alert("strays", subject, wall() if at is None else at, "Strays.")


def test_the_group_is_the_one_that_permissions_name() -> None:
    assert group(Settings()) == FORWARDERS


async def test_a_beginning_and_an_end_are_told_once_and_a_restart_tells_nothing_again(desk: Desk) -> None:
    first = strays()
    async with desk.forwarding():
        await desk.say(first, first.again(wall()), b"no alert")
        await until(lambda: desk.people.hooked() == [("topic:a", "firing")])
        await until(lambda: desk.people.managed() == {"topic:a": ("warning", True)})
        await desk.say(first.ended(wall()))
        await until(lambda: desk.people.hooked() == [("topic:a", "firing"), ("topic:a", "resolved")])
        await until(lambda: desk.people.managed() == {"topic:a": ("warning", False)})
        read = desk.metrics.registry.get_sample_value
        assert [read("stillwatch_read_alerts_total", {"outcome": how}) for how in ("new", "again", "unreadable")] == [
            2, 1, 1,
        ]  # fmt: skip
    assert await desk.committed() == 4
    async with desk.forwarding():
        await desk.say(strays("topic:b"))
        await until(lambda: len(desk.people.hooked()) == 3)
        assert desk.people.hooked()[2] == ("topic:b", "firing")


async def test_who_is_told_for_the_first_time_hears_what_holds_and_not_what_is_over(desk: Desk) -> None:
    long_ago = wall() - 2 * 3_600_000
    await desk.say(strays("topic:over", long_ago), strays("topic:ended"), strays("topic:ended").ended(wall() + 1))
    await desk.say(strays("topic:holds"))
    async with desk.forwarding():
        await until(lambda: desk.people.hooked() == [("topic:holds", "firing")])
    async with desk.forwarding():
        await until(lambda: "topic:holds" in desk.people.managed())
        assert desk.people.hooked() == [("topic:holds", "firing")]


async def test_a_webhook_that_is_away_hears_everything_in_order_and_keeps_no_alertmanager_waiting(desk: Desk) -> None:
    desk.people.away = {HOOK}
    async with desk.forwarding() as forwarder:
        await desk.say(strays("topic:a"), strays("topic:b"))
        await until(lambda: set(desk.people.managed()) == {"topic:a", "topic:b"})
        forwarder.measure()
        waits = desk.metrics.registry.get_sample_value("stillwatch_unforwarded_seconds", {"to": "webhook"})
        assert waits is not None
        assert waits > 0
        assert desk.people.hooked() == []
    # It was never told, so nothing is committed, and the next one tells it.
    desk.people.away = set()
    async with desk.forwarding():
        await until(lambda: desk.people.hooked() == [("topic:a", "firing"), ("topic:b", "firing")])


async def test_an_alertmanager_that_was_away_or_forgot_is_told_all_that_stands(desk: Desk) -> None:
    desk.people.away = {MANAGER}
    async with desk.forwarding():
        await desk.say(strays("topic:a"))
        await until(lambda: desk.people.hooked() == [("topic:a", "firing")])
        desk.people.away = set()
        await until(lambda: set(desk.people.managed()) == {"topic:a"})
    desk.people.taken.clear()  # it forgot, and we are started anew
    async with desk.forwarding():
        await until(lambda: set(desk.people.managed()) == {"topic:a"})
    assert desk.people.hooked() == []


async def test_an_alert_that_an_alertmanager_refuses_keeps_no_other_from_it(desk: Desk) -> None:
    desk.people.refuses = "topic:bad"
    async with desk.forwarding():
        await desk.say(strays("topic:a"), strays("topic:bad"), strays("topic:b"))
        await until(lambda: set(desk.people.managed()) == {"topic:a", "topic:b"})


async def test_what_runs_out_while_nobody_forwards_is_told_once_and_what_is_said_again_is_not(desk: Desk) -> None:
    """Two alerts that hold an hour; the forwarder is away for two, and one of them was said again meanwhile."""
    begun = wall()
    async with desk.forwarding():
        await desk.say(strays("topic:a", begun), strays("topic:b", begun))
        await until(lambda: len(desk.people.hooked()) == 2)
    await desk.say(strays("topic:b", begun).again(begun + 3_000_000), strays("topic:b", begun).again(begun + 6_000_000))
    desk.people.taken.clear()
    desk.now = lambda: begun + 7_200_000
    for _ in range(2):
        async with desk.forwarding():
            await until(lambda: desk.people.hooked() == [("topic:a", "resolved")])
            await until(lambda: "topic:b" in desk.people.managed())
    assert desk.people.hooked() == [("topic:a", "resolved")]
