"""Watchers: the detector, and what a platform has without one, all fed with the same records."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
import numpy as np

from models import score as scoring
from models.detector import FloatMatrix, FloatVector, IntVector
from models.ensemble import Ensemble
from models.signals import TermIndices
from sinks.policy import Policy

from ..batch import Batch, Record, read
from ..campaigns import Campaigns
from ..features import Features, features
from ..ladder import THROTTLE
from ..pipeline import Pipeline
from ..profiles import Block
from ..replay import Recorded
from .baselines import FixedRules, RateLimit
from .judge import LADDER, Act
from .membership import Membership


class Seen(NamedTuple):
    """What a watcher made of a batch: its acts, how much speaks against each account of the batch, and the probability
    it gives each of being an attacker, where it gives one."""

    acts: Sequence[Act]
    strengths: FloatVector
    scores: FloatVector | None = None


class Watcher(Protocol):
    """Anything that takes batches of records and acts on accounts."""

    def watch(self, records: Sequence[Record], accounts: Sequence[str]) -> Seen:
        """Take a batch; `accounts` names each account in it once, and gives the order of `strengths`."""
        ...


class Ablated(Pipeline):
    """The pipeline with some columns of evidence (`models.score.NAMES`) always taken for zero."""

    def __init__(self, policy: Policy, dropped: Sequence[str], detector: Ensemble | None = None) -> None:
        super().__init__(policy, detector=detector)
        self._dropped = [scoring.NAMES.index(name) for name in dropped]

    def _score(self, block: Block, found: Features, tail: FloatVector) -> TermIndices:
        terms = super()._score(block, found, tail)
        block["evidence"][:, self._dropped] = 0.0
        block["score"] = scoring.score(block["evidence"].astype(np.float64))
        return terms


class Stillwatch:
    """The pipeline that runs in production. What speaks against an account is its score, raised by what its haste eases
    for the throttle, where the other conditions of the throttle (kinds of evidence, requests or share of the budget)
    are met, and else 0."""

    def __init__(self, policy: Policy, dropped: Sequence[str] = (), *, detector: Ensemble | None = None) -> None:
        # Half of what is played here is an attack: in no such hour would anybody want to go on.
        policy = msgspec.structs.replace(policy, brake=None)
        self.pipeline = Ablated(policy, dropped, detector) if dropped else Pipeline(policy, detector=detector)
        self.campaigns = Campaigns(policy)
        self.membership = Membership()
        self.sightings: bytes | None = None
        """What was told to the campaign agent of the last batch."""
        self.haste = np.zeros(0)
        """Of the accounts of the last batch."""

    def watch(self, records: Sequence[Record], accounts: Sequence[str]) -> Seen:
        pipeline = self.pipeline
        outcome = pipeline.process(records)
        decisions = outcome.decisions
        self.sightings = outcome.sightings
        if outcome.sightings is not None:
            found = self.campaigns.process([Recorded(None, outcome.sightings, 0)])
            self.membership.hear(found)
            decisions += pipeline.stand(found.standings)
        acts = [
            Act(verdict.value, LADDER.index(verdict.action) + 1, verdict.at)
            for verdict in (decision.verdict for decision in decisions)
            if verdict.action != "allow"
        ]
        block = pipeline.profiles.table[pipeline.profiles.rows(accounts)]
        self.haste = pipeline.haste(block, features(block))
        scores = block["score"].astype(np.float64)
        strengths = _strengths(pipeline.policy, block, block["evidence"], scores, self.haste)
        # Members of a campaign meet what it earned, whatever their own evidence is.
        strengths = np.where(block["rung"] >= THROTTLE, np.maximum(strengths, scores), strengths)
        return Seen(acts, strengths, scores)


def _strengths(
    policy: Policy, block: Block, evidence: FloatMatrix, scores: FloatVector, haste: FloatVector
) -> FloatVector:
    throttle = next(rung for rung in policy.rungs if rung.action == "throttle")
    requests, _, output, reasoning, _ = block["totals"].T
    floor = requests >= throttle.requests
    if throttle.share is not None:
        floor |= policy.share_of_budget(requests, output, reasoning) >= throttle.share
    met = floor & (scoring.kinds(evidence) >= throttle.kinds)
    with np.errstate(divide="ignore"):
        odds = scores / (1.0 - scores) * np.exp(throttle.haste * haste)
    return np.where(met, 1.0 - 1.0 / (1.0 + odds), 0.0)


class Without:
    """What the detector would have decided on an account's own evidence, without one column of it or with all.

    Read off the detector's profiles after it took the same batch: exact as long as no verdict changes what is sent.
    Campaigns and what people said count for nothing here.
    """

    def __init__(self, detector: Stillwatch, name: str | None) -> None:
        self._detector = detector
        self._columns = [scoring.NAMES.index(name)] if name else []
        self._rungs: dict[str, int] = {}

    def watch(self, records: Sequence[Record], accounts: Sequence[str]) -> Seen:  # noqa: ARG002
        pipeline, haste = self._detector.pipeline, self._detector.haste
        policy, block = pipeline.policy, pipeline.profiles.table[pipeline.profiles.rows(accounts)]
        evidence = block["evidence"].astype(np.float64)
        evidence[:, self._columns] = 0.0
        judged = block["score"] > 0
        scores = np.where(judged, scoring.score(evidence), 0.0)
        requests, _, output, reasoning, _ = block["totals"].T
        at = block["at"].tolist()
        earned = policy.rungs_for(
            scores, requests, scoring.kinds(evidence), policy.share_of_budget(requests, output, reasoning),
            np.array([self._rungs.get(account, 0) for account in accounts], np.int8),
            np.array([policy.exempts("account", *one) for one in zip(accounts, at, strict=True)]), None, haste,
        )  # fmt: skip
        acts = []
        for account, rung, now in zip(accounts, earned.tolist(), at, strict=True):
            self._rungs[account] = rung
            if rung:
                acts.append(Act(account, rung, now))
        return Seen(acts, _strengths(policy, block, evidence, scores, haste), scores)


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

OWN: Final = "own evidence"
"""The detector that decides on an account's own evidence: what ablations are compared with."""


def watchers(policy: Policy, dropped: Sequence[str] = (), *, ablations: bool = False) -> dict[str, Watcher]:
    """New watchers by name; `dropped` are columns of evidence that the detector goes without.

    The first is the detector. The others are the baselines, or with `ablations` the detector without each column.
    """
    detector = Stillwatch(policy, dropped)
    if ablations:
        without = {name: Without(detector, name) for name in scoring.NAMES}
        return {WATCHERS[0]: detector, OWN: Without(detector, None), **without}
    return {WATCHERS[0]: detector, "rate limit": Baseline(RateLimit()), "fixed rules": Baseline(FixedRules())}
