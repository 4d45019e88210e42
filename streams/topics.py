"""Topics: the names, sizes and cleanup of everything on the wire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from .settings import LARGEST_MESSAGE, PREFIX, Settings

_DAY: Final = 86_400_000
_VISIBLE_SECONDS: Final = 30
_SAFE_REPLICAS: Final = 3
"""From so many on, one broker may go while two still have every message."""
_DENIED: Final = (TopicAuthorizationFailedError.errno, ClusterAuthorizationFailedError.errno)


class TopicsError(RuntimeError):
    """Topics are missing or do not fit together; the message says which, and what to do."""


class Topic(NamedTuple):
    """One topic. `partitions` None means as many as `requests`: these must stay equal."""

    noun: str
    policy: Literal["delete", "compact"]
    partitions: int | None = None
    retention_ms: int | None = None
    max_bytes: int | None = None
    settle_ms: int | None = None
    """How long compaction leaves records alone."""
    whole: bool = False
    """It must have exactly one partition: what is in it belongs in one place."""

    def name(self, settings: Settings) -> str:
        """The name on the wire."""
        return settings.topic_prefix + self.noun

    def count(self, settings: Settings) -> int:
        """Partitions it is created with."""
        return settings.partitions if self.partitions is None else self.partitions

    def config(self) -> dict[str, str]:
        """What it is configured with, by Kafka's names."""
        config: dict[str, str] = {"cleanup.policy": self.policy}
        if self.retention_ms is not None:
            config["retention.ms"] = str(self.retention_ms)
        if self.settle_ms is not None:
            config["min.compaction.lag.ms"] = str(self.settle_ms)
        if self.max_bytes is not None:
            config["max.message.bytes"] = str(self.max_bytes)
        return config

    def created(self, settings: Settings) -> dict[str, str]:
        """The same as it is created: of three replicas two must have what is acknowledged, whatever the broker says."""
        two = {"min.insync.replicas": "2"} if settings.replication >= _SAFE_REPLICAS else {}
        return self.config() | two


REQUESTS: Final = Topic("requests", "delete")
PROFILES: Final = Topic("profiles", "compact", settle_ms=_DAY // 24)
# A campaign needs all traits of an account and all accounts of a trait in one place.
LINKS: Final = Topic("links", "delete", 1, _DAY, whole=True)
CAMPAIGNS: Final = Topic("campaigns", "compact", 1, settle_ms=_DAY // 24, whole=True)
STANDINGS: Final = Topic("standings", "compact", 1)
ENFORCEMENT: Final = Topic("enforcement", "compact", 6)
ALERTS: Final = Topic("alerts", "delete", 1, 30 * _DAY)
AUDIT: Final = Topic("audit", "delete", 6, 400 * _DAY)
FEEDBACK: Final = Topic("feedback", "delete", retention_ms=30 * _DAY)
UNREADABLE: Final = Topic("unreadable", "delete", 6, 7 * _DAY, LARGEST_MESSAGE)

TOPICS: Final = (
    REQUESTS,
    PROFILES,
    LINKS,
    CAMPAIGNS,
    STANDINGS,
    ENFORCEMENT,
    ALERTS,
    AUDIT,
    FEEDBACK,
    UNREADABLE,
)


async def create(settings: Settings) -> list[str]:
    """Create the topics that are missing and return their names. Raises TopicsError where Kafka refuses."""
    created = []
    async with admin_client(settings) as admin:
        for topic in TOPICS:
            name = topic.name(settings)
            new = NewTopic(name, topic.count(settings), settings.replication, topic_configs=topic.created(settings))
            try:
                response = await admin.create_topics([new])
            except KafkaError as error:
                raise TopicsError(f"{name}: {error}") from error
            for _, code, *text in response.topic_errors:
                if code == TopicAlreadyExistsError.errno:
                    continue
                if code in _DENIED:
                    raise TopicsError(f"{name}: {settings.sasl_user or 'we'} may not create topics")
                if code:
                    raise TopicsError(f"{name}: {(text and text[0]) or for_code(code).__name__}")
                created.append(name)
    # Kafka answers before all of its metadata knows of a topic, and a worker started next would miss it.
    async with asyncio.timeout(_VISIBLE_SECONDS):
        while not await _visible(created, settings):  # noqa: ASYNC110  (the broker has nothing to wait on)
            await asyncio.sleep(0.1)
    return created


async def counts(settings: Settings) -> dict[str, int]:
    """Partitions of those of our topics that exist, by name."""
    names = [topic.name(settings) for topic in TOPICS]
    async with admin_client(settings) as admin:
        found = set(await admin.list_topics())
        described = await admin.describe_topics([name for name in names if name in found])
    return {topic["topic"]: len(topic["partitions"]) for topic in described}


async def check(settings: Settings) -> None:
    """Raise TopicsError unless all topics exist and those that share partitions have equally many."""
    verify(await counts(settings), settings)


def verify(found: dict[str, int], settings: Settings) -> None:
    """The rule behind `check`: `found` maps topic names to partitions."""
    missing = [topic.name(settings) for topic in TOPICS if topic.name(settings) not in found]
    if missing:
        # Kafka does not name to a user what the user may not see.
        unseen = f", or {settings.sasl_user} may not see them" if settings.sasl_user else ""
        raise TopicsError(f"missing topics{unseen}: {', '.join(missing)}; create them with: stillwatch topics create")
    equal = [topic.name(settings) for topic in TOPICS if topic.partitions is None]
    if len({found[name] for name in equal}) > 1:
        sizes = ", ".join(f"{name} has {found[name]}" for name in equal)
        raise TopicsError(
            f"partitions differ: {sizes}. A profile lives on the partition of its account's requests, "
            f"so they must be equal: create the odd ones anew, or start with another {PREFIX}TOPIC_PREFIX."
        )
    split = [topic.name(settings) for topic in TOPICS if topic.whole and found[topic.name(settings)] != 1]
    if split:
        sizes = ", ".join(f"{name} has {found[name]} partitions" for name in split)
        raise TopicsError(
            f"{sizes} and must have one: a campaign is seen only where all its accounts are. "
            "Delete it while no worker runs, then: stillwatch topics create"
        )


async def _visible(names: list[str], settings: Settings) -> bool:
    found = await counts(settings)
    return all(found.get(name) for name in names)


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client that sees and makes topics."""
    admin = AIOKafkaAdminClient(**settings.connection())
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()
