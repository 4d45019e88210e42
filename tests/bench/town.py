"""Town: small simulated streams on which variants of the detector are compared."""

from collections.abc import Mapping
from typing import Final

from sinks.policy import Policy
from streams.evaluate.arena import EXEMPT_KIND, exempting
from streams.evaluate.judge import THROTTLE, Met, days_at, share_before
from streams.evaluate.play import Table, batches, sent, stripped
from streams.evaluate.report import of_extraction_size
from streams.evaluate.watchers import Watcher
from streams.simulate.accounts import DAY_MS, Account
from streams.simulate.families import campaigns
from streams.simulate.lookalikes import lookalikes
from streams.simulate.prompts import Prompts
from streams.simulate.stream import MONDAY, Stream, crowd

CALM_DAYS: Final = 2
"""Days before an attack begins."""

Accounts = Mapping[str, Met]


def neighbours(seed: int, prompts: Prompts, end_at: int, people: int = 250) -> list[Account]:
    """Honest accounts from MONDAY on, and two of every kind of lookalike."""
    return [*crowd(seed, MONDAY, end_at, prompts, range(people)), *lookalikes(seed, 2, MONDAY, end_at, prompts)]


def peaceful(seed: int, days: int = 14) -> Stream:
    """Neighbours and nobody else."""
    prompts, end_at = Prompts(seed), MONDAY + days * DAY_MS
    return Stream(neighbours(seed, prompts, end_at), prompts, MONDAY, end_at)


def attacked(family: str, seed: int, days: int = 3, people: int = 150) -> Stream:
    """Honest accounts, and after CALM_DAYS one family for some days."""
    prompts, begins_at = Prompts(seed), MONDAY + CALM_DAYS * DAY_MS
    end_at = begins_at + days * DAY_MS
    accounts: list[Account] = [*crowd(seed, MONDAY, end_at, prompts, range(people))]
    accounts += campaigns([family], seed, MONDAY, end_at, prompts, begins_at)
    return Stream(accounts, prompts, MONDAY, end_at)


def policy_for(stream: Stream) -> Policy:
    """The packaged policy, which exempts those of a stream that are licensed."""
    return exempting(Policy.load(), stream.labels)


def played(stream: Stream, watchers: Mapping[str, Watcher]) -> dict[str, Accounts]:
    """What the accounts of a stream met, as each watcher saw it."""
    tables = {name: Table(watcher) for name, watcher in watchers.items()}
    for batch in batches(sent(request, stripped(())) for request in stream):
        for table in tables.values():
            table.take(batch)
    return {name: table.ledger.accounts for name, table in tables.items()}


def served(stream: Stream, accounts: Accounts) -> float:
    """The share of all that attackers ask for that is served before a throttle."""
    attackers = [label.account for label in stream.labels if label.label == "attack"]
    return share_before((accounts[one] for one in attackers if one in accounts), THROTTLE)[0]


def accused(stream: Stream, accounts: Accounts) -> tuple[int, int, float]:
    """Account-days of honest accounts throttled or worse, all of them, and the most that spoke against one; without
    those that are licensed, or of extraction size."""
    budget = Policy.load().budget
    honest = {label.account for label in stream.labels if label.label != "attack" and label.kind != EXEMPT_KIND}
    counted = {
        account: one for account, one in accounts.items() if account in honest and not of_extraction_size(one, budget)
    }
    thrown, days = days_at(counted, THROTTLE)
    return thrown, days, max((strength for one in counted.values() for strength, _ in one.rises), default=0.0)
