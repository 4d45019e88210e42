"""Report: the numbers of the arena, for a machine and for a person."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
from rich.table import Table as RichTable

from models.score import NAMES, PRIOR, VERSION
from sinks.policy import Policy
from sinks.rules import Budget

from ..simulate.families import FAMILIES
from .arena import EXEMPT_KIND, Plan
from .away import GROUPS, Away, watcher_name
from .groups import Gathered, Hunted, gathered, hunted
from .judge import LADDER, THROTTLE, Met, days_at, interval, median_hours, share_before
from .kinds import Missed, missed
from .played import Played
from .watchers import OWN, WATCHERS

LOUD: Final = 20_000
"""From so many requests of one account on a family is called loud."""

MANY: Final = 20

BESIDE: Final = ("family", "crowd", "tool")
"""Kinds of jobs in which honest accounts are the backdrop, and are judged as bystanders."""

PER: Final = 100_000
"""Account-days that false actions are counted in."""

SHOWN: Final = ("watch", "throttle", "verify")

ACCUSED: Final = (*SHOWN, "degrade")
"""Rungs shown for honest accounts; the last one stands for all harsher ones."""

SIMULATED: Final = (
    "Simulated: all attack families, the backdrop, lookalikes, addresses, identities, payment, "
    "and the arrivals of whatever is not named as recorded."
)
RECORDED: Final = (
    "Recorded: the arrivals and token counts of the API clients of kind recorded, the prompts of the evaluation "
    "suites and harvests, and nothing else. Who sent them, from where, and the joining of arrivals with prompts are "
    "simulated."
)

RUN: Final = (
    "Run for real: the requests of what is named as a tool, as a gateway saw them; how fast the model answered, and "
    "the accounts beside them, are simulated."
)

SCORES: Final = (0.0, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99, 1.01)
"""Edges of the bins of the reliability table."""

THRESHOLDS: Final[Mapping[str, tuple[float, ...]]] = {
    "stillwatch": tuple(float(1 / (1 + np.exp(-odds))) for odds in np.arange(-6.0, 7.01, 0.25)),
    "rate limit": tuple(float(round(10**power)) for power in np.arange(1.0, 5.01, 0.125)),
    "fixed rules": tuple(float(points) for points in range(1, 10)),
}
"""Where each watcher could have thrown its throttle, from the strictest on: the points of its curve."""


class Rate(msgspec.Struct, frozen=True):
    """Account-days acted on, in 100,000, with a 95 % interval."""

    acted: int
    account_days: int
    rate: float
    low: float
    high: float


class Family(msgspec.Struct, frozen=True):
    """What one watcher made of one family. Shares are of the requests that the campaign wanted."""

    family: str
    group: str
    accounts: int
    requests: int
    reasoning_tokens: int
    largest: int
    """Requests of the account that sent most."""
    before: dict[str, float]
    reasoning_before: dict[str, float]
    hours: dict[str, float | None]
    """Half of the accounts that met a rung did so within this time of their first request."""
    acted: dict[str, int]
    """Accounts that met each rung or a harsher one."""


class Honest(msgspec.Struct, frozen=True):
    """What one watcher did to one kind of honest account."""

    kind: str
    label: str
    accounts: int
    highest: float
    """The most that spoke against any of them: the threshold that would just have thrown no throttle at it."""
    acted: dict[str, int]
    rates: dict[str, Rate]


class Point(msgspec.Struct, frozen=True):
    """A throttle at this threshold: account-days of honest accounts in 100,000 that meet it, and the share served."""

    threshold: float
    false_actions: float
    served: float


class Watched(msgspec.Struct, frozen=True):
    """Everything of one watcher. Accounts of extraction size are in `large`, and in none of the rest; licensed ones,
    which the policy exempts, have a line of their own in `honest` and are in none of the sums."""

    families: list[Family]
    groups: list[Family]
    bystanders: int
    """Honest accounts of the backdrop throttled or worse while attacks were played beside them, at least once."""
    honest: list[Honest]
    all_honest: Honest
    large: Honest
    """Unverified accounts whose honest volume is itself of extraction size: they may be asked to verify."""
    curves: dict[str, list[Point]]


class Bin(msgspec.Struct, frozen=True):
    """Account-days with a highest score from `low` to below `high`: how many, how many of attackers, the mean score."""

    low: float
    high: float
    account_days: int
    attacks: int
    mean: float


class Ablation(msgspec.Struct, frozen=True):
    """What decisions on an account's own evidence would have been without one column of it."""

    without: str
    served: dict[str, float]
    """By group of families, by how much more (as a share) would have been served before the throttle."""
    worst: tuple[float, str]
    """The same for the family that misses it most."""
    accused: int
    """Honest account-days throttled, more or fewer."""
    highest: float
    """The most that would have spoken against an honest account."""


