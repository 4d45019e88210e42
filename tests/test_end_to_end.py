"""The whole way, with the real `openai` client: server, gate, Kafka, worker, verdict, and back to the client."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from attack import LADDER, client, settings, slowed_then_stopped
from brokers import Broker
from fleet import Fleet
from serving import Model, question, serving
from test_guard import verdict

from gateway.gate import Gate, wall


@pytest.fixture
async def fleet(embedded: Broker, tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = await Fleet.assemble(embedded, tmp_path)
    (tmp_path / "policy.toml").write_text(LADDER)
    yield fleet
    fleet.dismiss()


async def test_an_attack_is_slowed_then_stopped_and_a_conversation_next_to_it_sees_nothing(fleet: Fleet) -> None:
    worker = fleet.start()
    await fleet.until(lambda: worker.status("/ready") == 200)
    gate = Gate(settings(STILLWATCH_BROKERS=fleet.broker.address, STILLWATCH_TOPIC_PREFIX=fleet.settings.topic_prefix))
    model = Model()
    async with serving(model, gate) as url:
        await asyncio.wait_for(gate.subscriber.restored.wait(), 30)
        thief, came = await slowed_then_stopped(url, fleet.logs)
        with pytest.raises(openai.PermissionDeniedError):
            await thief.client.chat.completions.create(
                model="m",
                messages=question(thief.dice),
                stream=True,
            )
        assert model.served == {"thief": thief.statuses.count(200), "ada": came["asked"]}
        await fleet.until(lambda: gate.counts()["waiting"] == 0)

    asked = len(thief.statuses) + 1 + came["asked"]
    assert gate.counts() | {"verdicts_read": 0, "verdicts": 0} == dict.fromkeys(gate.counts(), 0) | {
        "requests": asked,
        "throttled": thief.statuses.count(429),
        "refused": thief.statuses.count(403) + 1,
        "sent": asked,
    }
    # What was refused was reported too, and counts for nothing: a verdict must not prove itself right.
    await fleet.until(
        lambda: worker.metric("stillwatch_requests_total", outcome="counted") == sum(model.served.values())
    )
    assert worker.metric("stillwatch_unreadable_requests_total") == 0


async def test_a_client_that_retries_gets_its_answer_from_behind_a_throttle() -> None:
    """600 a minute on 40 replicas: 3.75 saved up, then one every 4 seconds."""
    gate = Gate(settings(STILLWATCH_WHEN_STALE="keep", STILLWATCH_REPLICAS="40"))
    gate.guard.take(verdict("ada", at=wall(), expires_at=wall() + 60_000, parameters={"rpm": 600.0}), wall())
    async with serving(Model(), gate) as url:
        ada = client(url, "ada", days_old=1)
        for _ in range(3):
            await ada.chat.completions.create(model="m", messages=question(random.Random(1)))
        answer = await ada.chat.completions.create(model="m", messages=question(random.Random(1)))
        assert answer.choices[0].message.content == "It is 42."
        assert gate.counts()["throttled"] == 1


async def test_a_degraded_client_reads_plain_answers_streamed_or_not() -> None:
    gate = Gate(settings(STILLWATCH_WHEN_STALE="keep"))
    gate.guard.take(verdict("ada", "degrade", at=wall(), expires_at=wall() + 60_000), wall())
    async with serving(Model(), gate) as url:
        for account, plain in (("ada", True), ("bob", False)):
            someone = client(url, account, days_old=1)
            answer = await someone.chat.completions.create(
                model="m",
                messages=question(random.Random(1)),
                logprobs=True,
            )
            choice = answer.choices[0]
            assert choice.message.content == "It is 42."
            assert (choice.logprobs is None) == plain
            assert (getattr(choice.message, "reasoning_content", None) is None) == plain
            stream = await someone.chat.completions.create(
                model="m",
                messages=question(random.Random(1)),
                stream=True,
            )
            deltas = [chunk.choices[0].delta async for chunk in stream if chunk.choices]
            assert "".join(delta.content or "" for delta in deltas) == "It is 42."
            assert (not any(getattr(delta, "reasoning_content", None) for delta in deltas)) == plain
