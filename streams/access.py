"""Access: who may read and write which topic. The ACLs of `k8s/kafka/users.yaml` are this table, and a test says so."""

from dataclasses import dataclass
from typing import Final

from .topics import (
    ALERTS,
    AUDIT,
    CAMPAIGNS,
    ENFORCEMENT,
    FEEDBACK,
    LINKS,
    PROFILES,
    REQUESTS,
    STANDINGS,
    TOPICS,
    UNREADABLE,
    Topic,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a component may do. Reading or writing a topic implies describing it; all else is refused."""

    reads: tuple[Topic, ...] = ()
    writes: tuple[Topic, ...] = ()
    describes: tuple[Topic, ...] = ()
    """Topics it sees the partitions and settings of, and nothing that is in them."""
    joins: tuple[str, ...] = ()
    """Consumer groups it is a member of."""
    watches: tuple[str, ...] = ()
    """Consumer groups whose lag it sees."""


WORKERS: Final = "stillwatch"
"""The workers' consumer group, as `STILLWATCH_GROUP` has it by default."""

FORWARDERS: Final = "stillwatch-forwarder"
"""The consumer group of those who pass alerts on."""

COMPONENTS: Final = {
    "worker": Access(
        reads=(REQUESTS, PROFILES, LINKS, CAMPAIGNS, STANDINGS, FEEDBACK),
        writes=(PROFILES, LINKS, CAMPAIGNS, STANDINGS, ENFORCEMENT, ALERTS, AUDIT, UNREADABLE),
        joins=(WORKERS,),
    ),
    # Every replica reads all verdicts by itself: no group.
    "gateway": Access(reads=(ENFORCEMENT,), writes=(REQUESTS,)),
    # Writes down what servers send that cannot speak Kafka.
    "ingest": Access(writes=(REQUESTS,)),
    # Tells bouncers of verdicts.
    "crowdsec": Access(reads=(ENFORCEMENT,)),
    # Judges cases: sees what was decided and why, never requests or profiles. What it says is a message of `feedback`.
    "analyst": Access(reads=(ENFORCEMENT, ALERTS, AUDIT, FEEDBACK), writes=(FEEDBACK,)),
    "forwarder": Access(reads=(ALERTS,), joins=(FORWARDERS,)),
    # Backup, restore, `forget --check`: what workers remember, and how far they were.
    "keeper": Access(
        reads=(PROFILES, CAMPAIGNS, STANDINGS, ENFORCEMENT, REQUESTS, LINKS, FEEDBACK),
        writes=(PROFILES, CAMPAIGNS, STANDINGS, ENFORCEMENT),
        describes=(ALERTS, AUDIT, UNREADABLE),
        joins=(WORKERS,),
    ),
    # Looks whether topics fit and workers keep up; reads nothing of what is in them.
    "operator": Access(describes=TOPICS, watches=(WORKERS, FORWARDERS)),
}
"""Components by name. Each logs in as `stillwatch-NAME`."""
