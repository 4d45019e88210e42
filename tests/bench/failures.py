"""What becomes of replies when something fails: `python -m tests.bench.failures`.

A gate before a model that answers at once, requests due at fixed instants, and half way through the failure. Eve was
suspended before it began: she is asked after at the start and at the end. No detector runs here at all, so every case
is also that of a detector that stopped. `rate` requests a second come from other accounts; each must be answered.
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from gateway.asgi import Middleware
from gateway.gate import Gate, wall
from gateway.settings import Settings
from gateway.verdict import Verdict, encode
from streams.engine.embedded import Embedded, embedded
from streams.settings import Settings as Worker
from streams.topics import ENFORCEMENT

from .gate import LIVE, bodies, load, model, prepared, watched
from .machine import machine

DAY_MS: Final = 86_400_000
STALE_SECONDS: Final = 2.0
EVE: Final = b"eve"


class Row(NamedTuple):
    """One case and what came of it."""

    name: str
    replies: int
    own_ms: np.ndarray
    """From a request's arrival to the end of its reply."""
    eve: tuple[int, int]
    """Status of her reply at the start and at the end; 403 while her suspension holds."""
    counts: dict[str, int]


@dataclass
class Case:
    """How one case is set up, and what fails half way."""

    name: str
    fail: Callable[[Embedded], Awaitable[None]] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    garbage: int = 0
    ahead_ms: int = 0
    """By how much the clock of the gate is fast."""
    lasts_ms: int = 3_600_000
    live: int = 0
    rate: int | None = None


async def killed(broker: Embedded) -> None:
    os.kill(broker.pid, signal.SIGKILL)


async def frozen(broker: Embedded) -> None:
    os.kill(broker.pid, signal.SIGSTOP)


def cases(seconds: float, live: int, garbage: int) -> list[Case]:
    """The matrix."""
    return [
        Case("nothing fails"),
        Case("Kafka dies", killed),
        Case("Kafka hangs", frozen),
        Case("Kafka dies, STALE_SECONDS=3600", killed, {"STILLWATCH_STALE_SECONDS": "3600"}),
        Case("the detector is gone, the verdict ends", lasts_ms=int(seconds * 750)),
        Case(f"{garbage:,} garbage messages", garbage=garbage),
        Case("the clock is a day fast", ahead_ms=DAY_MS),
        Case("the clock is a day slow", ahead_ms=-DAY_MS),
        Case(f"{live:,} live verdicts", live=live),
        Case(f"{live:,} live verdicts, 10,000 requests/s", live=live, rate=10_000),
    ]


async def status(app: Middleware, account: bytes) -> int:
    """One request of an account; the status of its reply."""
    found: list[int] = []
    messages = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive() -> dict[str, Any]:
        return messages.pop()

    async def send(message: dict[str, Any]) -> None:
        found.extend([message["status"]] if message["type"] == "http.response.start" else [])

    headers = [(b"x-account", account)]
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers, "client": ("::1", 1)}
    await app(scope, receive, send)
    return found[0]


async def play(case: Case, rate: int, seconds: float, asked: list[bytes]) -> Row:
    """One case."""
    rate = case.rate or rate
    with embedded() as broker:
        prefix = await prepared(broker.address, "failures.", case.garbage)
        await suspended(broker, prefix, case.lasts_ms)
        environment = {
            "STILLWATCH_BROKERS": broker.address,
            "STILLWATCH_TOPIC_PREFIX": prefix,
            "STILLWATCH_SECRET": "sixteen letters!",
            "STILLWATCH_ACCOUNT_HEADER": "x-account",
            "STILLWATCH_STALE_SECONDS": str(STALE_SECONDS),
        }
        tower = Gate(Settings.read(environment | case.environment), clock=lambda: wall() + case.ahead_ms)
        for number in range(case.live):
            tower.guard.take(watched(number), tower.clock())
        app = Middleware(model, tower)
        await status(app, b"ada")
        async with asyncio.timeout(60):
            while tower.counts()["stale"]:  # noqa: ASYNC110  (until all that stands on the topic is known)
                await asyncio.sleep(0.05)
        before = await status(app, EVE)
        failing = asyncio.create_task(_later(case.fail, broker, seconds / 2))
        _, own, _ = await load(app, rate, seconds, asked)
        await failing
        after = await status(app, EVE)
        counts = tower.counts()
        with contextlib.suppress(ProcessLookupError):
            os.kill(broker.pid, signal.SIGCONT)
        if app._task is not None:
            app._task.cancel()
            await asyncio.gather(app._task, return_exceptions=True)
    return Row(case.name, len(own), own, (before, after), counts)


async def _later(fail: Callable[[Embedded], Awaitable[None]] | None, broker: Embedded, seconds: float) -> None:
    await asyncio.sleep(seconds)
    if fail is not None:
        await fail(broker)


async def suspended(broker: Embedded, prefix: str, lasts_ms: int) -> None:
    """Announce that Eve is suspended for so long."""
    now = wall()
    one = Verdict(
        id="eve-1",
        at=now,
        seq=1,
        scope="account",
        value=EVE.decode(),
        action="suspend",
        score=0.99,
        expires_at=now + lasts_ms,
        policy="p",
        model="m",
    )
    worker = Worker.read(broker.environment() | {"STILLWATCH_TOPIC_PREFIX": prefix})
    async with worker.producer() as producer:
        await producer.send_and_wait(ENFORCEMENT.name(worker), encode(one), one.subject.encode())


@click.command(help=__doc__)
@click.option("--seconds", default=10.0, show_default=True, help="Duration of each case.")
@click.option("--rate", default=1_000, show_default=True, help="Requests a second.")
def main(seconds: float, rate: int) -> None:
    logging.disable()  # Clients of Kafka complain of what is done to it here.
    asked = bodies(random.Random(1))
    table = Table("half way", "replies", "in it: p50 ms", "p99", "Eve", "reported", "waiting", "dropped")
    for case in cases(seconds, LIVE, 50_000):
        row = asyncio.run(play(case, rate, seconds, asked))
        table.add_row(
            row.name,
            f"{row.replies:,}",
            *(f"{value:.3f}" for value in np.percentile(row.own_ms, (50, 99))),
            "{} then {}".format(*row.eve),
            *(f"{row.counts[name]:,}" for name in ("sent", "waiting", "dropped")),
        )
    console = Console(width=140)
    console.print(table)
    console.print(str(machine("embedded broker")))


if __name__ == "__main__":
    main()
