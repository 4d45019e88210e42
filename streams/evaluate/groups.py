"""Groups: of attackers and of honest crowds, whom the detector took for a campaign and what they met."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec
from rich.table import Table as RichTable

from .judge import LADDER, THROTTLE, WATCH, Met, share_before, share_of_all_before
from .membership import matched
from .played import Played
from .watchers import WATCHERS

SPREAD: Final = 5
"""From so many accounts on a family is a campaign."""

_HOUR_MS: Final = 3_600_000


class Hunted(msgspec.Struct, frozen=True):
    """One family of attacks as a campaign. Shares are of what it asked for, replaced accounts included."""

    family: str
    seed: int
    accounts: int
    """Accounts that it used, replaced ones included."""
    requests: int
    """Extracting requests."""
    covered: int
    """Requests of unrelated customers sent through the same accounts."""
    before: dict[str, float]
    """Extracting requests served before each rung."""
    all_before: dict[str, float]
    """All requests served before each rung, those of unrelated customers included."""
    campaigns: int
    """Campaigns found that an attacker was told to belong to, or anybody when no attacker was."""
    members: int
    """Accounts that were ever told to belong to a campaign."""
    strangers: int
    """Those of them that were honest."""
    precision: float
    recall: float
    hours: float | None
    """From the first request to the first attacker named."""
    bystanders: int
    """Honest accounts throttled or worse beside it."""


class Gathered(msgspec.Struct, frozen=True):
    """One honest crowd: campaigns found while it was there, its members named as such, and what its accounts met."""

    crowd: str
    seed: int
    accounts: int
    requests: int
    account_days: int
    campaigns: int
    highest: str
    """The harshest that a campaign found beside it had earned."""
    members: int
    strangers: int
    """Members of campaigns that are of the backdrop."""
    watched: int
    throttled: int
    """Accounts of the crowd that met a watch, or a throttle or worse, for whatever reason."""
    bystanders: int


def hunted(played: Sequence[Played]) -> list[Hunted]:
    """Families of several accounts, in the order they were played."""
    return [_hunted(one, mets) for one, mets in _sending(played, "family", "attack") if len(mets) >= SPREAD]


def gathered(played: Sequence[Played]) -> list[Gathered]:
    """Honest crowds, in the order they were played."""
    return [_gathered(one, mets) for one, mets in _sending(played, "crowd", "crowd")]


def _sending(played: Sequence[Played], kind: str, label: str) -> Iterator[tuple[Played, dict[str, Met]]]:
    """The jobs of a kind, with the accounts of a label that sent something."""
    for one in played:
        if one.job.kind == kind:
            mets = one.accounts[WATCHERS[0]]
            yield one, {account: met for account, met in mets.items() if one.truth[account][0] == label}


def _hunted(one: Played, mets: Mapping[str, Met]) -> Hunted:
    heights = {action: height for height, action in enumerate(LADDER, 1)}
    named = one.membership.members
    match = matched(named, mets)
    at = min((told.at for account, told in named.items() if account in mets), default=None)
    return Hunted(
        family=one.job.name,
        seed=one.job.seed,
        accounts=len(mets),
        requests=sum(met.sent for met in mets.values()),
        covered=sum(met.covered for met in mets.values()),
        before={action: share_before(mets.values(), height)[0] for action, height in heights.items()},
        all_before={action: share_of_all_before(mets.values(), height) for action, height in heights.items()},
        campaigns=len(one.membership.campaigns),
        members=match.named,
        strangers=match.named - match.both,
        precision=match.precision,
        recall=match.recall,
        hours=None if at is None else round((at - min(met.first_at for met in mets.values())) / _HOUR_MS, 3),
        bystanders=_bystanders(one, "attack"),
    )


def _gathered(one: Played, mets: Mapping[str, Met]) -> Gathered:
    named = one.membership.members
    match = matched(named, mets)
    highest = max(one.membership.campaigns.values(), default=0)
    return Gathered(
        crowd=one.job.name,
        seed=one.job.seed,
        accounts=len(mets),
        requests=sum(met.sent for met in mets.values()),
        account_days=sum(len(met.days) for met in mets.values()),
        campaigns=len(one.membership.campaigns),
        highest=LADDER[highest - 1] if highest else "none",
        members=match.both,
        strangers=match.named - match.both,
        watched=sum(met.height >= WATCH for met in mets.values()),
        throttled=sum(met.height >= THROTTLE for met in mets.values()),
        bystanders=_bystanders(one, "crowd"),
    )


def _bystanders(one: Played, label: str) -> int:
    mets = one.accounts[WATCHERS[0]]
    return sum(met.height >= THROTTLE for account, met in mets.items() if one.truth[account][0] != label)


def hunted_table(rows: Sequence[Hunted]) -> RichTable:
    """What campaigns got, and whether their accounts were found."""
    table = _titled(
        *("Campaigns: what they got, and who was found", "campaign"),
        *("accounts", "requests", "before watch", "before throttle", "with cover", "hours to the first named"),
        *("campaigns", "members", "strangers", "precision", "recall", "honest throttled"),
    )
    for row in rows:
        table.add_row(
            row.family,
            f"{row.accounts:,}",
            f"{row.requests:,}",
            f"{row.before['watch']:.1%}",
            f"{row.before['throttle']:.1%}",
            f"{row.all_before['throttle']:.1%}" if row.covered else "",
            "" if row.hours is None else f"{row.hours:.1f}",
            f"{row.campaigns:,}",
            f"{row.members:,}",
            f"{row.strangers:,}",
            f"{row.precision:.1%}" if row.members else "",
            f"{row.recall:.1%}",
            f"{row.bystanders:,}",
        )
    return table


def gathered_table(rows: Sequence[Gathered]) -> RichTable:
    """What honest crowds met."""
    table = _titled(
        *("Honest crowds: who was taken for a campaign", "crowd"),
        *("accounts", "requests", "account-days", "campaigns", "harshest", "members", "strangers"),
        *("watched", "throttled", "bystanders throttled"),
    )
    for row in rows:
        table.add_row(
            row.crowd,
            f"{row.accounts:,}",
            f"{row.requests:,}",
            f"{row.account_days:,}",
            f"{row.campaigns:,}",
            row.highest,
            f"{row.members:,}",
            f"{row.strangers:,}",
            f"{row.watched:,}",
            f"{row.throttled:,}",
            f"{row.bystanders:,}",
        )
    return table


def _titled(title: str, name: str, *columns: str) -> RichTable:
    """A table without rows: what each is called, and numbers."""
    table = RichTable(title=title, title_justify="left")
    table.add_column(name, min_width=9)
    for column in columns:
        table.add_column(column, justify="right")
    return table
