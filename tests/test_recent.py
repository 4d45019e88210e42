"""Ids from before a restart: those that are committed, and no others."""

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from brokers import Broker
from stories import T0, request

from gateway.request import encode
from streams import topics
from streams.engine.recent import RecentRequests
from streams.settings import Settings


@pytest.mark.parametrize(("committed", "expected"), [(None, []), (3, ["0", "2"]), (5, ["0", "2", "3", "4"])])
async def test_committed_ids_are_recalled_and_no_others(
    broker: Broker, committed: int | None, expected: list[str]
) -> None:
    settings = Settings.read(broker.environment())
    await topics.create(settings)
    topic = topics.REQUESTS.name(settings)
    messages = [encode(request(at=T0, id=str(n))) if n != 1 else b"garbage" for n in range(5)]
    async with settings.producer() as producer:
        for message in messages:
            await producer.send_and_wait(topic, message, partition=2)
    if committed is not None:
        async with AIOKafkaConsumer(
            **settings.connection(), group_id=settings.group, enable_auto_commit=False
        ) as consumer:
            consumer.assign([TopicPartition(topic, 2)])
            await consumer.commit({TopicPartition(topic, 2): committed})

    assert await RecentRequests(settings)(2) == expected
