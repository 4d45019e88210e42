"""Metrics: how the detector is doing, in numbers."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sinks.policy import Decision


class Metrics:
    """Every metric of the detector, declared once. Labels are few and bounded; none names an account.

    The registry is passed in, so that two workers in one process, or two tests, do not share numbers.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "stillwatch_requests",
            "Requests that were read and counted.",
            registry=registry,
        )
        self.uncounted = Counter(
            "stillwatch_uncounted_requests",
            "Requests read and not counted: repeated (an id sent twice), held (read again), blocked (by a verdict).",
            ["reason"],
            registry=registry,
        )
        self.strays = Counter(
            "stillwatch_stray_accounts",
            "Accounts first seen on a partition where murmur2 would not put them: a producer partitions otherwise.",
            registry=registry,
        )
        self.forgotten = Counter(
            "stillwatch_forgotten_profiles",
            "Accounts forgotten after five silent weeks, or because there were too many.",
            registry=registry,
        )
        self.unreadable = Counter(
            "stillwatch_unreadable_requests",
            "Requests set aside because they could not be read, by reason.",
            ["reason"],
            registry=registry,
        )
        self.verdicts = Counter(
            "stillwatch_verdicts",
            "Verdicts announced, by action (allow: lifted) and mode (enforce, shadow).",
            ["action", "mode"],
            registry=registry,
        )
        self.live_verdicts = Gauge(
            "stillwatch_live_verdicts",
            "Accounts that a verdict is in force for.",
            registry=registry,
        )
        self.profiles = Gauge(
            "stillwatch_profiles",
            "Accounts remembered by this worker.",
            registry=registry,
        )
        self.event_lag = Gauge(
            "stillwatch_event_lag_seconds",
            "How far the newest request of the last batch lies behind the clock.",
            registry=registry,
        )
        self.lag = Gauge(
            "stillwatch_lag_requests",
            "Requests of this worker's partitions that are not committed yet, as of the last poll.",
            registry=registry,
        )
        self.batch_duration = Histogram(
            "stillwatch_batch_seconds",
            "From a batch in hand to its decisions in the outbox.",
            registry=registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5),
        )
        self.batch_size = Histogram(
            "stillwatch_batch_requests",
            "Records in a batch.",
            registry=registry,
            buckets=(1, 10, 50, 100, 250, 500, 1_000, 2_000, 5_000),
        )
        self.failed_deliveries = Counter(
            "stillwatch_failed_deliveries",
            "Messages the broker did not take. Their batch is not committed, so nothing is lost.",
            registry=registry,
        )
        self.commit_age = Gauge(
            "stillwatch_commit_age_seconds",
            "Time since offsets were last committed.",
            registry=registry,
        )

    def decided(self, decisions: Iterable[Decision]) -> None:
        """Count decisions as they are announced."""
        for decision in decisions:
            self.verdicts.labels(decision.verdict.action, decision.verdict.mode).inc()
