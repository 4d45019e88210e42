"""The worker on the wire: requests in, verdicts out, and nothing committed that is not safe."""

import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TypeAlias

import pytest
from brokers import Broker
from fleet import Fleet
from stories import request
from test_watch import new_watch

from gateway.request import encode
from gateway.verdict import decode
from sinks import audit
from streams.app import create_app
from streams.settings import Settings
from streams.topics import AUDIT, ENFORCEMENT, REQUESTS, UNREADABLE

Assemble: TypeAlias = Callable[..., Coroutine[None, None, Fleet]]


@pytest.fixture
async def assemble(broker: Broker, tmp_path: Path) -> AsyncIterator[Assemble]:
    """A fleet whose workers end with the test."""
    fleets: list[Fleet] = []

    async def one(**more: str) -> Fleet:
        fleets.append(await Fleet.assemble(broker, tmp_path, **more))
        return fleets[-1]

    yield one
    for fleet in fleets:
        fleet.dismiss()


def test_the_app_has_its_agent_and_serves_no_state() -> None:
    settings = Settings()
    watch, _ = new_watch(settings)

    app = create_app(settings, watch)

    assert list(app.agents) == ["watch", "campaigns"]
    assert not app.conf.web_enabled
    assert app.conf.consumer_auto_offset_reset == "earliest"


async def test_requests_in_verdicts_out(assemble: Assemble) -> None:
    """50,000 requests of 299 accounts, each hundredth unreadable: all is counted, all is said, all is committed."""
    fleet = await assemble()
    now = int(time.time() * 1000)
    messages = [
        (b"", b"garbage %d" % n)
        if n % 100 == 0
        else (f"a{n % 299}".encode(), encode(request(f"a{n % 299}", now, id=str(n))))
        for n in range(50_000)
    ]
    sent = await fleet.produce(messages)
    ends = {partition: offset + 1 for partition, offset in sorted(sent)}

    worker = fleet.start()
    await fleet.until(lambda: worker.metric("stillwatch_requests_total", outcome="counted") >= 49_500)
    assert worker.status("/ready") == 200
    assert worker.status("/live") == 200
    assert [worker.status(path) for path in ("/", "/table/", "/profiles")] == [404, 404, 404]
    await fleet.until(lambda: worker.metric("stillwatch_profiles") == 299)
    assert worker.end(signal.SIGTERM) == 0

    assert await fleet.committed() == ends

    aside = await fleet.heard(UNREADABLE, 500)
    where = {
        (int(dict(record.headers)["partition"]), int(dict(record.headers)["offset"])): record.value for record in aside
    }
    assert len(aside) == 500
    assert where == {
        place: value for place, (_, value) in zip(sent, messages, strict=True) if value.startswith(b"garbage")
    }

    announced = [decode(record.value) for record in await fleet.heard(ENFORCEMENT, 299)]
    assert sorted(verdict.value for verdict in announced) == sorted(f"a{n}" for n in range(299))
    assert {(verdict.action, verdict.seq) for verdict in announced} == {("watch", 1)}

    records = [record.value for record in await fleet.heard(AUDIT, 299)]
    assert len(records) == 299
    assert audit.verify(sorted(records, key=_place)) is None


def _place(record: bytes) -> tuple[str, int]:
    import msgspec

    entry = msgspec.json.decode(record)
    return entry["writer"], entry["number"]


async def test_requests_that_come_one_by_one_are_judged_together(assemble: Assemble) -> None:
    """A micro-batch costs nearly the same with one request as with hundreds."""
    fleet = await assemble(STILLWATCH_PARTITIONS="1")
    worker = fleet.start()
    await fleet.until(lambda: worker.status("/ready") == 200)
    topic, now = REQUESTS.name(fleet.settings), int(time.time() * 1000)
    async with fleet.settings.producer() as producer:
        for number in range(200):
            await producer.send_and_wait(topic, encode(request("ada", now, id=str(number))), key=b"ada")
    await fleet.until(lambda: worker.metric("stillwatch_requests_total", outcome="counted") == 200)
    assert worker.metric("stillwatch_batch_requests_count") < 50


async def test_garbage_alone_keeps_the_worker_alive_and_its_neighbours_served(assemble: Assemble) -> None:
    fleet = await assemble()
    worker = fleet.start()
    garbage = [b"", b"\x00", b"{", b"[]", b"null", b'{"id": 1}', b"\xff" * 100, b"[" * 10_000, b"1e999"]

    await fleet.produce((b"k", garbage[n % len(garbage)]) for n in range(9_000))
    await fleet.until(lambda: worker.metric("stillwatch_unreadable_requests_total") >= 9_000)
    await fleet.produce((b"ada", encode(request("ada", int(time.time() * 1000)))) for _ in range(1))
    await fleet.until(lambda: worker.metric("stillwatch_requests_total", outcome="counted") == 1)

    assert worker.status("/live") == 200
    assert worker.end() == 0


async def test_a_worker_without_topics_says_what_to_do_and_ends(broker: Broker, tmp_path: Path) -> None:
    environment = broker.environment()
    fleet = Fleet(broker, tmp_path, environment, Settings.read(environment))
    worker = fleet.start()

    assert worker.process.wait(timeout=30) == 1
    assert "create them with: stillwatch topics create" in worker.log.read_text()
