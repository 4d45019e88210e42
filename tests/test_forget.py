"""Forget: an account that is to be forgotten leaves nothing behind where something can be taken away."""

import asyncio
import time
from pathlib import Path

import pytest
from brokers import Broker
from click.testing import CliRunner
from fleet import Fleet
from stories import request
from test_hearing import AFTER, caught, column, hear, messages, said, verdicts
from test_pipeline import run

from gateway.request import encode
from sinks.audit import Chain, verify
from sinks.enforcement import announcement
from streams.cli import main
from streams.forget import left
from streams.pipeline import Pipeline
from streams.standing import Standing
from streams.standing import encode as encode_standing
from streams.topics import CAMPAIGNS, ENFORCEMENT, PROFILES

STANDING = Standing(campaign="c-1", action="throttle", score=0.9, at=AFTER, until=AFTER + 86_400_000)


def test_profile_verdict_and_standing_go_at_once() -> None:
    pipeline = caught()
    pipeline.stand([("eve", encode_standing(STANDING))])
    pipeline.snapshot_dirty()

    heard = hear(pipeline, said("forget"))

    assert "eve" not in pipeline.profiles
    assert pipeline.snapshot_dirty() == [("eve", None)]
    assert pipeline.live_count == 0
    (decision,) = heard.decisions
    assert announcement(decision) == (b"account:eve", None)
    (verdict,) = verdicts(heard)
    assert verdict.reasons == ()
    assert verdict.campaign is None
    assert verdict.exposure is not None
    assert verdict.exposure.requests == 0


def test_the_audit_says_who_asked_for_it_and_why() -> None:
    pipeline = caught()
    heard = hear(pipeline, said("forget", reason="ticket 4711"))
    record = Chain("w").append(heard.decisions[0])
    assert verify([record]) is None
    assert b'"forget"' in record
    assert b"ticket 4711" in record


def test_who_comes_back_is_a_stranger() -> None:
    pipeline = caught()
    hear(pipeline, said("forget"))
    run(pipeline, [request("eve", AFTER, id="new")])
    assert column(pipeline, "totals") == 1
    assert column(pipeline, "evidence") == 0
    assert column(pipeline, "strikes") == 0


def test_after_a_restart_an_old_message_says_nothing_of_who_came_back() -> None:
    """All feedback is heard again, from its beginning: what was said before and of the forgetting itself is void."""
    told = messages(said("confirmed"), said("forget"), said("verified", "ada"))
    first = Pipeline(caught().policy)
    first.hear(told)
    run(first, [request("eve", AFTER, id="new")])
    second = Pipeline(first.policy)
    second.restore(first.snapshot_dirty())

    heard = second.hear(told)

    assert (heard.heard, heard.skipped) == (0, 3)
    assert column(second, "totals") == 1
    assert column(second, "rung") == 0


def test_after_a_restart_nothing_is_taken_back_of_who_stayed_away() -> None:
    told = messages(said("confirmed"), said("forget"))
    first = Pipeline(caught().policy)
    first.hear(told)
    second = Pipeline(first.policy)
    second.restore(first.snapshot_dirty())

    heard = second.hear(told)

    assert [announcement(one)[1] for one in heard.decisions] == [None]
    assert "eve" not in second.profiles


def test_an_account_that_is_not_known_is_erased_where_it_may_be_stored() -> None:
    pipeline = Pipeline(caught().policy)
    heard = hear(pipeline, said("forget", account="nobody"))
    assert heard.heard == 1
    assert heard.appeared == []
    assert pipeline.snapshot_dirty() == [("nobody", None)]
    assert announcement(heard.decisions[0]) == (b"account:nobody", None)


def test_neighbours_in_the_same_batch_keep_what_was_said_of_them() -> None:
    pipeline = Pipeline(caught().policy)
    heard = pipeline.hear(messages(said("verified", "ada"), said("forget", "eve"), said("verified", "bob")))
    assert heard.appeared == ["ada", "bob"]
    assert [account for account, row in pipeline.snapshot_dirty() if row is not None] == ["ada", "bob"]


@pytest.mark.kafka
async def test_a_running_worker_forgets_at_once_and_nothing_comes_back_with_its_next_checkpoint(
    kafka: Broker, tmp_path: Path
) -> None:
    fleet = await Fleet.assemble(kafka, tmp_path)
    now = int(time.time() * 1000)
    try:
        worker = fleet.start()
        await fleet.produce(
            (name.encode(), encode(request(name, now + n, id=f"{name}-{n}")))
            for name in ("eve", "ada")
            for n in range(200)
        )
        await fleet.until(lambda: worker.metric("stillwatch_live_verdicts") == 2)
        stored = {topic.name(fleet.settings) for topic in (PROFILES, ENFORCEMENT, CAMPAIGNS)}
        while {one.topic for one in await left(fleet.settings, "eve")} != stored:
            pass  # until a checkpoint has stored it

        command = ["forget", "eve", "--by", "noor", "--reason", "ticket 4711"]
        said = await asyncio.to_thread(CliRunner().invoke, main, command, env=fleet.environment)
        assert said.exit_code == 0, said.output
        assert "for 400 days" in said.output

        async with asyncio.timeout(60):
            while await left(fleet.settings, "eve"):
                pass
        await fleet.until(lambda: worker.metric("stillwatch_profiles") == 1)
        assert worker.end() == 0  # with a last checkpoint of all there is
    finally:
        fleet.dismiss()
    assert await left(fleet.settings, "eve") == []
    assert await fleet.counted() == {"ada": 200}
    looked = await asyncio.to_thread(CliRunner().invoke, main, ["forget", "eve", "--check"], env=fleet.environment)
    assert (looked.exit_code, looked.output) == (0, "no profile, verdict or campaign knows eve\n")
    looked = await asyncio.to_thread(CliRunner().invoke, main, ["forget", "ada", "--check"], env=fleet.environment)
    assert looked.exit_code == 1
