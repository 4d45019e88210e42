"""Drift: topics that were changed by hand are noticed, with what follows and how to mend it."""

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from brokers import Broker

from streams import topics
from streams.drift import Difference, Found, check, differences
from streams.settings import Settings
from streams.topics import AUDIT, PROFILES, REQUESTS, TOPICS, Topic, admin_client

SETTINGS = Settings(topic_prefix="x.", partitions=4, replication=1)
AS_CREATED = {
    topic.name(SETTINGS): Found(topic.count(SETTINGS), 1, 1, (), topic.config() | {"min.insync.replicas": "1"})
    for topic in TOPICS
}


def changed(topic: Topic, **config: str) -> list[Difference]:
    """What is said when these settings of a topic differ (dots as underscores)."""
    name = topic.name(SETTINGS)
    found = AS_CREATED[name]
    config = {key.replace("_", "."): value for key, value in config.items()}
    return list(differences({name: found._replace(config={**(found.config or {}), **config})}, SETTINGS))


def test_topics_as_created_do_not_differ() -> None:
    assert list(differences(AS_CREATED, SETTINGS)) == []


@pytest.mark.parametrize(
    ("topic", "setting", "value", "breaks"),
    [
        (PROFILES, "cleanup_policy", "compact,delete", True),
        (REQUESTS, "cleanup_policy", "compact", True),
        (PROFILES, "min_compaction_lag_ms", "0", True),
        (PROFILES, "max_message_bytes", "100000", True),
        (AUDIT, "retention_ms", "86400000", False),
        (AUDIT, "retention_ms", "-1", False),
        (REQUESTS, "retention_ms", "3600000", False),
        (PROFILES, "min_insync_replicas", "2", True),
    ],
)
def test_each_change_is_named_with_its_remedy(topic: Topic, setting: str, value: str, breaks: bool) -> None:
    (found,) = changed(topic, **{setting: value})
    assert found.topic == topic.name(SETTINGS)
    assert f"{setting.replace('_', '.')} is {value}, not " in found.text
    assert f"--entity-name {found.topic} --add-config {setting.replace('_', '.')}=" in found.remedy
    assert found.breaks is breaks


def test_values_at_least_as_good_are_no_difference() -> None:
    assert changed(PROFILES, max_message_bytes="8000000", min_compaction_lag_ms="9000000") == []
    assert changed(REQUESTS, retention_ms="604800000") == []
    assert changed(REQUESTS, retention_ms="-1") == []


def test_dead_replicas_and_a_wrong_setting_for_partitions_are_told() -> None:
    name = REQUESTS.name(SETTINGS)
    found = AS_CREATED[name]._replace(partitions=8, replicas=3, in_sync=2, config=None)
    assert [one.text for one in differences({name: found}, SETTINGS)] == [
        "a partition has 2 of 3 replicas in sync",
        "8 partitions, where STILLWATCH_PARTITIONS is 4",
    ]
    found = AS_CREATED[name]._replace(leaderless=(1, 3), config=None)
    assert [(one.text, one.breaks) for one in differences({name: found}, SETTINGS)] == [
        ("no leader for partition 1, 3", True)
    ]


async def test_as_created_nothing_differs(broker: Broker) -> None:
    settings = Settings.read(broker.environment())
    await topics.create(settings)
    assert await check(settings) == []


@pytest.mark.kafka
async def test_what_was_changed_on_the_broker_is_found(kafka: Broker) -> None:
    settings = Settings.read(kafka.environment())
    await topics.create(settings)
    name = PROFILES.name(settings)
    async with admin_client(settings) as admin:
        config = {"cleanup.policy": "delete", "min.compaction.lag.ms": "3600000"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, config)])
    (found,) = await check(settings)
    assert found.topic == name
    assert found.text == "cleanup.policy is delete, not compact: what is idle is lost"
    assert found.breaks
