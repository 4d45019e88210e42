"""Follow: a topic is heard whole, again when asked, and on after Kafka refused."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from brokers import Broker, free_port
from prometheus_client import CollectorRegistry

from sinks.metrics import Metrics
from streams import topics
from streams.engine.follow import Follower
from streams.settings import Settings
from streams.topics import FEEDBACK


class Ear:
    """What was heard, by partition."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes | None]] = []

    async def hear(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        self.heard += [(partition, record.value) for record in records]


@pytest.fixture
async def settings(broker: Broker) -> Settings:
    return Settings.read(broker.environment(STILLWATCH_PARTITIONS="2"))


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    async with settings.producer() as producer:
        yield producer


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_topic_is_heard_whole_and_one_partition_again(settings: Settings, producer: AIOKafkaProducer) -> None:
    await topics.create(settings)
    name, ear = FEEDBACK.name(settings), Ear()
    for partition, value in ((0, b"a"), (1, b"b"), (1, b"c")):
        await producer.send_and_wait(name, value, partition=partition)
    metrics = Metrics(CollectorRegistry())
    follower = Follower(FEEDBACK, settings, metrics, ear.hear)
    running = asyncio.create_task(follower.run())

    await asyncio.wait_for(follower.caught_up(), 30)
    assert sorted(ear.heard) == [(0, b"a"), (1, b"b"), (1, b"c")]

    await producer.send_and_wait(name, b"d", partition=0)
    await asyncio.wait_for(follower.caught_up({1}), 30)
    assert sorted(ear.heard) == sorted([(0, b"a"), (0, b"d"), *[(1, b"b"), (1, b"c")] * 2])
    assert metrics.registry.get_sample_value("stillwatch_following", {"topic": "feedback"}) == 1
    await end(running)


async def test_a_topic_that_cannot_be_read_is_tried_again_until_it_can(settings: Settings) -> None:
    await topics.create(settings)
    metrics, ear = Metrics(CollectorRegistry()), Ear()
    follower = Follower(FEEDBACK, replace(settings, brokers=f"127.0.0.1:{free_port()}"), metrics, ear.hear)
    running = asyncio.create_task(follower.run())

    async with asyncio.timeout(30):
        while not metrics.registry.get_sample_value("stillwatch_follow_failures_total", {"topic": "feedback"}):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert metrics.registry.get_sample_value("stillwatch_following", {"topic": "feedback"}) == 0
    follower._settings = settings  # now there is somebody
    await asyncio.wait_for(follower.caught_up(), 30)
    assert metrics.registry.get_sample_value("stillwatch_following", {"topic": "feedback"}) == 1
    await end(running)


async def test_a_fault_of_ours_is_not_taken_for_one_of_kafkas(settings: Settings, producer: AIOKafkaProducer) -> None:
    await topics.create(settings)
    await producer.send_and_wait(FEEDBACK.name(settings), b"a", partition=0)

    async def hear(partition: int, records: Sequence[ConsumerRecord]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(Follower(FEEDBACK, settings, Metrics(CollectorRegistry()), hear).run(), 30)
