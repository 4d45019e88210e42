"""Drift: where topics as they are differ from topics as `stillwatch topics create` makes them."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAuthorizationFailedError, for_code

from .settings import PREFIX, Settings
from .topics import REQUESTS, TOPICS, Topic, admin_client, verify

LEAST_MESSAGE: Final = 1024 * 1024
"""Bytes a topic must take at once: what Kafka takes by default. Our largest batch of profiles is a quarter of it."""

SHORTEST_RETENTION_MS: Final = 86_400_000
"""Requests kept for less than a day are gone when workers come back after a bad night."""


class Found(NamedTuple):
    """A topic as the brokers have it."""

    partitions: int
    replicas: int
    """Of the partition that has fewest."""
    in_sync: int
    """Replicas that are up to date, of the partition that has fewest."""
    leaderless: tuple[int, ...]
    """Partitions that nobody can read or write at the moment."""
    config: Mapping[str, str] | None
    """Settings by Kafka's names; None where we may not see them."""


class Difference(NamedTuple):
    """One thing that is not as it should be."""

    topic: str
    text: str
    remedy: str
    breaks: bool
    """True when messages are lost or refused; False when it may be meant so."""


async def survey(settings: Settings) -> dict[str, Found]:
    """Those of our topics that exist, by name. Raises KafkaError, OSError."""
    names = [topic.name(settings) for topic in TOPICS]
    async with admin_client(settings) as admin:
        known = set(await admin.list_topics())
        existing = [name for name in names if name in known]
        described = await admin.describe_topics(existing) if existing else []
        configs = await _configs(admin, existing)
    found = {}
    for one in described:
        parts = one["partitions"]
        found[one["topic"]] = Found(
            partitions=len(parts),
            replicas=min((len(part["replicas"]) for part in parts), default=0),
            in_sync=min((len(part["isr"]) for part in parts), default=0),
            leaderless=tuple(sorted(part["partition"] for part in parts if part["leader"] < 0)),
            config=configs.get(one["topic"]),
        )
    return found


async def _configs(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs = {}
    for response in await admin.describe_configs(resources):
        for code, _, _, name, entries in response.resources:
            if code == TopicAuthorizationFailedError.errno:
                continue
            if code:
                raise for_code(code)(name)
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs


def differences(found: Mapping[str, Found], settings: Settings) -> Iterator[Difference]:
    """Everything in which existing topics differ, in the order of TOPICS."""
    for topic in TOPICS:
        name = topic.name(settings)
        if name in found:
            yield from _of_replicas(name, found[name])
            yield from _of_partitions(topic, found[name], settings)
            config = found[name].config
            if config is not None:
                yield from _of_config(topic, name, config, found[name].replicas)


async def check(settings: Settings) -> list[Difference]:
    """What is not as it should be. Raises TopicsError where topics are missing or their partitions do not fit."""
    found = await survey(settings)
    verify({name: one.partitions for name, one in found.items()}, settings)
    return list(differences(found, settings))


def _of_replicas(name: str, found: Found) -> Iterator[Difference]:
    if found.leaderless:
        numbers = ", ".join(map(str, found.leaderless))
        yield Difference(name, f"no leader for partition {numbers}", "start the brokers that hold it", True)
    elif found.in_sync < found.replicas:
        text = f"a partition has {found.in_sync} of {found.replicas} replicas in sync"
        yield Difference(name, text, "look for a broker that is down or slow", False)


def _of_partitions(topic: Topic, found: Found, settings: Settings) -> Iterator[Difference]:
    if topic is REQUESTS and found.partitions != settings.partitions:
        text = f"{found.partitions} partitions, where {PREFIX}PARTITIONS is {settings.partitions}"
        yield Difference(topic.name(settings), text, f"set {PREFIX}PARTITIONS={found.partitions}", False)


def _of_config(topic: Topic, name: str, config: Mapping[str, str], replicas: int) -> Iterator[Difference]:
    policy = config.get("cleanup.policy")
    if policy is not None and policy != topic.policy:
        harm = "what is idle is lost" if topic.policy == "compact" else "messages of one key are lost"
        yield _wrong(name, "cleanup.policy", policy, topic.policy, harm, breaks=True)
    size, least = config.get("max.message.bytes"), topic.max_bytes or LEAST_MESSAGE
    if size is not None and int(size) < least:
        yield _wrong(name, "max.message.bytes", size, str(least), "larger messages are refused", breaks=True)
    settle = config.get("min.compaction.lag.ms")
    if topic.settle_ms and settle is not None and int(settle) < topic.settle_ms:
        harm = "a late row of a frozen worker may outlive a newer one"
        yield _wrong(name, "min.compaction.lag.ms", settle, str(topic.settle_ms), harm, breaks=True)
    yield from _of_retention(topic, name, config.get("retention.ms"))
    in_sync = config.get("min.insync.replicas")
    if in_sync is not None and int(in_sync) > replicas:
        yield _wrong(name, "min.insync.replicas", in_sync, str(replicas), "nothing can be written", breaks=True)
    elif in_sync == "1" and replicas > 2:
        harm = "what one broker alone has taken is lost with it"
        yield _wrong(name, "min.insync.replicas", in_sync, "2", harm, breaks=False)


def _of_retention(topic: Topic, name: str, retention: str | None) -> Iterator[Difference]:
    if retention is None or topic.policy == "compact":
        return
    kept = int(retention)
    if topic is REQUESTS and 0 <= kept < SHORTEST_RETENTION_MS:
        harm = "requests are gone when workers are away for longer"
        yield _wrong(name, "retention.ms", retention, str(SHORTEST_RETENTION_MS), harm, breaks=False)
    elif topic.retention_ms is not None and kept != topic.retention_ms:
        harm = "kept for longer" if kept < 0 or kept > topic.retention_ms else "gone sooner"
        yield _wrong(name, "retention.ms", retention, str(topic.retention_ms), harm, breaks=False)


def _wrong(name: str, setting: str, value: str, wanted: str, harm: str, *, breaks: bool) -> Difference:
    remedy = f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {setting}={wanted}"
    return Difference(name, f"{setting} is {value}, not {wanted}: {harm}", remedy, breaks)
