"""The server that notes what extraction tools ask: what it writes is what a gateway would emit."""

import io
import json
from typing import Any

import httpx
import pytest

from gateway.request import Request, decode
from tests.tools.server import Answering


async def asked(*bodies: dict[str, Any], keys: str = "k") -> tuple[list[Request], list[dict[str, Any]]]:
    out = io.BytesIO()
    app = Answering(out, speed=1e6, output=600, sigma=0.6)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://tool") as client:  # type: ignore[arg-type]
        replies = [
            (await client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})).json()
            for body, key in zip(bodies, keys * len(bodies), strict=False)
        ]
    return [decode(line) for line in out.getvalue().splitlines()], replies


async def test_a_request_is_written_as_a_gateway_would_emit_it() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "How many apples are left? Think step by step."}]},
    ]
    (request,), (reply,) = await asked({"messages": messages, "max_tokens": 5, "temperature": 0.6, "n": 2})
    assert (request.turns, request.max_tokens, request.temperature, request.choices) == (1, 5, 0.6, 2)
    assert (request.output_tokens, request.finish) == (10, "length")
    assert request.sketch is not None
    assert request.sketch.system is not None
    assert "apples" not in str(request)
    assert [choice["finish_reason"] for choice in reply["choices"]] == ["length"] * 2
    assert reply["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize(("keys", "accounts"), [("aa", 1), ("ab", 2)])
async def test_each_key_is_an_account(keys: str, accounts: int) -> None:
    body = {"messages": [{"role": "user", "content": "How many?"}]}
    found, _ = await asked(body, body, keys=keys)
    assert len({request.account for request in found}) == accounts
    assert found[0].at <= found[1].at


async def test_an_answer_has_the_shape_that_was_asked_for() -> None:
    schema = {"properties": {"reasoning": {"type": "string"}, "age": {"type": "integer"}}}
    shape = {"type": "json_schema", "json_schema": {"name": "solved", "schema": schema}}
    body = {"messages": [{"role": "user", "content": "How many?"}], "response_format": shape}
    _, (reply,) = await asked(body)
    assert json.loads(reply["choices"][0]["message"]["content"]) == {"reasoning": "Answer 1: How many?", "age": 1}
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_asking_for_limits_with_no_message_is_refused_and_not_written() -> None:
    found, (reply,) = await asked({"model": "m", "messages": []})
    assert (found, reply["error"]["type"]) == ([], "invalid_request_error")
