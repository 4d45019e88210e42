"""Verdict: one message of the enforcement topic."""

from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

from .request import Millis, Name

Action = Literal["allow", "watch", "throttle", "verify", "degrade", "suspend"]

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
"""Every action, mildest first. A reader that meets another one treats it as `watch`."""

Share = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0)]

LONGEST_NAME: Final = 64
"""Characters of a parameter's name."""

Parameters = dict[Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)], float | str]


class UnreadableVerdictError(ValueError):
    """A message of the enforcement topic that is no Verdict. A guard skips it: no verdict means allow."""


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One term of the evidence, in words an affected customer could be shown."""

    signal: Annotated[Name, Meta(description="The signal or detector that speaks, by name.")]
    weight: Annotated[float, Meta(description="Its evidence in log-odds; negative speaks for the subject.")]
    text: Annotated[str, Meta(description="The reason in one sentence, with its unit.")]
    observed: Annotated[float | None, Meta(description="What was seen, in the unit named in text.")] = None
    typical: Annotated[float | None, Meta(description="What peers show, in the same unit.")] = None


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What was served to the subject so far."""

    requests: Annotated[Amount, Meta(description="Requests served.")]
    output_tokens: Annotated[Amount, Meta(description="Tokens written, reasoning included.")]
    reasoning_tokens: Annotated[Amount, Meta(description="Tokens written as reasoning.")]
    cost: Annotated[Amount, Meta(description="List price of what was served, in US dollars.")]
    share_of_budget: Annotated[Amount, Meta(description="Share of what a viable extraction would need; 1 is all.")]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What we decided about one subject. No verdict, an expired one or a silent topic mean: allow.

    Times are milliseconds UTC. `action` is kept as text on purpose: a newer detector may know more actions
    than its readers.
    """

    id: Annotated[Name, Meta(description="Names this verdict.")]
    at: Annotated[Millis, Meta(description="When it was decided: ms UTC, in the time of the requests.")]
    seq: Annotated[
        int,
        Meta(ge=1, le=2**53, description="Rises by one with each verdict of a subject: drop what comes late."),
    ]
    scope: Annotated[
        Literal["account", "org", "key", "campaign"], Meta(description="What kind of subject it speaks of.")
    ]
    value: Annotated[Name, Meta(description="Which one: the account, org, key or campaign.")]
    action: Annotated[
        Name,
        Meta(
            description="allow, watch, throttle, verify, degrade or suspend; another counts as watch.",
            examples=list(ACTIONS),
        ),
    ]
    score: Annotated[Share, Meta(description="Probability of an attack, from 0 to 1.")]
    scenario: Annotated[Name | None, Meta(description="The kind of attack it looks like, if known.")] = None
    reasons: Annotated[tuple[Reason, ...], Meta(description="The evidence, strongest first.")] = ()
    campaign: Annotated[Name | None, Meta(description="The campaign the subject belongs to.")] = None
    exposure: Annotated[Exposure | None, Meta(description="What was served to it so far.")] = None
    parameters: Annotated[
        Parameters, Meta(description="What the action needs, such as rpm: the requests a minute left.")
    ] = {}
    expires_at: Annotated[Millis, Meta(description="From then on the verdict no longer holds: ms UTC.")]
    origin: Annotated[
        Literal["detector", "analyst", "shared"], Meta(description="Who decided: we, a person, another site.")
    ] = "detector"
    mode: Annotated[Literal["enforce", "shadow"], Meta(description="shadow: only what would happen; do nothing.")] = (
        "enforce"
    )
    policy: Annotated[Name, Meta(description="Version of the policy that decided.")]
    model: Annotated[Name, Meta(description="Version of the models that scored.")]

    @property
    def subject(self) -> str:
        """The key of this verdict on the enforcement topic: `scope:value`."""
        return f"{self.scope}:{self.value}"

    @property
    def effective_action(self) -> Action:
        """`action` where this reader knows it, else `watch`: never act on what one does not understand."""
        return self.action if self.action in ACTIONS else "watch"


_decoder: Final = msgspec.json.Decoder(Verdict)
_encoder: Final = msgspec.json.Encoder(order="deterministic")


def decode(raw: bytes) -> Verdict:
    """Reads one message; unknown fields are ignored. Raises UnreadableVerdictError saying what is wrong."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableVerdictError(f"not a verdict: {error}") from error


def encode(verdict: Verdict) -> bytes:
    """The message as bytes, the same for equal verdicts on every machine (where ints do not stand for floats)."""
    return _encoder.encode(verdict)
