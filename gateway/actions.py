"""Actions: what a verdict means for one request."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from .buckets import MOST_BUCKETS, Buckets, Limit
from .guard import Standing

_WHO: Final = {"org": "This organisation", "key": "This API key"}


class Refusal(NamedTuple):
    """A reply in place of the model's, in the shape of OpenAI's errors, so that every client understands it."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    standing: Standing
    """What refused."""


class Actions:
    """Turns all that stands against a request into what happens to it.

    watch and degrade let it pass. suspend refuses, and so does verify. throttle lets pass what its rate allows: one
    token bucket for each subject, so that all accounts of a throttled campaign share one, and a request needs a token
    of every bucket that concerns it. A throttle without a usable rate is not understood and lets pass. Each of
    `replicas` grants its share of a rate, unless the buckets are shared. `explain` tells the strongest reason.
    """

    def __init__(
        self,
        *,
        replicas: int = 1,
        verify_url: str | None = None,
        explain: bool = True,
        most_buckets: int = MOST_BUCKETS,
    ) -> None:
        self._verify_url = verify_url
        self._explain = explain
        self._buckets = Buckets(replicas, most_buckets)

    def refusal(self, standings: Sequence[Standing], now: int, waits: Sequence[float] | None = None) -> Refusal | None:
        """The reply to a request at `now` (ms UTC); None lets it pass.

        `waits` are the seconds to wait for each of `limits(standings)`, as buckets kept elsewhere say; without them
        those of this process are asked.
        """
        suspended = _first(standings, "suspend")
        if suspended is not None:
            text = f"{_who(suspended)} is suspended until {_when(suspended.until)}."
            return self._refusal(403, suspended, "account_suspended", text)
        verified = _first(standings, "verify")
        if verified is not None:
            return self._verify(verified)
        throttles = _throttles(standings)
        if not throttles:
            return None
        if waits is None:
            waits = self._buckets.take(limits(throttles), now)
        wait, throttle = max(zip(waits, throttles, strict=True), key=lambda each: each[0])
        return self._throttle(throttle, wait) if wait > 0 else None

    def spent(self, standing: Standing) -> Refusal:
        """The reply to a request for probabilities when the subject's privacy budget is used up."""
        text = f"{_who(standing)} gets no more log-probabilities until {_when(standing.until)}; ask without them."
        return self._refusal(403, standing, "probabilities_spent", text)

    def _throttle(self, standing: Standing, wait: float) -> Refusal:
        seconds = max(1, math.ceil(wait - 1e-6))
        text = (
            f"{_who(standing)} is limited to {standing.rpm:g} requests a minute until {_when(standing.until)}. "
            f"Try again in {seconds} s."
        )
        return self._refusal(
            429, standing, "rate_limit_exceeded", text, kind="requests", more=((b"retry-after", b"%d" % seconds),)
        )

    def _verify(self, standing: Standing) -> Refusal:
        link = standing.link if standing.link and standing.link.startswith("https://") else self._verify_url
        text = f"{_who(standing)} must be verified before it can go on."
        if link is None:
            return self._refusal(403, standing, "verification_required", text)
        link = link.replace("{decision}", quote(standing.id, safe=""))
        return self._refusal(403, standing, "verification_required", f"{text} Do so at {link}", link=link)

    def _refusal(
        self,
        status: int,
        standing: Standing,
        code: str,
        text: str,
        *,
        kind: str = "permission_error",
        link: str | None = None,
        more: tuple[tuple[bytes, bytes], ...] = (),
    ) -> Refusal:
        if self._explain and standing.reason:
            text = f"{text} Reason: {standing.reason}."
        error: dict[str, str | None] = {
            "message": f"{text} If this is wrong, write to us and quote decision {standing.id}.",
            "type": kind,
            "param": None,
            "code": code,
            "decision": standing.id,
        }
        if link is not None:
            error["verify_url"] = link
        body = msgspec.json.encode({"error": error})
        length = b"%d" % len(body)
        headers = ((b"content-type", b"application/json"), (b"content-length", length), *more)
        return Refusal(status, headers, body, standing)


def limits(standings: Sequence[Standing]) -> list[Limit]:
    """The rates that a request must keep to; none where it is refused anyway."""
    if _first(standings, "suspend") or _first(standings, "verify"):
        return []
    return [Limit(each.subject, each.rpm or 0) for each in _throttles(standings)]


def _first(standings: Sequence[Standing], action: str) -> Standing | None:
    return next((each for each in standings if each.action == action), None)


def _throttles(standings: Sequence[Standing]) -> list[Standing]:
    return [each for each in standings if each.action == "throttle" and each.rpm and 0 < each.rpm < math.inf]


def _who(standing: Standing) -> str:
    # Nobody is told that they are counted to a campaign.
    return _WHO.get(standing.scope, "This account")


def _when(until: int) -> str:
    try:
        return f"{datetime.fromtimestamp(until / 1000, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return "further notice"
