"""Shared buckets: all replicas together grant one rate, and a Redis that is away holds up no reply."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from brokers import free_port
from programs import program, started
from redis.asyncio import Redis
from test_guard import verdict

from gateway.buckets import Limit
from gateway.gate import Gate, wall
from gateway.settings import Settings, SettingsError
from gateway.shared import RETRY_SECONDS, SharedBuckets

PREFIX = "test."
SECONDS = 0.2
"""Generous, for this machine may be busy; the setting's default is 0.02."""

ADA = Limit("account:ada", 20.0)  # 5 saved up, then one every 3 seconds


@dataclass
class Server:
    """A Redis of our own."""

    url: str
    process: "subprocess.Popen[bytes]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = free_port()
    command = [program("redis-server", "apt-get install redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
    log = tmp_path_factory.mktemp("redis") / "redis.log"
    with started([*command, "--save", "", "--appendonly", "no"], port, log) as process:
        yield Server(f"redis://127.0.0.1:{port}/0", process)


@pytest.fixture
async def redis(server: Server) -> Server:
    async with Redis.from_url(server.url) as client:
        await client.flushall()
    return server


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def buckets(server: Server, clock: Clock | None = None, seconds: float = SECONDS) -> SharedBuckets:
    return SharedBuckets(server.url, PREFIX, seconds, clock or Clock())


async def test_replicas_that_ask_at_once_grant_no_more_than_there_is(redis: Server) -> None:
    """240 a minute: 60 saved up; 4 replicas ask 50 times each, all at once. In the time it takes a few tokens come."""
    replicas = [buckets(redis, seconds=5.0) for _ in range(4)]
    began = time.monotonic()
    asked = [one.take([Limit("account:ada", 240.0)]) for _ in range(50) for one in replicas]
    waits = await asyncio.gather(*asked)
    took = time.monotonic() - began
    assert None not in waits
    granted = waits.count([0.0])
    assert 60 <= granted <= 60 + took * 4 + 1
    assert all(0 < wait[0] <= 0.25 for wait in waits if wait and wait != [0.0])
    assert [one.failures for one in replicas] == [0] * 4
    for one in replicas:
        await one.close()


async def test_a_request_takes_of_every_bucket_or_of_none(redis: Server) -> None:
    one, campaign = buckets(redis), Limit("campaign:c-1", 4.0)  # 1 saved up, then one every 15 seconds
    assert await one.take([ADA, campaign]) == [0.0, 0.0]
    for _ in range(3):
        waits = await one.take([ADA, campaign])
        assert waits is not None
        assert waits[0] == 0.0
        assert 14.0 < waits[1] <= 15.0
    granted = [await one.take([ADA]) for _ in range(5)]
    assert granted[:4] == [[0.0]] * 4
    assert granted[4] is not None
    assert 2.0 < granted[4][0] <= 3.0
    await one.close()


async def test_buckets_that_are_full_again_leave_redis(redis: Server) -> None:
    one = buckets(redis)
    await one.take([ADA])
    async with Redis.from_url(redis.url, decode_responses=True) as client:
        (key,) = [name async for name in client.scan_iter()]
        assert key == "{test.throttle}:account:ada"
        assert 10_000 < await client.pttl(key) <= 16_000
    await one.close()


async def test_a_redis_that_hangs_costs_one_reply_its_patience_and_the_others_nothing(redis: Server) -> None:
    clock = Clock()
    one = buckets(redis, clock, seconds=0.3)
    assert await one.take([ADA]) == [0.0]
    os.kill(redis.process.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert await one.take([ADA]) is None
        assert time.monotonic() - began < 2.0
        began = time.monotonic()
        assert [await one.take([ADA]) for _ in range(100)] == [None] * 100
        assert time.monotonic() - began < 0.3, "it is left alone for a while"
        assert one.failures == 1
    finally:
        os.kill(redis.process.pid, signal.SIGCONT)
    clock.now += RETRY_SECONDS
    assert await one.take([ADA]) == [0.0]
    await one.close()


def gate(url: str, **more: str) -> Gate:
    tower = Gate(
        Settings.read(
            {
                "STILLWATCH_ACCOUNT_HEADER": "x-account",
                "STILLWATCH_WHEN_STALE": "keep",
                "STILLWATCH_REDIS_URL": url,
                "STILLWATCH_REDIS_SECONDS": str(SECONDS),
                "STILLWATCH_TOPIC_PREFIX": "gates.",
                **more,
            }
        )
    )
    for name, action, rpm in (("ada", "throttle", 20.0), ("eve", "suspend", None), ("bob", "watch", None)):
        parameters = {} if rpm is None else {"rpm": rpm}
        tower.guard.take(verdict(name, action, at=wall(), expires_at=wall() + 60_000, parameters=parameters), wall())
    return tower


async def admitted(tower: Gate, account: str = "ada") -> int:
    refusal = (await tower.admit({"x-account": account}, None)).refusal
    return 200 if refusal is None else refusal.status


async def test_two_gates_grant_one_rate_and_each_its_share_while_redis_is_away(redis: Server) -> None:
    gates = [gate(redis.url, STILLWATCH_REPLICAS="2") for _ in range(2)]
    statuses = [await admitted(gates[n % 2]) for n in range(8)]
    assert statuses == [200] * 5 + [429] * 3
    assert [await admitted(gates[0], name) for name in ("eve", "bob", "ida")] == [403, 200, 200]
    assert gates[0].counts()["redis_failures"] == 0

    away = [gate(f"redis://127.0.0.1:{free_port()}", STILLWATCH_REPLICAS="2") for _ in range(2)]
    statuses = [await admitted(away[n % 2]) for n in range(8)]
    assert statuses == [200] * 4 + [429] * 4, "10 a minute each: 2.5 saved up"
    assert away[0].counts()["redis_failures"] == 1


def test_an_address_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(SettingsError) as caught:
        gate("127.0.0.1:6379")
    assert str(caught.value).startswith("STILLWATCH_REDIS_URL: expected str matching regex")
