"""Delivery: what waits for Kafka, and what it did not take."""

import asyncio

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from prometheus_client import CollectorRegistry
from test_watch import Clock, Wire

from sinks.metrics import Metrics
from streams.engine.delivery import Delivery
from streams.engine.outbox import Send
from streams.settings import Settings


class Desk:
    """A delivery over a wire, its clock and its numbers."""

    def __init__(self, send: Send | None = None) -> None:
        self.wire, self.clock, self.metrics = Wire(), Clock(), Metrics(CollectorRegistry())
        self.delivery = Delivery(send or self.wire.send, Settings(), self.metrics, self.clock)

    def metric(self, name: str, topic: str) -> float | None:
        self.delivery.measure()
        return self.metrics.registry.get_sample_value(name, {"topic": topic})


async def test_a_message_waits_from_the_moment_it_is_handed_over_until_kafka_has_it() -> None:
    desk = Desk()
    await desk.delivery.send("stillwatch.enforcement", b"1", b"k")
    desk.clock.seconds = 5.0
    await desk.delivery.send("stillwatch.enforcement", b"2", b"k")
    desk.clock.seconds = 7.0
    assert desk.metric("stillwatch_undelivered_seconds", "enforcement") == 7.0
    assert desk.metric("stillwatch_undelivered_seconds", "audit") == 0.0

    desk.wire.futures[0].set_result(None)
    await asyncio.sleep(0)
    assert desk.metric("stillwatch_undelivered_seconds", "enforcement") == 2.0
    desk.wire.futures[1].set_result(None)
    await asyncio.sleep(0)
    assert desk.metric("stillwatch_undelivered_seconds", "enforcement") == 0.0
    assert desk.metric("stillwatch_failed_deliveries_total", "enforcement") == 0


async def test_a_producer_that_lets_us_wait_is_seen_waiting() -> None:
    let_go = asyncio.Event()

    async def full(*_: object, **__: object) -> asyncio.Future[object]:
        await let_go.wait()
        return done()

    desk = Desk(full)
    sending = asyncio.create_task(desk.delivery.send("stillwatch.audit", b"1", b"k"))
    await asyncio.sleep(0)
    desk.clock.seconds = 3.0
    assert desk.metric("stillwatch_undelivered_seconds", "audit") == 3.0
    let_go.set()
    await sending
    await asyncio.sleep(0)
    assert desk.metric("stillwatch_undelivered_seconds", "audit") == 0.0


async def test_what_kafka_does_not_take_is_counted_by_topic() -> None:
    desk = Desk()
    await desk.delivery.send("stillwatch.audit", b"1", b"k")
    desk.wire.futures[0].set_exception(KafkaTimeoutError())
    await asyncio.sleep(0)
    assert desk.metric("stillwatch_failed_deliveries_total", "audit") == 1
    assert desk.metric("stillwatch_undelivered_seconds", "audit") == 0.0


async def test_what_is_too_large_is_no_failure_for_it_is_cut_and_sent_again() -> None:
    async def refuse(*_: object, **__: object) -> asyncio.Future[object]:
        raise MessageSizeTooLargeError

    desk = Desk(refuse)
    with pytest.raises(MessageSizeTooLargeError):
        await desk.delivery.send("stillwatch.unreadable", b"1", b"k")
    assert desk.metric("stillwatch_failed_deliveries_total", "unreadable") == 0
    assert desk.metric("stillwatch_undelivered_seconds", "unreadable") == 0.0


def done() -> asyncio.Future[object]:
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future
