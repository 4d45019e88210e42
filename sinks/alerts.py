"""Alert: one message of the alerts topic, what a person should see."""

from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from gateway.request import Millis, Name

Severity = Literal["info", "warning", "critical"]
"""critical: wake somebody. warning: look at it today. info: worth knowing."""

KindName = Literal["campaign_found", "brake_pulled", "detector_blind", "drift", "strays"]

Label = Annotated[str, Meta(max_length=512)]
LabelName = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]
Detail = str | float | bool | list[str] | None

_HOUR_MS: Final = 3_600_000


class UnreadableAlertError(ValueError):
    """A message of the alerts topic that is no Alert; the message says what is wrong."""


class Kind(NamedTuple):
    """What all alerts of one kind have in common."""

    severity: Severity
    holds_ms: int
    """How long one holds unless it is said again or ended: a publisher that died must not alarm for ever."""
    meaning: str


KINDS: Final[dict[KindName, Kind]] = {
    "campaign_found": Kind("warning", 24 * _HOUR_MS, "Unrelated accounts behave as one and are now held to be one."),
    "brake_pulled": Kind(
        "critical", 2 * _HOUR_MS, "Too many would be stopped at once: the policy fell back to shadow."
    ),
    "detector_blind": Kind("critical", 1 * _HOUR_MS, "Something the detector needs is missing: attacks pass unseen."),
    "drift": Kind("warning", 6 * _HOUR_MS, "The crowd as a whole changed, so what counts as normal no longer fits it."),
    "strays": Kind("warning", 1 * _HOUR_MS, "A producer puts accounts on wrong partitions: one account counts as two."),
}
"""Every kind. Add a line, its page in docs/runbooks/, and publish it."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person should see. The topic's key is `subject`.

    `kind`, `subject` and `labels` say which alert it is: said again it is the same one, still holding or ended.
    What changes from one time to the next belongs into `details`. Times are milliseconds UTC.
    """

    kind: Annotated[Name, Meta(description="What happened, such as campaign_found.")]
    subject: Annotated[Name, Meta(description="Whom or what it is about as `scope:value`, such as campaign:c-17.")]
    severity: Annotated[Severity, Meta(description="critical wakes somebody, warning is looked at today.")]
    at: Annotated[Millis, Meta(description="When this was said, by the clock of who said it.")]
    since: Annotated[Millis, Meta(description="When it began.")]
    ends_at: Annotated[Millis, Meta(description="From then on it no longer holds, unless it is said again before.")]
    summary: Annotated[str, Meta(min_length=1, max_length=1024, description="One sentence for whoever is woken.")]
    labels: Annotated[
        dict[LabelName, Label], Meta(description="What tells it from others of its kind; routes it.")
    ] = {}
    details: Annotated[dict[Name, Detail], Meta(description="Numbers and names that help to judge it.")] = {}

    @property
    def over(self) -> bool:
        """It said that it has ended."""
        return self.ends_at <= self.at

    @property
    def identity(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """Equal for two messages about one alert."""
        return self.kind, self.subject, tuple(sorted(self.labels.items()))

    def again(self, at: int) -> "Alert":
        """Still so at `at`: it holds for the time of its kind from there."""
        return msgspec.structs.replace(self, at=at, ends_at=at + (self.ends_at - self.at))

    def ended(self, at: int) -> "Alert":
        """No longer so at `at`."""
        return msgspec.structs.replace(self, at=at, ends_at=at)


def alert(
    kind: KindName,
    subject: str,
    at: int,
    summary: str,
    *,
    labels: dict[str, str] | None = None,
    details: dict[str, Detail] | None = None,
    severity: Severity | None = None,
) -> Alert:
    """An alert that begins at `at` (ms UTC) with the severity and the time of its kind."""
    found = KINDS[kind]
    return Alert(
        kind=kind,
        subject=subject,
        severity=severity or found.severity,
        at=at,
        since=at,
        ends_at=at + found.holds_ms,
        summary=summary,
        labels=labels or {},
        details=details or {},
    )


def announcement(one: Alert) -> tuple[bytes, bytes]:
    """Key and value for the alerts topic."""
    return one.subject.encode(), encode(one)


_decoder: Final = msgspec.json.Decoder(Alert)
_encoder: Final = msgspec.json.Encoder(order="deterministic")


def encode(one: Alert) -> bytes:
    """The message as bytes, the same for equal alerts."""
    return _encoder.encode(one)


def decode(raw: bytes) -> Alert:
    """Read one message; unknown fields are ignored, unknown kinds kept. Raises UnreadableAlertError."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableAlertError(f"not an alert: {error}") from error
