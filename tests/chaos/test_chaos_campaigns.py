"""Chaos among campaigns: workers are killed while a campaign is found, and the same accounts are held to be one.

STILLWATCH_CHAOS_ROUNDS says how often all workers are killed; without it twice.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from importlib import resources
from pathlib import Path

import pytest
from brokers import FOR_TESTS, Broker
from crowds import BEGINS, MEMBERS, World, campaign, settled
from fleet import PATIENCE_SECONDS, Fleet
from msgspec import structs
from stories import HOUR

from gateway.request import Request, encode
from gateway.verdict import decode
from sinks.policy import Policy
from streams import topics
from streams.campaigns import Campaigns
from streams.engine.changelog import Changelog

pytestmark = pytest.mark.kafka

SEED = int(FOR_TESTS.get("STILLWATCH_CHAOS_SEED", random.SystemRandom().randrange(10**6)))
ROUNDS = int(FOR_TESTS.get("STILLWATCH_CHAOS_ROUNDS", "2"))
ENDS = BEGINS + 6 * HOUR


@pytest.fixture
async def fleet(kafka: Broker, tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = await Fleet.assemble(kafka, tmp_path)
    (tmp_path / "policy.toml").write_text(resources.files("sinks").joinpath("policy.toml").read_text())
    yield fleet
    fleet.dismiss()


async def send(fleet: Fleet, requests: Iterable[Request]) -> dict[int, int]:
    """Send requests; the offset after the last message of each partition they went to."""
    sent = await fleet.produce((one.account.encode(), encode(one)) for one in requests)
    return {partition: offset + 1 for partition, offset in sorted(sent)}


async def standing(fleet: Fleet) -> set[str]:
    """Accounts that the newest message about them counts among a campaign's."""
    newest = {record.key: record.value for record in await fleet.heard(topics.STANDINGS, 0)}
    return {account.decode() for account, value in newest.items() if value is not None}


async def remembered(fleet: Fleet) -> Campaigns:
    """What a worker would restore."""
    campaigns = Campaigns(Policy.load())
    async with fleet.settings.producer() as producer:
        campaigns.restore((await Changelog(producer, fleet.settings, topics.CAMPAIGNS).read(0)).rows)
    return campaigns


async def test_the_same_accounts_are_a_campaign_after_crashes_as_without(fleet: Fleet) -> None:
    print(f"STILLWATCH_CHAOS_SEED={SEED}")  # noqa: T201  (shown when the test fails)
    dice = random.Random(SEED)
    stream = [one for one in [*settled(), *campaign(hours=6)] if one.at < ENDS]
    undisturbed = World().run(stream)
    assert undisturbed.members() == set(MEMBERS)
    # Verdicts end by the clock on the wall, so the stream ends now.
    shift = int(time.time() * 1000) - ENDS
    stream = sorted((structs.replace(one, at=one.at + shift) for one in stream), key=lambda one: one.at)
    before = [one for one in stream if one.at < BEGINS + shift]
    during = stream[len(before) :]

    for name in ("first", "second"):
        fleet.start(STILLWATCH_INSTANCE_ID=name)
    ends = await send(fleet, before)
    for piece in pieces(during, ROUNDS + 1)[:-1]:
        ends |= await send(fleet, piece)
        await asyncio.sleep(dice.uniform(0.5, 3))
        for worker in fleet.workers:
            worker.process.kill()
            worker.process.wait()
        fleet.tend()
        await fleet.until(lambda: any(worker.status("/ready") == 200 for worker in fleet.workers))
    ends |= await send(fleet, pieces(during, ROUNDS + 1)[-1])

    await fleet.settled(ends)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await standing(fleet) != set(MEMBERS):  # noqa: ASYNC110  (the broker has nothing to wait on)
            await asyncio.sleep(0.1)
    for worker in fleet.workers:
        if worker.process.poll() is None:
            assert await asyncio.to_thread(worker.end) == 0

    campaigns = await remembered(fleet)
    (found,) = campaigns.found.values()
    assert {member.account for member in campaigns.members_of(found)} == set(MEMBERS)
    assert {account for account, _ in campaigns.standings()} == set(MEMBERS)
    newest = {record.key: record.value for record in await fleet.heard(topics.ENFORCEMENT, 1)}
    verdicts = [decode(value) for value in newest.values() if value is not None]
    met = {verdict.value for verdict in verdicts if verdict.scope == "account" and verdict.campaign == found.id}
    assert met == set(MEMBERS)
    assert {verdict.value for verdict in verdicts if verdict.scope == "account"} == met


def pieces(requests: Sequence[Request], count: int) -> list[Sequence[Request]]:
    """Requests in so many pieces of one size, the last one larger by what is left."""
    size = len(requests) // count
    return [requests[n * size : (n + 1) * size if n < count - 1 else len(requests)] for n in range(count)]
