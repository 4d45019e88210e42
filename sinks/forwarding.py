"""Forwarding: how alerts get to people, in numbers."""

from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

from .catalogue import Catalogue, Entry

TO = ("alertmanager", "webhook")


class ForwardingMetrics:
    """Every metric of `stillwatch alerts forward`, declared once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._catalogue = declare = Catalogue(registry)
        ProcessCollector(registry=registry)
        self.read = declare.counter(
            "read_alerts",
            "messages",
            "Messages read from the alerts topic: new (an alert began, ended or changed its severity), again (said "
            "again, or late), unreadable.",
            outcome=("new", "again", "unreadable"),
        )
        self.firing = declare.gauge(
            "firing_alerts",
            "alerts",
            "Alerts of the topic that hold.",
            severity=("critical", "warning", "info"),
        )
        self.posts = declare.counter(
            "posts",
            "posts",
            "Posts to where alerts go, by what came of them: taken, refused for good, or failed and so tried again.",
            to=TO,
            outcome=("taken", "refused", "failed"),
        )
        self.unforwarded = declare.gauge(
            "unforwarded_seconds",
            "seconds",
            "How long what is new has waited to be taken; 0 where nothing waits.",
            to=TO,
        )

    @property
    def entries(self) -> list[Entry]:
        """All that was declared, in the order of the reference page."""
        return self._catalogue.entries
