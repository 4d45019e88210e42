"""What the service for Envoy answers; tests/adapters puts a real Envoy before it."""

import httpx
import pytest
from test_asgi import ENVIRONMENT, Told
from test_guard import verdict

from gateway.envoy import Authz, app
from gateway.exchange import Draft
from gateway.gate import Gate
from gateway.settings import SettingsError

CHAT = "/authz/v1/chat/completions"


def asking(gate: Gate) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(Authz(gate)), base_url="http://stillwatch")


def gate(action: str = "suspend", **more: str) -> Told:
    tower = Told(STILLWATCH_WHEN_STALE="keep", **more)
    tower.guard.take(verdict("eve", action), tower.clock())
    return tower


async def test_who_stands_under_no_verdict_passes_and_nothing_is_reported_from_here() -> None:
    tower = gate()
    reply = await asking(tower).post(CHAT, headers={"x-account": "ada"})
    assert (reply.status_code, reply.content) == (200, b"")
    assert "x-stillwatch-request" in reply.headers
    assert reply.headers["x-envoy-auth-headers-to-remove"] == (
        "x-stillwatch-action,x-stillwatch-subject,x-stillwatch-decision"
    )
    assert tower.told() == []


async def test_a_refusal_is_the_reply_and_is_reported_as_blocked() -> None:
    tower = gate()
    reply = await asking(tower).post(CHAT, headers={"x-account": "eve"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "account_suspended")
    assert reply.headers["x-stillwatch-decision"] == "eve-1"
    (draft,) = tower.told()
    assert isinstance(draft, Draft)
    request = draft.request
    assert (request.account, request.finish, request.status, request.output_tokens) == ("eve", "blocked", 403, 0)


@pytest.mark.parametrize(("method", "path"), [("GET", CHAT), ("POST", "/authz/v1/models"), ("POST", "/authz/")])
async def test_other_requests_pass(method: str, path: str) -> None:
    tower = gate()
    assert (await asking(tower).request(method, path, headers={"x-account": "eve"})).status_code == 200
    assert tower.counts()["requests"] == 0


async def test_what_is_no_question_of_envoys_is_not_answered_as_one() -> None:
    http = asking(gate())
    assert (await http.post("/v1/chat/completions", headers={"x-account": "eve"})).status_code == 404
    metrics = (await http.get("/metrics")).text
    assert "# TYPE stillwatch_gateway_verdicts gauge\nstillwatch_gateway_verdicts 1\n" in metrics


async def test_a_fault_of_ours_refuses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = gate()
    monkeypatch.setattr(tower.guard, "find", None)
    assert (await asking(tower).post(CHAT, headers={"x-account": "eve"})).status_code == 200
    assert tower.counts()["faults"] == 1


def test_the_environment_describes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError):
        app()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    assert isinstance(app(), Authz)
