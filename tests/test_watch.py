"""Watch: what becomes of micro-batches between fetch and ack."""

import asyncio
from asyncio import Future
from collections.abc import Collection
from functools import partial

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
from streams import topics
from streams.campaigns import Campaigns
from streams.engine.acks import Acks
from streams.engine.changelog import Rows, Stored
from streams.engine.links import LinksPartition
from streams.engine.outbox import DeliveryError, Outbox
from streams.engine.partition import Means
from streams.engine.recent import Recent
from streams.engine.register import Register
from streams.engine.requests import RequestsPartition
from streams.engine.strays import Strays
from streams.engine.transport import Chunk
from streams.engine.watch import Watch
from streams.pipeline import Pipeline
from streams.settings import Settings

POLICY = Policy.parse(WATCH_EVERYONE, "everyone")
ZERO = TP("stillwatch.requests", 0)


class Wire:
    """A broker that takes messages when it is told to; only what goes to campaigns it takes at once."""

    def __init__(self) -> None:
        self.futures: list[Future[object]] = []
        self.topics: list[str] = []
        self.sightings: list[bytes] = []

    async def send(
        self, topic: str, value: bytes | None, key: bytes | None, *, headers: Headers | None = None
    ) -> Future[object]:
        if topic == "stillwatch.links":
            assert value is not None
            self.sightings.append(value)
            taken: Future[object] = asyncio.get_running_loop().create_future()
            taken.set_result(None)
            return taken
        self.topics.append(topic)
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]

    def take_all(self) -> None:
        for future in self.futures:
            if not future.done():
                future.set_result(None)


class Shelf:
    """A changelog that is a dictionary of partitions."""

    def __init__(self) -> None:
        self.rows: dict[int, list[tuple[str, bytes]]] = {}
        self.models: bytes | None = None
        self.reads = 0
        self.writes: list[tuple[int, list[str]]] = []

    async def write(self, partition: int, position: int, rows: Rows, models: bytes | None = None) -> int:
        self.models = models or self.models
        rows = [(account, row) for account, row in rows if row is not None]
        self.writes.append((position, [account for account, _ in rows]))
        self.rows.setdefault(partition, []).extend(rows)
        return await self.end(partition)

    async def read(self, partition: int) -> Stored:
        self.reads += 1
        return Stored(
            self.rows.get(partition, []),
            self.models,
            max((p for p, _ in self.writes), default=0),
            await self.end(partition),
        )

    async def end(self, partition: int) -> int:
        return len(self.rows.get(partition, []))


async def nothing_recent(partition: int) -> list[str]:
    return []


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.utc_ms = T0

    def __call__(self) -> float:
        return self.seconds


class Nothing:
    """A followed topic that nobody writes to."""

    async def caught_up(self, again: Collection[int] = ()) -> None:
        return


def new_watch(
    settings: Settings,
    shelf: Shelf | None = None,
    recent: Recent = nothing_recent,
    campaigns: Shelf | None = None,
    register: Register | None = None,
) -> tuple[Watch, Wire]:
    nothing = Nothing()
    register = Register(settings.partitions) if register is None else register
    wire, clock = Wire(), Clock()
    means = Means(settings, Outbox(wire.send, settings), Metrics(CollectorRegistry()), clock, lambda: clock.utc_ms, T0)
    requests = partial(
        RequestsPartition,
        means=means,
        new_pipeline=lambda: Pipeline(POLICY),
        changelog=shelf or Shelf(),
        recent=recent,
        strays=Strays("stillwatch.requests", settings.partitions),
        register=register,
        feedback=nothing,
    )
    links = partial(
        LinksPartition,
        means=means,
        new_campaigns=lambda: Campaigns(POLICY),
        changelog=campaigns or Shelf(),
        register=register,
        feedback=nothing,
    )
    watch = Watch(means, {topics.REQUESTS: requests, topics.LINKS: links})
    register.pass_on, register.correct, register.caught_up = watch.stand, watch.correct, nothing.caught_up
    return watch, wire


async def given(watch: Watch) -> None:
    """Give the watch a partition and wait until it is restored."""
    released = asyncio.Event()
    watch.release = lambda _: released.set()
    watch.assigned({ZERO})
    await asyncio.wait_for(released.wait(), 5)


