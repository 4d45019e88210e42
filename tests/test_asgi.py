"""The gate before an ASGI server: what passes, what is refused, and that nothing of ours ever breaks a reply."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware as Wrapped
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from stories import HOUR, SECOND, T0
from test_guard import verdict

from gateway.asgi import Middleware
from gateway.emitter import Drafted
from gateway.exchange import Draft
from gateway.gate import Gate
from gateway.request import decode, encode
from gateway.settings import Settings
from gateway.verdict import Reason

ENVIRONMENT = {
    "STILLWATCH_SECRET": "sixteen letters!",
    "STILLWATCH_ACCOUNT_HEADER": "x-account",
    "STILLWATCH_ORG_HEADER": "x-org",
    "STILLWATCH_OPENED_AT_HEADER": "x-opened",
    "STILLWATCH_PAYMENT_HEADER": "x-payment",
    "STILLWATCH_ADDRESS_HEADER": "x-forwarded-for",
    "STILLWATCH_VERIFY_URL": "https://example.com/verify/{decision}",
}
CHAT = "/v1/chat/completions"


class Told(Gate):
    """A gate that keeps what it would report, and has no Kafka."""

    def __init__(self, **more: str) -> None:
        self.now = T0
        self.drafts: list[Drafted] = []
        super().__init__(Settings.read(ENVIRONMENT | more), clock=lambda: self.now)
        self.guard.confirm(T0)

    def report(self, draft: Drafted, size: int) -> None:
        self.drafts.append(draft)

    async def run(self) -> None:
        await asyncio.Event().wait()

    def told(self) -> list[Draft]:
        """What was reported, each message proven to be readable."""
        found = [each.draft() for each in self.drafts]
        for each in found:
            assert decode(encode(each.request)) == each.request
        return found


class Model:
    """A server that answers what it was asked, and remembers what it saw."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.app = Starlette(
            routes=[Route("/v1/{path:path}", self.answer, methods=["POST", "GET"]), Route("/health", self.health)]
        )

    async def health(self, request: HttpRequest) -> Response:
        return JSONResponse({"ok": True})

    async def answer(self, request: HttpRequest) -> Response:
        self.headers.append(dict(request.headers))
        asked = await request.json()
        self.asked.append(asked)
        if asked.get("fail"):
            raise RuntimeError("the model is on fire")
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 2}}
        if asked.get("stream"):
            return StreamingResponse(self.words(usage), media_type="text/event-stream")
        message = {"role": "assistant", "content": "It scatters.", "reasoning_content": "secret"}
        choices = [
            {"index": n, "message": message, "finish_reason": "stop", "logprobs": {"content": []}}
            for n in range(asked.get("n") or 1)
        ]
        return JSONResponse({"id": "c", "model": "m", "choices": choices, "usage": usage})

    async def words(self, usage: object) -> AsyncIterator[str]:
        for delta in (
            {"role": "assistant"},
            {"reasoning_content": "secret"},
            {"content": "It "},
            {"content": "scatters."},
        ):
            yield f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'logprobs': {}}]})}\n\n"
        yield f"data: {json.dumps({'choices': [{'index': 0, 'delta': {}, 'finish_reason': 'stop'}]})}\n\n"
        yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def gate() -> Told:
    return Told()


def client(model: Model, gate: Gate, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Middleware(model.app, gate), raise_app_exceptions=False)
    given = {"x-account": "ada", "authorization": "Bearer sk-1", **headers}
    return httpx.AsyncClient(transport=transport, base_url="http://model", headers=given)


def asking(**more: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": "Why is the sky blue?"}], **more}


async def test_an_honest_exchange_passes_and_is_reported(model: Model, gate: Told) -> None:
    headers = {
        "x-org": "acme",
        "x-opened": "1700000000",
        "x-payment": "card 4242",
        "x-forwarded-for": "6.6.6.6, 192.0.2.7",
    }
    reply = await client(model, gate, **headers).post(CHAT, json=asking(temperature=0.6))

    assert reply.json()["choices"][0]["message"]["content"] == "It scatters."
    (draft,) = gate.told()
    one = draft.request
    assert reply.headers["x-stillwatch-decision"] == one.id
    assert (one.at, one.account, one.org, one.opened_at, one.ip) == (T0, "ada", "acme", 1_700_000_000_000, "192.0.2.7")
    assert (one.model, one.operation, one.temperature, one.turns) == ("m", "chat", 0.6, 1)
    assert (one.input_tokens, one.output_tokens, one.reasoning_tokens, one.finish) == (7, 3, 2, "stop")
    assert draft.text == "Why is the sky blue?"
    assert "sk-1" not in repr(one)
    assert "4242" not in repr(one)
    assert one.key is not None
    assert one.payment is not None
    assert one.client is not None
    assert one.client.startswith("python-httpx/")


async def test_a_stream_passes_piece_by_piece_as_it_is(model: Model, gate: Told) -> None:
    reply = await client(model, gate).post(CHAT, json=asking(stream=True))
    bare = await httpx.AsyncClient(transport=httpx.ASGITransport(model.app), base_url="http://model").post(
        CHAT, json=asking(stream=True)
    )
    assert reply.text == bare.text
    one = gate.told()[0].request
    assert (one.stream, one.output_tokens, one.reasoning_tokens, one.finish) == (True, 3, 2, "stop")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/health"), ("GET", CHAT), ("POST", "/v1/models"), ("POST", "/v1/chat/completions/x")]
)
async def test_other_paths_are_none_of_its_business(model: Model, gate: Told, method: str, path: str) -> None:
    gate.guard.take(verdict("ada", "suspend"), T0)
    reply = await client(model, gate).request(method, path, json=asking())
    assert reply.status_code in (200, 404)
    assert "x-stillwatch-decision" not in reply.headers
    assert gate.drafts == []


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/embeddings", "/proxy/v1/embeddings"])
async def test_the_four_operations_are_guarded(model: Model, gate: Told, path: str) -> None:
    gate.guard.take(verdict("ada", "suspend"), T0)
    assert (await client(model, gate).post(path, json=asking())).status_code == 403


