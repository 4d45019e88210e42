"""Trust: for which accounts people have spoken, as of their newest request."""

from models.detector import BoolVector
from sinks.policy import Policy
from sinks.rules import Trust

from .profiles import Block, moment

DAY_MS = 86_400_000


def verified(block: Block, policy: Policy) -> BoolVector:
    """Which have shown who they are, as long as the policy lets that count."""
    return _within(block, "verified_at", policy.feedback.verified)


def cleared(block: Block, policy: Policy) -> BoolVector:
    """Which were called a false alarm, as long as the policy lets that count."""
    return _within(block, "cleared_at", policy.feedback.cleared)


def licensed(block: Block) -> BoolVector:
    """Which may do as they do."""
    may: BoolVector = moment(block, "licensed_until") > block["at"]
    return may


def unverified(block: Block, policy: Policy) -> BoolVector:
    """Which nobody vouches for: neither verified nor licensed."""
    return ~(verified(block, policy) | licensed(block))


def _within(block: Block, name: str, trust: Trust | None) -> BoolVector:
    days = 0.0 if trust is None else trust.days
    within: BoolVector = (block[name] > 0) & (block["at"] - moment(block, name) < days * DAY_MS)
    return within