def chunk(acks: Acks, values: list[bytes], first: int, at: float = 0.0) -> Chunk:
    records = [Raw(value, offset=first + n, timestamp=T0) for n, value in enumerate(values)]
    return Chunk(ZERO, records, acks.fetched(first, first + len(values) - 1, at))  # type: ignore[arg-type]


REQUESTS = [encode(request("ada", T0 + n, id=str(n))) for n in range(100)]
"""The hundredth earns a verdict."""


async def test_nothing_is_acked_before_its_verdicts_are_delivered() -> None:
    watch, wire = new_watch(Settings())
    await given(watch)
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
    await given(watch)
    acks = Acks()
    await watch.take(chunk(acks, REQUESTS, 0))
    wire.futures[0].set_exception(KafkaTimeoutError())
    wire.futures[1].set_result(None)

    with pytest.raises(DeliveryError):
        await watch.drain()

    assert acks.committable() is None


async def test_a_chunk_of_a_partition_that_moved_on_is_left_to_its_next_owner() -> None:
    watch, wire = new_watch(Settings())
    await given(watch)
    watch.revoked({ZERO})
    acks = Acks()

    await watch.take(chunk(acks, REQUESTS, 0))
    await watch.drain()

    assert (wire.topics, acks.committable()) == ([], None)


async def test_checkpoints_come_by_count_and_by_time() -> None:
    watch, _ = new_watch(Settings(checkpoint_rows=10, checkpoint_seconds=5))
    await given(watch)
    acks = Acks()

    await watch.take(chunk(acks, REQUESTS[:9], 0))
    assert acks.committable() is None
    await watch.take(chunk(acks, REQUESTS[9:10], 9))
    assert watch.partitions[ZERO].storing is not None
    await watch.partitions[ZERO].storing
    assert acks.committable() == 10

    await watch.take(chunk(acks, REQUESTS[10:11], 10))
    await watch.tick()
    assert acks.committable() == 10
    watch._clock.seconds = 5.0  # type: ignore[attr-defined]
    await watch.tick()
    assert acks.committable() == 11


async def test_a_checkpoint_by_count_waits_for_the_one_before_it() -> None:
    watch, wire = new_watch(Settings(checkpoint_rows=100))
    await given(watch)
    acks = Acks()
    await watch.take(chunk(acks, REQUESTS, 0))  # a verdict that is not delivered yet
    more = [encode(request("ada", T0 + n, id=str(n))) for n in range(100, 200)]

    second = asyncio.create_task(watch.take(chunk(acks, more, 100)))
    await asyncio.sleep(0)
    assert not second.done()
    wire.take_all()
    await second
    await watch.drain()

    assert acks.committable() == 200


async def test_a_checkpoint_by_count_that_fails_stops_the_worker() -> None:
    watch, wire = new_watch(Settings(checkpoint_rows=100))
    faults: list[BaseException] = []

    async def fail(fault: BaseException) -> None:
        faults.append(fault)

    watch.fail = fail
    await given(watch)
    acks = Acks()
    await watch.take(chunk(acks, REQUESTS, 0))
    wire.futures[0].set_exception(KafkaTimeoutError())
    wire.futures[1].set_result(None)
    assert watch.partitions[ZERO].storing is not None
    await watch.partitions[ZERO].storing

    assert isinstance(faults[0], DeliveryError)
    assert acks.committable() is None


async def test_a_checkpoint_stores_what_changed_after_what_it_led_to_was_said() -> None:
    shelf = Shelf()
    watch, wire = new_watch(Settings(), shelf)
    await given(watch)
    acks = Acks()
    await watch.take(chunk(acks, REQUESTS, 0))

    draining = asyncio.create_task(watch.drain())
    await asyncio.sleep(0)
    assert shelf.writes == []
    wire.take_all()
    await draining
    await watch.drain()

    assert shelf.writes == [(100, ["ada"])]


