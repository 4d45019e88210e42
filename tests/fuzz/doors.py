"""Doors: whoever reaches a port may send what they like. They are answered, and nothing breaks."""

import asyncio
import gzip
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import msgspec
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway import crowdsec, envoy
from gateway.asgi import Middleware
from gateway.emitter import Drafted
from gateway.gate import Gate
from gateway.request import decode, encode
from gateway.senders import Senders
from gateway.settings import Settings
from gateway.verdict import Verdict
from streams.engine.vitals import MOST_HEAD_BYTES, vitals
from streams.ingest.counters import Counters
from streams.ingest.messages import Message
from streams.ingest.outlet import Outlet
from streams.ingest.web import Ingest, Limits
from tests.brokers import free_port
from tests.stories import HOUR, T0, request

from .odd import messages
from .wire import REQUESTS

TOKEN: Final = "a-token-of-enough-letters"


class Asked(NamedTuple):
    """One HTTP request, as an ASGI server hands it over."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: Sequence[bytes]
    """In pieces."""


_METHODS: Final = st.sampled_from(("POST", "POST", "POST", "GET", "HEAD", "PUT", "OPTIONS", ""))
_BYTES: Final = st.binary(max_size=60) | st.sampled_from(
    (
        *(b"", b"0", b"-1", b"9" * 400, b"\xff\xfe", b"%00", b"x" * 9_000),
        *(b"gzip", b"identity, gzip", b"GZIP", b"a,b,,", b"1.2.3.4, ::1"),
    )
)


def _pieces(body: bytes) -> st.SearchStrategy[list[bytes]]:
    return st.integers(0, len(body)).map(lambda place: [body[:place], body[place:]])


def _asked(
    paths: Sequence[str], names: Sequence[bytes], bodies: st.SearchStrategy[bytes], known: Sequence[tuple[bytes, bytes]]
) -> st.SearchStrategy[Asked]:
    """Requests to these paths and others, with these headers and others; `known` are who is let in."""
    headers = st.lists(
        st.tuples(st.sampled_from(names) | st.binary(min_size=1, max_size=20).map(bytes.lower), _BYTES), max_size=5
    )
    return st.builds(
        Asked,
        _METHODS,
        st.sampled_from(paths) | st.text(max_size=30).map("/".__add__),
        _BYTES
        | st.sampled_from((b"startup=true", b"startup=true&scopes=account,", b"&&=&%zz", b"scenarios_containing=%ff")),
        st.tuples(headers, st.sampled_from([[each] for each in known] + [[]])).map(lambda both: [*both[1], *both[0]]),
        bodies.flatmap(_pieces),
    )


async def _served(app: Any, asked: Asked) -> tuple[int, bytes]:
    """Status and body of the reply; what is no reply as ASGI has it fails."""
    waiting = list(asked.body)
    sent: list[Any] = []

    async def receive() -> dict[str, object]:
        if not waiting:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": asked.method, "path": asked.path, "raw_path": asked.path.encode("utf-8", "replace"),
        "query_string": asked.query, "headers": asked.headers, "client": ("192.0.2.7", 1), "scheme": "http",
        "http_version": "1.1", "server": ("127.0.0.1", 80), "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    start, *rest = sent
    assert start["type"] == "http.response.start"
    assert all(each["type"] == "http.response.body" for each in rest)
    for name, value in start["headers"]:
        assert name == name.lower()
        assert not {b"\r", b"\n", b"\x00"} & {bytes([each]) for each in name + value}, (name, value)
    return start["status"], b"".join(each.get("body", b"") for each in rest)


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


# --- ingest ---


class _Kafka:
    there = True

    def __init__(self) -> None:
        self.taken: list[Message] = []

    async def deliver(self, messages: Sequence[Message]) -> None:
        self.taken += messages


@cache
def _tokens() -> Path:
    path = Path(tempfile.mkdtemp(prefix="fuzz-")) / "tokens"
    path.write_text(f"berlin {TOKEN}\n")
    return path


def _bodies() -> st.SearchStrategy[bytes]:
    several = st.lists(REQUESTS, max_size=4)
    plain = st.one_of(
        several.map(b"\n".join),
        several.map(lambda each: b"[" + b",".join(each) + b"]"),
        REQUESTS,
        st.just(b"[" + b",".join([encode(request())] * 200) + b"]"),
    )
    return st.one_of(plain, plain.map(gzip.compress), plain.map(gzip.compress).map(lambda raw: raw[:-3]))


INGEST: Final = _asked(
    ("/v1/requests", "/v1/requests", "/v1/requests", "/ready", "/"),
    (b"content-encoding", b"content-length", b"authorization", b"content-type"),
    _bodies(),
    [(b"authorization", f"Bearer {TOKEN}".encode())] * 5
    + [(b"authorization", b"Bearer \xff"), (b"authorization", b"")],
)


def ingest(asked: Asked) -> None:
    """What a stranger or a sender posts to `stillwatch ingest`."""
    kafka = _Kafka()
    counters = Counters(CollectorRegistry())
    limits = Limits(body_bytes=100_000, messages=100, waiting_bytes=200_000)
    app = Ingest(Senders(_tokens(), lambda: 0.0), cast(Outlet, kafka), counters, now=lambda: T0, limits=limits)

    async def work() -> None:
        status, body = await _served(app, asked)
        said = msgspec.json.decode(body)
        assert status in (200, 400, 401, 404, 405, 413, 415, 422)
        if status in (200, 422) and asked.path != "/ready":
            assert said["accepted"] == len(kafka.taken)
            assert len(said.get("errors", ())) == said["refused"]
        elif status != 200:
            assert said["error"]["message"]
            assert kafka.taken == []
        for message in kafka.taken:
            told = decode(message.value)
            assert told.account.encode() == message.key
            assert told.text is None

    _run(work())
    assert counters.registry.get_sample_value("stillwatch_ingest_body_bytes") in (0.0, None)


# --- the worker's own port ---

_LINES: Final = st.lists(
    st.sampled_from(
        (
            *(b"GET /metrics HTTP/1.1", b"GET /live HTTP/1.0", b"HEAD /ready HTTP/1.1", b"POST /live HTTP/1.1"),
            *(b"GET  / HTTP/1.1", b"GET /live HTTP/2", b"GET http://a/live?x=\x00 HTTP/1.1", b"PRI * HTTP/2.0"),
            *(b"", b" ", b"Host: a", b"Content-Length: 99999999999", b"Transfer-Encoding: chunked", b"\x16\x03\x01"),
            b"x" * (MOST_HEAD_BYTES + 1),
        )
    )
    | st.binary(max_size=80),
    max_size=5,
)  # fmt: skip
HEADS: Final = st.tuples(_LINES, st.sampled_from((b"\r\n", b"\n", b"\r")), st.booleans()).map(
    lambda made: made[1].join(made[0]) + (b"\r\n\r\n" if made[2] else b"")
)


def web(raw: bytes) -> None:
    """Bytes that come to the port of `/metrics`; whoever sends them is gone afterwards, and the next is served."""

    async def work() -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        port = _port()
        async with vitals("127.0.0.1", port, registry=CollectorRegistry(), ready=_yes, alive=_yes, seconds=5):
            answer = await _told(port, raw)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
            assert (await _told(port, b"GET /live HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        assert faults == [], faults

    _run(work())


@cache
def _port() -> int:
    """One for all examples."""
    return free_port()


def _yes() -> bool:
    return True


async def _told(port: int, raw: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""  # closed unheard, as it may be
    finally:
        writer.close()


# --- the gateway's services ---

_ENVIRONMENT: Final = {
    "STILLWATCH_SECRET": "sixteen letters!",
    "STILLWATCH_WHEN_STALE": "keep",
    "STILLWATCH_ACCOUNT_HEADER": "x-account",
    "STILLWATCH_ORG_HEADER": "x-org",
    "STILLWATCH_OPENED_AT_HEADER": "x-opened",
    "STILLWATCH_PAYMENT_HEADER": "x-payment",
    "STILLWATCH_ADDRESS_HEADER": "x-forwarded-for",
    "STILLWATCH_VERIFY_URL": "https://example.com/verify/{decision}",
}
_HEADERS: Final = (
    *(b"x-account", b"x-org", b"x-opened", b"x-payment", b"x-forwarded-for", b"authorization", b"user-agent"),
    *(b"x-stillwatch-action", b"content-length", b"content-type"),
)
_WHO: Final = [(b"x-account", name) for name in (b"eve", b"tom", b"ada", b"\xff", b"")]


class _Gate(Gate):
    """One without Kafka, that keeps what it would report."""

    def __init__(self) -> None:
        self.kept: list[Drafted] = []
        self.faults = 0
        super().__init__(Settings.read(_ENVIRONMENT), clock=lambda: T0, ids=lambda: "r1")
        for account, action in (("eve", "suspend"), ("tom", "throttle"), ("dan", "degrade")):
            self.guard.take(_verdict(account, action), T0)
        self.guard.confirm(T0)

    def report(self, draft: Drafted, size: int) -> None:
        self.kept.append(draft)

    def fault(self) -> None:
        """Where others are let through, we want to know."""
        raise

    def check(self) -> None:
        """What is reported is readable."""
        for each in self.kept:
            told = each.draft().request
            assert decode(encode(told)) == told


def _verdict(account: str, action: str) -> Verdict:
    return Verdict(
        id="v\r\n1", at=T0, seq=1, scope="account", value=account, action=action, score=0.9, expires_at=T0 + HOUR,
        parameters={"rpm": 1.0, "strength": 0.5}, policy="p", model="m",
    )  # fmt: skip


ENVOY: Final = _asked(
    ("/authz/v1/chat/completions", "/authz/v1/embeddings", "/authz/", "/metrics", "/ready", "/live", "/authz"),
    _HEADERS, st.just(b""), _WHO,
)  # fmt: skip


def authz(asked: Asked) -> None:
    """What Envoy asks."""
    gate = _Gate()

    async def work() -> None:
        status, _ = await _served(envoy.Authz(gate), asked)
        assert status in (200, 403, 404, 429, 503)
        gate.check()

    _run(work())


@cache
def _stream() -> crowdsec.Stream:
    environment = {"STILLWATCH_BOUNCER_KEYS": str(_tokens()), "STILLWATCH_WHEN_STALE": "keep"}
    stream = crowdsec.Stream(Settings.read(environment, identifies=False), clock=lambda: T0)
    for account, action in (("eve", "suspend"), ("tom", "throttle")):
        stream.guard.take(_verdict(account, action), T0)
    stream.guard.confirm(T0)
    return stream


BOUNCERS: Final = _asked(
    ("/v1/decisions/stream", "/v1/decisions/stream", "/v1/decisions", "/metrics", "/ready"),
    (b"x-api-key", b"user-agent", b"host"),
    st.just(b""),
    [(b"x-api-key", TOKEN.encode())] * 3 + [(b"x-api-key", b"\xff")],
)


def bouncers(asked: Asked) -> None:
    """What a CrowdSec bouncer asks, or somebody who says so."""

    async def work() -> None:
        stream = _stream()
        stream.subscriber.restored.set()
        status, body = await _served(stream, asked)
        assert status in (200, 403, 404)
        if status == 200 and asked.path == crowdsec.PATH:
            assert msgspec.json.decode(body).keys() == {"new", "deleted"}

    _run(work())


# --- the gate before a model ---

_CHAT: Final = messages(
    b'{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Why?"}],"n":2,'
    b'"temperature":0.7,"max_tokens":5,"logprobs":true,"top_logprobs":3,"stream":false,"tools":[{}],"stop":["a"]}',
    b'{"model":"m","input":[{"role":"user","content":[{"type":"text","text":"Why?"}]}],"conversation":{"id":"c"}}',
)
_ANSWERS: Final = messages(
    b'{"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"It scatters.",'
    b'"reasoning_content":"s"},"finish_reason":"stop","logprobs":{"content":[{"token":"It","logprob":-0.1,'
    b'"bytes":[73],"top_logprobs":[{"token":"It","logprob":-0.1,"bytes":[73]}]}]}}],'
    b'"usage":{"prompt_tokens":7,"completion_tokens":3,"completion_tokens_details":{"reasoning_tokens":2}}}',
)
CHATS: Final = st.tuples(
    _asked(
        ("/v1/chat/completions", "/v1/responses", "/v1/embeddings"), _HEADERS, _CHAT, [*_WHO, (b"x-account", b"dan")]
    ),
    _ANSWERS,
    st.booleans(),
)


def chats(given: tuple[Asked, bytes, bool]) -> None:
    """Prompts and answers that pass the middleware, some of them to be degraded."""
    asked, answer, streamed = given
    gate = _Gate()

    async def model(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        while (await receive()).get("more_body"):
            pass
        kind = b"text/event-stream" if streamed else b"application/json"
        told = b"data: " + answer + b"\n\ndata: [DONE]\n\n" if streamed else answer
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        half = len(told) // 2
        await send({"type": "http.response.body", "body": told[:half], "more_body": True})
        await send({"type": "http.response.body", "body": told[half:]})

    async def work() -> None:
        gated = Middleware(model, gate)
        status, _ = await _served(gated, asked)
        assert status in (200, 403, 429)
        gate.check()

    _run(work())
