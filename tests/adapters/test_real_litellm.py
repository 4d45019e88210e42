"""LiteLLM: a real proxy with our callback, a model behind it, and the real `openai` client in front."""

import asyncio
import os
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import openai
import pytest
from announced import announce, refused, reported
from attack import slowed_then_stopped
from brokers import Broker, free_port
from fastapi import FastAPI
from fleet import Fleet
from installed import environment
from programs import started
from serving import Model, listening, question
from test_guard import verdict

from gateway.gate import wall
from gateway.request import Request

pytestmark = pytest.mark.adapters

CONFIG = """
model_list:
- model_name: m
  litellm_params: {model: openai/m, api_base: "http://MODEL/v1", api_key: none}
- model_name: nothing
  litellm_params: {model: openai/m, api_base: "http://127.0.0.1:1/v1", api_key: none, max_retries: 0}
litellm_settings:
  callbacks: [stillwatch_gateway.litellm.callback]
general_settings:
  forward_client_headers_to_llm_api: true
  custom_auth: customers.known
"""

CUSTOMERS = """
from litellm.proxy._types import UserAPIKeyAuth


async def known(request, api_key):
    name = api_key.removeprefix("sk-")
    return UserAPIKeyAuth(api_key=api_key, user_id=name, team_id="acme")
"""


@asynccontextmanager
async def proxy(folder: Path, model: Model, where: dict[str, str]) -> AsyncIterator[str]:
    """A LiteLLM proxy before a model; gives the URL for a client."""
    app = FastAPI()
    app.add_api_route("/v1/chat/completions", model.answer, methods=["POST"], response_model=None)
    port = free_port()
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("STILLWATCH_")},
        **where,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_MASTER_KEY": f"sk-{secrets.token_hex(16)}",
    }
    async with listening(app) as behind:
        (folder / "litellm.yaml").write_text(CONFIG.replace("MODEL", behind))
        (folder / "customers.py").write_text(CUSTOMERS)
        program = str(environment() / "bin" / "litellm")
        command = [program, "--config", str(folder / "litellm.yaml"), "--port", str(port), "--host", "127.0.0.1"]
        opened = started(command, port, folder / "litellm.log", variables)
        await asyncio.to_thread(opened.__enter__)
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            await asyncio.to_thread(opened.__exit__, None, None, None)


ATTACK = {
    "STILLWATCH_SECRET": "sixteen letters!",
    "STILLWATCH_ACCOUNT_HEADER": "x-account",
    "STILLWATCH_OPENED_AT_HEADER": "x-opened",
    "STILLWATCH_ADDRESS_HEADER": "x-forwarded-for",
    "STILLWATCH_VERIFY_URL": "https://example.com/verify/{decision}",
}


async def test_an_attack_through_a_litellm_proxy_is_slowed_then_stopped(fleet: Fleet, tmp_path: Path) -> None:
    model = Model()
    where = {"STILLWATCH_BROKERS": fleet.broker.address, "STILLWATCH_TOPIC_PREFIX": fleet.settings.topic_prefix}
    async with proxy(tmp_path, model, ATTACK | where) as url:
        log = tmp_path / "litellm.log"
        thief, came = await slowed_then_stopped(url, lambda: fleet.logs() + log.read_text()[-5_000:])
        with pytest.raises(openai.PermissionDeniedError):
            await thief.client.chat.completions.create(model="m", messages=question(thief.dice), stream=True)
        served = {"thief": thief.statuses.count(200), "ada": came["asked"]}
        assert model.served == served
        refused = len(thief.statuses) - served["thief"] + 1
        (worker,) = fleet.workers
        await fleet.until(
            lambda: (
                worker.metric("stillwatch_requests_total", outcome="blocked") == refused
                and worker.metric("stillwatch_requests_total", outcome="counted") == sum(served.values())
            )
        )
        assert worker.metric("stillwatch_unreadable_requests_total") == 0


