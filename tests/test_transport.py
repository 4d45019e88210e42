"""Transport: what Faust does about acks, polls and rebalances, and what must be done instead."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import NamedTuple, cast

import pytest
from aiokafka import ConsumerRecord
from faust.types import TP, Message
from stories import Raw
from test_watch import new_watch

from streams.app import create_app
from streams.engine.acks import Span
from streams.engine.transport import App, Chunk, Consumer
from streams.engine.watch import Watch
from streams.settings import Settings

ZERO, ONE, OTHER = TP("stillwatch.requests", 0), TP("stillwatch.requests", 1), TP("elsewhere", 0)


class Record(NamedTuple):
    """As much of a ConsumerRecord as Faust and we look at."""

    topic: str
    partition: int
    offset: int
    value: bytes = b"{}"
    key: bytes | None = None
    headers: tuple[()] = ()
    timestamp: int = 0
    timestamp_type: int = 0
    checksum: None = None
    serialized_key_size: int = 0
    serialized_value_size: int = 2


def records(tp: TP, *offsets: int) -> list[ConsumerRecord]:
    return [cast(ConsumerRecord, Record(tp.topic, tp.partition, offset)) for offset in offsets]


class Broker:
    """What the thread with the Kafka client does, without a thread or Kafka: polls that were prepared, offsets."""

    def __init__(self, assigned: Iterable[TP], committed: Mapping[TP, int] | None = None) -> None:
        self.assigned = set(assigned)
        self.committed: dict[TP, int] = dict(committed or {})
        self.polls: list[dict[TP, list[ConsumerRecord]]] = []
        self.sought: list[object] = []

    def assignment(self) -> set[TP]:
        return self.assigned

    def highwater(self, tp: TP) -> int:
        return 0

    async def getmany(self, active: object, timeout: float) -> dict[TP, list[ConsumerRecord]]:  # noqa: ASYNC109
        return self.polls.pop(0) if self.polls else {}

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        self.committed.update(offsets)
        return True

    async def seek_to_committed(self) -> dict[TP, int | None]:
        self.sought.append("committed")
        return {tp: self.committed.get(tp) for tp in self.assigned}

    async def seek_to_beginning(self, *partitions: object) -> None:
        self.sought.append({TP(*cast(tuple[str, int], tp)) for tp in partitions})


@pytest.fixture
async def app() -> AsyncIterator[App]:
    settings = Settings(chunk=2, drain_seconds=0.2)
    watch, wire = new_watch(settings)
    app = create_app(settings, watch)
    app.finalize()
    yield app
    wire.take_all()


async def given(app: App, *partitions: TP, committed: Mapping[TP, int] | None = None) -> tuple[Consumer, Broker]:
    """A consumer that was given partitions and may fetch from them."""
    consumer = cast(Consumer, app.consumer)
    broker = Broker(partitions, committed)
    consumer._thread = broker  # type: ignore[assignment]
    await consumer.on_partitions_assigned(set(partitions), 1)
    for tp in partitions:
        consumer.release(tp)
    await consumer.perform_seek()
    consumer.resume_partitions(partitions)
    consumer.resume_flow()
    return consumer, broker


async def poll(consumer: Consumer, broker: Broker, found: dict[TP, list[ConsumerRecord]]) -> list[Message]:
    broker.polls.append(found)
    return [message async for _, message in consumer.getmany(timeout=0)]


def chunks(messages: Iterable[Message]) -> list[Chunk]:
    return [cast(Chunk, message.value) for message in messages if isinstance(message.value, Chunk)]


async def test_a_poll_becomes_chunks_that_take_turns_and_other_topics_stay_as_they_are(app: App) -> None:
    consumer, broker = await given(app, ZERO, ONE, OTHER)

    messages = await poll(
        consumer, broker, {ZERO: records(ZERO, 0, 1, 2), ONE: records(ONE, 7), OTHER: records(OTHER, 0, 1, 2)}
    )

    assert [(message.topic, message.offset) for message in messages[:3]] == [("elsewhere", n) for n in range(3)]
    assert [(chunk.tp.partition, [record.offset for record in chunk.records]) for chunk in chunks(messages)] == [
        (0, [0, 1]),
        (1, [7]),
        (0, [2]),
    ]
    assert all(message.tracked for message in messages[3:]), "Faust would wait for acks that chunks do not use"


async def test_what_is_done_is_committed_once_and_gaps_in_offsets_change_nothing(app: App) -> None:
    consumer, broker = await given(app, ZERO, committed={ZERO: 5})
    first, second = chunks(await poll(consumer, broker, {ZERO: records(ZERO, 5, 9, 100)}))
    await consumer._add_gap(ZERO, 6, 9)

    second.span.done = True
    await consumer.commit()
    assert broker.committed == {ZERO: 5}
    first.span.done = True
    await consumer.commit()

    assert broker.committed == {ZERO: 101}
    assert not consumer.acks[ZERO].spans
    assert not consumer._gap


async def test_a_first_batch_of_one_record_at_offset_0_does_not_hold_up_commits(app: App) -> None:
    consumer, broker = await given(app, ZERO)
    for offset in range(3):
        [chunk] = chunks(await poll(consumer, broker, {ZERO: records(ZERO, offset)}))
        chunk.span.done = True
        await consumer.commit()

    assert broker.committed == {ZERO: 3}


async def test_a_failed_commit_is_tried_again(app: App) -> None:
    consumer, broker = await given(app, ZERO)
    [chunk] = chunks(await poll(consumer, broker, {ZERO: records(ZERO, 0)}))
    chunk.span.done = True

    async def refuse(offsets: Mapping[TP, int]) -> bool:
        return False

    accept, broker.commit = broker.commit, refuse  # type: ignore[method-assign]
    await consumer.commit()
    broker.commit = accept  # type: ignore[method-assign]
    consumer._committed_offset[ZERO] = None  # Faust notes even what was refused
    await consumer.commit()

    assert broker.committed == {ZERO: 1}


async def test_work_in_hand_is_finished_and_committed_before_partitions_move(app: App) -> None:
    consumer, broker = await given(app, ZERO)
    done: list[Span] = []

    async def drain() -> None:
        assert not consumer.flow_active
        for span in done:
            span.done = True

    app.batching.drain = drain  # type: ignore[method-assign]
    done += [chunk.span for chunk in chunks(await poll(consumer, broker, {ZERO: records(ZERO, 0, 1)}))]

    await consumer.on_partitions_revoked({ZERO})

    assert broker.committed == {ZERO: 2}
    assert not consumer.acks


async def test_draining_has_a_deadline(app: App) -> None:
    consumer, broker = await given(app, ZERO)
    never = asyncio.Event()

    async def drain() -> None:
        await never.wait()

    app.batching.drain = drain  # type: ignore[method-assign]
    await poll(consumer, broker, {ZERO: records(ZERO, 0)})

    await asyncio.wait_for(consumer.on_partitions_revoked({ZERO}), 5)

    assert broker.committed == {}


async def test_an_ack_from_before_a_rebalance_commits_nothing_after_it(app: App) -> None:
    consumer, broker = await given(app, ZERO)
    [old] = chunks(await poll(consumer, broker, {ZERO: records(ZERO, 0, 1)}))
    await consumer.on_partitions_revoked({ZERO})
    await given(app, ZERO)

    old.span.done = True
    await consumer.commit()

    assert broker.committed == {}


async def test_records_that_come_when_the_flow_has_stopped_are_fetched_again(app: App) -> None:
    consumer, broker = await given(app, ZERO, committed={ZERO: 5})
    broker.sought.clear()

    class Stopping(Broker):
        async def getmany(self, active: object, timeout: float) -> dict[TP, list[ConsumerRecord]]:  # noqa: ASYNC109
            consumer.stop_flow()
            return {ZERO: records(ZERO, 5, 6)}

    consumer._thread = Stopping([ZERO], {ZERO: 5})  # type: ignore[assignment]
    assert [message async for message in consumer.getmany(timeout=0)] == []
    consumer._thread = broker  # type: ignore[assignment]
    consumer.resume_flow()

    [chunk] = chunks(await poll(consumer, broker, {ZERO: records(ZERO, 5, 6)}))

    assert broker.sought == ["committed"]
    assert [record.offset for record in chunk.records] == [5, 6]


async def test_records_of_a_partition_that_moved_on_while_they_came_are_fetched_again_where_it_is_ours(
    app: App,
) -> None:
    """Bare records know no topic: Faust could not even look at them."""
    consumer, broker = await given(app, ZERO, committed={ZERO: 5})
    broker.sought.clear()
    gone = [cast(ConsumerRecord, Raw(b"{}", offset=7))]

    assert await poll(consumer, broker, {ONE: gone, ZERO: records(ZERO, 5)}) == []
    [chunk] = chunks(await poll(consumer, broker, {ZERO: records(ZERO, 5)}))

    assert broker.sought == ["committed"]
    assert [record.offset for record in chunk.records] == [5]


async def test_a_partition_without_a_commit_goes_back_to_its_beginning(app: App) -> None:
    """aiokafka's own seek leaves it where it is."""
    _, broker = await given(app, ZERO, ONE, committed={ZERO: 5})

    assert broker.sought == ["committed", {ONE}]


