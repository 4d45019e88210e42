"""Metrics: how the detector is doing, in numbers."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

from gateway.request import REASONS
from gateway.verdict import ACTIONS

from .alerts import KINDS
from .catalogue import Catalogue, Entry
from .policy import Decision

OUTCOMES: Final = ("counted", "repeated", "held", "blocked", "unreadable")
SPOKEN: Final = ("enforcement", "audit", "alerts", "links", "standings", "unreadable")
"""The nouns of the topics that a worker speaks on."""
FOLLOWED: Final = ("standings", "feedback")
"""The nouns of the topics that every worker reads for itself."""
HEARD: Final = ("heard", "held", "unreadable")

UNVERIFIED: Final = ("requests", "input_tokens", "output_tokens", "reasoning_tokens", "cost")
"""What exposure is counted in."""

_BATCH_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5)
_DELAY_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3_600)
_LONG_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Every metric of the detector, declared once. None names an account; nothing is declared that nobody sets.

    The registry is passed in, so that two workers in one process, or two tests, do not share numbers.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._catalogue = declare = Catalogue(registry)
        ProcessCollector(registry=registry)

        # What arrives
        self.requests = declare.counter(
            "requests",
            "requests",
            "Requests taken from the topic, by what became of them: counted in a profile, repeated (an id sent twice), "
            "held (read again after a crash), blocked (by a verdict, so it is no use), unreadable.",
            outcome=OUTCOMES,
        )
        self.unreadable = declare.counter(
            "unreadable_requests",
            "requests",
            "Requests set aside on the unreadable topic, by what was wrong with them.",
            reason=REASONS,
        )
        self.placed = declare.counter(
            "placed_requests",
            "requests",
            "Requests looked at for the partition they came on, one of each micro-batch: stray where murmur2 would not "
            "put their account. A producer then partitions otherwise, and one account counts as two.",
            place=("right", "stray"),
        )
        self.strays = declare.counter(
            "stray_accounts",
            "accounts",
            "Accounts first seen on a partition where murmur2 would not put them.",
        )

        self.links = declare.counter(
            "links",
            "links",
            "Links between accounts and traits that this worker's campaigns took in. Only one worker has campaigns.",
        )
        self.reports = declare.counter(
            "reports",
            "reports",
            "Accounts' profiles reported to this worker's campaigns.",
        )
        self.unreadable_links = declare.counter(
            "unreadable_links",
            "messages",
            "Messages of the links topic set aside: a worker of another release wrote them.",
        )
        self.feedback = declare.counter(
            "feedback",
            "messages",
            "Messages of feedback for this worker's accounts: heard (it changed a profile), held (contained already, "
            "or about a campaign), unreadable. All is read again when a partition is restored.",
            outcome=HEARD,
        )
        self.following = declare.gauge(
            "following",
            "topics",
            "1 while a topic that every worker reads for itself can be read, 0 while it cannot.",
            topic=FOLLOWED,
        )
        self.follow_failures = declare.counter(
            "follow_failures",
            "failures",
            "Times that Kafka refused such a topic. It is tried again, and the worker goes on without.",
            topic=FOLLOWED,
        )

        # What decides
        self.policy_reads = declare.counter(
            "policy_reads",
            "policies",
            "Times that the policy file had changed: adopted, or refused because of what stood in it.",
            outcome=("adopted", "refused"),
        )
        self.policy_refused = declare.gauge(
            "policy_refused",
            "files",
            "1 while the policy file is refused and the policy before it stays in force.",
        )
        self.braked = declare.gauge(
            "braked_partitions",
            "partitions",
            "Partitions of this worker on which the brake is pulled: their verdicts are only shadows.",
        )
        self.unverified = declare.counter(
            "unverified_served",
            "requests, tokens or US dollars",
            "What was served to accounts that nobody vouches for, neither verified nor licensed: requests, tokens, and "
            "their list price.",
            of=UNVERIFIED,
        )
        self.unverified_budgets = declare.gauge(
            "unverified_budgets",
            "budgets",
            "How many budgets of a viable extraction all such accounts were served within about a day: this worker's "
            "partitions, taken for all.",
        )

        # How late we are
        self.request_delay = declare.spread(
            "request_delay_seconds",
            "seconds",
            "From the time a request has on its topic to the decision about its account being on its way.",
            _DELAY_SECONDS,
        )
        self.verdict_delay = declare.histogram(
            "verdict_delay_seconds",
            "seconds",
            "From the time the newest request of a micro-batch has on its topic until Kafka has what was decided.",
            _DELAY_SECONDS,
        )
        self.event_lag = declare.gauge(
            "event_lag_seconds",
            "seconds",
            "How far the newest request, by the time its gateway received it, lies behind the clock. Rises while none "
            "comes. 0 before the first.",
        )
        self.lag = declare.gauge(
            "lag_requests",
            "requests",
            "Requests on this worker's partitions that it has not processed.",
        )
        self.lag_seconds = declare.gauge(
            "lag_seconds",
            "seconds",
            "How long the oldest request not processed waits, at most, on the partition furthest behind. 0 where all "
            "is processed.",
        )
        self.links_lag = declare.gauge(
            "lag_links_messages",
            "messages",
            "Messages on the links topic that this worker's campaigns have not processed.",
        )
        self.links_lag_seconds = declare.gauge(
            "lag_links_seconds",
            "seconds",
            "How long the oldest of them waits, at most.",
        )
        self.uncommitted = declare.gauge(
            "uncommitted_requests",
            "requests",
            "Requests on this worker's partitions above the committed offset, as Kafka's own tools count lag. Between "
            "two checkpoints this is the normal rate times their distance.",
        )
        self.kafka_silence = declare.gauge(
            "kafka_silence_seconds",
            "seconds",
            "Time since Kafka last told where our partitions end: it is asked every few seconds.",
        )

        # Work
        self.batch_duration = declare.histogram(
            "batch_seconds",
            "seconds",
            "From a micro-batch in hand to its decisions in the outbox.",
            _BATCH_SECONDS,
        )
        self.batch_size = declare.histogram(
            "batch_requests",
            "requests",
            "Records in a micro-batch.",
            (1, 10, 50, 100, 250, 500, 1_000, 2_000, 5_000),
        )

        self.links_duration = declare.histogram(
            "links_batch_seconds",
            "seconds",
            "From up to 16 messages of links in hand to what campaigns make of them in the outbox.",
            _BATCH_SECONDS,
        )

        # What is safe
        self.checkpoint_age = declare.gauge(
            "checkpoint_age_seconds",
            "seconds",
            "Age of the oldest request fetched and not committed: what a crash now would read again. 0 where there is "
            "none.",
        )
        self.checkpoint_duration = declare.histogram(
            "checkpoint_seconds",
            "seconds",
            "From the start of a partition's checkpoint until everything it said and stored was acknowledged by Kafka.",
            _LONG_SECONDS,
        )
        self.stored_profiles = declare.counter(
            "stored_profiles",
            "profiles",
            "Profiles written to the changelog by checkpoints.",
        )
        self.stored_campaign_rows = declare.counter(
            "stored_campaign_rows",
            "rows",
            "Accounts and campaigns written to the changelog of campaigns by checkpoints.",
        )
        self.undelivered = declare.gauge(
            "undelivered_seconds",
            "seconds",
            "How long a message has waited for Kafka to acknowledge it, by topic; 0 where none waits.",
            topic=SPOKEN,
        )
        self.failed_deliveries = declare.counter(
            "failed_deliveries",
            "messages",
            "Messages that Kafka did not take in time, by topic. Nothing is committed then, and the worker stops.",
            topic=(*SPOKEN, "profiles", "campaigns"),
        )

        # Partitions
        self.partitions = declare.gauge(
            "partitions",
            "partitions",
            "Partitions of this worker: restored ones are worked on, restoring ones wait for their profiles.",
            state=("restored", "restoring"),
        )
        self.rebalances = declare.counter(
            "rebalances",
            "rebalances",
            "Times that partitions were given to this worker anew.",
        )
        self.restore_duration = declare.histogram(
            "restore_seconds",
            "seconds",
            "Time to restore one partition: profiles, models, recent ids.",
            _LONG_SECONDS,
        )
        self.restoring = declare.gauge(
            "restoring_seconds",
            "seconds",
            "How long this worker's partitions have been waiting for their profiles; 0 when all are restored.",
        )
        self.restored_profiles = declare.counter(
            "restored_profiles",
            "profiles",
            "Profiles read back from the changelog.",
        )
        self.restored_campaign_rows = declare.counter(
            "restored_campaign_rows",
            "rows",
            "Accounts and campaigns read back from their changelog.",
        )

        # State
        self.profiles = declare.gauge("profiles", "accounts", "Accounts remembered by this worker.")
        self.forgotten = declare.counter(
            "forgotten_profiles",
            "accounts",
            "Accounts forgotten after five silent weeks, or because there were too many.",
        )
        self.acquaintances = declare.gauge(
            "acquaintances",
            "accounts",
            "Accounts that this worker's campaigns know the traits of.",
        )
        self.forgotten_acquaintances = declare.counter(
            "forgotten_acquaintances",
            "accounts",
            "Accounts that campaigns forgot: silent for long, or too many.",
        )
        self.campaigns = declare.gauge("campaigns", "campaigns", "Campaigns that a verdict is in force for.")
        self.standings = declare.gauge(
            "standings",
            "accounts",
            "Accounts that belong to a campaign, as this worker has heard. Every worker hears of all.",
        )
        self.memory_limit = declare.gauge(
            "memory_limit_bytes",
            "bytes",
            "What this process may use: its control group's limit, or the machine's memory.",
        )

        # What was decided
        self.scores = declare.spread(
            "scores",
            "probability",
            "Scores of the accounts that a micro-batch touched, once for each micro-batch.",
            (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 0.93, 0.97, 0.99),
        )
        self.verdicts = declare.counter(
            "verdicts",
            "verdicts",
            "Verdicts announced, by action (allow: lifted) and mode.",
            action=ACTIONS,
            mode=("enforce", "shadow"),
        )
        self.standings_said = declare.counter(
            "standings_said",
            "standings",
            "Standings told to the watch agents, ended ones included.",
        )
        self.alerts = declare.counter(
            "alerts",
            "alerts",
            "Alerts published, by kind.",
            kind=tuple(KINDS),
        )
        self.live_verdicts = declare.gauge("live_verdicts", "accounts", "Accounts that a verdict is in force for.")

    @property
    def entries(self) -> list[Entry]:
        """All that was declared, in the order of the reference page."""
        return self._catalogue.entries

    def stored(self, noun: str, rows: int) -> None:
        """Count rows written to a changelog, by the noun of its topic."""
        if noun == "profiles":
            self.stored_profiles.inc(rows)
        else:
            self.stored_campaign_rows.inc(rows)

    def restored(self, noun: str, rows: int) -> None:
        """Count rows read back from a changelog, by the noun of its topic."""
        if noun == "profiles":
            self.restored_profiles.inc(rows)
        else:
            self.restored_campaign_rows.inc(rows)

    def decided(self, decisions: Iterable[Decision]) -> None:
        """Count decisions as they are announced."""
        for decision in decisions:
            self.verdicts.labels(decision.verdict.effective_action, decision.verdict.mode).inc()
