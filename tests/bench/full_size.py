"""Full size: 16 million requests of 24,000 attackers among 100,000 honest accounts, through `replay` with campaigns.

`python -m tests.bench.full_size --report FILE` draws the requests in a process of its own, reads them through the
detector in this one and tells how long it took, how much memory it held, and what was found and when. It takes half an
hour to an hour on two cores; `--honest 5000 --attackers 1200` is a twentieth of it.
"""

import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final, cast

import click
import msgspec

from gateway.verdict import Verdict
from sinks.policy import Policy
from streams import campaigns as campaigning
from streams.batch import Record
from streams.campaigns import Campaigns
from streams.commands.process import settle
from streams.evaluate.judge import LADDER, THROTTLE, WATCH
from streams.pipeline import Pipeline
from streams.replay import replay
from streams.simulate.accounts import DAY_MS

from .machine import Machine, machine
from .multitude import Multitude, Size

EVERY: Final = 500_000
"""Requests between two lines of progress."""

_HOUR_MS: Final = 3_600_000


class Group(msgspec.Struct, frozen=True):
    """What one group of accounts sent and met. Shares are of what all of its accounts sent."""

    group: str
    accounts: int
    requests: int
    members: int
    """Accounts ever told to belong to a campaign."""
    watched: int
    throttled: int
    before_watch: float
    before_throttle: float
    account_days: int
    """UTC days on which an account of it sent something, added up; 0 for attackers."""
    first_hours: float | None
    """From the beginning of the attack to the first member."""


class Found(msgspec.Struct, frozen=True):
    """One campaign that a verdict was announced for: its harshest, its members at the end, and of which groups."""

    campaign: str
    action: str
    hours: float
    """From the beginning of the attack to its first verdict."""
    members: int
    of: dict[str, int]
    requests: float
    share_of_budget: float


class Passage(msgspec.Struct, frozen=True):
    """The state after so many requests."""

    requests: int
    day: float
    seconds: float
    mebibytes: float
    looking_seconds: float
    accounts: int
    campaigns: int
    members: int


class FullSize(msgspec.Struct, frozen=True):
    """One run."""

    machine: Machine
    size: dict[str, float]
    requests: int
    links: int
    seconds: float
    waiting_seconds: float
    """Of these, waiting for the process that draws the requests."""
    campaign_seconds: float
    """Of these, in the campaign agent."""
    looks: int
    slowest_look_seconds: float
    mebibytes: float
    generator_mebibytes: float
    precision: float
    recall: float
    groups: list[Group]
    found: list[Found]
    passages: list[Passage]


class Timed(Campaigns):
    """The campaign agent, with its time measured and everybody it named remembered."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.seconds = 0.0
        self.looks = 0
        self.slowest = 0.0
        self.links = 0
        self.named: dict[str, int] = {}
        """Accounts told to belong to a campaign, and since when (ms)."""

    def process(self, records: "Iterable[Record]") -> campaigning.Outcome:  # type: ignore[override]
        """The same, timed."""
        began, looked_at = time.perf_counter(), self._looked_at
        found = super().process(list(records))
        took = time.perf_counter() - began
        self.seconds += took
        self.links += found.links
        if self._looked_at != looked_at:
            self.looks += 1
            self.slowest = max(self.slowest, took)
        for account, raw in found.standings:
            if raw is not None:
                self.named.setdefault(account, self.event_at)
        return found


class Waiting:
    """Lines of another process, and the time spent waiting for them."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.seconds = 0.0

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        while True:
            began = time.perf_counter()
            block = self._source.read(1 << 20)
            self.seconds += time.perf_counter() - began
            if not block:
                break
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
        if rest:
            yield rest


def _mebibytes(who: int) -> float:
    return round(resource.getrusage(who).ru_maxrss / 1024, 1)


def measured(size: Size) -> FullSize:
    """Run it once. Raises RuntimeError when the requests end too early."""
    where = machine("no broker")
    policy = Policy.load()
    policy = msgspec.structs.replace(policy, brake=None)
    pipeline, campaigns = Pipeline(policy), Timed(policy)
    arguments = [f"--{name}={value}" for name, value in _named(size).items()]
    source = subprocess.Popen([sys.executable, "-m", "tests.bench.multitude", *arguments], stdout=subprocess.PIPE)
    lines = Waiting(cast(IO[bytes], source.stdout))
    first: dict[str, dict[int, float]] = defaultdict(dict)
    verdicts: dict[str, list[Verdict]] = defaultdict(list)
    passages: list[Passage] = []
    requests = 0
    began = time.perf_counter()
    for step in replay(lines, [pipeline], campaigns):
        requests += len(step.records)
        for verdict in (decision.verdict for decision in step.outcome.decisions):
            if verdict.action not in LADDER:
                continue
            if verdict.scope == "campaign":
                verdicts[verdict.value].append(verdict)
                continue
            served = verdict.exposure.requests if verdict.exposure else 0.0
            for height in range(1, LADDER.index(verdict.action) + 2):
                first[verdict.value].setdefault(height, served)
        if requests // EVERY > len(passages):
            passages.append(_passage(requests, size, time.perf_counter() - began, campaigns))
            click.echo(_said(passages[-1]), err=True)
    seconds = time.perf_counter() - began
    if source.wait() != 0:
        raise RuntimeError(f"the requests ended with exit code {source.returncode}")
    whole = Multitude.of(size)
    kind = {account.label.account: name for account, name in zip(whole.accounts, whole.group, strict=True)}
    meant = {account for account, name in kind.items() if name in whole.lists}
    named = campaigns.named
    return FullSize(
        machine=where,
        size=_named(size),
        requests=requests,
        links=campaigns.links,
        seconds=round(seconds, 1),
        waiting_seconds=round(lines.seconds, 1),
        campaign_seconds=round(campaigns.seconds, 1),
        looks=campaigns.looks,
        slowest_look_seconds=round(campaigns.slowest, 2),
        mebibytes=passages[-1].mebibytes if passages else _mebibytes(resource.RUSAGE_SELF),
        generator_mebibytes=_mebibytes(resource.RUSAGE_CHILDREN),
        precision=len(named.keys() & meant) / max(len(named), 1),
        recall=len(named.keys() & meant) / max(len(meant), 1),
        groups=_groups(whole, size, pipeline, first, named),
        found=_found(size, campaigns, verdicts, kind),
        passages=passages,
    )


