"""Vitals: what probes and Prometheus may ask a worker, and nothing else.

The port may be reached by many, so it speaks the least HTTP that they need: one GET a connection, no body, bounded in
size, time and number. State is never served: Faust's own web server would show its tables to anyone.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

MOST_HEAD_BYTES: Final = 8 * 1024
"""Of a request line with its headers."""

MOST_CONNECTIONS: Final = 64
"""At once; more are closed unheard."""

SECONDS: Final = 10.0
"""For a whole exchange, so that whoever dawdles holds nothing for longer."""

_TEXT: Final = "text/plain; charset=utf-8"
_STATUS: Final = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
    431: "Request Header Fields Too Large", 503: "Service Unavailable",
}  # fmt: skip


class _Answer(NamedTuple):
    status: int
    body: bytes
    kind: str = _TEXT


@asynccontextmanager
async def vitals(
    host: str,
    port: int,
    *,
    registry: CollectorRegistry,
    ready: Callable[[], bool],
    alive: Callable[[], bool],
    measure: Callable[[], None] = lambda: None,
    seconds: float = SECONDS,
) -> AsyncIterator[None]:
    """Serve `/metrics`, `/ready` and `/live` on `host:port`; port 0 serves nothing.

    `measure` is called before each scrape: a gauge says what is so now, even while the worker waits for something.
    """

    def metrics() -> _Answer:
        measure()
        return _Answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)

    paths: dict[str, Callable[[], _Answer]] = {
        "/metrics": metrics,
        "/ready": lambda: _Answer(200, b"ready\n") if ready() else _Answer(503, b"not ready\n"),
        "/live": lambda: _Answer(200, b"alive\n") if alive() else _Answer(503, b"stuck\n"),
    }
    talking: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(talking) >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        talking.add(writer)
        try:
            async with asyncio.timeout(seconds):
                await _talk(reader, writer, paths)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # gone, or too slow
        finally:
            talking.discard(writer)
            writer.transport.abort()  # whoever was answered has closed by now

    if not port:
        yield
        return
    server = await asyncio.start_server(serve, host, port, limit=MOST_HEAD_BYTES)
    try:
        yield
    finally:
        server.close()
        for writer in talking:
            writer.transport.abort()


async def _talk(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, paths: dict[str, Callable[[], _Answer]]
) -> None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        answer = _Answer(431, b"")
        method = "GET"
    else:
        method, answer = _answered(head, paths)
    head_lines = (
        f"HTTP/1.1 {answer.status} {_STATUS[answer.status]}",
        f"Content-Type: {answer.kind}",
        f"Content-Length: {len(answer.body)}",
        "Connection: close",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
    )
    writer.write("\r\n".join((*head_lines, "", "")).encode())
    if method != "HEAD":
        writer.write(answer.body)
    writer.write_eof()
    await writer.drain()
    while await reader.read(MOST_HEAD_BYTES):
        pass  # until the other end closes: a reset could overtake the answer


def _answered(head: bytes, paths: dict[str, Callable[[], _Answer]]) -> tuple[str, _Answer]:
    words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return "", _Answer(400, b"")
    method, target, _ = words
    path = paths.get(target.partition("?")[0])
    if path is None:
        return method, _Answer(404, b"")
    if method not in ("GET", "HEAD"):
        return method, _Answer(405, b"")
    return method, path()
