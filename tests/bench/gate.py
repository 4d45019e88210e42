"""What a gate costs the replies behind it: `python -m tests.bench.gate`.

Requests are due at fixed instants, whether or not earlier ones are answered, and each is timed from its instant to the
end of its reply: so whatever else keeps the event loop busy counts. The model answers at once, in this process, without
a network: what remains is the gate. Beside it the same without a gate, for the loop itself costs time too.
"""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from gateway.asgi import App, Middleware
from gateway.gate import Gate, wall
from gateway.settings import Settings
from gateway.verdict import Verdict
from streams import topics
from streams.settings import Settings as Worker
from streams.topics import ENFORCEMENT
from tests.brokers import embedded_broker, free_port

from .machine import machine

TICK_SECONDS: Final = 0.001
ACCOUNTS: Final = 10_000
LIVE: Final = 1_000_000
GARBAGE: Final = 50_000
WORDS: Final = ("why", "does", "the", "sky", "look", "blue", "at", "noon", "and", "red", "when", "light", "has", "far")


class Row(NamedTuple):
    """One case and what came of it."""

    name: str
    delays_ms: np.ndarray
    """From the instant a request was due to the end of its reply."""
    own_ms: np.ndarray
    """From its arrival to the end of its reply."""
    rate: float
    counts: dict[str, int]


