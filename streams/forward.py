"""Forward: alerts from their topic to Alertmanagers and a webhook.

An Alertmanager is told everything that stands, at once when something is new and then every minute: it forgets when it
is restarted, and knows repetitions by their labels. A webhook is told each beginning and each end once; how far it was
told is committed, so after a restart it goes on there. What was told and could not be committed is told again, with the
same id: at least once.
"""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from prometheus_client import CollectorRegistry

from sinks import alertmanager, webhook
from sinks.alerts import Alert, UnreadableAlertError, decode
from sinks.forwarding import ForwardingMetrics
from sinks.notices import Notice, Notices
from sinks.retry import Post, Sleep, retry

from .engine.vitals import vitals
from .settings import Settings
from .topics import ALERTS, TopicsError, counts

AGAIN_SECONDS: Final = 60.0
"""How often an Alertmanager is told everything."""

POLL_SECONDS: Final = 1.0
"""How often the ends of alerts are looked for."""

REMEMBERED_MS: Final = 7 * 24 * 3_600_000
"""How far back the topic is read at the start: no alert holds longer without being said again."""

ANSWER_SECONDS: Final = 10.0
"""How long a post may take."""

WAITING: Final = 1_000
"""Pieces of news that may wait for a webhook before reading stops."""


@dataclass(frozen=True, slots=True)
class News:
    """What is new after a poll, and what may be committed when it is told."""

    notices: list[Notice]
    positions: dict[TopicPartition, int]
    told_at: int
    """Ends up to this instant (ms UTC) are among what was told."""
    read_at: float


@dataclass(slots=True)
class Manager:
    """An Alertmanager."""

    url: str
    bell: asyncio.Event
    """Rings when there is something new to tell."""
    stale_at: float | None = None
    """Since when it has not heard of something new."""


