"""The gate when things fail: replies keep flowing."""

import asyncio
import random
import time
import tracemalloc

import httpx
import numpy as np
import pytest
from brokers import Broker, free_port
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from stories import DAY, T0
from test_guard import action, verdict

from gateway.asgi import Middleware
from gateway.gate import Gate, wall
from gateway.guard import Guard
from gateway.settings import Settings
from gateway.verdict import decode, encode
from streams import topics
from streams.settings import Settings as Worker
from streams.topics import ENFORCEMENT
from tests.bench.gate import bodies, load, model

SLOWEST_SECONDS = 1.0


async def answer(request: Request) -> Response:
    await request.body()
    return JSONResponse({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})


APP = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])


def gate(brokers: str, prefix: str = "stillwatch.", **more: str) -> Gate:
    environment = {
        "STILLWATCH_BROKERS": brokers,
        "STILLWATCH_TOPIC_PREFIX": prefix,
        "STILLWATCH_ACCOUNT_HEADER": "x-account",
    }
    return Gate(Settings.read(environment | more))


async def ask(middleware: Middleware, account: str = "ada") -> int:
    """One request; the status of its reply, which must not be slow."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(middleware), base_url="http://m") as http:
        began = time.monotonic()
        reply = await http.post("/v1/chat/completions", json={"model": "m"}, headers={"x-account": account})
        assert time.monotonic() - began < SLOWEST_SECONDS
    return reply.status_code


async def leave(middleware: Middleware) -> None:
    assert middleware._task is not None
    middleware._task.cancel()
    await asyncio.gather(middleware._task, return_exceptions=True)


@pytest.mark.kafka
async def test_while_kafka_is_away_replies_flow_and_what_was_asked_arrives_afterwards(frail_kafka: Broker) -> None:
    if frail_kafka.java is None:
        pytest.skip("this Kafka is not ours to stop")
    worker = Worker.read(frail_kafka.environment())
    await topics.create(worker)
    async with worker.producer() as producer:
        lasting = verdict("eve", "suspend", at=wall(), expires_at=wall() + DAY)
        await producer.send_and_wait(ENFORCEMENT.name(worker), encode(lasting), b"account:eve")
    tower = gate(frail_kafka.address, worker.topic_prefix, STILLWATCH_STALE_SECONDS="2")
    middleware = Middleware(APP, tower)
    assert await ask(middleware) == 200
    await asyncio.wait_for(tower.subscriber.restored.wait(), 20)
    assert await ask(middleware, "eve") == 403

    await asyncio.to_thread(frail_kafka.java.end)
    try:
        assert [await ask(middleware) for _ in range(20)] == [200] * 20
        async with asyncio.timeout(10):
            while not tower.counts()["stale"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await ask(middleware, "eve") == 200, "a table that nobody confirms is not trusted"
    finally:
        await asyncio.to_thread(frail_kafka.java.start)

    async with asyncio.timeout(120):
        while await ask(middleware, "eve") != 403:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        while tower.counts()["sent"] < tower.counts()["requests"]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await leave(middleware)
    counts = tower.counts()
    assert (counts["sent"], counts["failed"], counts["dropped"]) == (counts["requests"], 0, 0)


async def test_garbage_on_the_enforcement_topic_neither_blocks_nor_frees_anybody(embedded: Broker) -> None:
    worker = Worker.read(embedded.environment())
    await topics.create(worker)
    lasting = verdict("eve", "suspend", at=wall(), expires_at=wall() + DAY)
    async with worker.producer() as producer:
        topic = ENFORCEMENT.name(worker)
        await producer.send_and_wait(topic, encode(lasting), b"account:eve")
        for n in range(2_000):
            await producer.send(topic, (b"", b"\xff", b"{}", encode(lasting)[:-9])[n % 4], b"account:eve")
    tower = gate(embedded.address, worker.topic_prefix)
    middleware = Middleware(APP, tower)
    assert await ask(middleware) == 200
    await asyncio.wait_for(tower.subscriber.restored.wait(), 20)
    assert [await ask(middleware), await ask(middleware, "eve")] == [200, 403]
    assert tower.counts()["verdicts_unreadable"] == 2_000
    await leave(middleware)


@pytest.mark.parametrize(("ahead_ms", "held"), [(-DAY, True), (0, True), (DAY, False)])
def test_a_wrong_clock_ends_verdicts_early_but_prolongs_none(ahead_ms: int, held: bool) -> None:
    """A verdict of an hour, taken by a gate whose clock is a day slow, right, or a day fast."""
    guard = Guard(when_stale="keep")
    now = T0 + ahead_ms
    guard.take(verdict("ada", "suspend"), now)
    assert (action(guard.find(now, "ada")) == "suspend") == held
    assert guard.find(now + 3_600_000, "ada") is None


def test_a_hundred_thousand_live_verdicts_take_fifty_megabytes_at_most() -> None:
    raw = encode(verdict("NAME", "watch"))
    guard = Guard()
    tracemalloc.start()
    for n in range(100_000):
        guard.take(decode(raw.replace(b"NAME", b"account-%08d" % n)), T0)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / 100_000 < 500


async def test_a_reply_is_in_the_gate_for_a_fraction_of_a_millisecond() -> None:
    middleware = Middleware(model, gate(f"127.0.0.1:{free_port()}"))
    _, own, _ = await load(middleware, 500, 2.0, bodies(random.Random(1)))
    assert np.percentile(own, 95) < 1.0
    await leave(middleware)