async def model(scope: Any, receive: Any, send: Any) -> None:
    """Answer at once."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": ANSWER})


ANSWER: Final = json.dumps(
    {
        "id": "c",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 2_000}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 90, "completion_tokens": 500, "total_tokens": 590},
    }
).encode()


def bodies(dice: random.Random) -> list[bytes]:
    """Bodies of about 700 bytes: a system prompt and a question of a hundred words."""
    return [
        json.dumps(
            {
                "model": "m",
                "temperature": 0.6,
                "messages": [
                    {"role": "system", "content": "You are a patient teacher."},
                    {"role": "user", "content": " ".join(dice.choices(WORDS, k=100)) + f" {dice.random()}"},
                ],
            }
        ).encode()
        for _ in range(1_000)
    ]


async def load(app: App, rate: int, seconds: float, asked: list[bytes]) -> tuple[np.ndarray, np.ndarray, float]:
    """Send `rate` requests a second; the two times of each in ms, and how many a second were answered."""
    delays, own = np.zeros(int(rate * seconds)), np.zeros(int(rate * seconds))
    statuses: set[int] = set()
    under_way: set[asyncio.Task[None]] = set()

    async def one(number: int, due: float) -> None:
        body = asked[number % len(asked)]
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return messages.pop()

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                statuses.add(message["status"])
            elif not message.get("more_body"):
                ended = time.perf_counter()
                delays[number], own[number] = (ended - due) * 1000, (ended - arrived) * 1000

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [
                (b"host", b"model"),
                (b"authorization", b"Bearer sk-0123456789"),
                (b"x-account", b"account-%08d" % (number * 7919 % ACCOUNTS)),
                (b"user-agent", b"AsyncOpenAI/Python 3.54.0"),
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
            ],
            "client": ("192.0.2.7", 40_000),
        }
        arrived = time.perf_counter()
        await app(scope, receive, send)

    began = time.perf_counter()
    for number in range(len(delays)):
        due = began + (number // max(1, round(rate * TICK_SECONDS))) * max(TICK_SECONDS, 1 / rate)
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        elif number % 50 == 0:
            await asyncio.sleep(0)
        task = asyncio.create_task(one(number, due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    assert statuses == {200}
    return delays, own, len(delays) / (time.perf_counter() - began)


def gate(brokers: str, prefix: str, prompts: str = "sketch") -> Gate:
    """A gate as a deployment would have it."""
    environment = {
        "STILLWATCH_BROKERS": brokers,
        "STILLWATCH_TOPIC_PREFIX": prefix,
        "STILLWATCH_SECRET": "sixteen letters!",
        "STILLWATCH_ACCOUNT_HEADER": "x-account",
        "STILLWATCH_PROMPTS": prompts,
    }
    return Gate(Settings.read(environment))


def watched(number: int) -> Verdict:
    """A verdict that lets pass, as most do."""
    now = wall()
    return Verdict(
        id=f"{number:016x}",
        at=now,
        seq=1,
        scope="account",
        value=f"account-{number:08d}",
        action="watch",
        score=0.6,
        expires_at=now + 86_400_000,
        policy="p",
        model="m",
    )


async def case(name: str, rate: int, seconds: float, asked: list[bytes], tower: Gate) -> Row:
    """Measure one case with a gate."""
    app = Middleware(model, tower)
    await load(app, min(rate, 500), 1.0, asked)
    delays, own, answered = await load(app, rate, seconds, asked)
    counts = tower.counts()
    if app._task is not None:
        app._task.cancel()
        await asyncio.gather(app._task, return_exceptions=True)
    return Row(name, delays, own, answered, counts)


async def measure(seconds: float, address: str, rates: Sequence[int], prompts: str) -> list[Row]:
    """All cases in turn."""
    asked = bodies(random.Random(1))
    rows = []
    for rate in rates:
        rows.append(Row("no gate", *await load(model, rate, seconds, asked), {}))
        prefix = f"bench{rate}."
        await prepared(address, prefix)
        rows.append(await case("gate", rate, seconds, asked, gate(address, prefix, prompts)))
        away = gate(f"127.0.0.1:{free_port()}", prefix, prompts)
        rows.append(await case("gate, Kafka away", rate, seconds, asked, away))
        full = gate(address, await prepared(address, f"full{rate}.", GARBAGE), prompts)
        for number in range(LIVE):
            full.guard.take(watched(number), wall())
        rows.append(await case(f"gate, {LIVE:,} live verdicts, {GARBAGE:,} garbage", rate, seconds, asked, full))
    return rows


async def prepared(address: str, prefix: str, garbage: int = 0) -> str:
    """Topics under a prefix, the enforcement topic with so much garbage on it."""
    worker = Worker.read(
        {
            "STILLWATCH_BROKERS": address,
            "STILLWATCH_TOPIC_PREFIX": prefix,
            "STILLWATCH_REPLICATION": "1",
            "STILLWATCH_IDEMPOTENCE": "false",
        }
    )
    await topics.create(worker)
    async with worker.producer() as producer:
        for _ in range(garbage):
            await producer.send(ENFORCEMENT.name(worker), b"{garbage" * 100, b"account:ada")
    return prefix


def memory() -> str:
    """What a full guard weighs, and how long it takes to fill."""
    tower = gate("127.0.0.1:1", "p.")
    before, began = _resident(), time.perf_counter()
    for number in range(LIVE):
        tower.guard.take(watched(number), wall())
    took = time.perf_counter() - began
    return f"{LIVE:,} live verdicts: {(_resident() - before) / 1e6:.0f} MB, taken in {took:.0f} s"


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@click.command(help=__doc__)
@click.option("--seconds", default=10.0, show_default=True, help="Duration of each case.")
@click.option(
    "--rate", "rates", type=click.IntRange(1), multiple=True, default=(1_000, 3_000, 10_000), show_default=True
)
@click.option("--prompts", type=click.Choice(["sketch", "text", "none"]), default="sketch", show_default=True)
def main(seconds: float, rates: tuple[int, ...], prompts: str) -> None:
    console = Console(width=140)
    console.print(memory())
    with embedded_broker() as broker:
        here = machine("embedded broker")
        rows = asyncio.run(measure(seconds, broker.address, rates, prompts))
    table = Table("case", "replies/s", "in it: p50 ms", "p99", "from due: p50 ms", "p99", "reported", "dropped")
    for name, delays, own, answered, counts in rows:
        table.add_row(
            name,
            f"{answered:,.0f}",
            *(f"{value:.3f}" for value in np.percentile(own, (50, 99))),
            *(f"{value:.2f}" for value in np.percentile(delays, (50, 99))),
            f"{counts['sent']:,}" if counts else "",
            f"{counts['dropped']:,}" if counts else "",
        )
    console.print(table)
    console.print(str(here))


if __name__ == "__main__":
    main()
