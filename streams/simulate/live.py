"""Live: simulated requests onto a Kafka topic, each when it is due."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import count
from typing import Final, NamedTuple, Protocol

from gateway.request import encode

from .accounts import DAY_MS
from .families import campaigns
from .prompts import Prompts
from .stream import Stream, crowd

SOON_SECONDS: Final = 0.02
"""What is due so soon is sent at once: a timer for each request would cost more than the request."""


class Due(NamedTuple):
    """One request to send: when, in seconds from the start, under which key, and its bytes."""

    seconds: float
    account: str
    message: bytes


class Producer(Protocol):
    """What is needed of an AIOKafkaProducer."""

    async def send(self, topic: str, /, *, value: bytes, key: bytes) -> asyncio.Future[object]: ...
    async def flush(self) -> None: ...


def steady(stream: Stream, rate: float) -> Iterator[Due]:
    """`rate` requests a second, whatever their `at` says. ValueError unless it is positive."""
    if not rate > 0:
        raise ValueError(f"rate: cannot send {rate} requests a second")
    return (Due(n / rate, request.account, encode(request)) for n, request in enumerate(stream))


def compressed(stream: Stream, seconds: float) -> Iterator[Due]:
    """The whole stream within `seconds`, in the rhythm of its event time. ValueError unless they are positive."""
    if not seconds > 0:
        raise ValueError(f"seconds: cannot send a stream in {seconds} seconds")
    scale = seconds / (stream.end_at - stream.start_at)
    return (Due((request.at - stream.start_at) * scale, request.account, encode(request)) for request in stream)


def live(
    seed: int, *, seconds: float, rate: float, attack_after: float, now: int, scenarios: Iterable[str] = ("reasoning",)
) -> Stream:
    """A day that ends at `now` (ms UTC), to be sent within `seconds` by `compressed`.

    It has as many honest accounts as make about `rate` requests a second, and attacks that begin `attack_after`
    seconds after the start of sending. Event time runs fast, from yesterday to now: an account's habits stay those
    of a whole day, and no request comes from the future.
    """
    start_at = now - DAY_MS
    prompts = Prompts(seed)
    begins_at = start_at + int(attack_after / seconds * DAY_MS)
    attackers = campaigns(scenarios, seed, start_at, now, prompts, begins_at)
    wanted = rate * seconds - sum(account.daily for account in attackers) * (now - begins_at) / DAY_MS
    everyone = []
    for account in crowd(seed, start_at, now, prompts, count()):
        if wanted <= 0:
            break
        everyone.append(account)
        wanted -= account.daily
    return Stream([*everyone, *attackers], prompts, start_at, now)


async def produce(
    traffic: Iterable[Due],
    producer: Producer,
    topic: str,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    sent: Callable[[Due], None] = lambda _: None,
) -> int:
    """Sends each request when it is due, keyed by its account, and returns how many when all are acknowledged.

    `producer` is started, and partitions by murmur2 as AIOKafkaProducer does; `clock` counts seconds; `sent` is told
    each request. The first failed delivery is raised, aiokafka's KafkaError.
    """
    failed: list[BaseException] = []

    def settled(delivery: asyncio.Future[object]) -> None:
        error = delivery.exception()
        if error is not None:
            failed.append(error)

    started = clock()
    requests = 0
    for due in traffic:
        early = due.seconds - (clock() - started)
        if early > SOON_SECONDS:
            await sleep(early)
        delivery = await producer.send(topic, value=due.message, key=due.account.encode())
        delivery.add_done_callback(settled)
        requests += 1
        sent(due)
        if failed:
            raise failed[0]
    await producer.flush()
    await asyncio.sleep(0)  # Let the last deliveries tell how they went.
    if failed:
        raise failed[0]
    return requests
