"""Explanation: why a verdict was given, and what would have kept it from being given."""

from collections.abc import Iterator
from math import exp, log
from typing import Final

from gateway.verdict import Exposure, Reason, Verdict

from .policy import Policy
from .rules import Rung

ACTIONS_SAID: Final = {
    "allow": "is free",
    "watch": "is watched, and nothing changes for it",
    "throttle": "may send no more than {rpm:g} requests a minute",
    "verify": "is asked to show who it belongs to",
    "degrade": "gets answers without token probabilities and without raw reasoning",
    "suspend": "gets no answers",
}
"""What each action means for the account, in words it could be shown."""

PACE: Final = "pace"
"""The reason that is no evidence, but lets less evidence do."""


def action_said(verdict: Verdict) -> str:
    """What the verdict means for its subject."""
    words = ACTIONS_SAID.get(verdict.action, f"meets {verdict.action}")
    rate = verdict.parameters.get("rpm")
    if "{rpm" in words:
        return words.format(rpm=float(rate)) if rate is not None else "may send fewer requests than before"
    return words


def served_said(exposure: Exposure) -> str:
    """What was served so far, in one line."""
    return (
        f"{exposure.requests:,.0f} requests, {exposure.output_tokens:,.0f} tokens written, "
        f"{exposure.reasoning_tokens:,.0f} of them as reasoning, ${exposure.cost:,.2f} at list price, "
        f"{exposure.share_of_budget:.1%} of a viable budget"
    )


def otherwise(verdict: Verdict, policy: Policy) -> Iterator[str]:
    """What would have kept the subject below its rung, each sentence enough by itself.

    Evidence is additive, so taking a term away tells exactly what the score would have been without it, as far as the
    verdict names it. `policy` should be the one that decided.
    """
    rung = next((rung for rung in policy.rungs if rung.action == verdict.action), None)
    if verdict.action == "allow":
        return
    if verdict.origin == "analyst":
        yield "a person decided so: only they, or its end, takes it back"
        return
    if rung is None:
        yield f"the policy {policy.version} has no rung {verdict.action}: another decided"
        return
    pace = sum(reason.weight for reason in verdict.reasons if reason.signal == PACE)
    have, need = _log_odds(verdict.score) + pace, _log_odds(rung.score)
    if verdict.campaign is not None:
        yield f"not belonging to campaign {verdict.campaign}: what a campaign has earned holds for all of its accounts"
        return
    if have < need:
        yield from _held(verdict, rung, policy)
        return
    yield from _without(verdict.reasons, have, need, rung)
    yield from _less_served(verdict.exposure, rung)
    if rung.kinds > 1:
        yield f"fewer than {rung.kinds} independent kinds of evidence: no single one leads there"


def _without(reasons: tuple[Reason, ...], have: float, need: float, rung: Rung) -> Iterator[str]:
    terms = sorted((reason for reason in reasons if reason.weight > 0), key=lambda reason: -reason.weight)
    alone = [reason for reason in terms if have - reason.weight < need]
    for reason in alone:
        yield f"{_absent([reason])}: {_counted(have - reason.weight, rung)}"
    if alone:
        return
    left = have
    for count, reason in enumerate(terms, 1):
        left -= reason.weight
        if left < need:
            yield f"{_absent(terms[:count])}: {_counted(left, rung)}"
            return


def _absent(reasons: list[Reason]) -> str:
    names = [reason.signal for reason in reasons]
    return "without " + (", ".join(names[:-1]) + " and " if names[1:] else "") + names[-1]


def _counted(left: float, rung: Rung) -> str:
    return f"it would have counted as {_probability(left):.2f}, and a {rung.action} begins at {rung.score:g}"


def _less_served(exposure: Exposure | None, rung: Rung) -> Iterator[str]:
    if not rung.requests or exposure is None:
        return
    share = "" if rung.share is None else f" and less than {rung.share:.0%} of a viable budget"
    yield f"fewer than {rung.requests:,} requests{share} served, where it had {exposure.requests:,.0f}"


def _held(verdict: Verdict, rung: Rung, policy: Policy) -> Iterator[str]:
    limit, served = policy.exposure.account, verdict.exposure
    if (
        limit is not None
        and served is not None
        and limit.action == rung.action
        and served.share_of_budget >= limit.share
    ):
        yield (
            f"less than {limit.share:.0%} of a viable budget served, or having shown who it is: accounts that nobody "
            "vouches for are asked from there on"
        )
        return
    yield (
        f"a score below {rung.leave:g} at the end of its time: it came here with a higher score than now, and a rung "
        "holds for its time"
    )


def _log_odds(score: float) -> float:
    # A verdict's score has six digits: beyond them nothing is known.
    kept = min(max(score, 5e-7), 1 - 5e-7)
    return log(kept / (1 - kept))


def _probability(log_odds: float) -> float:
    return 1 / (1 + exp(-log_odds))