async def test_nothing_is_fetched_from_a_partition_before_it_is_released(app: App) -> None:
    consumer, _ = await given(app, ZERO)
    cast(Watch, app.batching).release = lambda _: None
    await consumer.on_partitions_assigned({ZERO}, 2)
    consumer.resume_partitions({ZERO})
    assert not consumer._get_active_partitions()

    consumer.release(ZERO)

    assert consumer._get_active_partitions() == {ZERO}


async def test_a_fault_of_ours_stops_the_worker_before_the_batch_is_counted_as_done(app: App) -> None:
    class Stream:
        async def chunks(self) -> AsyncIterator[Chunk]:
            yield Chunk(ZERO, [cast(ConsumerRecord, None)], Span(0, 0))

        def noack(self) -> AsyncIterator[Chunk]:
            return self.chunks()

    restored = asyncio.Event()
    cast(Watch, app.batching).release = lambda _: restored.set()
    await given(app, ZERO)
    await asyncio.wait_for(restored.wait(), 5)

    with pytest.raises(AttributeError):
        await app.agents["watch"].fun(cast("asyncio.Future[None]", Stream()))  # type: ignore[arg-type]

    assert app.crashed


async def test_a_fault_while_partitions_are_given_stops_the_worker(app: App) -> None:
    """aiokafka logs what its listeners raise and goes on."""

    def assigned(partitions: set[TP]) -> None:
        raise RuntimeError("no memory")

    app.batching.assigned = assigned  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        await given(app, ZERO)

    assert app.crashed


def test_the_queue_between_poll_and_agent_is_bounded_by_itself(app: App) -> None:
    agent = app.agents["watch"]

    # Of the clone that a stream reads from. Its default, 4,096, also sizes Faust's recovery: it is left alone.
    assert agent.stream().channel.queue.maxsize == Settings().buffer_chunks
    assert app.conf.stream_buffer_maxsize == 4096
