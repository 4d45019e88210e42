"""Counters: what an ingest process took, and what it did not."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.request import REASONS

STRANGER: Final = "nobody"
"""Stands for a sender without a valid token."""


class Counters:
    """Every metric of an ingest process. Labels are few and bounded: senders are those of the file of tokens."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.messages = Counter(
            "stillwatch_ingest_messages",
            "Messages that Kafka has, by sender.",
            ["sender"],
            registry=registry,
        )
        self.refused = Counter(
            "stillwatch_ingest_refused_messages",
            f"Messages that could not be read, by sender and reason ({', '.join(REASONS)}).",
            ["sender", "reason"],
            registry=registry,
        )
        self.replies = Counter(
            "stillwatch_ingest_replies",
            f"Replies, by sender ({STRANGER}: no valid token) and HTTP status.",
            ["sender", "status"],
            registry=registry,
        )
        self.body_bytes = Gauge(
            "stillwatch_ingest_body_bytes",
            "Bytes of bodies in memory: being read, or waiting for Kafka.",
            registry=registry,
        )
        self.there = Gauge(
            "stillwatch_ingest_kafka_reachable",
            "1 when Kafka takes messages, else 0.",
            registry=registry,
        )
        self.tokens_failed = Gauge(
            "stillwatch_ingest_unusable_tokens",
            "Times that the file of tokens was changed to one that cannot be used.",
            registry=registry,
        )
        self.seconds = Histogram(
            "stillwatch_ingest_reply_seconds",
            "From a request's head to its reply.",
            registry=registry,
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