async def test_who_is_watched_sees_no_difference_and_the_server_is_told(model: Model, gate: Told) -> None:
    gate.guard.take(verdict("ada", "watch"), T0)
    watched = await client(model, gate, **{"x-stillwatch-action": "allow"}).post(CHAT, json=asking())
    free = await client(model, gate, **{"x-account": "bob", "x-stillwatch-action": "suspend"}).post(CHAT, json=asking())
    assert (watched.status_code, watched.content) == (free.status_code, free.content)
    assert set(watched.headers) == set(free.headers)
    assert len(watched.headers["x-stillwatch-decision"]) == len(free.headers["x-stillwatch-decision"])
    told = [{name: value for name, value in seen.items() if name.startswith("x-stillwatch")} for seen in model.headers]
    request_ids = [draft.request.id for draft in gate.told()]
    assert told == [
        {
            "x-stillwatch-request": request_ids[0],
            "x-stillwatch-action": "watch",
            "x-stillwatch-subject": "account:ada",
            "x-stillwatch-decision": "ada-1",
        },
        {"x-stillwatch-request": request_ids[1]},
    ]


async def test_a_throttle_lets_some_pass_and_tells_the_others_when_to_come_back(model: Model, gate: Told) -> None:
    gate.guard.take(verdict("ada", "throttle", parameters={"rpm": 4.0}), T0)  # One at once, then one in 15 s.
    ada, bob = client(model, gate), client(model, gate, **{"x-account": "bob"})
    first, second = await ada.post(CHAT, json=asking()), await ada.post(CHAT, json=asking())
    gate.now += 15 * SECOND
    third = await ada.post(CHAT, json=asking())
    assert [each.status_code for each in (first, second, third)] == [200, 429, 200]
    assert (second.headers["retry-after"], second.headers["x-stillwatch-decision"]) == ("15", "ada-1")
    assert second.json()["error"]["code"] == "rate_limit_exceeded"
    assert (await bob.post(CHAT, json=asking())).status_code == 200


async def test_what_was_refused_is_reported_as_blocked_and_never_reaches_the_model(model: Model, gate: Told) -> None:
    gate.guard.take(verdict("ada", "verify", reasons=(Reason(signal="volume", weight=2.0, text="sends a lot"),)), T0)
    reply = await client(model, gate).post(CHAT, json=asking())
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["decision"]) == (403, "verification_required", "ada-1")
    assert error["verify_url"] == "https://example.com/verify/ada-1"
    assert model.asked == []
    (draft,) = gate.told()
    one = draft.request
    assert (one.account, one.status, one.finish, one.input_tokens, one.output_tokens) == ("ada", 403, "blocked", 0, 0)
    assert draft.text is None


