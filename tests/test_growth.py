"""Growth: an account's profile goes to where its requests will be, and every request counts once."""

import random
from collections import Counter
from pathlib import Path

import pytest
from brokers import Broker
from desk import Desk
from fleet import WATCH_EVERYONE

from sinks.policy import Policy
from streams import topics
from streams.compacted import StateError, newest
from streams.engine.changelog import Changelog
from streams.growth import follow, grown, partition_of, prepare, transfer
from streams.profiles import Profiles
from streams.settings import Settings
from streams.topics import PROFILES

pytestmark = pytest.mark.kafka  # the embedded broker does not say for certain where a partition ends

POLICY = Policy.parse(WATCH_EVERYONE.replace("requests = 100", "requests = 20"), "everyone")


async def test_nothing_is_lost_and_nothing_counts_twice(kafka: Broker) -> None:
    """From 2 partitions to 3, with requests in every state: counted, stored but not committed, unread, late."""
    old = Settings.read(kafka.environment(STILLWATCH_PARTITIONS="2"))
    new = grown(old, old.topic_prefix + "three.", 3)
    before, after = Desk(old, POLICY), Desk(new, POLICY)
    due: Counter[str] = Counter()
    dice = random.Random(7)
    await topics.create(old)
    await before.ask(due, 2_000, dice, 0)
    await before.work()
    await before.ask(due, 400, dice, 2_000)
    await before.work(leave=20, uncommitted=30)  # 20 unread on each partition, and 30 stored but not committed
    verdicts = await before.announced()
    assert len(verdicts) == 20

    assert len(await prepare(old, new)) == len(topics.TOPICS)
    assert await after.announced() == verdicts

    moved = await transfer(old, new)
    assert moved.profiles == 20
    assert moved.requests == 2 * 20
    assert moved.doubles == 0

    await before.ask(due, 100, dice, 2_400)  # a producer that has not heard of it
    await after.work()
    assert await follow(old, new, idle_seconds=0) == 100
    await after.ask(due, 300, dice, 2_500)
    await after.work()
    assert await follow(old, new, idle_seconds=0) == 0

    assert await after.counted() == dict(due)
    assert (await after.announced()).keys() == verdicts.keys()
    for number in range(3):
        keys = [key for key in await newest(new, PROFILES.name(new), number) if key[:1] != b"\xff"]
        assert {partition_of(key, 3) for key in keys} <= {number}


async def test_it_is_done_in_order_and_once(kafka: Broker) -> None:
    old = Settings.read(kafka.environment(STILLWATCH_PARTITIONS="2"))
    new = grown(old, old.topic_prefix + "three.", 3)
    desk = Desk(old, POLICY)
    await topics.create(old)
    await desk.ask(Counter(), 50, random.Random(1), 0)
    await desk.work()
    with pytest.raises(topics.TopicsError, match="missing topics"):
        await transfer(old, new)
    await prepare(old, new)
    with pytest.raises(StateError, match="run it with --transfer first"):
        await follow(old, new, idle_seconds=0)
    await transfer(old, new)
    with pytest.raises(StateError, match=r"is not empty: delete the topics .*three.\* and begin again"):
        await transfer(old, new)
    with pytest.raises(StateError, match="need another prefix"):
        grown(old, old.topic_prefix, 3)


async def test_a_second_profile_on_a_wrong_partition_is_left_behind(kafka: Broker) -> None:
    old = Settings.read(kafka.environment(STILLWATCH_PARTITIONS="2"))
    new = grown(old, old.topic_prefix + "three.", 3)
    desk = Desk(old, POLICY)
    await topics.create(old)
    due: Counter[str] = Counter()
    await desk.ask(due, 200, random.Random(1), 0)
    await desk.work()
    home = partition_of(b"a1", 2)
    row = (await newest(old, PROFILES.name(old), home))[b"a1"]
    profiles = Profiles()
    profiles.restore([("a1", row.value), ("lost", row.value)])
    astray = [name for name in ("a1", "lost") if partition_of(name.encode(), 2) != (home + 1) % 2]
    assert "a1" in astray
    async with old.producer() as producer:
        profiles.begin_anew()
        await Changelog(producer, old, PROFILES).write((home + 1) % 2, 1, [(name, row.value) for name in astray])
    await prepare(old, new)

    moved = await transfer(old, new)

    assert moved.doubles == 1
    counted = await Desk(new, POLICY).counted()
    assert counted.pop("lost", due["a1"]) == due["a1"]
    assert counted == dict(due)


def test_old_partition_counts_do_not_leak_into_settings(tmp_path: Path) -> None:
    new = grown(Settings(), "stillwatch.24.", 24)
    assert (new.topic_prefix, new.partitions, new.group) == ("stillwatch.24.", 24, "stillwatch")
