"""Envoy: the real one asks our service, and refuses what a verdict says."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import openai
import pytest
from attack import client, settings, slowed_then_stopped
from brokers import free_port
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fleet import Fleet
from installed import envoy
from programs import started
from serving import Model, listening, question, serving
from test_guard import verdict

from gateway.envoy import Authz
from gateway.gate import Gate, wall

pytestmark = pytest.mark.adapters

README = (Path(__file__).parents[2] / "gateway" / "README.md").read_text()

CONFIG = """
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: PORT}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: "/"}, route: {cluster: model, timeout: 0s}}]}
          http_filters:
FILTER
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - CLUSTER model MODEL
  - CLUSTER stillwatch STILLWATCH
"""

CLUSTER = (
    r"{name: \1, type: STATIC, connect_timeout: 1s, load_assignment: {cluster_name: \1, endpoints: "
    r"[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: \2}}}}]}]}}"
)


@asynccontextmanager
async def front(folder: Path, model: str, service: str) -> AsyncIterator[str]:
    """Envoy before a model, with the filter that the README shows; gives the URL for a client."""
    (shown,) = re.findall(r"^```yaml\n(- name: envoy.*?)^```", README, flags=re.M | re.S)
    shown = shown.replace("x-account-id", "x-account").replace("{exact: user-agent}", "{exact: x-opened}")
    shown = shown.replace("timeout: 0.1s", "timeout: 20s")  # A busy machine would let many pass.
    port = free_port()
    text = CONFIG.replace("FILTER", "".join(f"          {line}\n" for line in shown.splitlines()))
    text = text.replace("PORT", str(port)).replace("MODEL", model.rpartition(":")[2])
    text = re.sub(r"CLUSTER (\w+) (\d+)", CLUSTER, text.replace("STILLWATCH", service.rpartition(":")[2]))
    (folder / "envoy.yaml").write_text(text)
    command = [envoy(), "-c", str(folder / "envoy.yaml"), "--concurrency", "1", "--use-dynamic-base-id"]
    opened = started(command, port, folder / "envoy.log")
    process = await asyncio.to_thread(opened.__enter__)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        await asyncio.to_thread(opened.__exit__, None, None, None)


async def test_an_attack_through_envoy_is_slowed_then_stopped(fleet: Fleet, tmp_path: Path) -> None:
    where = {"STILLWATCH_BROKERS": fleet.broker.address, "STILLWATCH_TOPIC_PREFIX": fleet.settings.topic_prefix}
    guarding, reporting = Gate(settings(**where)), Gate(settings(**where, STILLWATCH_ENFORCE="false"))
    model = Model()
    async with listening(Authz(guarding)) as service, serving(model, reporting) as behind:
        await asyncio.wait_for(guarding.subscriber.restored.wait(), 30)
        async with front(tmp_path, behind.removesuffix("/v1"), service) as url:
            thief, came = await slowed_then_stopped(url, fleet.logs)
            with pytest.raises(openai.PermissionDeniedError):
                await thief.client.chat.completions.create(model="m", messages=question(thief.dice), stream=True)
        served = {"thief": thief.statuses.count(200), "ada": came["asked"]}
        assert model.served == served
        counts = guarding.counts()
        assert (counts["throttled"], counts["refused"]) == (thief.statuses.count(429), thief.statuses.count(403) + 1)
        refused = counts["throttled"] + counts["refused"]
        await fleet.until(lambda: guarding.counts()["sent"] == refused)
        await fleet.until(lambda: reporting.counts()["sent"] == sum(served.values()))
        # What Envoy refused was told to the detector as well, and counted for nothing.
        (worker,) = fleet.workers
        await fleet.until(
            lambda: (
                worker.metric("stillwatch_requests_total", outcome="blocked") == refused
                and worker.metric("stillwatch_requests_total", outcome="counted") == sum(served.values())
            )
        )


async def test_what_passes_is_announced_and_what_clients_pretend_is_taken_away(tmp_path: Path) -> None:
    guarding = Gate(settings(STILLWATCH_WHEN_STALE="keep"))
    for name, action in (("eve", "suspend"), ("bob", "watch"), ("cai", "degrade")):
        guarding.guard.take(verdict(name, action, at=wall(), expires_at=wall() + 600_000), wall())
    seen: list[dict[str, str]] = []

    async def answer(request: Request) -> JSONResponse:
        seen.append({name: value for name, value in request.headers.items() if name.startswith("x-stillwatch-")})
        return JSONResponse({})

    model = FastAPI()
    model.add_api_route("/v1/chat/completions", answer, methods=["POST"], response_model=None)
    async with (
        listening(Authz(guarding)) as service,
        listening(model) as behind,
        front(tmp_path, behind, service) as url,
        httpx.AsyncClient() as http,
    ):
        pretended = {"x-stillwatch-action": "allow", "x-stillwatch-subject": "account:god"}
        for account in ("ada", "bob", "cai"):
            reply = await http.post(url + "/chat/completions", headers={"x-account": account} | pretended)
            assert reply.status_code == 200
            assert reply.headers["x-stillwatch-request"] == seen[-1].pop("x-stillwatch-request")
        eve = client(url, "eve", days_old=1, max_retries=0)
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await eve.chat.completions.create(model="m", messages=question(random.Random(1)))
        assert caught.value.code == "account_suspended"
        assert caught.value.response.headers["x-stillwatch-decision"] == "eve-1"
        other = await http.get(url.removesuffix("/v1") + "/docs", headers={"x-account": "eve"})
        assert other.status_code == 200, "other paths are none of its business"
        metrics = (await http.get(f"http://{service}/metrics")).text
        assert "stillwatch_gateway_refused_total 1\n" in metrics
        assert (await http.get(f"http://{service}/live")).status_code == 200
        assert (await http.get(f"http://{service}/ready")).status_code == 503, "nothing was read yet"
    assert seen == [
        {},
        {
            "x-stillwatch-action": "watch",
            "x-stillwatch-subject": "account:bob",
            "x-stillwatch-decision": "bob-1",
        },
        {
            "x-stillwatch-action": "degrade",
            "x-stillwatch-subject": "account:cai",
            "x-stillwatch-decision": "cai-1",
        },
    ]


async def test_traffic_flows_while_the_service_is_away(tmp_path: Path) -> None:
    reporting = Gate(settings(STILLWATCH_ENFORCE="false"))
    nobody = f"127.0.0.1:{free_port()}"
    async with serving(Model(), reporting) as behind, front(tmp_path, behind.removesuffix("/v1"), nobody) as url:
        ada = client(url, "ada", days_old=1, max_retries=0)
        answer = await ada.chat.completions.create(model="m", messages=question(random.Random(1)))
        assert answer.choices[0].message.content == "It is 42."
