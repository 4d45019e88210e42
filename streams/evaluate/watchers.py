"""Watchers: the detector, and what a platform has without one, all fed with the same records."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np

from models import score as scoring
from models.detector import FloatVector, IntVector
from models.signals import TermIndices
from sinks.policy import Policy

from ..batch import Batch, Record, read
from ..campaigns import Campaigns
from ..features import Features
from ..pipeline import Pipeline
from ..profiles import Block
from ..replay import Recorded
from .baselines import FixedRules, RateLimit
from .judge import LADDER, Act


class Seen(NamedTuple):
    """What a watcher made of a batch: its acts, and how much speaks against each account of the batch."""

    acts: Sequence[Act]
    strengths: FloatVector


class Watcher(Protocol):
    """Anything that takes batches of records and acts on accounts."""

    def watch(self, records: Sequence[Record], accounts: Sequence[str]) -> Seen:
        """Take a batch; `accounts` names each account in it once, and gives the order of `strengths`."""
        ...


class Ablated(Pipeline):
    """The pipeline with some columns of evidence (`models.score.NAMES`) always taken for zero."""

    def __init__(self, policy: Policy, dropped: Sequence[str]) -> None:
        super().__init__(policy)
        self._dropped = [scoring.NAMES.index(name) for name in dropped]

    def _score(self, block: Block, found: Features, tail: FloatVector) -> TermIndices:
        terms = super()._score(block, found, tail)
        block["evidence"][:, self._dropped] = 0.0
        block["score"] = scoring.score(block["evidence"].astype(np.float64))
        return terms


class Stillwatch:
    """The pipeline that runs in production. What speaks against an account is its score, where the other conditions
    of the throttle (kinds of evidence, requests or share of the budget) are met, and else 0."""

    def __init__(self, policy: Policy, dropped: Sequence[str] = ()) -> None:
        self.pipeline = Ablated(policy, dropped) if dropped else Pipeline(policy)
        self.campaigns = Campaigns(policy)
        self._throttle = next(rung for rung in policy.rungs if rung.action == "throttle")

    def watch(self, records: Sequence[Record], accounts: Sequence[str]) -> Seen:
        pipeline = self.pipeline
        outcome = pipeline.process(records)
        decisions = outcome.decisions
        if outcome.sightings is not None:
            found = self.campaigns.process([Recorded(None, outcome.sightings, 0)])
            decisions += pipeline.stand(found.standings)
        acts = [
            Act(verdict.value, LADDER.index(verdict.action) + 1, verdict.at)
            for verdict in (decision.verdict for decision in decisions)
            if verdict.action != "allow"
        ]
        block = pipeline.profiles.table[pipeline.profiles.rows(accounts)]
        requests, _, output, reasoning, _ = block["totals"].T
        share = pipeline.policy.share_of_budget(requests, output, reasoning)
        floor = requests >= self._throttle.requests
        if self._throttle.share is not None:
            floor |= share >= self._throttle.share
        met = floor & (scoring.kinds(block["evidence"]) >= self._throttle.kinds)
        return Seen(acts, np.where(met, block["score"].astype(np.float64), 0.0))


class Rules(Protocol):
    """A baseline: how much speaks against an account after some more of its requests, and the rungs that earns."""

    @property
    def rungs(self) -> Mapping[str, float]: ...

    def weigh(self, batch: Batch, own: IntVector, account: str) -> float: ...


class Baseline:
    """A baseline as a watcher. It announces a rung again with every batch in which the account is above it."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def watch(self, records: Sequence[Record], accounts: Sequence[str]) -> Seen:
        batch, _ = read(records)
        strengths = np.zeros(len(accounts))
        if batch is None:
            return Seen([], strengths)
        positions: dict[str, list[int]] = {account: [] for account in accounts}
        for position, account in enumerate(batch.accounts):
            positions[account].append(position)
        acts = []
        for number, account in enumerate(accounts):
            own = np.array(positions[account])
            strengths[number] = self._rules.weigh(batch, own, account)
            earned = [
                LADDER.index(action) + 1 for action, least in self._rules.rungs.items() if strengths[number] >= least
            ]
            if earned:
                acts.append(Act(account, max(earned), int(batch.at[own[-1]])))
        return Seen(acts, strengths)


WATCHERS: Final = ("stillwatch", "rate limit", "fixed rules")


def watcher(name: str, policy: Policy, dropped: Sequence[str] = ()) -> Watcher:
    """A new watcher, one of WATCHERS; `dropped` are columns of evidence that the detector goes without."""
    if name == "stillwatch":
        return Stillwatch(policy, dropped)
    return Baseline(RateLimit() if name == "rate limit" else FixedRules())