async def test_a_degraded_answer_has_neither_probabilities_nor_choices_nor_reasoning(model: Model, gate: Told) -> None:
    gate.guard.take(verdict("ada", "degrade"), T0)
    ada = client(model, gate)
    reply = await ada.post(CHAT, json=asking(n=4, logprobs=True, top_logprobs=20))
    assert reply.json()["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "It scatters."},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ]
    assert model.asked == [asking()]
    streamed = await ada.post(CHAT, json=asking(stream=True))
    assert "secret" not in streamed.text
    assert "scatters." in streamed.text
    assert streamed.text.endswith("data: [DONE]\n\n")
    one, other = (draft.request for draft in gate.told())
    assert (one.choices, one.top_logprobs, one.output_tokens) == (4, 20, 3), "what was asked for is reported"
    assert (other.stream, other.output_tokens) == (True, 3)


async def test_verdicts_on_keys_are_found_under_the_old_secret_while_it_is_rotated(model: Model) -> None:
    before = Told()
    await client(model, before).post(CHAT, json=asking())
    old = before.told()[0].request.key
    assert old is not None
    after = Told(STILLWATCH_SECRET="a new secret of 16", STILLWATCH_PREVIOUS_SECRET="sixteen letters!")
    after.guard.take(verdict(old, "suspend", scope="key"), T0)
    assert (await client(model, after).post(CHAT, json=asking())).status_code == 403
    assert (await client(model, after, authorization="Bearer sk-2").post(CHAT, json=asking())).status_code == 200


async def test_without_an_account_header_the_hash_of_the_key_is_the_account(model: Model) -> None:
    gate = Told(STILLWATCH_ACCOUNT_HEADER="")
    for name, value in (("authorization", "Bearer sk-1"), ("x-api-key", "sk-1"), ("api-key", "sk-1")):
        await client(model, gate, **{"authorization": "", name: value}).post(CHAT, json=asking())
    (account,) = {draft.request.account for draft in gate.told()}
    assert len(account) == 32


async def test_who_cannot_be_told_passes_unreported(model: Model, gate: Told) -> None:
    reply = await client(model, gate, **{"x-account": ""}).post(CHAT, json=asking())
    assert (reply.status_code, gate.drafts, gate.counts()["unknown"]) == (200, [], 1)


async def test_emitting_only_enforces_nothing(model: Model) -> None:
    gate = Told(STILLWATCH_ENFORCE="false")
    gate.guard.take(verdict("ada", "suspend"), T0)
    assert (await client(model, gate).post(CHAT, json=asking())).status_code == 200
    assert len(gate.drafts) == 1


async def test_a_stale_guard_allows_unless_told_otherwise(model: Model) -> None:
    for when_stale, expected in (("allow", 200), ("keep", 403)):
        gate = Told(STILLWATCH_WHEN_STALE=when_stale)
        gate.guard.take(verdict("ada", "suspend", expires_at=T0 + 2 * HOUR), T0)
        gate.now = T0 + HOUR
        assert (await client(model, gate).post(CHAT, json=asking())).status_code == expected


async def test_a_fault_of_ours_breaks_no_reply(model: Model) -> None:
    def broken(headers: object, peer: object) -> None:
        raise KeyError("surprise")

    gate = Told()
    gate._identify = broken
    reply = await client(model, gate).post(CHAT, json=asking())
    assert (reply.status_code, gate.counts()["faults"]) == (200, 1)


async def test_a_model_that_fails_fails_as_before_and_is_reported(model: Model, gate: Told) -> None:
    reply = await client(model, gate).post(CHAT, json=asking(fail=True))
    assert reply.status_code == 500
    assert (gate.told()[0].request.status, gate.told()[0].request.finish) == (500, "error")


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[1]", b"\xff", b"x" * 9_000_000])
@pytest.mark.parametrize("action", ["watch", "degrade"])
async def test_any_body_reaches_the_model_as_it_came(body: bytes, action: str) -> None:
    seen = []

    async def echo(request: HttpRequest) -> Response:
        seen.append(await request.body())
        return Response("no", status_code=400, media_type="text/plain")

    gate = Told()
    gate.guard.take(verdict("ada", action), T0)
    app = Starlette(routes=[Route(CHAT, echo, methods=["POST"])])
    transport = httpx.ASGITransport(Middleware(app, gate))
    async with httpx.AsyncClient(transport=transport, base_url="http://m") as http:
        reply = await http.post(CHAT, content=body, headers={"x-account": "ada"})
    assert (reply.status_code, reply.text, seen) == (400, "no", [body])
    assert gate.told()[0].request.model == "unknown"


async def test_compression_inside_is_not_asked_for(gate: Told) -> None:
    async def answer(request: HttpRequest) -> Response:
        return JSONResponse({"usage": {"prompt_tokens": 1, "completion_tokens": 2}, "choices": [], "x": "y" * 5_000})

    app = Starlette(routes=[Route(CHAT, answer, methods=["POST"])], middleware=[Wrapped(GZipMiddleware)])
    transport = httpx.ASGITransport(Middleware(app, gate))
    async with httpx.AsyncClient(transport=transport, base_url="http://m") as http:
        await http.post(CHAT, json=asking(), headers={"x-account": "ada", "accept-encoding": "gzip"})
    assert gate.told()[0].request.output_tokens == 2


async def test_garbage_in_a_verdict_makes_no_header(model: Model, gate: Told) -> None:
    gate.guard.take(verdict("ada", "watch", id="x\r\nset-cookie: evil"), T0)
    reply = await client(model, gate).post(CHAT, json=asking())
    assert reply.status_code == 200
    assert model.headers[0]["x-stillwatch-decision"] == "x%0D%0Aset-cookie:%20evil"


def test_starlette_wraps_itself_with_it_from_the_environment(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.testclient import TestClient

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STILLWATCH_BROKERS", "127.0.0.1:1")
    model.app.add_middleware(Middleware)
    with TestClient(model.app) as http:
        reply = http.post(CHAT, json=asking(), headers={"x-account": "ada"})
    assert reply.status_code == 200
    assert "x-stillwatch-decision" in reply.headers
