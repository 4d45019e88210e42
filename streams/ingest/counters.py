"""Counters: what an ingest process took, and what it did not."""

from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector

from gateway.request import REASONS
from sinks.catalogue import Catalogue, Entry

TAKEN: Final = "taken"
"""The outcome of a message that Kafka has; every other is why it could not be read."""

STATUSES: Final = ("200", "400", "401", "404", "405", "408", "413", "415", "422", "503")

_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Counters:
    """Every metric of an ingest process, declared once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._catalogue = declare = Catalogue(registry)
        ProcessCollector(registry=registry)
        self.messages = declare.counter(
            "ingest_messages",
            "messages",
            "Messages that came, by what became of them: taken (Kafka has it), else why they could not be read.",
            outcome=(TAKEN, *REASONS),
        )
        self.replies = declare.counter(
            "ingest_replies", "replies", "Replies to senders, by HTTP status.", status=STATUSES
        )
        self.reply_seconds = declare.histogram(
            "ingest_reply_seconds", "seconds", "From a request's head to its reply.", _SECONDS
        )
        self.body_bytes = declare.gauge(
            "ingest_body_bytes", "bytes", "Bodies in memory: being read, or waiting for Kafka."
        )
        self.reachable = declare.gauge("ingest_kafka_reachable", "brokers", "1 while Kafka takes messages, else 0.")
        self.unusable_tokens = declare.gauge(
            "ingest_unusable_tokens",
            "files",
            "Times that the file of tokens was changed to one that cannot be used: the senders known before stay.",
        )

    @property
    def entries(self) -> list[Entry]:
        """All that was declared, in the order of the reference page."""
        return self._catalogue.entries
