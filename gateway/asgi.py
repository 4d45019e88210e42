"""ASGI: a gate before any ASGI server of an OpenAI-compatible API: FastAPI, Starlette, vLLM."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

from .actions import Refusal
from .answer import LARGEST, Reader, Said
from .countermeasures import Measures
from .degrade import Stream
from .exchange import Exchange, operation_of
from .gate import Gate, Passage
from .guard import Standing
from .headers import DECISION, OURS, announced, quoted
from .request import BLOCKED
from .service import Message, Receive, Scope, Send
from .settings import Settings

App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_LONG: Final = 64 * 1024
"""Bytes from which on an answer is rewritten in a thread."""


class Middleware:
    """Wraps an ASGI application: `app.add_middleware(Middleware)`.

    vLLM takes it by name: `vllm serve ... --middleware stillwatch_gateway.asgi.Middleware`. Without a `gate` it makes
    one from the environment. Requests to other paths pass untouched. A fault of ours is counted, and the request passes
    as if we were not there.
    """

    def __init__(self, app: App, gate: Gate | None = None) -> None:
        self.gate = gate if gate is not None else Gate(Settings.read(os.environ))
        self._app = app
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        operation = operation_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if operation is None:
            await self._app(scope, receive, send)
            return
        self._start()
        visit = None
        try:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            client = scope.get("client")
            passage = await self.gate.admit(headers, client[0] if client else None)
            visit = _Visit(self.gate, passage, operation, receive, send)
            scope = _announced(scope, passage)
        except Exception:
            self.gate.fault()
        if visit is None:
            await self._app(scope, receive, send)
        elif visit.passage.refusal is not None:
            await visit.refuse()
        else:
            await visit.serve(self._app, scope)

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self.gate.run())

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._start()
        try:
            await self._app(scope, receive, send)
        finally:
            if self._task is not None:
                self._task.cancel()
                with suppress(asyncio.CancelledError):
                    await self._task
                self._task = None


class _Visit:
    """One request on its way through."""

    def __init__(self, gate: Gate, passage: Passage, operation: str, receive: Receive, send: Send) -> None:
        self.passage = passage
        self._gate = gate
        self._operation = operation
        self._receive = receive
        self._send = send
        self._began = time.perf_counter()
        self._asked: list[bytes] = []
        self._asked_size = 0
        self._reader = Reader()

    async def refuse(self) -> None:
        """Reply in the server's place. The body is taken in, as clients expect it, but not looked at."""
        refusal, standing = self.passage.refusal, self.passage.standing
        if refusal is None or standing is None:
            return
        message, size = await self._receive(), 0
        while message["type"] == "http.request" and message.get("more_body") and size < LARGEST:
            size += len(message.get("body", b""))
            message = await self._receive()
        await self._reply(refusal, standing)

    async def _reply(self, refusal: Refusal, standing: Standing) -> None:
        headers = [*refusal.headers, (DECISION, quoted(standing.id))]
        await self._send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": refusal.body})
        self._report(Said(refusal.status, finish=BLOCKED))

    async def serve(self, app: App, scope: Scope) -> None:
        """Let the application answer, and report when it has."""
        standing = self.passage.standing
        receive: Receive = self._heard
        send: Send = self._passed
        if standing is not None and standing.action == "degrade":
            measures = self._gate.countermeasures.against(standing)
            scope, receive, send = await self._degraded(scope, measures)
            if measures.spent:
                await self._reply(self._gate.spent(standing), standing)
                return
        try:
            await app(scope, receive, send)
        finally:
            self._report(None)

    async def _heard(self) -> Message:
        message = await self._receive()
        self._keep(message)
        return message

    async def _passed(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = self._marked(message)
        await self._send(message)
        self._read(message)

    def _keep(self, message: Message) -> None:
        body = message.get("body", b"")
        self._asked_size += len(body)
        # Of a body that is larger than any prompt only the length is known: it still counts as a request.
        if body and self._asked_size <= LARGEST:
            self._asked.append(body)

    def _marked(self, message: Message) -> Message:
        headers: Iterable[tuple[bytes, bytes]] = message.get("headers", ())
        return {**message, "headers": [*headers, (DECISION, self.passage.id.encode())]}

    def _read(self, message: Message) -> None:
        try:
            if message["type"] == "http.response.start":
                self._reader.start(message["status"], message.get("headers", ()))
            elif message["type"] == "http.response.body":
                self._reader.feed(message.get("body", b""))
        except Exception:
            self._gate.fault()

    async def _degraded(self, scope: Scope, measures: Measures) -> tuple[Scope, Receive, Send]:
        """The same request, asking for less, and a way back on which the answer loses what it should not have."""
        first = await self._heard()
        body = first.get("body", b"")
        last = first
        while last["type"] == "http.request" and last.get("more_body"):
            last = await self._heard()
            body += last.get("body", b"")
        if last["type"] != "http.request":
            return scope, _replay([last], self._receive), self._passed
        try:
            plain = measures.request(body)
            headers = [each for each in scope["headers"] if each[0].lower() != b"content-length"]
            scope = {**scope, "headers": [*headers, (b"content-length", b"%d" % len(plain))]}
        except Exception:
            self._gate.fault()
            plain = body
        message: Message = {"type": "http.request", "body": plain, "more_body": False}
        return (
            scope,
            _replay([message], self._receive),
            _Lessened(self._gate, measures, self._send, self._read, self._marked).send,
        )

    def _report(self, said: Said | None) -> None:
        passage = self.passage
        if passage.who is None:
            return
        try:
            exchange = Exchange(
                id=passage.id,
                at=passage.at,
                operation=self._operation,
                who=passage.who,
                asked=b"".join(self._asked),
                said=said or self._reader.said(),
                latency_ms=round((time.perf_counter() - self._began) * 1000, 3),
            )
            self._gate.report(exchange, exchange.size)
        except Exception:
            self._gate.fault()


class _Lessened:
    """The way back of a degraded request. Where rewriting fails the answer passes as it is."""

    def __init__(
        self,
        gate: Gate,
        measures: Measures,
        send: Send,
        read: Callable[[Message], None],
        marked: Callable[[Message], Message],
    ) -> None:
        self._gate = gate
        self._measures = measures
        self._send = send
        self._read = read
        self._marked = marked
        self._stream: Stream | None = None
        self._head: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        self._read(message)
        if message["type"] == "http.response.start":
            await self._begin(self._marked(message))
        elif message["type"] == "http.response.body" and self._stream is not None:
            await self._piece(self._stream, message)
        elif message["type"] == "http.response.body" and self._head is not None:
            await self._whole(self._head, message)
        else:
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        kind = next((value for name, value in message["headers"] if name.lower() == b"content-type"), b"")
        if kind.startswith(b"text/event-stream"):
            self._stream = self._measures.stream()
        elif kind.startswith(b"application/json"):
            self._head = message  # Held back: the length of the body will change.
            return
        await self._send(message)

    async def _piece(self, stream: Stream, message: Message) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        try:
            body = stream.feed(body) + (b"" if more else stream.rest())
        except Exception:
            self._gate.fault()
        if body or not more:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _whole(self, head: Message, message: Message) -> None:
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        body = self._body
        try:
            # A long one is rewritten beside the event loop: a thousand tokens with twenty probabilities take 0.1 s.
            rewrite = self._measures.answer
            body = await asyncio.to_thread(rewrite, body) if len(body) > _LONG else rewrite(body)
        except Exception:
            self._gate.fault()
        headers = [each for each in head["headers"] if each[0].lower() != b"content-length"]
        await self._send({**head, "headers": [*headers, (b"content-length", b"%d" % len(body))]})
        await self._send({"type": "http.response.body", "body": body})


def _announced(scope: Scope, passage: Passage) -> Scope:
    """The scope as the application sees it: with what we know of the client, and no word of that from itself.

    Compression is left to whoever stands in front: what is compressed in here can neither be read nor degraded.
    """
    kept: Headers = [
        each
        for each in scope["headers"]
        if not each[0].lower().startswith(OURS) and each[0].lower() != b"accept-encoding"
    ]
    return {**scope, "headers": kept + announced(passage)}


def _replay(messages: list[Message], receive: Receive) -> Receive:
    async def replayed() -> Message:
        return messages.pop(0) if messages else await receive()

    return replayed
