"""Tally: what was decided in a replay, for whom, and what they had got by then."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from rich.markup import escape
from rich.table import Table

from gateway.verdict import ACTIONS, Verdict

from .replay import Step, account_of
from .simulate.accounts import Label

SHOWN: Final = 25
"""Subjects in the table for a person; the report holds all of them."""

LADDER: Final = ACTIONS[1:]

BEFORE: Final = ("watch", "throttle", "verify")
"""Rungs for which a person is told what was served before them."""


class LabelsError(ValueError):
    """A label file that cannot be read; the message names the line."""


class First(msgspec.Struct, frozen=True):
    """The first verdict of a subject at one rung or above: when, and what had been served by then."""

    at: int
    requests: float
    mode: str


class Subject(msgspec.Struct):
    """What was decided about one subject, as it stood when it first met its harshest action."""

    subject: str
    action: str
    score: float
    scenario: str | None
    reasons: list[str]
    first: dict[str, First]


class Group(msgspec.Struct):
    """Accounts of one label and kind: their number by harshest action, and the share served before each rung.

    A request counts as served before a rung when its account had not met that rung, or a harsher one, yet.
    """

    label: str
    kind: str
    accounts: int = 0
    requests: int = 0
    harshest: dict[str, int] = {}
    served_before: dict[str, float] = {}


class Report(msgspec.Struct):
    """Everything a replay found. The same replay gives the same report, so it holds no clock and no speed."""

    requests: int
    unreadable: dict[str, int]
    verdicts: dict[str, dict[str, int]]
    """By mode and action; `allow` counts the ends."""
    subjects: list[Subject]
    """Harshest action first, then the earliest."""
    groups: list[Group] | None


def read_labels(path: Path) -> dict[str, Label]:
    """The truth about accounts, by account: one JSON object a line, as `stillwatch simulate` writes it."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise LabelsError(f"{path}: {error.strerror}") from error
    labels = {}
    for number, line in enumerate(lines, 1):
        try:
            label = msgspec.json.decode(line, type=Label)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LabelsError(f"{path}, line {number}: {error}") from error
        labels[label.account] = label
    return labels


class Tally:
    """Counts the steps of a replay as they come.

    With labels it also counts the requests of each account, which costs a look into every line.
    """

    def __init__(self, labels: Mapping[str, Label] | None = None) -> None:
        self.requests = 0
        self._labels = labels
        self._unreadable: Counter[str] = Counter()
        self._verdicts: dict[str, Counter[str]] = {}
        self._subjects: dict[str, Subject] = {}
        self._sent: Counter[str | None] = Counter()

    def add(self, step: Step) -> None:
        """Count one step."""
        outcome = step.outcome
        self.requests += outcome.requests
        self._unreadable.update(aside.reason for aside in outcome.unreadable)
        for decision in outcome.decisions:
            verdict = decision.verdict
            self._verdicts.setdefault(verdict.mode, Counter())[verdict.action] += 1
            if not decision.lifted:
                self.meet(verdict)
        if self._labels is not None:
            self.sent(account_of(record.value or b"") for record in step.records)
            self._sent.subtract(account_of(aside.record.value or b"") for aside in outcome.unreadable)

    def sent(self, accounts: Iterable[str | None]) -> None:
        """Count requests, one an account named."""
        self._sent.update(accounts)

    def meet(self, verdict: Verdict) -> None:
        """Take note of a verdict that puts its subject on a rung."""
        height = LADDER.index(verdict.action) if verdict.action in LADDER else 0  # an unknown action is a watch
        served = verdict.exposure.requests if verdict.exposure else 0
        met = self._subjects.get(verdict.subject)
        if met is None or LADDER[height] not in met.first:
            first = met.first if met else {}
            for action in LADDER[: height + 1]:
                first.setdefault(action, First(verdict.at, served, verdict.mode))
            reasons = [reason.text for reason in verdict.reasons]
            self._subjects[verdict.subject] = Subject(
                verdict.subject, LADDER[height], verdict.score, verdict.scenario, reasons, first
            )

    def report(self) -> Report:
        """All counts so far."""
        return Report(
            requests=self.requests,
            unreadable=dict(self._unreadable),
            verdicts={mode: dict(counts) for mode, counts in self._verdicts.items()},
            subjects=sorted(self._subjects.values(), key=_harshest_first),
            groups=None if self._labels is None else list(self._groups(self._labels)),
        )

    def _groups(self, labels: Mapping[str, Label]) -> Iterator[Group]:
        groups: dict[tuple[str, str], Group] = {}
        for account, sent in self._sent.items():
            if account is None or sent <= 0:
                continue
            truth = labels.get(account)
            key = (truth.label, truth.kind) if truth else ("unlabelled", "")
            group = groups.setdefault(key, Group(*key))
            met = self._subjects.get(f"account:{account}")
            group.accounts += 1
            group.requests += sent
            action = met.action if met else "none"
            group.harshest[action] = group.harshest.get(action, 0) + 1
            for rung in LADDER:
                before = min(met.first[rung].requests, sent) if met and rung in met.first else sent
                group.served_before[rung] = group.served_before.get(rung, 0) + before
        for _, group in sorted(groups.items()):
            group.served_before = {rung: n / group.requests for rung, n in group.served_before.items()}
            yield group