class Report(msgspec.Struct, frozen=True):
    """The arena's report. The same plan gives the same bytes: it holds no clock and no speed."""

    seeds: list[int]
    without: list[str]
    dropped: list[str]
    policy: str
    model: str
    simulated: str
    recorded: str | None
    reliability: list[Bin]
    prior: float
    """The probability of an attack that every score begins with."""
    ablations: list[Ablation]
    away: list[Away]
    traits: list[Missed]
    campaigns: list[Hunted]
    crowds: list[Gathered]
    watchers: dict[str, Watched]


def report(plan: Plan, results: Iterable[Played]) -> Report:
    """Add up everything that was played."""
    policy = Policy.load(plan.policy)
    played = list(results)
    return Report(
        seeds=list(plan.seeds),
        without=list(plan.without),
        dropped=list(plan.dropped),
        policy=policy.version,
        model=VERSION,
        simulated=SIMULATED,
        recorded=" ".join((RECORDED,) * bool(plan.traces) + (RUN,) * bool(plan.tools)) or None,
        reliability=_reliability(played),
        traits=missed(played) if plan.traits else [],
        campaigns=hunted(played),
        crowds=gathered(played),
        watchers={
            name: _watched(name, played, policy.budget)
            for name in (WATCHERS[:1] if plan.ablations or plan.away or plan.traits else WATCHERS)
        },
        prior=float(1.0 / (1.0 + np.exp(-PRIOR))),
        away=[_away(group, fields, played, policy.budget) for group, fields in (GROUPS if plan.away else {}).items()],
        ablations=[_ablation(name, played, policy.budget) for name in (NAMES if plan.ablations else ())],
    )


def _ablation(name: str, played: Sequence[Played], budget: Budget) -> Ablation:
    whole, without = (_watched(watcher, played, budget) for watcher in (OWN, name))
    return Ablation(
        name,
        {
            group.family: group.before["throttle"] - was.before["throttle"]
            for group, was in zip(without.groups, whole.groups, strict=True)
        },
        max(
            (
                (family.before["throttle"] - was.before["throttle"], family.family)
                for family, was in zip(without.families, whole.families, strict=True)
            ),
            default=(0.0, ""),
        ),
        without.all_honest.acted["throttle"] - whole.all_honest.acted["throttle"],
        without.all_honest.highest,
    )


def _away(group: str, fields: tuple[str, ...], played: Sequence[Played], budget: Budget) -> Away:
    seen = _watched(watcher_name(group), played, budget)
    served = {family.family: family.before["throttle"] for family in seen.families}
    return Away(group, fields, served, seen.all_honest.acted["throttle"])


def _reliability(played: Sequence[Played]) -> list[Bin]:
    """Account-days by the highest score of each, and how many were an attacker's. Bystanders and licensed accounts
    count in none; accounts of extraction size count."""
    found: list[tuple[float, bool]] = []
    for job, accounts, truth, _ in played:
        for account, met in accounts[WATCHERS[0]].items():
            label, kind = truth[account]
            if kind != EXEMPT_KIND and (label == "attack" or job.kind not in BESIDE):
                found += [(score, label == "attack") for score in met.scores.values() if score > 0]
    scores, attacks = (np.array(column) for column in zip(*found, strict=True)) if found else (np.zeros(0),) * 2
    bins = []
    for low, high in pairwise(SCORES):
        inside = (scores >= low) & (scores < high)
        count = int(np.count_nonzero(inside))
        mean = float(scores[inside].mean()) if count else 0.0
        bins.append(Bin(low, min(high, 1.0), count, int(np.count_nonzero(attacks[inside])), mean))
    return bins


