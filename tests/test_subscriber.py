"""The subscriber: a guard as new as the topic, whatever the topic holds and however the brokers do."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError
from brokers import Broker, free_port
from test_guard import action, verdict

from gateway.guard import Guard
from gateway.subscriber import Subscriber
from gateway.verdict import Verdict, encode
from streams import topics
from streams.settings import Settings
from streams.topics import ENFORCEMENT

HOUR_MS = 3_600_000

Record = tuple[bytes | None, bytes | None]


def now() -> int:
    return int(time.time() * 1000)


def fresh(value: str = "ada", action: str = "throttle", seq: int = 1, **fields: object) -> Verdict:
    """A verdict of the next hour."""
    return verdict(value, action, seq, **{"at": now(), "expires_at": now() + HOUR_MS, **fields})


def record(one: Verdict) -> Record:
    return one.subject.encode(), encode(one)


async def produce(settings: Settings, records: Iterable[Record]) -> None:
    async with settings.producer() as producer:
        topic = ENFORCEMENT.name(settings)
        await asyncio.gather(*[await producer.send(topic, value, key) for key, value in records])


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  (what is waited for lies behind a broker)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def following(settings: Settings, guard: Guard) -> AsyncIterator[Subscriber]:
    subscriber = Subscriber(guard, settings.connection(), ENFORCEMENT.name(settings), now)
    task = asyncio.create_task(subscriber.run())
    try:
        yield subscriber
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def wired(broker: Broker) -> Settings:
    settings = Settings.read(broker.environment())
    await topics.create(settings)
    return settings


async def test_what_stood_on_the_topic_and_what_comes_reaches_the_guard(broker: Broker) -> None:
    settings = await wired(broker)
    await produce(settings, (record(fresh(f"a{n}")) for n in range(1_000)))
    guard = Guard()

    async with following(settings, guard) as subscriber:
        assert guard.stale(now())
        assert guard.find(now(), "a7") is None
        await asyncio.wait_for(subscriber.restored.wait(), 20)
        assert not guard.stale(now())
        assert len(guard) == 1_000
        assert action(guard.find(now(), "a7")) == "throttle"

        await produce(settings, [record(fresh("a7", "verify", 2)), (b"account:a8", None)])
        await until(lambda: action(guard.find(now(), "a7")) == "verify")
        await until(lambda: guard.find(now(), "a8") is None)


async def test_each_replica_hears_everything(embedded: Broker) -> None:
    settings = await wired(embedded)
    guards = [Guard(), Guard(), Guard()]
    async with following(settings, guards[0]), following(settings, guards[1]), following(settings, guards[2]):
        await produce(settings, [record(fresh("ada")), record(fresh("bob"))])
        await until(lambda: [len(guard) for guard in guards] == [2, 2, 2])


async def test_an_empty_topic_is_no_stale_one(embedded: Broker) -> None:
    guard = Guard()
    async with following(await wired(embedded), guard) as subscriber:
        await asyncio.wait_for(subscriber.restored.wait(), 20)
        assert (guard.stale(now()), len(guard)) == (False, 0)


@pytest.mark.kafka
async def test_a_missing_topic_leaves_it_stale_until_it_is_there(kafka: Broker) -> None:
    settings = Settings.read(kafka.environment())
    guard = Guard()
    async with following(settings, guard) as subscriber:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(subscriber.restored.wait(), 2)
        assert guard.stale(now())
        await topics.create(settings)
        await asyncio.wait_for(subscriber.restored.wait(), 30)


GARBAGE: list[Record] = [
    (b"account:ada", b""),
    (b"account:ada", b"\x00\xff"),
    (b"account:ada", b"{}"),
    (b"account:ada", b"[" * 100_000),
    (b"account:ada", b'{"seq": 1e999}'),
    (b"", None),
    (b"\xff\xfe", None),
    (b"account:nobody", None),
    (b"account:bob", encode(fresh("ada", seq=9))),  # Under another subject's key.
    (None, encode(fresh("ada", seq=9))),
]


async def test_garbage_is_counted_and_skipped(embedded: Broker) -> None:
    settings = await wired(embedded)
    await produce(settings, [record(fresh("ada", "watch")), *(GARBAGE * 20), record(fresh("bob", "verify"))])
    guard = Guard()
    async with following(settings, guard) as subscriber:
        await asyncio.wait_for(subscriber.restored.wait(), 20)
        assert (subscriber.read, subscriber.unreadable) == (2 + 20 * 10, 20 * 7)
        assert [action(guard.find(now(), name)) for name in ("ada", "bob")] == ["watch", "verify"]


@pytest.mark.kafka
async def test_without_brokers_it_gets_stale_and_when_they_return_it_recovers(frail_kafka: Broker) -> None:
    if frail_kafka.java is None:
        pytest.skip("this Kafka is not ours to stop")
    settings = await wired(frail_kafka)
    await produce(settings, [record(fresh("ada"))])
    guard = Guard(stale_seconds=2)
    async with following(settings, guard) as subscriber:
        await until(lambda: action(guard.find(now(), "ada")) == "throttle")
        frail_kafka.java.end()
        try:
            await until(lambda: guard.stale(now()))
            assert guard.find(now(), "ada") is None
        finally:
            await asyncio.to_thread(frail_kafka.java.start)
        await until(lambda: action(guard.find(now(), "ada")) == "throttle", seconds=60)
        assert subscriber.read == 1, "it went on where it stood"
        await produce(settings, [record(fresh("ada", "verify", 2))])
        await until(lambda: action(guard.find(now(), "ada")) == "verify")


@pytest.mark.kafka
async def test_a_topic_made_anew_is_read_from_its_new_start(kafka: Broker) -> None:
    settings = await wired(kafka)
    await produce(settings, (record(fresh(f"a{n}")) for n in range(100)))
    guard = Guard()
    async with following(settings, guard) as subscriber:
        await asyncio.wait_for(subscriber.restored.wait(), 20)
        admin = AIOKafkaAdminClient(**settings.connection())
        await admin.start()
        await admin.delete_topics([ENFORCEMENT.name(settings)])
        await admin.close()
        await recreated(settings)
        await produce(settings, [record(fresh("bob", "verify"))])
        await until(lambda: action(guard.find(now(), "bob")) == "verify", seconds=60)


async def recreated(settings: Settings) -> None:
    """Deleting takes the brokers a moment."""
    async with asyncio.timeout(20):
        while ENFORCEMENT.name(settings) not in await topics.create(settings):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_no_broker_at_all_is_waited_for() -> None:
    settings = Settings.read({"STILLWATCH_BROKERS": f"127.0.0.1:{free_port()}"})
    guard = Guard()
    with pytest.raises(KafkaConnectionError):
        await settings.producer().start()
    async with following(settings, guard) as subscriber:
        await until(lambda: subscriber.failures > 0)
        assert guard.find(now(), "ada") is None


async def test_after_half_a_day_away_the_table_is_made_anew(embedded: Broker) -> None:
    """What was lifted meanwhile may have vanished from the topic, null and all."""
    settings = await wired(embedded)
    await produce(settings, [record(fresh("ada"))])
    guard = Guard()
    guard.take(fresh("bob", expires_at=now() + 100 * HOUR_MS), now())
    guard.confirm(now() - 13 * HOUR_MS)
    async with following(settings, guard) as subscriber:
        await asyncio.wait_for(subscriber.restored.wait(), 20)
        assert action(guard.find(now(), "ada")) == "throttle"
        assert guard.find(now(), "bob") is None