async def test_users_and_teams_of_litellm_are_accounts_and_organisations(embedded: Broker, tmp_path: Path) -> None:
    """Ada is watched, Cai degraded, Eve suspended, Bob nobody in particular; the team is on nobody's list."""
    fleet = await Fleet.assemble(embedded, tmp_path)
    lasting = {"at": wall(), "expires_at": wall() + 600_000}
    verdicts = [verdict("ada", "watch", **lasting), verdict("cai", "degrade", **lasting)]
    await announce(fleet.settings, [*verdicts, verdict("eve", "suspend", **lasting)])
    where = {
        "STILLWATCH_SECRET": "sixteen letters!",
        "STILLWATCH_BROKERS": fleet.broker.address,
        "STILLWATCH_TOPIC_PREFIX": fleet.settings.topic_prefix,
    }
    asked = {"model": "m", "messages": question(random.Random(1)), "max_tokens": 80}
    async with proxy(tmp_path, Model(), where) as url:

        def someone(name: str) -> openai.AsyncOpenAI:
            return openai.AsyncOpenAI(
                base_url=url, api_key=f"sk-{name}", max_retries=0, default_headers={"x-account": name}
            )

        error = await refused(someone("eve"), asked)
        assert error.code == "account_suspended"
        assert error.response.headers["x-stillwatch-decision"] == "eve-1"
        assert "quote decision eve-1" in error.message

        for name, plain in (("ada", False), ("bob", False), ("cai", True)):
            raw = await someone(name).chat.completions.with_raw_response.create(**asked, logprobs=True)
            assert len(raw.headers["x-stillwatch-decision"]) == 32
            choice = raw.parse().choices[0]
            assert choice.message.content == "It is 42."
            assert (choice.logprobs is None) == plain
            assert (getattr(choice.message, "reasoning_content", None) is None) == plain
            stream = await someone(name).chat.completions.create(**asked, stream=True)
            deltas = [piece.choices[0].delta async for piece in stream if piece.choices]
            assert "".join(delta.content or "" for delta in deltas) == "It is 42."
            assert any(getattr(delta, "reasoning_content", None) for delta in deltas) != plain

        # Whoever hangs up before the end has been served all the same.
        stream = await someone("dan").chat.completions.create(**asked, stream=True)
        async for piece in stream:
            if piece.choices and piece.choices[0].delta.content:
                break
        await stream.close()
        with pytest.raises(openai.APIStatusError):
            await someone("fay").chat.completions.create(**(asked | {"model": "nothing"}))
        async with httpx.AsyncClient() as http:
            assert (await http.get(url + "/models", headers={"authorization": "Bearer sk-eve"})).status_code == 200

        found: dict[str, list[Request]] = {}
        async with asyncio.timeout(60):
            while not {"ada", "bob", "cai", "dan", "eve", "fay"} <= found.keys() or len(found["cai"]) < 2:
                found = await reported(fleet, 9)

    assert [len(found[name]) for name in ("ada", "bob", "cai", "dan", "fay")] == [2, 2, 2, 1, 1]
    whole, streamed = sorted(found["ada"], key=lambda request: bool(request.stream))
    assert (whole.input_tokens, whole.output_tokens, whole.reasoning_tokens) == (40, 80, 64)
    assert (whole.status, whole.finish, whole.org, whole.operation) == (200, "stop", "acme", "chat")
    assert (whole.max_tokens, whole.top_logprobs) == (80, 1)
    assert (streamed.output_tokens, streamed.status) == (80, 200)
    assert whole.key is not None
    assert whole.key == streamed.key != found["bob"][0].key
    assert {request.top_logprobs for request in found["cai"]} == {1, None}, "what was asked, not what was left of it"
    assert found["fay"][0].finish == "error"
    assert {request.finish for request in found["eve"][-1:]} == {"blocked"}
    assert found["dan"][0].status == 200