async def test_after_a_crash_what_was_stored_is_not_counted_again() -> None:
    shelf = Shelf()
    before, wire = new_watch(Settings(), shelf)
    await given(before)
    await before.take(chunk(Acks(), REQUESTS[:60], 0))
    await before.drain()
    await before.take(chunk(Acks(), REQUESTS[60:80], 60))  # never checkpointed: lost with the worker

    after, wire = new_watch(Settings(), shelf)
    await given(after)
    # Nothing was committed, so all is read again: 60 are held already, the others count now.
    await after.take(chunk(Acks(), REQUESTS[:99], 0))
    assert after._metrics.registry.get_sample_value("stillwatch_requests_total", {"outcome": "counted"}) == 39
    assert wire.topics == []
    await after.take(chunk(Acks(), REQUESTS[99:], 99))

    assert wire.topics == ["stillwatch.enforcement", "stillwatch.audit"]


async def test_a_partition_that_comes_back_untouched_is_not_read_again() -> None:
    shelf = Shelf()
    watch, _ = new_watch(Settings(), shelf)
    await given(watch)
    await watch.take(chunk(Acks(), REQUESTS[:60], 0))
    await watch.drain()

    watch.revoked({ZERO})
    await given(watch)
    assert (shelf.reads, watch.partitions[ZERO].memory.accounts) == (1, 1)

    watch.revoked({ZERO})
    await shelf.write(0, 80, shelf.rows[0])  # another worker had it in between
    await given(watch)
    assert shelf.reads == 2

    watch.revoked(set())  # its last commit failed, so its records come again
    await given(watch)
    assert shelf.reads == 3


async def test_a_worker_is_ready_when_all_its_partitions_are_restored() -> None:
    watch, _ = new_watch(Settings())
    assert not watch.ready

    watch.assigned({ZERO})
    assert not watch.ready
    await given(watch)
    assert watch.ready


async def test_profiles_of_another_layout_stop_the_worker() -> None:
    shelf = Shelf()
    shelf.rows[0] = [("ada", b"some older layout")]
    watch, _ = new_watch(Settings(), shelf)
    faults: list[BaseException] = []
    stopped = asyncio.Event()

    async def fail(fault: BaseException) -> None:
        faults.append(fault)
        stopped.set()

    watch.fail = fail
    watch.assigned({ZERO})
    await asyncio.wait_for(stopped.wait(), 5)

    assert "stored profile of account 'ada'" in str(faults)
    assert not watch.ready


async def test_models_and_verdicts_in_force_come_back_after_a_crash() -> None:
    shelf = Shelf()
    before, wire = new_watch(Settings(), shelf)
    await given(before)
    await before.take(chunk(Acks(), REQUESTS, 0))
    wire.take_all()
    await before.drain()

    after, wire = new_watch(Settings(), shelf)
    await given(after)

    assert shelf.models == after.partitions[ZERO].memory.snapshot_models()
    assert wire.topics == ["stillwatch.enforcement"]  # announced again, and in audit only once


