"""Web: `POST /v1/requests`, as an ASGI application."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec

from gateway.senders import Senders

from .counters import TAKEN, Counters
from .messages import Batch, BodyError, BodyTooLargeError, Encoding, Prompts, Refused, read
from .outlet import AwayError, Outlet

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PATH: Final = "/v1/requests"

RETRY_SECONDS: Final = 2
"""What `Retry-After` says while Kafka is away."""

MOST_ERRORS: Final = 100
"""Refused messages that a reply describes; of more only the number is told."""

READ_SECONDS: Final = 30.0
"""Time allowed to send a body."""

_AT_ONCE_BYTES: Final = 64 * 1024
"""A longer body is taken apart in a thread: others must not wait for it."""

_ENCODINGS: Final[dict[str, Encoding]] = {"": "identity", "identity": "identity", "gzip": "gzip"}


class Limits(NamedTuple):
    """What is taken at once."""

    body_bytes: int = 8 * 1024 * 1024
    """Of one body, as sent and unpacked."""
    messages: int = 10_000
    """In one body."""
    waiting_bytes: int = 64 * 1024 * 1024
    """Of all bodies that are being read or wait for Kafka."""


class _Reply(NamedTuple):
    status: int
    body: dict[str, object]
    headers: tuple[tuple[bytes, bytes], ...] = ()


class _Held:
    """Bytes of one request that are in memory."""

    def __init__(self, grow: Callable[[int], None]) -> None:
        self.count = 0
        self._grow = grow

    def grow(self, count: int) -> None:
        """So many more, or fewer. Raises _Refusal where that is too much."""
        self.count += count
        self._grow(count)


class _Refusal(Exception):  # noqa: N818  (it is a reply, and no fault)
    """Ends a request with an error."""

    def __init__(self, status: int, code: str, text: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(text)
        self.reply = _Reply(status, {"error": {"code": code, "message": text}}, headers)


_STRANGE: Final = _Refusal(
    401,
    "unauthorized",
    "no valid token: send one of yours as Authorization: Bearer TOKEN",
    (b"www-authenticate", b"Bearer"),
).reply


class Ingest:
    """Takes batches of requests and answers when Kafka has them.

    200: every message that could be read is on Kafka, the others are named in `errors`. 422: none could be read.
    503 with `Retry-After`: Kafka is away or too slow; send all of it again, for what arrived twice counts once.
    `now` is ms UTC.
    """

    def __init__(
        self,
        senders: Senders,
        outlet: Outlet,
        counters: Counters,
        *,
        now: Callable[[], int],
        limits: Limits = Limits(),  # noqa: B008  (it never changes)
        prompts: Prompts = "sketch",
    ) -> None:
        self._senders = senders
        self._outlet = outlet
        self._counters = counters
        self._now = now
        self._limits = limits
        self._prompts: Prompts = prompts
        self._waiting_bytes = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            if scope["path"] == "/ready" and scope["method"] == "GET":
                await _answer(send, self._readiness())
                return
            _routed(scope)
            sender = self._senders.named(headers.get("authorization"))
            reply = _STRANGE if sender is None else await self._taken(headers, receive)
        except _Refusal as refusal:
            reply = refusal.reply
        self._counters.replies.labels(str(reply.status)).inc()
        self._counters.reply_seconds.observe(time.perf_counter() - began)
        await _answer(send, reply)

    def _readiness(self) -> _Reply:
        return _Reply(200, {"ready": True}) if self._outlet.there else _Reply(503, {"ready": False}, (_retry(),))

    async def _taken(self, headers: dict[str, str], receive: Receive) -> _Reply:
        encoding = _ENCODINGS.get(headers.get("content-encoding", "").strip().lower())
        if encoding is None:
            text = f"content-encoding {headers['content-encoding'][:80]!r} is not known; gzip is"
            raise _Refusal(415, "unknown_encoding", text)
        if not self._outlet.there:
            raise _away("Kafka is away")
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self._limits.body_bytes:
            raise self._too_large()
        with self._held() as held:
            batch = await self._apart(await self._read(held, receive), encoding)
            held.grow(sum(len(message.value) for message in batch.messages) - held.count)
            self._counters.messages.labels(TAKEN).inc(await self._delivered(batch))
        for refused in batch.refused:
            self._counters.messages.labels(refused.error.reason).inc()
        return _told(batch)

    async def _read(self, held: "_Held", receive: Receive) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(READ_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Refusal(400, "cut_short", "the body ended early")
                    piece = message.get("body", b"")
                    body += piece
                    if len(body) > self._limits.body_bytes:
                        raise self._too_large()
                    held.grow(len(piece))
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise _Refusal(408, "too_slow", f"the body took longer than {READ_SECONDS:g} s") from None

    @contextmanager
    def _held(self) -> Iterator["_Held"]:
        held = _Held(self._grow)
        try:
            yield held
        finally:
            self._grow(-held.count)

    def _grow(self, count: int) -> None:
        self._waiting_bytes += count
        self._counters.body_bytes.set(self._waiting_bytes)
        if count > 0 and self._waiting_bytes > self._limits.waiting_bytes:
            raise _away(f"over {self._limits.waiting_bytes} bytes wait for Kafka")

    async def _apart(self, body: bytes, encoding: Encoding) -> Batch:
        def taken() -> Batch:
            return read(
                body,
                self._now(),
                encoding=encoding,
                prompts=self._prompts,
                most_bytes=self._limits.body_bytes,
                most=self._limits.messages,
            )

        try:
            return await asyncio.to_thread(taken) if len(body) > _AT_ONCE_BYTES or encoding == "gzip" else taken()
        except BodyTooLargeError as error:
            raise _Refusal(413, "too_large", f"the body is {error}") from None
        except BodyError as error:
            raise _Refusal(400, "unreadable", f"the body is {error}") from None

    async def _delivered(self, batch: Batch) -> int:
        try:
            await self._outlet.deliver(batch.messages)
        except AwayError as error:
            raise _away(str(error)) from None
        return len(batch.messages)

    def _too_large(self) -> _Refusal:
        return _Refusal(413, "too_large", f"the body is over the limit of {self._limits.body_bytes} bytes")


def _routed(scope: MutableMapping[str, Any]) -> None:
    if scope["path"] != PATH:
        raise _Refusal(404, "not_found", f"there is POST {PATH} here, and GET /ready")
    if scope["method"] != "POST":
        raise _Refusal(405, "method_not_allowed", f"POST to {PATH}", (b"allow", b"POST"))


def _told(batch: Batch) -> _Reply:
    body: dict[str, object] = {"accepted": len(batch.messages), "refused": len(batch.refused)}
    if batch.refused:
        body["errors"] = [_described(refused) for refused in batch.refused[:MOST_ERRORS]]
    return _Reply(422 if batch.refused and not batch.messages else 200, body)


def _described(refused: Refused) -> dict[str, object]:
    error = refused.error
    return {
        "index": refused.place,
        "reason": error.reason,
        "field": error.field,
        "value": error.value,
        "message": str(error),
    }


def _away(text: str) -> _Refusal:
    return _Refusal(503, "try_again", f"{text}; send it again in {RETRY_SECONDS} s", _retry())


def _retry() -> tuple[bytes, bytes]:
    return b"retry-after", b"%d" % RETRY_SECONDS


async def _answer(send: Send, reply: _Reply) -> None:
    body = msgspec.json.encode(reply.body)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