def _watched(name: str, played: Sequence[Played], budget: Budget) -> Watched:
    attacks: dict[str, list[Met]] = defaultdict(list)
    kinds: dict[tuple[str, str], dict[str, Met]] = defaultdict(dict)
    large: dict[str, Met] = {}
    bystanders = set()
    for job, accounts, truth, _ in played:
        for account, met in accounts[name].items():
            label, kind = truth[account]
            number = f"{job.seed} {job.name} {account}"
            if label == "attack":
                attacks[kind].append(met)
            elif label == "crowd":
                continue
            elif job.kind in BESIDE:
                bystanders |= {(job.seed, account)} if met.height >= THROTTLE else set()
            elif kind != EXEMPT_KIND and of_extraction_size(met, budget):
                large[number] = met
            else:
                kinds[label, kind][number] = met
    groups: dict[str, list[Met]] = defaultdict(list)
    for family, accounts_ in attacks.items():
        groups[_group(family, accounts_)] += accounts_
    everyone = {
        number: met
        for (_, kind), accounts_ in kinds.items()
        if kind != EXEMPT_KIND
        for number, met in accounts_.items()
    }
    return Watched(
        families=[_family(family, _group(family, accounts_), accounts_) for family, accounts_ in attacks.items()],
        groups=[_family(group, group, accounts_) for group, accounts_ in groups.items()],
        bystanders=len(bystanders),
        honest=[_honest(kind, label, accounts_) for (label, kind), accounts_ in sorted(kinds.items())],
        all_honest=_honest("all", "honest and lookalike", everyone),
        large=_honest("extraction size", "honest and lookalike", large),
        curves={
            group: _curve(THRESHOLDS.get(name, ()), accounts_, everyone)
            for group, accounts_ in groups.items()
            if group != "replaced accounts"
        },
    )


def of_extraction_size(met: Met, budget: Budget) -> bool:
    """Whether what an account was served is a whole budget, in any unit."""
    return met.sent >= budget.requests or met.output >= budget.output_tokens or met.reasoning >= budget.reasoning_tokens


def _group(family: str, accounts: Sequence[Met]) -> str:
    if family in FAMILIES and FAMILIES[family].replacements:
        return "replaced accounts"
    if max(met.sent for met in accounts) > LOUD:
        return "loud accounts"
    return "many accounts" if len(accounts) >= MANY else "few quiet accounts"


def _family(family: str, group: str, accounts: Sequence[Met]) -> Family:
    heights = {action: height for height, action in enumerate(LADDER, 1)}
    shares = {action: share_before(accounts, height) for action, height in heights.items()}
    return Family(
        family=family,
        group=group,
        accounts=len(accounts),
        requests=sum(met.sent for met in accounts),
        reasoning_tokens=sum(met.reasoning for met in accounts),
        largest=max(met.sent for met in accounts),
        before={action: share for action, (share, _) in shares.items()},
        reasoning_before={action: share for action, (_, share) in shares.items()},
        hours={action: median_hours(accounts, height) for action, height in heights.items()},
        acted={action: sum(met.height >= height for met in accounts) for action, height in heights.items()},
    )


def _honest(kind: str, label: str, accounts: Mapping[str, Met]) -> Honest:
    heights = {action: height for height, action in enumerate(LADDER, 1)}
    rates = {}
    for action, height in heights.items():
        found = interval(*days_at(accounts, height))
        rates[action] = Rate(found.acted, found.trials, PER * found.rate, PER * found.low, PER * found.high)
    acted = {action: sum(met.height >= height for met in accounts.values()) for action, height in heights.items()}
    highest = max((strength for met in accounts.values() for strength, _ in met.rises), default=0.0)
    return Honest(kind, label, len(accounts), round(highest, 4), acted, rates)


def _curve(thresholds: Sequence[float], attack: Sequence[Met], honest: Mapping[str, Met]) -> list[Point]:
    days = sum(len(met.days) for met in honest.values())
    strongest = np.array([strength for met in honest.values() for strength in met.strongest.values()])
    wanted = sum(met.sent for met in attack)
    return [
        Point(
            threshold,
            PER * int(np.count_nonzero(strongest >= threshold)) / max(days, 1),
            sum(met.served_below(threshold) for met in attack) / max(wanted, 1),
        )
        for threshold in thresholds
    ]


def encoded(found: Report) -> bytes:
    """The report as indented JSON, keys sorted."""
    return msgspec.json.format(msgspec.json.encode(found, order="sorted"), indent=2) + b"\n"