async def test_models_that_cannot_be_read_start_anew(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf()
    shelf.models = b"of another release"
    watch, _ = new_watch(Settings(), shelf)
    await given(watch)

    assert watch.ready
    assert "profiles, partition 0: models start anew" in caplog.text


async def test_an_id_from_before_a_restart_is_known_and_a_stray_account_is_counted() -> None:
    async def recent(partition: int) -> list[str]:
        return ["5", "6"]

    watch, _ = new_watch(Settings(partitions=2), recent=recent)
    await given(watch)
    await watch.take(chunk(Acks(), REQUESTS[:10], 0))

    metric = watch._metrics.registry.get_sample_value
    assert metric("stillwatch_requests_total", {"outcome": "counted"}) == 8
    assert metric("stillwatch_requests_total", {"outcome": "repeated"}) == 2
    # murmur2 puts "ada" on partition 1 of 2, and here it came on partition 0.
    assert metric("stillwatch_stray_accounts_total") == 1


async def test_gauges_say_what_is_so_when_they_are_asked() -> None:
    """100 requests sent at T0, of which 60 are processed; half a minute later nothing is safe yet."""
    watch, wire = new_watch(Settings())
    acks = Acks(committed=0)
    metric = watch._metrics.registry.get_sample_value

    def stands() -> dict[str, float | None]:
        watch.measure({ZERO: acks})
        names = ("lag_requests", "lag_seconds", "uncommitted_requests", "checkpoint_age_seconds", "profiles",
                 "restoring_seconds", "kafka_silence_seconds", "event_lag_seconds")  # fmt: skip
        return {name: metric(f"stillwatch_{name}") for name in names}

    watch.assigned({ZERO})
    watch._clock.seconds = 4.0  # type: ignore[attr-defined]
    assert stands() == dict.fromkeys(stands(), 0.0) | {"restoring_seconds": 4.0, "kafka_silence_seconds": 4.0}
    await given(watch)
    watch.heard({ZERO: 100})
    await watch.take(chunk(acks, REQUESTS[:60], 0, at=4.0))
    watch._clock.seconds, watch._clock.utc_ms = 34.0, T0 + 30_000  # type: ignore[attr-defined]
    assert stands() == {
        "lag_requests": 40,
        "lag_seconds": 30.0,
        "uncommitted_requests": 100,
        "checkpoint_age_seconds": 30.0,
        "profiles": 1,
        "restoring_seconds": 0.0,
        "kafka_silence_seconds": 30.0,
        "event_lag_seconds": 30.0 - 0.059,
    }
    await watch.take(chunk(acks, REQUESTS[60:], 60, at=34.0))
    draining = asyncio.create_task(watch.drain())
    await asyncio.sleep(0)
    assert stands()["checkpoint_age_seconds"] == 30.0  # a checkpoint under way is not yet one
    wire.take_all()
    await draining
    acks.commit(acks.committable() or 0)
    watch.heard({ZERO: 100})
    assert stands() | {"event_lag_seconds": 0.0} == dict.fromkeys(stands(), 0.0) | {"profiles": 1}
    assert metric("stillwatch_checkpoint_seconds_count") == 1
    assert metric("stillwatch_stored_profiles_total") == 1
    assert metric("stillwatch_rebalances_total") == 2
    assert metric("stillwatch_restore_seconds_count") == 2


async def test_delays_run_from_the_time_on_the_topic_to_the_decision_and_to_its_delivery() -> None:
    """A hundred requests sent at T0 are decided on two seconds later; Kafka has the one verdict after another three."""
    watch, wire = new_watch(Settings())
    await given(watch)
    watch._clock.utc_ms = T0 + 2_000  # type: ignore[attr-defined]
    await watch.take(chunk(Acks(), REQUESTS, 0))
    metric = watch._metrics.registry.get_sample_value
    assert metric("stillwatch_request_delay_seconds_sum") == 200.0
    assert metric("stillwatch_request_delay_seconds_bucket", {"le": "1.0"}) == 0
    assert metric("stillwatch_request_delay_seconds_bucket", {"le": "2.5"}) == 100
    assert metric("stillwatch_verdict_delay_seconds_count") == 0

    watch._clock.utc_ms = T0 + 5_000  # type: ignore[attr-defined]
    wire.take_all()
    await asyncio.sleep(0)
    assert (metric("stillwatch_verdict_delay_seconds_count"), metric("stillwatch_verdict_delay_seconds_sum")) == (1, 5)


async def test_a_producer_that_partitions_otherwise_is_said_on_the_alerts_topic() -> None:
    watch, wire = new_watch(Settings(partitions=2))  # "ada" belongs on partition 1
    await given(watch)
    acks = Acks()
    for n in range(12):
        await watch.take(chunk(acks, REQUESTS[n : n + 1], n))
    assert wire.topics == ["stillwatch.alerts"]
    assert watch._metrics.registry.get_sample_value("stillwatch_placed_requests_total", {"place": "stray"}) == 12


async def test_the_partitions_of_a_worker_share_what_it_may_remember() -> None:
    """A flood of strangers, each with one request: of 3,000 a worker with two partitions remembers 500 on this one."""
    watch, wire = new_watch(Settings(profiles=1_000, chunk=3_000))
    other = TP(ZERO.topic, 1)
    watch.assigned({ZERO, other})
    async with asyncio.timeout(5):
        while not watch.ready:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await watch.take(chunk(Acks(), [encode(request(f"stranger-{n}", T0 + n)) for n in range(3_000)], 0))
    wire.take_all()

    await watch.tick()

    assert 400 < watch.partitions[ZERO].memory.accounts <= 500
