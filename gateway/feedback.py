"""Feedback: one message of the feedback topic, what people and services tell the detector about a subject.

The key is the bare `value`. An account's feedback thus lies on the partition that its requests lie on, for both topics
have equally many: whoever owns the account's profile hears it, and whoever takes over goes on behind the last offset
that the profile contains. Campaigns' feedback is spread by the campaign's name; whoever holds campaigns reads all
partitions and takes what has the scope `campaign`.

It is an instruction, so it is read strictly: what is not understood in full is not carried out.
"""

import difflib
import re
from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

from .request import EARLIEST_AT, MAX_AHEAD_MS, Millis, Name
from .verdict import ACTIONS

Kind = Literal[
    "confirmed", "false_alarm", "verified", "verification_failed", "licensed", "appeal", "add", "lift", "forget"
]

KINDS: Final[dict[Kind, str]] = {
    "confirmed": "A person looked and found an attack.",
    "false_alarm": "A person looked and found none: all suspicion is wiped out, and the account starts anew.",
    "verified": "The customer has shown who they are: verdicts end, and later ones take more.",
    "verification_failed": "The customer could not show who they are.",
    "licensed": "The customer may do this, until an instant: nothing above watch till then.",
    "appeal": "The customer objects: nothing harsher happens until a person has looked, or some days have gone by.",
    "add": "An operator's own verdict, until an instant.",
    "lift": "An operator ends what is in force and wipes out the suspicion, without saying that it was wrong.",
    "forget": "All that is remembered of the subject is erased: to the detector it is a stranger from then on.",
}
"""Every kind, and what it means."""

Scope = Literal["account", "campaign"]
AddedAction = Literal["watch", "throttle", "verify", "degrade", "suspend"]

MAX_BYTES: Final = 16 * 1024
"""A message longer than this is unreadable."""

REASONS: Final = (
    "not_json",
    "missing_field",
    "unknown_field",
    "wrong_type",
    "out_of_range",
    "too_old",
    "in_future",
    "too_large",
)
"""Every reason for which a message is unreadable."""

_TAKES: Final[dict[str, frozenset[str]]] = {
    "licensed": frozenset({"until"}),
    "add": frozenset({"until", "action"}),
}
"""The fields beside those of all that a kind needs, and that no other kind may have."""


class UnreadableFeedbackError(ValueError):
    """A message of the feedback topic that is no Feedback; `reason` is one of REASONS, the text names the field."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Feedback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What somebody says about one subject. It changes what the detector holds at once, and is kept in the audit.

    Times are milliseconds UTC. Heard twice, it counts once.
    """

    id: Annotated[Name, Meta(description="Names this message; the audit quotes it.")]
    at: Annotated[Millis, Meta(description="When it was said: ms UTC; not before 2020.")]
    scope: Annotated[Scope, Meta(description="What kind of subject it speaks of.")]
    value: Annotated[Name, Meta(description="Which one: the account or campaign; also the key of the Kafka record.")]
    kind: Annotated[
        Kind, Meta(description=" ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items())),
    ]  # fmt: skip
    by: Annotated[Name, Meta(description="Who says so: a person or a service, by name.")]
    reason: Annotated[str, Meta(min_length=1, max_length=1024, description="Why, in a sentence; kept in the audit.")]
    until: Annotated[
        Millis | None, Meta(description="When a licence or an added verdict ends: ms UTC; only these two have it.")
    ] = None
    action: Annotated[AddedAction | None, Meta(description="What an added verdict does; only that has it.")] = None

    @property
    def subject(self) -> str:
        """The key of the subject's verdict on the enforcement topic: `scope:value`."""
        return f"{self.scope}:{self.value}"


_decoder: Final = msgspec.json.Decoder(Feedback)
_encoder: Final = msgspec.json.Encoder()
_lenient: Final = msgspec.json.Decoder(dict[str, object])
_FIELD: Final = re.compile(r" - at `\$\.?([^`]*)`$")
_NAMED: Final = re.compile(r"(?:unknown|required) field `(.*)`")
_ALLOWED: Final[dict[str, tuple[str, ...]]] = {
    "kind": tuple(KINDS),
    "scope": get_args(Scope),
    "action": ACTIONS[1:],
}
_SHOWN: Final = 80


def key(one: Feedback) -> bytes:
    """Key of the Kafka record."""
    return one.value.encode()


def encode(one: Feedback) -> bytes:
    """The message as bytes, the same for equal ones. Raises UnreadableFeedbackError for what no reader would take."""
    _check(one)
    return _encoder.encode(one)


def decode(raw: bytes, broker_at: int = -1) -> Feedback:
    """Read one message. `broker_at` is its record's time (ms); -1 when there was no broker.

    Raises UnreadableFeedbackError, which names the field and what stood there.
    """
    if len(raw) > MAX_BYTES:
        raise UnreadableFeedbackError("too_large", f"{len(raw)} bytes, over the limit of {MAX_BYTES}")
    try:
        one = _decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _explained(raw, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableFeedbackError("not_json", f"not JSON: {error}") from None
    _check(one)
    if 0 <= broker_at < one.at - MAX_AHEAD_MS:
        ahead = (one.at - broker_at) / 1000
        raise UnreadableFeedbackError("in_future", f"at: {ahead:.0f} s ahead of the broker, got {one.at}")
    return one


def _check(one: Feedback) -> None:
    """What is well-formed and yet impossible."""
    if one.at < EARLIEST_AT:
        raise UnreadableFeedbackError("too_old", f"at: before 2020, got {one.at}")
    takes = _TAKES.get(one.kind, frozenset())
    for field in ("until", "action"):
        given = getattr(one, field)
        if given is None and field in takes:
            raise UnreadableFeedbackError("missing_field", f"{field}: missing; {one.kind} needs it")
        if given is not None and field not in takes:
            raise UnreadableFeedbackError("unknown_field", f"{field}: {one.kind} takes none, got {given}")
    if one.until is not None and one.until <= one.at:
        raise UnreadableFeedbackError("out_of_range", f"until: {one.until} is not after at, {one.at}")


def _explained(raw: bytes, message: str) -> UnreadableFeedbackError:
    """msgspec's complaint in our words: the field, what was expected, and what stood there."""
    where = _FIELD.search(message)
    field = where[1] if where else ""
    problem = _FIELD.sub("", message).replace("`", "")
    problem = problem[:1].lower() + problem[1:]
    named = _NAMED.search(message)
    if named and "unknown" in message:
        near = difflib.get_close_matches(named[1], Feedback.__struct_fields__, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return UnreadableFeedbackError("unknown_field", f"{named[1][:_SHOWN]}: unknown field{hint}")
    if named:
        return UnreadableFeedbackError("missing_field", f"{named[1]}: missing")
    if not field:
        return UnreadableFeedbackError("wrong_type", problem)
    try:
        value = _lenient.decode(raw).get(field)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # The typed decoder stopped at a wrong type before it came to what is no JSON.
        return UnreadableFeedbackError("not_json", f"not JSON: {error}")
    shown = ascii(value)[:_SHOWN]
    if problem.startswith("invalid enum"):
        allowed = _ALLOWED[field]
        near = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(allowed)}"
        return UnreadableFeedbackError("out_of_range", f"{field}: unknown {field} {shown}; {hint}")
    # msgspec names the kind that stood there only when the kind is what is wrong.
    expected, wrong_type, _ = problem.partition(", got ")
    return UnreadableFeedbackError("wrong_type" if wrong_type else "out_of_range", f"{field}: {expected}, got {shown}")