def families_table(found: Report) -> RichTable:
    """Families: what was served before each rung of ours, and before the throttle of the baselines."""
    ours, *others = found.watchers.values()
    table = RichTable(title="What a campaign got, of all that it asked for", title_justify="left")
    table.add_column("family", min_width=17, overflow="fold")
    columns = ("accounts", "requests", "largest", *(f"before {rung}" for rung in SHOWN), "tokens before throttle")
    for column in (
        *columns,
        "hours to throttle",
        "throttled",
        *(f"before {name}" for name in list(found.watchers)[1:]),
    ):
        table.add_column(column, justify="right")
    for group in ours.groups:
        inside = [position for position, family in enumerate(ours.families) if family.group == group.family]
        for family in (group, *(ours.families[position] for position in inside)):
            whole = family is group
            rivals = []
            for other in others:
                rows = other.groups if whole else other.families
                rivals.append(next((row.before["throttle"] for row in rows if row.family == family.family), None))
            hours = family.hours["throttle"]
            table.add_row(
                family.family if whole else f"  {family.family}",
                f"{family.accounts:,}",
                f"{family.requests:,}",
                f"{family.largest:,}",
                *(f"{family.before[rung]:.1%}" for rung in SHOWN),
                f"{family.reasoning_before['throttle']:.1%}" if family.reasoning_tokens else "",
                "" if hours is None else f"{hours:.1f}",
                f"{family.acted['throttle']:,}",
                *("" if share is None else f"{share:.1%}" for share in rivals),
                style="bold" if whole else "",
            )
    return table


def honest_table(found: Report) -> RichTable:
    """Honest accounts: account-days acted on by rung, and in 100,000 with a 95 % interval in the last rows."""
    table = RichTable(title="Whom it met wrongly, in account-days", title_justify="left")
    table.add_column("honest accounts", min_width=18)
    for column in (
        "accounts",
        "account-days",
        "highest score",
        *LADDER,
        *(f"throttle: {name}" for name in list(found.watchers)[1:]),
    ):
        table.add_column(column, justify="right")
    ours, *others = found.watchers.values()
    for position, row in enumerate(ours.honest):
        table.add_row(
            row.kind,
            f"{row.accounts:,}",
            f"{row.rates['watch'].account_days:,}",
            f"{row.highest:.2f}",
            *(f"{row.rates[rung].acted:,}" for rung in ACCUSED),
            *(f"{other.honest[position].rates['throttle'].acted:,}" for other in others),
        )
    for row, rivals in (
        (ours.all_honest, [other.all_honest for other in others]),
        (ours.large, [other.large for other in others]),
    ):
        table.add_section()
        table.add_row(
            row.kind,
            f"{row.accounts:,}",
            f"{row.rates['watch'].account_days:,}",
            f"{row.highest:.2f}",
            *(f"{row.rates[rung].acted:,}" for rung in ACCUSED),
            *(f"{rival.rates['throttle'].acted:,}" for rival in rivals),
            style="bold",
        )
        table.add_row(
            "  in 100,000",
            "",
            "",
            "",
            *(_rate(row.rates[rung]) for rung in ACCUSED),
            *(_rate(rival.rates["throttle"]) for rival in rivals),
        )
    return table


def reliability_table(found: Report) -> RichTable:
    """Of the account-days given a score, how many were an attacker's."""
    days = sum(row.account_days for row in found.reliability)
    share = sum(row.attacks for row in found.reliability) / max(days, 1)
    title = (
        f"Whether scores are probabilities (of all account-days here, {share:.1%} are attackers'; "
        f"each score begins at 1 in {1 / found.prior:,.0f})"
    )
    table = RichTable(title=title, title_justify="left")
    for column in ("score from", "to", "account-days", "mean score", "attackers'"):
        table.add_column(column, justify="right")
    for row in found.reliability:
        observed = f"{row.attacks / row.account_days:.1%}" if row.account_days else ""
        table.add_row(f"{row.low:g}", f"{row.high:g}", f"{row.account_days:,}", f"{row.mean:.3f}", observed)
    return table


def ablations_table(found: Report) -> RichTable:
    """What each column of evidence is worth: how much more is served without it, in percentage points."""
    groups = sorted({group for row in found.ablations for group in row.served})
    table = RichTable(title="Without one kind of evidence", title_justify="left")
    table.add_column("without")
    for column in (*groups, "family that misses it most", "points", "honest days throttled", "highest score"):
        table.add_column(column, justify="left" if column.startswith("family") else "right")
    for row in found.ablations:
        table.add_row(
            row.without,
            *(f"{100 * row.served.get(group, 0.0):+.1f}" for group in groups),
            row.worst[1],
            f"{100 * row.worst[0]:+.1f}",
            f"{row.accused:+d}",
            f"{row.highest:.2f}",
        )
    return table


def _rate(rate: Rate) -> str:
    return f"{rate.rate:,.0f} ({rate.low:,.0f}-{rate.high:,.0f})" if rate.account_days else ""
