"""Bare: aiokafka's own records without its wrapping, and that it still lets us in."""

import asyncio
from typing import NamedTuple, cast

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from brokers import Broker
from test_watch import new_watch

from streams import topics
from streams.app import create_app
from streams.engine.bare import make_bare
from streams.engine.transport import Consumer
from streams.settings import Settings

REQUESTS, FEEDBACK = topics.REQUESTS, topics.FEEDBACK


class Seen(NamedTuple):
    """All that anybody here looks at."""

    key: bytes | None
    value: bytes | None
    offset: int
    timestamp: int
    headers: list[tuple[str, bytes]]


@pytest.fixture
async def settings(broker: Broker) -> Settings:
    """Three records on one partition of two topics, two of them in one batch."""
    found = Settings.read(broker.environment())
    await topics.create(found)
    async with found.producer() as producer:
        for topic in (REQUESTS, FEEDBACK):
            batch = producer.create_batch()
            batch.append(key=b"ada", value=b"1", timestamp=1_000, headers=[("position", b"7")])
            batch.append(key=None, value=b"2", timestamp=1_001, headers=[])
            await (await producer.send_batch(batch, topic.name(found), partition=0))
            await producer.send_and_wait(topic.name(found), None, b"eve", partition=0, timestamp_ms=1_002)
    return found


def both(settings: Settings) -> tuple[TopicPartition, TopicPartition]:
    """What a worker takes in chunks, and what it does not."""
    return TopicPartition(REQUESTS.name(settings), 0), TopicPartition(FEEDBACK.name(settings), 0)


def wrappings(records: list[ConsumerRecord]) -> list[bool]:
    """Which are wrapped."""
    return [isinstance(record, ConsumerRecord) for record in records]


async def taken(consumer: AIOKafkaConsumer, start: int = 0) -> dict[TopicPartition, list[ConsumerRecord]]:
    """Everything of its partitions from an offset on."""
    found: dict[TopicPartition, list[ConsumerRecord]] = {tp: [] for tp in consumer.assignment()}
    for tp in found:
        consumer.seek(tp, start)
    while any([await consumer.position(tp) < 3 for tp in found]):
        for tp, records in (await consumer.getmany(timeout_ms=1_000)).items():
            found[tp] += records
    return found


async def test_records_are_bare_where_that_was_asked_for_and_say_the_same(settings: Settings) -> None:
    tps = bare, _ = both(settings)
    async with AIOKafkaConsumer(**settings.connection(), enable_auto_commit=False) as consumer:
        make_bare(consumer, {bare.topic})
        consumer.assign(tps)
        found = await taken(consumer)
        # From the middle of a batch, too: what lies before is skipped, and the position is kept.
        rest = await taken(consumer, start=1)

    assert [wrappings(found[tp]) for tp in tps] == [[False] * 3, [True] * 3], "aiokafka does not let us in any more"
    expected = [
        Seen(b"ada", b"1", 0, 1_000, [("position", b"7")]),
        Seen(None, b"2", 1, 1_001, []),
        Seen(b"eve", None, 2, 1_002, []),
    ]
    for records in found.values():
        assert [Seen(r.key, r.value, r.offset, r.timestamp, list(r.headers)) for r in records] == expected
    assert [record.offset for record in rest[bare]] == [1, 2]


async def test_a_worker_takes_requests_bare_and_what_faust_reads_as_faust_knows_it(settings: Settings) -> None:
    watch, _ = new_watch(settings)
    app = create_app(settings, watch)
    app.finalize()
    thread = cast(Consumer, app.consumer)._new_consumer_thread()
    thread.thread_loop = asyncio.get_running_loop()

    await thread.on_start()
    consumer = thread._ensure_consumer()
    tps = both(settings)
    consumer.assign(tps)
    found = await taken(consumer)
    await consumer.stop()

    assert [wrappings(found[tp]) for tp in tps] == [[False] * 3, [True] * 3]