class Forwarder:
    """One run of `stillwatch alerts forward`. `now` is the time in ms UTC, `clock` seconds that only rise."""

    def __init__(
        self,
        settings: Settings,
        consumer: AIOKafkaConsumer,
        post: Post,
        metrics: ForwardingMetrics,
        *,
        now: Callable[[], int],
        clock: Callable[[], float],
        sleep: Sleep = asyncio.sleep,
        dice: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._post = post
        self._metrics = metrics
        self._now = now
        self._clock = clock
        self._sleep = sleep
        self._dice = dice or random.Random()
        self._token = settings.webhook_token()
        self._notices = Notices()
        self._news: asyncio.Queue[News] = asyncio.Queue(WAITING)
        self._positions: dict[TopicPartition, int] = {}
        """The offsets after what the webhook was told."""
        self._told: News | None = None
        """What the webhook is being told."""
        self._managers = [
            Manager(url.strip(), asyncio.Event()) for url in (settings.alertmanager or "").split(",") if url.strip()
        ]
        self.ready = False
        """True when the topic's past is read."""

    async def run(self) -> None:
        """Forward until cancelled. Raises KafkaError when the topic cannot be read."""
        await self._restore()
        self.ready = True
        work = [self._poll(), self._tell_webhook(), *map(self._tell_manager, self._managers)]
        tasks = [asyncio.create_task(each) for each in work]
        try:
            # None of them ends but by a fault.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()

    def measure(self) -> None:
        """Set the gauges to how things are now."""
        for severity in ("critical", "warning", "info"):
            count = sum(alert.severity == severity for alert in self._notices.firing())
            self._metrics.firing.labels(severity).set(count)
        stale = [self._clock() - one.stale_at for one in self._managers if one.stale_at is not None]
        self._metrics.unforwarded.labels("alertmanager").set(max(stale, default=0.0))
        waits = self._clock() - self._told.read_at if self._told and self._told.notices else 0.0
        self._metrics.unforwarded.labels("webhook").set(waits)

    # Reading

    async def _restore(self) -> None:
        """Read what was told before, and stand where the rest begins."""
        topic = ALERTS.name(self._settings)
        tps = [TopicPartition(topic, number) for number in range((await counts(self._settings)).get(topic, 0))]
        if not tps:
            raise TopicsError(f"missing topic: {topic}; create it with: stillwatch topics create")
        self._consumer.assign(tps)
        ends = await self._consumer.end_offsets(tps)
        remembered = await self._consumer.offsets_for_times(dict.fromkeys(tps, self._now() - REMEMBERED_MS))
        # `committed` drops the metadata, which is all that this call has more than it.
        kept = await self._consumer._coordinator.fetch_committed_offsets(tps)
        committed = {tp: found for tp, found in kept.items() if found.offset >= 0}
        past: list[Alert] = []
        for tp in tps:
            start = remembered[tp].offset if remembered[tp] else ends[tp]
            # Who was never told anything is told what holds now, not what held last week.
            until = ends[tp] if not committed else min(committed[tp].offset, ends[tp]) if tp in committed else 0
            if start < until:
                self._consumer.seek(tp, start)
                past += await self._between(tp, until)
            self._consumer.seek(tp, max(start, until))
            self._positions[tp] = max(start, until)
        for alert in sorted(past, key=lambda one: one.at):
            self._notices.expire(alert.at)
            self._notices.take(alert)
        if committed:
            self._notices.expire(max(int(found.metadata or 0) for found in committed.values()))
            return
        now = self._now()
        self._notices.expire(now)
        await self._say([Notice(alert, firing=True) for alert in self._notices.firing()], {}, now)

    async def _between(self, tp: TopicPartition, until: int) -> list[Alert]:
        found = []
        while await self._consumer.position(tp) < until:
            records = (await self._consumer.getmany(tp, timeout_ms=1_000)).get(tp, ())
            found += [alert for record in records if record.offset < until and (alert := _read(record.value))]
        return found

    async def _poll(self) -> None:
        """Take what comes and what runs out, and put what is new in hand."""
        while True:
            polled = await self._consumer.getmany(timeout_ms=int(POLL_SECONDS * 1000))
            now = self._now()
            new: list[Notice] = []
            for record in (record for records in polled.values() for record in records):
                alert = _read(record.value)
                found: list[Notice] = []
                if alert is not None:
                    new += self._notices.expire(min(alert.at, now))
                    found = self._notices.take(alert)
                new += found
                self._metrics.read.labels("unreadable" if alert is None else "new" if found else "again").inc()
            positions = {tp: records[-1].offset + 1 for tp, records in polled.items()}
            # While there is more to read, what seems to run out may be said again a message later.
            if await self._caught_up():
                new += self._notices.expire(now)
            if positions or new:
                await self._say(new, positions, now)

    async def _caught_up(self) -> bool:
        for tp in self._consumer.assignment():
            if await self._consumer.position(tp) < (self._consumer.highwater(tp) or 0):
                return False
        return True

    async def _say(self, new: list[Notice], positions: dict[TopicPartition, int], now: int) -> None:
        if new:
            for manager in self._managers:
                manager.stale_at = self._clock() if manager.stale_at is None else manager.stale_at
                manager.bell.set()
        await self._news.put(News(new, positions, now, self._clock()))

    # Telling

    async def _tell_webhook(self) -> None:
        """Tell the webhook what is new, in order, and commit what was told."""
        while True:
            self._told = news = await self._news.get()
            for notice in news.notices if self._settings.webhook else ():
                await self._try(
                    "webhook",
                    self._settings.webhook or "",
                    webhook.body(notice, self._settings.runbooks),
                    webhook.headers(notice, self._token),
                )
            self._positions |= news.positions
            await self._commit(news.told_at)
            self._told = None

    async def _commit(self, told_at: int) -> None:
        said = str(told_at)
        try:
            await self._consumer.commit({tp: OffsetAndMetadata(at, said) for tp, at in self._positions.items()})
        except KafkaError as error:
            # The next commit says it too. Until then a restart tells again, with the same ids.
            if not error.retriable:
                raise

    async def _tell_manager(self, manager: Manager) -> None:
        """Tell an Alertmanager all that stands, at once when something is new, and again every minute."""
        while True:
            manager.bell.clear()
            alerts = self._notices.standing()
            if alerts:
                await self._tell(manager.url, alerts)
            if not manager.bell.is_set():
                manager.stale_at = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SECONDS):
                    await manager.bell.wait()

    async def _tell(self, url: str, alerts: list[Alert]) -> None:
        headers = {"Content-Type": "application/json"}
        target = url.rstrip("/") + alertmanager.PATH
        body = alertmanager.body(alerts, self._settings.runbooks)
        if not await self._try("alertmanager", target, body, headers) and len(alerts) > 1:
            # It refuses all for one: tell them one by one, so that one keeps nobody from the others.
            for alert in alerts:
                await self._try("alertmanager", target, alertmanager.body([alert], self._settings.runbooks), headers)

    async def _try(self, to: str, url: str, body: bytes, headers: Mapping[str, str]) -> bool:
        return await retry(
            self._post,
            url,
            body,
            headers,
            sleep=self._sleep,
            dice=self._dice,
            tried=lambda outcome: self._metrics.posts.labels(to, outcome).inc(),
        )


def _read(value: bytes | None) -> Alert | None:
    try:
        return decode(value or b"")
    except UnreadableAlertError:
        return None


def group(settings: Settings) -> str:
    """The consumer group that says how far a webhook was told."""
    return f"{settings.group}-forwarder"


async def forward(settings: Settings) -> None:
    """Forward until SIGTERM or SIGINT. Raises KafkaError and TopicsError."""
    metrics = ForwardingMetrics(CollectorRegistry())
    consumer = AIOKafkaConsumer(**settings.connection(), group_id=group(settings), enable_auto_commit=False)
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with consumer, aiohttp.ClientSession(timeout=timeout) as web:

        async def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
            try:
                async with web.post(url, data=body, headers=dict(headers)) as answer:
                    return answer.status
            except aiohttp.ClientError as error:
                raise OSError(str(error)) from error

        forwarder = Forwarder(
            settings, consumer, post, metrics, now=lambda: time.time_ns() // 1_000_000, clock=time.monotonic
        )
        async with vitals(
            settings.web_host,
            settings.web_port,
            registry=metrics.registry,
            ready=lambda: forwarder.ready,
            alive=lambda: True,
            measure=forwarder.measure,
        ):
            running = asyncio.create_task(forwarder.run())
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, running.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await running
