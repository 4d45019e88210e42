"""Topics: what is wrong with them is said before anything is consumed."""

import pytest
from brokers import Broker

from streams import topics
from streams.settings import Settings
from streams.topics import TOPICS, TopicsError, verify

SETTINGS = Settings(topic_prefix="x.", partitions=4)
CREATED = {topic.name(SETTINGS): topic.count(SETTINGS) for topic in TOPICS}


def test_topics_as_created_fit() -> None:
    verify(CREATED, SETTINGS)


def test_missing_topics_are_named_with_the_command_that_creates_them() -> None:
    found = {name: count for name, count in CREATED.items() if name not in {"x.audit", "x.alerts"}}

    with pytest.raises(TopicsError, match=r"missing topics: x.alerts, x.audit; .*: stillwatch topics create"):
        verify(found, SETTINGS)


def test_topics_that_share_partitions_must_have_equally_many() -> None:
    with pytest.raises(TopicsError, match=r"x.requests has 4, x.profiles has 3, x.feedback has 4"):
        verify({**CREATED, "x.profiles": 3}, SETTINGS)


def test_more_partitions_than_the_setting_are_fine_as_long_as_they_agree() -> None:
    verify({**CREATED, "x.requests": 8, "x.profiles": 8, "x.feedback": 8}, SETTINGS)


@pytest.mark.parametrize("noun", ["links", "campaigns"])
def test_what_belongs_in_one_place_must_have_one_partition(noun: str) -> None:
    with pytest.raises(TopicsError, match=rf"x.{noun} has 4 partitions and must have one: .* topics create"):
        verify({**CREATED, f"x.{noun}": 4}, SETTINGS)


@pytest.mark.parametrize(("replication", "in_sync"), [(1, None), (2, None), (3, "2"), (5, "2")])
def test_of_three_replicas_two_must_have_what_is_acknowledged(replication: int, in_sync: str | None) -> None:
    settings = Settings(replication=replication)
    assert {topic.created(settings).get("min.insync.replicas") for topic in TOPICS} == {in_sync}
    for topic in TOPICS:
        as_created = topic.config() | {"min.insync.replicas": in_sync or "1"}
        assert topic.created(settings).items() <= as_created.items()


async def test_topics_are_created_once_and_then_fit(broker: Broker) -> None:
    settings = Settings.read(broker.environment())
    with pytest.raises(TopicsError, match="missing topics"):
        await topics.check(settings)

    created = await topics.create(settings)

    assert created == [topic.name(settings) for topic in TOPICS]
    await topics.check(settings)
    assert await topics.create(settings) == []