def _named(size: Size) -> dict[str, float]:
    return {name: getattr(size, name) for name in size.__dataclass_fields__}


def _passage(requests: int, size: Size, seconds: float, campaigns: Timed) -> Passage:
    day = (campaigns.event_at - size.begins_at) / DAY_MS + size.calm
    return Passage(
        requests, round(day, 2), round(seconds, 1), _mebibytes(resource.RUSAGE_SELF), round(campaigns.seconds, 1),
        campaigns.accounts, campaigns.campaigns, len(campaigns.named),
    )  # fmt: skip


def _said(one: Passage) -> str:
    return (
        f"{one.requests:,} requests, day {one.day:.1f}: {one.seconds:,.0f} s ({one.looking_seconds:,.0f} s campaigns), "
        f"{one.mebibytes:,.0f} MiB, {one.accounts:,} accounts known to the campaign agent, {one.campaigns} campaigns, "
        f"{one.members:,} accounts named"
    )


def _groups(
    whole: Multitude, size: Size, pipeline: Pipeline, first: dict[str, dict[int, float]], named: dict[str, int]
) -> list[Group]:
    accounts: dict[str, list[str]] = defaultdict(list)
    days: dict[str, int] = defaultdict(int)
    for account, name, active in zip(whole.accounts, whole.group, whole.account_days().tolist(), strict=True):
        days[name] += active
        if account.label.account in pipeline.profiles:
            accounts[name].append(account.label.account)
    found = []
    for name, own in accounts.items():
        sent = pipeline.profiles.table["totals"][pipeline.profiles.rows(own), 0].tolist()
        served = [
            sum(min(first.get(account, {}).get(height, count), count) for account, count in zip(own, sent, strict=True))
            for height in (WATCH, THROTTLE)
        ]
        at = min((named[account] for account in own if account in named), default=None)
        found.append(
            Group(
                group=name,
                accounts=len(own),
                requests=round(sum(sent)),
                members=sum(account in named for account in own),
                watched=sum(WATCH in first.get(account, {}) for account in own),
                throttled=sum(THROTTLE in first.get(account, {}) for account in own),
                before_watch=served[0] / max(sum(sent), 1),
                before_throttle=served[1] / max(sum(sent), 1),
                account_days=days[name],
                first_hours=None if at is None else round((at - size.begins_at) / _HOUR_MS, 2),
            )
        )
    return found


def _found(size: Size, campaigns: Timed, verdicts: dict[str, list[Verdict]], kind: dict[str, str]) -> list[Found]:
    found = []
    for name, own in verdicts.items():
        campaign = campaigns.found.get(name)
        of: dict[str, int] = defaultdict(int)
        for member in campaigns.members_of(campaign) if campaign else ():
            of[kind.get(member.account, "?")] += 1
        harshest = max(own, key=lambda verdict: LADDER.index(verdict.action))
        last = own[-1].exposure
        found.append(
            Found(
                name,
                harshest.action,
                round((own[0].at - size.begins_at) / _HOUR_MS, 2),
                sum(of.values()),
                dict(of),
                last.requests if last else 0.0,
                last.share_of_budget if last else 0.0,
            )
        )
    return sorted(found, key=lambda one: -one.members)


@click.command()
@click.option("--honest", type=int, default=Size.honest, show_default=True)
@click.option("--attackers", type=int, default=Size.attackers, show_default=True)
@click.option("--exchanges", type=int, default=Size.exchanges, show_default=True)
@click.option("--days", type=float, default=Size.days, show_default=True)
@click.option("--report", type=click.Path(path_type=Path), help="Write everything here as JSON.")
def main(honest: int, attackers: int, exchanges: int, days: float, report: Path | None) -> None:
    """Run it once."""
    settle()
    found = measured(Size(honest=honest, attackers=attackers, exchanges=exchanges, days=days))
    if report:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    click.echo(
        f"{found.requests:,} requests in {found.seconds:,.0f} s, of which {found.waiting_seconds:,.0f} s waiting for "
        f"them and {found.campaign_seconds:,.0f} s in the campaign agent ({found.looks:,} looks, the slowest "
        f"{found.slowest_look_seconds:.1f} s); {found.mebibytes:,.0f} MiB; "
        f"{found.links / found.requests:.2f} links a request"
    )
    click.echo(f"membership: precision {found.precision:.1%}, recall {found.recall:.1%}")
    for group in found.groups:
        click.echo(
            f"{group.group}: {group.accounts:,} accounts, {group.requests:,} requests; named {group.members:,} (the "
            f"first after {group.first_hours} h), watched {group.watched:,}, throttled {group.throttled:,}; "
            + (
                f"{group.account_days:,} account-days"
                if group.account_days
                else f"served before watch {group.before_watch:.1%}, before throttle {group.before_throttle:.1%}"
            )
        )
    for one in found.found[:12]:
        click.echo(f"{one.campaign}: {one.action} after {one.hours} h, {one.members:,} members {one.of}")
    click.echo(str(found.machine))


if __name__ == "__main__":
    main()
