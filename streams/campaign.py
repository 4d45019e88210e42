"""Campaign: one campaign as it stands, and what is said of it: verdict, alert and reasons."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import numpy as np

from gateway.verdict import Exposure, Reason, Verdict
from models import campaign as weighing
from models.detector import FloatVector
from models.manner import Manner
from sinks.alerts import Alert, alert
from sinks.policy import Policy

from .typical import REASON_FROM, REASONS_SHOWN, Amount, rounded


class Shared(msgspec.Struct, frozen=True):
    """One trait that the members share: its kind and hash, the share of members and of the background that has it."""

    kind: str
    trait: int
    share: float
    background: float


class Campaign(msgspec.Struct):
    """One campaign as it stands. Times are ms UTC."""

    id: str
    found_at: int
    at: int
    score: float = 0.0
    kinds: int = 0
    members: int = 0
    exposure: Exposure = Exposure(requests=0, output_tokens=0, reasoning_tokens=0, cost=0, share_of_budget=0)
    rung: int = 0
    until: int = 0
    seq: int = 0
    scenario: str | None = None
    reasons: tuple[Reason, ...] = ()
    shared: tuple[Shared, ...] = ()
    alerted_members: int = 0
    rates: tuple[float, float] | None = None
    """How much its accounts' rates varied (most, least) when it was first held back: afterwards accounts that are held
    back, left and replaced differ through us, which says nothing of the campaign."""
    manner: Manner | None = None
    """How its accounts asked when they were first held back, for the same reason; None before that."""

    @property
    def number(self) -> int:
        """Its name as acquaintances hold it."""
        return int(self.id[1:], 16)


class Member(NamedTuple):
    """One account of a campaign: how likely it belongs, and what it was served since when (ms UTC)."""

    account: str
    belonging: float
    requests: float
    first_at: int


def verdict_on(campaign: Campaign, policy: Policy) -> Verdict:
    """The verdict that its rung stands for; an allowance where it is on none."""
    ruling = policy.rulings[campaign.rung]
    at = campaign.until - ruling.seconds * 1000 if campaign.rung else campaign.at
    return Verdict(
        id=blake2b(f"campaign:{campaign.id}:{campaign.seq}:{at}".encode(), digest_size=8).hexdigest(),
        at=at,
        seq=campaign.seq,
        scope="campaign",
        value=campaign.id,
        action=ruling.action,
        score=campaign.score,
        scenario=campaign.scenario if campaign.rung else None,
        reasons=campaign.reasons if campaign.rung else (),
        campaign=campaign.id,
        exposure=campaign.exposure,
        parameters=ruling.parameters,
        expires_at=campaign.until if campaign.rung else at,
        mode=ruling.mode,
        policy=policy.version,
        model=weighing.VERSION,
    )


def alert_of(campaign: Campaign, some_members: Sequence[str], policy: Policy) -> Alert:
    """That it was found, or has doubled: its size, what it was served, and what its members share."""
    return alert(
        "campaign_found",
        f"campaign:{campaign.id}",
        campaign.at,
        f"{campaign.members} accounts behave as one; they were served {campaign.exposure.requests:,.0f} requests",
        details={
            "score": campaign.score,
            "action": policy.rulings[campaign.rung].action,
            "members": float(campaign.members),
            "members_before": float(campaign.alerted_members),
            "some_members": list(some_members),
            "requests": campaign.exposure.requests,
            "output_tokens": campaign.exposure.output_tokens,
            "share_of_budget": campaign.exposure.share_of_budget,
            "traits": [
                f"{s.kind}: {s.share:.0%} of members, {s.background:.2%} of others" for s in campaign.shared[:8]
            ],
            "reasons": [reason.text for reason in campaign.reasons],
        },
    )


def reasons(weights: FloatVector, terms: list[str | None], values: dict[str, float]) -> Iterable[Reason]:
    """What speaks for an attack, the heaviest first: `weights` and `terms` of each signal, and its features' values."""
    for column in np.argsort(-weights, kind="stable")[:REASONS_SHOWN].tolist():
        term = terms[column]
        if weights[column] < REASON_FROM or term is None:
            return
        observed = float(np.exp(values[term])) if term == "rarity" else values[term]
        typical = values[weighing.TYPICAL[term]] if term in weighing.TYPICAL else None
        text = weighing.WORDS[term].format(observed=Amount(observed), typical=Amount(typical or 0.0))
        name = list(weighing.SIGNALS)[column]
        yield Reason(
            signal=name,
            weight=round(float(weights[column]), 3),
            text=text,
            observed=rounded(observed),
            typical=None if typical is None else rounded(typical),
        )
