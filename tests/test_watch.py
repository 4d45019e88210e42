"""Watch: what becomes of micro-batches between fetch and ack."""

import asyncio
from asyncio import Future

import pytest
from aiokafka.errors import KafkaTimeoutError
from faust.types import TP
from fleet import WATCH_EVERYONE
from prometheus_client import CollectorRegistry
from stories import T0, Raw, request

from gateway.request import encode
from sinks.metrics import Metrics
from sinks.policy import Policy
from sinks.unreadable import Headers
from streams.engine.acks import Acks
from streams.engine.outbox import DeliveryError, Outbox
from streams.engine.transport import Chunk
from streams.engine.watch import Watch
from streams.pipeline import Pipeline
from streams.settings import Settings

POLICY = Policy.parse(WATCH_EVERYONE, "everyone")
ZERO = TP("stillwatch.requests", 0)


class Wire:
    """A broker that takes messages when it is told to."""

    def __init__(self) -> None:
        self.futures: list[Future[object]] = []
        self.topics: list[str] = []

    async def send(
        self, topic: str, value: bytes | None, key: bytes | None, *, headers: Headers | None = None
    ) -> Future[object]:
        self.topics.append(topic)
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]

    def take_all(self) -> None:
        for future in self.futures:
            if not future.done():
                future.set_result(None)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def new_watch(settings: Settings) -> tuple[Watch, Wire]:
    wire = Wire()
    watch = Watch(
        settings,
        new_pipeline=lambda: Pipeline(POLICY),
        outbox=Outbox(wire.send, settings),
        metrics=Metrics(CollectorRegistry()),
        clock=Clock(),
        now=lambda: T0,
    )
    return watch, wire


def chunk(acks: Acks, values: list[bytes], first: int) -> Chunk:
    records = [Raw(value, offset=first + n) for n, value in enumerate(values)]
    return Chunk(0, records, acks.fetched(first, first + len(values) - 1))  # type: ignore[arg-type]


REQUESTS = [encode(request("ada", T0 + n, id=str(n))) for n in range(100)]
"""The hundredth earns a verdict."""


async def test_nothing_is_acked_before_its_verdicts_are_delivered() -> None:
    watch, wire = new_watch(Settings())
    watch.assigned({ZERO})
    acks = Acks()
    await watch.take(chunk(acks, REQUESTS, 0))
    assert wire.topics == ["stillwatch.enforcement", "stillwatch.audit"]

    draining = asyncio.create_task(watch.drain())
    await asyncio.sleep(0)
    assert acks.committable() is None
    wire.take_all()
    await draining

    assert acks.committable() == 100


async def test_a_failed_delivery_is_not_acked() -> None:
    watch, wire = new_watch(Settings())
    watch.assigned({ZERO})
    acks = Acks()
    await watch.take(chunk(acks, REQUESTS, 0))
    wire.futures[0].set_exception(KafkaTimeoutError())
    wire.futures[1].set_result(None)

    with pytest.raises(DeliveryError):
        await watch.drain()

    assert acks.committable() is None


async def test_a_chunk_of_a_partition_that_moved_on_is_left_to_its_next_owner() -> None:
    watch, wire = new_watch(Settings())
    watch.assigned({ZERO})
    watch.revoked()
    acks = Acks()

    await watch.take(chunk(acks, REQUESTS, 0))
    await watch.drain()

    assert (wire.topics, acks.committable()) == ([], None)


async def test_checkpoints_come_by_count_and_by_time() -> None:
    watch, _ = new_watch(Settings(checkpoint_rows=10, checkpoint_seconds=5))
    watch.assigned({ZERO})
    acks = Acks()

    await watch.take(chunk(acks, REQUESTS[:9], 0))
    assert acks.committable() is None
    await watch.take(chunk(acks, REQUESTS[9:10], 9))
    assert acks.committable() == 10

    await watch.take(chunk(acks, REQUESTS[10:11], 10))
    await watch.tick()
    assert acks.committable() == 10
    watch._clock.seconds = 5.0  # type: ignore[attr-defined]
    await watch.tick()
    assert acks.committable() == 11