def _harshest_first(subject: Subject) -> tuple[int, int, str]:
    return -LADDER.index(subject.action), subject.first[subject.action].at, subject.subject


def merged(groups: list[Group]) -> list[Group]:
    """One group for each label, without its kinds."""
    labels: dict[str, Group] = {}
    for group in groups:
        into = labels.setdefault(group.label, Group(group.label, ""))
        total = into.requests + group.requests
        into.served_before = {
            rung: (into.served_before.get(rung, 0) * into.requests + share * group.requests) / total
            for rung, share in group.served_before.items()
        }
        for action, count in group.harshest.items():
            into.harshest[action] = into.harshest.get(action, 0) + count
        into.accounts += group.accounts
        into.requests = total
    return list(labels.values())


def subjects_table(report: Report) -> Table:
    """The harshest decisions for a person to read."""
    table = Table(title="Decided", title_justify="left")
    for column in ("subject", "action", "since (UTC)", "served before", "score", "why"):
        table.add_column(column, overflow="fold", justify="right" if column in {"served before", "score"} else "left")
    for subject in report.subjects[:SHOWN]:
        first = subject.first[subject.action]
        since = datetime.fromtimestamp(first.at / 1000, UTC)
        table.add_row(
            escape(subject.subject),
            subject.action + (" (shadow)" if first.mode == "shadow" else ""),
            f"{since:%Y-%m-%d %H:%M:%S}",
            f"{first.requests:,.0f}",
            f"{subject.score:.3f}",
            escape("; ".join(subject.reasons[:2])),
        )
    if (more := len(report.subjects) - SHOWN) > 0:
        table.caption = f"and {more:,} more"
    return table


def groups_table(groups: list[Group]) -> Table:
    """Accounts by harshest action and what was served before: a row for each label and each of its kinds."""
    table = Table(title="For whom", title_justify="left")
    table.add_column("accounts that are")
    for column in ("accounts", "requests", "none", *LADDER, *(f"before {rung}" for rung in BEFORE)):
        table.add_column(column, justify="right")
    for total in merged(groups):
        kinds = [group for group in groups if group.label == total.label and group.kind]
        for group in (total, *kinds):
            name = f"  {group.kind}" if group.kind else group.label
            table.add_row(
                escape(name),
                f"{group.accounts:,}",
                f"{group.requests:,}",
                *(f"{group.harshest.get(action, 0):,}" for action in ("none", *LADDER)),
                *(f"{group.served_before[rung]:.1%}" for rung in BEFORE),
                style="" if group.kind else "bold",
            )
    return table
