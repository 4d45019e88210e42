"""The emitter: requests arrive on Kafka, and nobody ever waits for that."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from statistics import median

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.partitioner import murmur2
from brokers import Broker, free_port
from stories import T0, request

from gateway.emitter import Buffer, Emitter, fitted
from gateway.exchange import Draft
from gateway.request import MAX_BYTES, Request, decode
from gateway.settings import Connection
from gateway.sketch import sketch
from streams import topics
from streams.settings import Settings
from streams.topics import REQUESTS


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  (what is waited for lies behind a broker)
            await asyncio.sleep(0.01)


async def wired(broker: Broker) -> Settings:
    settings = Settings.read(broker.environment())
    await topics.create(settings)
    return settings


def connection(settings: Settings) -> Connection:
    return Connection(bootstrap_servers=settings.brokers, security_protocol="PLAINTEXT")


@asynccontextmanager
async def emitting(emitter: Emitter) -> AsyncIterator[None]:
    task = asyncio.create_task(emitter.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def arrived(settings: Settings, number: int) -> list[ConsumerRecord]:
    consumer = AIOKafkaConsumer(REQUESTS.name(settings), **settings.connection(), auto_offset_reset="earliest")
    found: list[ConsumerRecord] = []
    async with consumer, asyncio.timeout(20):
        while len(found) < number:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
    return found


def drafts(number: int, text: str | None = "Why is the sky blue?") -> list[Draft]:
    return [Draft(request(f"a{n % 37}", T0, id=f"r{n}"), text, "Be brief.") for n in range(number)]


async def test_what_is_emitted_arrives_sketched_on_the_partition_of_its_account(broker: Broker) -> None:
    settings = await wired(broker)
    emitter = Emitter(connection(settings), REQUESTS.name(settings), sketch_key=b"k" * 64)
    async with emitting(emitter):
        for one in drafts(1_000):
            emitter.emit(one)
        await until(lambda: emitter.sent == 1_000)
    records = await arrived(settings, 1_000)
    expected = sketch("Why is the sky blue?", "Be brief.", key=b"k" * 64)
    found = {one.id: one for one in (decode(record.value) for record in records)}
    assert set(found) == {f"r{n}" for n in range(1_000)}
    assert all(one.sketch == expected and one.text is None for one in found.values())
    for record in records:
        assert record.key == decode(record.value).account.encode()
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % 4
        assert abs(record.timestamp - time.time() * 1000) < 60_000
    assert (emitter.dropped, emitter.failed, emitter.waiting) == (0, 0, 0)


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ],
)
def test_the_partitioner_is_that_of_java_clients(key: str, hashed: int) -> None:
    """The values are those of Apache Kafka's own test, UtilsTest.testMurmur2."""
    assert murmur2(key.encode()) == hashed % 2**32


async def test_a_draft_that_fails_costs_itself_only(embedded: Broker) -> None:
    settings = await wired(embedded)
    emitter = Emitter(connection(settings), REQUESTS.name(settings))

    class Faulty:
        def draft(self) -> Draft:
            raise KeyError("surprise")

    async with emitting(emitter):
        emitter.emit(Faulty())
        emitter.emit(Draft(request("ada")))
        await until(lambda: emitter.sent == 1)
    assert emitter.failed == 1


async def test_prompts_travel_as_text_only_where_that_is_asked_for(embedded: Broker) -> None:
    seen, long = {}, "Hello " * 8_000
    for prompts in ("sketch", "text", "none"):
        settings = await wired(embedded)
        emitter = Emitter(connection(settings), REQUESTS.name(settings), prompts=prompts)
        async with emitting(emitter):
            emitter.emit(Draft(request("ada"), long, "Be brief.", chars=50_000))
            await until(lambda emitter=emitter: emitter.sent == 1)
        seen[prompts] = decode((await arrived(settings, 1))[0].value)
    assert (seen["text"].text, seen["text"].instructions, seen["text"].sketch) == (long, "Be brief.", None)
    assert (seen["none"].text, seen["none"].sketch) == (None, None)
    assert seen["sketch"].text is None
    assert seen["sketch"].sketch == msgspec.structs.replace(sketch(long, "Be brief."), chars=50_000)


async def test_at_the_end_what_waits_is_still_sent(embedded: Broker) -> None:
    settings = await wired(embedded)
    emitter = Emitter(connection(settings), REQUESTS.name(settings))
    async with emitting(emitter):
        emitter.emit(drafts(1)[0])
        await until(lambda: emitter.sent == 1)
        for one in drafts(500)[1:]:
            emitter.emit(one)
    assert (emitter.sent, emitter.waiting) == (500, 0)


async def test_without_kafka_it_keeps_the_newest_within_its_bounds_and_sends_them_later(embedded: Broker) -> None:
    settings = await wired(embedded)
    nowhere = Connection(bootstrap_servers=f"127.0.0.1:{free_port()}", security_protocol="PLAINTEXT")
    emitter = Emitter(nowhere, REQUESTS.name(settings), most=100)
    async with emitting(emitter):
        for one in drafts(1_000):
            emitter.emit(one)
            await asyncio.sleep(0)
        await until(lambda: len(emitter._messages) == 100)
        assert (emitter.waiting, emitter.dropped, emitter.sent) == (100, 900, 0)
        nowhere["bootstrap_servers"] = settings.brokers
        await until(lambda: emitter.sent == 100)
    assert {decode(record.value).id for record in await arrived(settings, 100)} == {f"r{n}" for n in range(900, 1_000)}


async def test_emitting_takes_microseconds_whatever_kafka_does() -> None:
    nowhere = Connection(bootstrap_servers=f"127.0.0.1:{free_port()}", security_protocol="PLAINTEXT")
    emitter = Emitter(nowhere, "requests", most=1_000)
    ready = drafts(10_000)

    def seconds(lot: int) -> float:
        started = time.perf_counter()
        for one in ready[lot : lot + 1_000]:
            emitter.emit(one, 500)
        return (time.perf_counter() - started) / 1_000

    # In the median, for other tests may run meanwhile; from the second lot on the buffer is full.
    assert median(seconds(lot) for lot in range(0, 10_000, 1_000)) < 20e-6
    assert emitter.dropped == 9_000


async def test_a_buffer_is_bounded_in_bytes_too() -> None:
    buffer = Buffer[str](most=100, most_bytes=10)
    for item, size in (("a", 4), ("b", 4), ("c", 4), ("d", 1)):
        buffer.put(item, size)
    assert (len(buffer), buffer.dropped) == (3, 1)
    buffer.put("huge", 11)
    assert (len(buffer), buffer.dropped) == (0, 5)
    buffer.put("e", 10)
    assert buffer.take(5) == ["e"]


@pytest.mark.parametrize("text", ["x" * 60_000, "\x00" * 60_000, "é" * 60_000, "\ud83d" * 60_000])
def test_a_text_is_cut_until_the_message_is_read(text: str) -> None:
    raw = fitted(Request(id="r", at=T0, account="a", model="m", input_tokens=1, output_tokens=1, text=text))
    assert len(raw) <= MAX_BYTES
    assert len(decode(raw).text or "") > 5_000
