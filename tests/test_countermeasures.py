"""Degraded answers on their whole way: a verdict, the middleware, a model with probabilities, a client."""

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from stories import T0
from test_asgi import CHAT, Told, asking
from test_guard import verdict

from gateway.asgi import Middleware
from gateway.countermeasures import mark_key
from gateway.gate import Gate
from gateway.settings import Settings, SettingsError
from gateway.verdict import Exposure

WORDS = {
    "The": [("The", 0.6), ("A", 0.3), ("One", 0.05)],
    " sky": [(" sky", 0.5), (" sea", 0.4), (" sun", 0.01)],
    " scatters": [(" is", 0.7), (" scatters", 0.1), (" shines", 0.05)],
}
"""Each word of the answer, and the three most probable at its place."""


def position(word: str) -> dict[str, Any]:
    top = [{"token": token, "logprob": math.log(p), "bytes": list(token.encode())} for token, p in WORDS[word]]
    own = next(each for each in top if each["token"] == word)
    return own | {"top_logprobs": top}


class Model:
    """Answers with probabilities, where it is asked for them; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.app = Starlette(routes=[Route(CHAT, self.answer, methods=["POST"])])

    async def answer(self, request: HttpRequest) -> Response:
        asked = await request.json()
        self.asked.append(asked)
        wanted = bool(asked.get("logprobs"))
        if asked.get("stream"):
            return StreamingResponse(self.events(wanted), media_type="text/event-stream")
        logprobs = {"content": [position(word) for word in WORDS], "refusal": None} if wanted else None
        message = {"role": "assistant", "content": "".join(WORDS), "reasoning_content": "secret"}
        return JSONResponse({"choices": [{"index": 0, "message": message, "logprobs": logprobs}]})

    async def events(self, wanted: bool) -> AsyncIterator[str]:
        for word in WORDS:
            logprobs = {"content": [position(word)]} if wanted else None
            choice = {"index": 0, "delta": {"content": word}, "logprobs": logprobs}
            yield f"data: {json.dumps({'choices': [choice]})}\n\n"
        yield "data: [DONE]\n\n"


def exposed(share: float) -> Exposure:
    return Exposure(requests=1, output_tokens=1, reasoning_tokens=0, cost=0, share_of_budget=share)


async def told(model: Model, gate: Gate, account: str = "ada", **more: object) -> list[dict[str, float]]:
    """What a client reads: for each place of the answer, the probability of each token listed; [] when withheld."""
    transport = httpx.ASGITransport(Middleware(model.app, gate))
    async with httpx.AsyncClient(transport=transport, base_url="http://model") as http:
        reply = await http.post(CHAT, json=asking(**more), headers={"x-account": account})
    assert reply.status_code == 200, reply.text
    if more.get("stream"):
        lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
        assert lines.pop() == "[DONE]"
        choices = [choice for line in lines for choice in json.loads(line)["choices"]]
        assert "".join(choice["delta"]["content"] for choice in choices) == "".join(WORDS)
    else:
        choices = reply.json()["choices"]
        assert choices[0]["message"] == {"role": "assistant", "content": "".join(WORDS)}
    found = []
    for choice in choices:
        for entry in (choice["logprobs"] or {}).get("content", ()):
            listed = {each["token"]: math.exp(each["logprob"]) for each in entry["top_logprobs"]}
            assert listed.get(entry["token"]) == math.exp(entry["logprob"])
            found.append(listed)
    return found


TRUTH = [dict(listed) for listed in WORDS.values()]
ALL = {"logprobs": True, "top_logprobs": 3}


def furthest(found: list[dict[str, float]]) -> float:
    return max(abs(found[place][token] - p) for place, listed in enumerate(TRUTH) for token, p in listed.items())


def ordered(found: list[dict[str, float]]) -> list[list[str]]:
    return [sorted(listed, key=lambda token: -listed[token]) for listed in found]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_degraded_account_gets_perturbed_probabilities_in_their_order(stream: bool) -> None:
    model, gate = (
        Model(),
        Told(STILLWATCH_PROBABILITIES="perturb", STILLWATCH_ALTERNATIVES="20", STILLWATCH_PROBABILITY_BOUND="0.4"),
    )
    gate.guard.take(verdict("ada", "degrade"), T0)
    found = await told(model, gate, stream=stream, n=3, logit_bias={"1": 5}, **ALL)
    assert ordered(found) == ordered(TRUTH)
    assert 0.05 < furthest(found) <= 0.4 + 1e-9
    assert model.asked == [asking(stream=stream, **ALL)], "one choice, no bias"
    assert await told(model, gate, stream=stream, **ALL) == found, "repeats do not average out"
    assert await told(model, gate, stream=not stream, **ALL) == found


async def test_who_is_not_degraded_gets_the_truth() -> None:
    model, gate = Model(), Told(STILLWATCH_PROBABILITIES="perturb", STILLWATCH_ALTERNATIVES="20")
    gate.guard.take(verdict("eve", "degrade"), T0)
    gate.guard.take(verdict("ada", "watch"), T0)
    for account in ("ada", "bob"):
        transport = httpx.ASGITransport(Middleware(model.app, gate))
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as http:
            reply = await http.post(CHAT, json=asking(**ALL), headers={"x-account": account})
        assert reply.json()["choices"][0]["logprobs"]["content"] == [position(word) for word in WORDS]


async def test_the_more_was_served_the_less_is_true() -> None:
    model, gate = (
        Model(),
        Told(STILLWATCH_PROBABILITIES="perturb", STILLWATCH_ALTERNATIVES="20", STILLWATCH_PROBABILITY_BOUND="0.2"),
    )
    bounds = []
    for seq, share in enumerate((0.05, 0.2, 0.3, 2.0), start=1):
        gate.guard.take(verdict("ada", "degrade", seq=seq, score=0.999, exposure=exposed(share)), T0)
        bounds.append(furthest(await told(model, gate, **ALL)))
    assert bounds == pytest.approx([0.05, 0.1, 0.15, 0.2])


async def test_of_several_that_degrade_the_strongest_counts() -> None:
    model = Model()
    gate = Told(STILLWATCH_PROBABILITIES="perturb", STILLWATCH_ALTERNATIVES="20", STILLWATCH_PROBABILITY_BOUND="0.2")
    gate.guard.take(verdict("ada", "degrade", campaign="c-1", parameters={"strength": 0.25}), T0)
    assert furthest(await told(model, gate, **ALL)) == pytest.approx(0.05)
    gate.guard.take(verdict("c-1", "degrade", scope="campaign", parameters={"strength": 1.0}), T0)
    assert furthest(await told(model, gate, **ALL)) == pytest.approx(0.2)


async def test_accounts_of_a_campaign_are_told_the_same_and_strangers_something_else() -> None:
    model, gate = Model(), Told(STILLWATCH_PROBABILITIES="perturb", STILLWATCH_ALTERNATIVES="20")
    for account, campaign in (("ada", "c-1"), ("bob", "c-1"), ("eve", None)):
        gate.guard.take(verdict(account, "degrade", campaign=campaign), T0)
    ada, bob, eve = [await told(model, gate, account, **ALL) for account in ("ada", "bob", "eve")]
    assert ada == bob != eve


@pytest.mark.parametrize("stream", [False, True])
async def test_private_probabilities_end_with_their_budget(stream: bool) -> None:
    model = Model()
    gate = Told(
        STILLWATCH_PROBABILITIES="private",
        STILLWATCH_ALTERNATIVES="20",
        STILLWATCH_EPSILON="2",
        STILLWATCH_EPSILON_BUDGET="9",
        STILLWATCH_REPLICAS="1",
    )
    gate.guard.take(verdict("ada", "degrade", score=0.99), T0)
    first = await told(model, gate, stream=stream, **ALL)
    assert ordered(first) == ordered(TRUTH)
    second = await told(model, gate, stream=stream, **ALL)
    assert second == (first[:1] if stream else []), "four positions of 2 fit into 9: three, then one"
    assert gate.countermeasures.ledger.spent("account:ada") == 8
    assert await told(model, gate, stream=stream) == [], "what does not ask passes"


async def test_a_spent_budget_refuses_where_that_was_asked_for() -> None:
    model = Model()
    gate = Told(
        STILLWATCH_PROBABILITIES="private",
        STILLWATCH_ALTERNATIVES="20",
        STILLWATCH_EPSILON="3",
        STILLWATCH_EPSILON_BUDGET="10",
        STILLWATCH_WHEN_SPENT="refuse",
    )
    gate.guard.take(verdict("ada", "degrade", score=0.99), T0)
    assert len(await told(model, gate, **ALL)) == 3
    transport = httpx.ASGITransport(Middleware(model.app, gate))
    async with httpx.AsyncClient(transport=transport, base_url="http://model") as http:
        refused = await http.post(CHAT, json=asking(**ALL), headers={"x-account": "ada"})
        plain = await http.post(CHAT, json=asking(), headers={"x-account": "ada"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "probabilities_spent")
    assert refused.json()["error"]["decision"] == "ada-1"
    assert plain.status_code == 200
    assert len(model.asked) == 2
    assert [draft.request.finish for draft in gate.told()][1] == "blocked"
    assert (gate.counts()["refused"], gate.counts()["degraded"]) == (1, 2)


async def test_one_alternative_is_listed_unless_told_otherwise() -> None:
    model, gate = Model(), Told(STILLWATCH_PROBABILITIES="perturb")
    gate.guard.take(verdict("ada", "degrade"), T0)
    transport = httpx.ASGITransport(Middleware(model.app, gate))
    async with httpx.AsyncClient(transport=transport, base_url="http://model") as http:
        reply = await http.post(CHAT, json=asking(**ALL), headers={"x-account": "ada"})
    listed = [entry["top_logprobs"] for entry in reply.json()["choices"][0]["logprobs"]["content"]]
    assert [[each["token"] for each in place] for place in listed] == [["The"], [" sky"], [" is"]]
    assert model.asked == [asking(logprobs=True, top_logprobs=1)]


async def test_the_openai_client_reads_perturbed_probabilities_whole_and_streamed() -> None:
    model, gate = Model(), Told(STILLWATCH_PROBABILITIES="perturb", STILLWATCH_ALTERNATIVES="2")
    gate.guard.take(verdict("ada", "degrade"), T0)
    http = httpx.AsyncClient(transport=httpx.ASGITransport(Middleware(model.app, gate)))
    client = AsyncOpenAI(
        base_url="http://model/v1", api_key="sk-1", http_client=http, default_headers={"x-account": "ada"}
    )
    async with client:
        ask: Any = {
            "model": "m",
            "messages": [{"role": "user", "content": "Why?"}],
            "logprobs": True,
            "top_logprobs": 3,
        }
        whole = await client.chat.completions.create(**ask)
        pieces = [piece async for piece in await client.chat.completions.create(**ask, stream=True)]
    read = [whole.choices[0].logprobs.content, [piece.choices[0].logprobs.content[0] for piece in pieces]]
    for entries in read:
        assert [entry.token for entry in entries] == list(WORDS)
        assert [[each.token for each in entry.top_logprobs] for entry in entries] == [
            [token for token, _ in listed[:2]] for listed in WORDS.values()
        ]
        assert all(first.logprob > second.logprob for first, second in (entry.top_logprobs for entry in entries))
        assert [entry.logprob for entry in entries] != [position(word)["logprob"] for word in WORDS]
    assert read[0] == read[1]


async def test_a_strength_of_none_withholds() -> None:
    model, gate = Model(), Told(STILLWATCH_PROBABILITIES="perturb", STILLWATCH_ALTERNATIVES="20")
    gate.guard.take(verdict("ada", "degrade", parameters={"strength": 0.0}), T0)
    assert await told(model, gate, **ALL) == []


async def test_the_mark_of_the_campaign_travels_to_the_model_and_for_nobody_else() -> None:
    model, gate = Model(), Told(STILLWATCH_WATERMARK="green")
    gate.guard.take(verdict("ada", "degrade", campaign="c-1", parameters={"strength": 0.5}), T0)
    transport = httpx.ASGITransport(Middleware(model.app, gate))
    async with httpx.AsyncClient(transport=transport, base_url="http://model") as http:
        for account in ("ada", "bob"):
            asked = asking(vllm_xargs={"other": 1, "stillwatch_mark": "mine"})
            await http.post(CHAT, json=asked, headers={"x-account": account})
    degraded, free = (asked["vllm_xargs"] for asked in model.asked)
    key = mark_key("sixteen letters!", "campaign:c-1")
    assert degraded == {"other": 1, "stillwatch_mark": f"green:{key.hex()}:1"}
    assert free == {"other": 1, "stillwatch_mark": "mine"}


@pytest.mark.parametrize(("name", "value"), [("PROBABILITIES", "perturb"), ("WATERMARK", "green")])
def test_keyed_measures_need_a_secret(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"STILLWATCH_{name}={value} needs STILLWATCH_SECRET"):
        Settings.read({"STILLWATCH_ACCOUNT_HEADER": "x-account", f"STILLWATCH_{name}": value})
