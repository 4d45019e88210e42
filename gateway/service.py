"""Service: what our own small HTTP services share: a task that runs while they do, and plain replies."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final

import msgspec

# The types of the ASGI specification; messages hold values of any type.
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

GAUGES: Final = frozenset(("waiting", "verdicts", "stale"))
"""Counts of a gate that also fall."""


async def lifespan(receive: Receive, send: Send, run: Callable[[], Awaitable[None]]) -> None:
    """Keep a task running from the server's start to its end, as ASGI's lifespan has it."""
    await receive()
    task = asyncio.ensure_future(run())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await send({"type": "lifespan.shutdown.complete"})


async def reply(send: Send, status: int, body: bytes = b"", headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send a whole reply; JSON, unless its headers say otherwise."""
    told = list(headers)
    names = {name for name, _ in told}
    if body and b"content-type" not in names:
        told.append((b"content-type", b"application/json"))
    if b"content-length" not in names:
        told.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})


async def vitals(scope: Scope, send: Send, *, ready: bool, counts: Mapping[str, int]) -> None:
    """Answer `/ready`, `/live` and `/metrics`; 404 to anything else."""
    match scope["path"]:
        case "/live":
            await reply(send, 200, b'{"live":true}')
        case "/ready":
            await reply(send, 200 if ready else 503, msgspec.json.encode({"ready": ready}))
        case "/metrics":
            await reply(send, 200, exposition(counts), [(b"content-type", b"text/plain; version=0.0.4")])
        case _:
            await reply(send, 404, b'{"error":"not found"}')


def exposition(counts: Mapping[str, int]) -> bytes:
    """Counts of a gate as Prometheus reads them."""
    lines = []
    for name, value in counts.items():
        metric = f"stillwatch_gateway_{name}" + ("" if name in GAUGES else "_total")
        lines.append(f"# TYPE {metric} {'gauge' if name in GAUGES else 'counter'}\n{metric} {value}\n")
    return "".join(lines).encode()
