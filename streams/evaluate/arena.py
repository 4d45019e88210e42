"""Arena: every family and every honest account in front of every watcher, on as many processes as there are cores."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import msgspec

from models.score import NAMES
from sinks.policy import Policy
from sinks.rules import Exempt

from ..simulate.accounts import DAY_MS, Account, Label
from ..simulate.crowds import CROWDS, crowded
from ..simulate.families import FAMILIES, campaigns
from ..simulate.lookalikes import lookalikes
from ..simulate.prompts import Prompts
from ..simulate.stream import MONDAY, Stream, crowd
from ..simulate.traces import recorded
from .away import blind
from .hydra import Campaign
from .kinds import overhearing
from .membership import Membership
from .play import Backdrop, Strip, Table, batches, merged, sent, stripped
from .played import Job, Played
from .tools import moved, recordings_in, tool_name
from .watchers import WATCHERS, Stillwatch, watchers

EXEMPT_KIND: Final = "licensed"
"""Lookalikes that the arena's policy exempts."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is played. The same plan gives the same report.

    Each family meets the same `backdrop` of honest accounts for `days` days and begins after `calm` of them. Honest
    accounts are judged apart, without attacks, in `parts` streams of `crowd` accounts and `each` of every lookalike
    over `honest_days` days. Families that have an end of their own, and honest crowds, are met by `wide` accounts, for
    `wide_days` and `crowd_days`.
    """

    seeds: tuple[int, ...] = (1,)
    families: tuple[str, ...] = tuple(FAMILIES)
    crowds: tuple[str, ...] = tuple(CROWDS)
    days: float = 5.0
    calm: float = 2.0
    backdrop: int = 150
    wide: int = 300
    wide_days: float = 14.0
    crowd_days: float = 7.0
    parts: int = 2
    crowd: int = 250
    each: int = 2
    honest_days: float = 14.0
    traces: Path | None = None
    tools: Path | None = None
    """Folder of requests recorded where a tool was run (see `tools`); each file is an attack."""
    without: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    ablations: bool = False
    """Whether the detector is accompanied by itself without each column of evidence, instead of the baselines."""
    away: bool = False
    """Whether it is accompanied by itself without each group of fields (`away.GROUPS`), instead of the baselines."""
    traits: bool = False
    """Whether it is accompanied by campaign agents without each kind of trait (`kinds.TAKEN`), instead of the
    baselines. Then nobody is replaced."""
    policy: Path | None = None
    """Policy file; None: the packaged one."""

    def __post_init__(self) -> None:
        stripped(self.without)
        if self.ablations + self.away + self.traits > 1:
            raise ValueError("evidence, fields and traits are taken away in runs of their own")
        for kind, names, known in (
            ("family", self.families, FAMILIES), ("crowd", self.crowds, CROWDS), ("evidence", self.dropped, NAMES),
        ):  # fmt: skip
            for name in names:
                if name not in known:
                    raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(known)}")


def jobs(plan: Plan) -> list[Job]:
    """Everything to play, the longest first."""
    found = [Job("recorded", seed, str(plan.traces)) for seed in plan.seeds if plan.traces]
    found += [Job("honest", seed, f"part {part}") for seed in plan.seeds for part in range(plan.parts)]
    found += [Job("tool", seed, str(path)) for seed in plan.seeds if plan.tools for path in recordings_in(plan.tools)]
    found += [Job("family", seed, name) for seed in plan.seeds for name in plan.families]
    return found + [Job("crowd", seed, name) for seed in plan.seeds for name in plan.crowds]


def evaluate(plan: Plan, *, processes: int = 1, done: Callable[[Job], None] = lambda _: None) -> Iterator[Played]:
    """Play everything. `done` is told each job as it ends; results come in the order of `jobs`."""
    todo = jobs(plan)
    if processes == 1:
        for job in todo:
            yield play(plan, job)
            done(job)
        return
    # Spawned, so that no process inherits the threads of another one.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(play, plan, job): job for job in todo}
        for future in as_completed(futures):
            future.result()
            done(futures[future])
        yield from (future.result() for future in futures)


def play(plan: Plan, job: Job) -> Played:
    """Play one job."""
    strip = stripped(plan.without)
    if job.kind == "family":
        return _family(plan, job, strip)
    if job.kind == "crowd":
        return _crowd(plan, job, strip)
    if job.kind == "tool":
        return _tool(plan, job, strip)
    stream = recorded(Path(job.name), job.seed) if job.kind == "recorded" else _honest(plan, job)
    tables = _tables(plan, stream.labels)
    for batch in batches(sent(request, strip) for request in stream):
        for table in tables.values():
            table.take(batch)
    return _played(job, tables, {label.account: _truth(label) for label in stream.labels})


def _honest(plan: Plan, job: Job) -> Stream:
    part = int(job.name.rpartition(" ")[2])
    end_at = MONDAY + int(plan.honest_days * DAY_MS)
    # Not the accounts of the backdrop, and others in every part.
    first = plan.backdrop + part * plan.crowd
    prompts = Prompts(job.seed)
    accounts = list(crowd(job.seed, MONDAY, end_at, prompts, range(first, first + plan.crowd)))
    accounts += lookalikes(1_000 * job.seed + part, plan.each, MONDAY, end_at, prompts)
    return Stream(accounts, prompts, MONDAY, end_at)


def _family(plan: Plan, job: Job, strip: Strip) -> Played:
    scenario = FAMILIES[job.name]
    if plan.traits:
        scenario = scenario._replace(replacements=0)
    wide = scenario.days is not None
    backdrop, warm = _calm(plan, job.seed, wide=wide)
    # All in one copy: a watcher may look at another one.
    tables = deepcopy(warm)
    truth = {label.account: _truth(label) for label in backdrop.labels}
    # Where the campaign answers to verdicts, every watcher has its own; else one will do for all.
    together = not scenario.replacements or plan.ablations or plan.away
    apart = [list(tables.values())] if together else [[table] for table in tables.values()]
    end_at = MONDAY + int((plan.wide_days if wide else plan.days) * DAY_MS)
    for group in apart:
        prompts = Prompts(job.seed)
        accounts = campaigns([job.name], job.seed, MONDAY, end_at, prompts, _begins_at(plan))
        campaign = Campaign(Stream(accounts, prompts, MONDAY, end_at), job.seed, strip, scenario)
        for batch in batches(merged(backdrop, _begins_at(plan), end_at, campaign.against(group[0].ledger))):
            for table in group:
                table.take(batch)
        truth.update({account: ("attack", family) for account, family in campaign.names.items()})
    return _played(job, tables, truth)


def _crowd(plan: Plan, job: Job, strip: Strip) -> Played:
    backdrop, warm = _calm(plan, job.seed, wide=True)
    tables = deepcopy(warm)
    truth = {label.account: _truth(label) for label in backdrop.labels}
    end_at = MONDAY + int(plan.crowd_days * DAY_MS)
    prompts = Prompts(job.seed)
    accounts = crowded(job.name, job.seed, _begins_at(plan), end_at, prompts)
    together = (sent(request, strip) for request in Stream(accounts, prompts, _begins_at(plan), end_at))
    for batch in batches(merged(backdrop, _begins_at(plan), end_at, together)):
        for table in tables.values():
            table.take(batch)
    truth.update({account.label.account: ("crowd", job.name) for account in accounts})
    return _played(job, tables, truth)


def _tool(plan: Plan, job: Job, strip: Strip) -> Played:
    backdrop, warm = _calm(plan, job.seed, wide=False)
    tables = deepcopy(warm)
    truth = {label.account: _truth(label) for label in backdrop.labels}
    begins_at, end_at = _begins_at(plan), MONDAY + int(plan.days * DAY_MS)
    requests = list(moved(Path(job.name), begins_at, end_at))
    for batch in batches(merged(backdrop, begins_at, end_at, (sent(request, strip) for request in requests))):
        for table in tables.values():
            table.take(batch)
    truth.update({request.account: ("attack", f"tool {tool_name(Path(job.name))}") for request in requests})
    return _played(job, tables, truth)


def _begins_at(plan: Plan) -> int:
    return MONDAY + int(plan.calm * DAY_MS)


@lru_cache(maxsize=2)
def _calm(plan: Plan, seed: int, *, wide: bool) -> tuple[Backdrop, dict[str, Table]]:
    """The backdrop, and watchers that have seen the days before attacks begin: the same for every family."""
    end_at = MONDAY + int((max(plan.wide_days, plan.crowd_days) if wide else plan.days) * DAY_MS)
    prompts = Prompts(seed)
    accounts: list[Account] = list(crowd(seed, MONDAY, end_at, prompts, range(plan.wide if wide else plan.backdrop)))
    backdrop = Backdrop.of(Stream(accounts, prompts, MONDAY, end_at), stripped(plan.without))
    tables = _tables(plan, backdrop.labels)
    calm = backdrop.requests[: backdrop.before(_begins_at(plan))]
    for batch in batches(calm):
        for table in tables.values():
            table.take(batch)
    return backdrop, tables


def _tables(plan: Plan, labels: Sequence[Label]) -> dict[str, Table]:
    policy = exempting(Policy.load(plan.policy), labels)
    playing = watchers(policy, plan.dropped, ablations=plan.ablations)
    detector = playing[WATCHERS[0]]
    if plan.traits and isinstance(detector, Stillwatch):
        playing = {WATCHERS[0]: detector, **overhearing(detector)}
    if plan.away:
        playing = {WATCHERS[0]: playing[WATCHERS[0]], **blind(policy, plan.dropped)}
    return {name: Table(watcher) for name, watcher in playing.items()}


def exempting(policy: Policy, labels: Iterable[Label]) -> Policy:
    """The policy, with those of some accounts exempt that are licensed."""
    licensed = [Exempt(scope="account", value=label.account) for label in labels if label.kind == EXEMPT_KIND]
    return msgspec.structs.replace(policy, exempt=(*policy.exempt, *licensed))


def _truth(label: Label) -> tuple[str, str]:
    return (label.label, f"recorded {label.scenario}") if label.label == "attack" else (label.label, label.kind)


def _played(job: Job, tables: Mapping[str, Table], truth: Mapping[str, tuple[str, str]]) -> Played:
    ours = tables[WATCHERS[0]].watcher
    membership = ours.membership if isinstance(ours, Stillwatch) else Membership()
    return Played(job, {name: table.ledger.accounts for name, table in tables.items()}, truth, membership)
