"""Spoken: what people tell the detector by command, as messages of the feedback topic."""

import re
import secrets
from datetime import datetime
from typing import Final, NamedTuple

from gateway.feedback import Feedback, encode, key

from . import topics
from .campaigns import CLEARING
from .settings import Settings

_UNITS: Final = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


class SpokenError(ValueError):
    """What was typed means nothing; the message says what does."""


class Told(NamedTuple):
    """Where a message to the workers stands."""

    partition: int
    offset: int


def subject(text: str, kind: str | None = None) -> tuple[str, str]:
    """Scope and value of `scope:value`; without one of the scopes it is an account's name.

    Raises SpokenError, also when the `kind` of feedback is none that is heard of such a subject.
    """
    scope, colon, value = text.partition(":")
    if not colon or scope not in ("account", "campaign"):
        scope, value = "account", text
    if not value:
        raise SpokenError(f"{text!r} is no subject: write account:NAME, campaign:NAME, or an account's name alone")
    if scope == "campaign" and kind is not None and kind not in CLEARING:
        raise SpokenError(f"{kind} is said of accounts; of a campaign only {' or '.join(CLEARING)}")
    return scope, value


def end(until: str | None, lasting: str | None, now: int) -> int | None:
    """An instant in ms UTC, said as one (ISO 8601 with a time zone) or as a span (30m, 6h, 90d) from now."""
    if until is not None and lasting is not None:
        raise SpokenError("say either --until or --for")
    if lasting is not None:
        span = re.fullmatch(r"(\d+)([mhd])", lasting)
        if span is None or not int(span[1]):
            raise SpokenError(f"--for {lasting}: write a number and m, h or d, such as 30m, 6h or 90d")
        return now + int(span[1]) * _UNITS[span[2]]
    if until is None:
        return None
    try:
        instant = datetime.fromisoformat(until)
    except ValueError:
        raise SpokenError(f"--until {until}: write an instant such as 2027-06-30T00:00:00Z") from None
    if instant.tzinfo is None:
        raise SpokenError(f"--until {until}: no time zone; write it with a Z for UTC")
    return int(instant.timestamp() * 1000)


def number(kind: str) -> str:
    """A name for one message."""
    return f"{kind}-{secrets.token_hex(8)}"


async def send(settings: Settings, one: Feedback) -> Told:
    """Send a message and wait until Kafka has it. Raises KafkaError, TopicsError, UnreadableFeedbackError."""
    value = encode(one)
    name = topics.FEEDBACK.name(settings)
    if name not in await topics.counts(settings):
        unseen = f", or {settings.sasl_user} may not see it" if settings.sasl_user else ""
        raise topics.TopicsError(f"missing topic{unseen}: {name}; create it with: stillwatch topics create")
    async with settings.producer() as producer:
        sent = await producer.send_and_wait(name, value, key(one))
    return Told(sent.partition, sent.offset)
