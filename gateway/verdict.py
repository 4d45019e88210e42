"""Verdict: one message of the enforcement topic."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from .request import Millis, Name

ACTIONS: Final = ("allow", "watch", "throttle", "verify", "degrade", "suspend")
"""Every action, mildest first. A reader that meets another one treats it as `watch`."""

Share = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0)]


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One term of the evidence, in words an affected customer could be shown.

    `weight` is evidence in log-odds; `observed` and `typical` carry the same unit, named in `text`.
    """

    signal: Name
    weight: float
    text: str
    observed: float | None = None
    typical: float | None = None


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What was served to the subject so far: counts, list price in US dollars, share of a viable budget."""

    requests: Amount
    output_tokens: Amount
    reasoning_tokens: Amount
    cost: Amount
    share_of_budget: Amount


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What we decided about one subject. No verdict, an expired one or a silent topic mean: allow.

    `seq` rises by one with each verdict of a subject, so a reader can drop what arrives late. Times are
    milliseconds UTC. `action` is kept as text on purpose: a newer detector may know more actions than its
    readers.
    """

    id: Name
    at: Millis
    seq: Annotated[int, Meta(ge=1)]
    scope: Literal["account", "org", "key", "campaign"]
    value: Name
    action: Name
    score: Share
    scenario: Name | None = None
    reasons: tuple[Reason, ...] = ()
    campaign: Name | None = None
    exposure: Exposure | None = None
    parameters: dict[str, float | str] = {}
    expires_at: Millis
    origin: Literal["detector", "analyst", "shared"] = "detector"
    mode: Literal["enforce", "shadow"] = "enforce"
    policy: Name
    model: Name

    @property
    def subject(self) -> str:
        """The key of this verdict on the enforcement topic: `scope:value`."""
        return f"{self.scope}:{self.value}"
