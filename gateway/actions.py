"""Actions: what a verdict means for one request."""

import math
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from .guard import Standing

BURST_SECONDS: Final = 15.0
"""A throttled subject may save up the requests of so many seconds: people and agents come in small bursts."""

MOST_BUCKETS: Final = 100_000
"""Throttled subjects whose rate is watched at once; beyond that, who was silent longest begins anew."""

_WHO: Final = {"org": "This organisation", "key": "This API key"}


class Refusal(NamedTuple):
    """A reply in place of the model's, in the shape of OpenAI's errors, so that every client understands it."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Actions:
    """Turns what stands against a subject into what happens to a request of it.

    watch and degrade let it pass. throttle lets pass what its rate allows: one token bucket for each subject, so that
    all accounts of a throttled campaign share one. Each of `replicas` grants its share of the rate; they do not talk to
    each other, so where a load balancer is not even a subject may get less, never more. A throttle without a usable
    rate is not understood and lets pass. verify and suspend refuse. `explain` tells the strongest reason.
    """

    def __init__(
        self,
        *,
        replicas: int = 1,
        verify_url: str | None = None,
        explain: bool = True,
        most_buckets: int = MOST_BUCKETS,
    ) -> None:
        self._replicas = replicas
        self._verify_url = verify_url
        self._explain = explain
        self._buckets = _Buckets(most_buckets)

    def refusal(self, standing: Standing, now: int) -> Refusal | None:
        """The reply to a request at `now` (ms UTC); None lets it pass."""
        match standing.action:
            case "throttle":
                return self._throttle(standing, now)
            case "verify":
                return self._verify(standing)
            case "suspend":
                text = f"{_who(standing)} is suspended until {_when(standing.until)}."
                return self._refusal(403, standing, "account_suspended", text)
            case _:
                return None

    def spent(self, standing: Standing) -> Refusal:
        """The reply to a request for probabilities when the subject's privacy budget is used up."""
        text = f"{_who(standing)} gets no more log-probabilities until {_when(standing.until)}; ask without them."
        return self._refusal(403, standing, "probabilities_spent", text)

    def _throttle(self, standing: Standing, now: int) -> Refusal | None:
        rpm = standing.rpm
        if rpm is None or not 0 < rpm < math.inf:
            return None
        wait = self._buckets.wait(standing.subject, rpm / self._replicas, now)
        if wait == 0:
            return None
        seconds = max(1, math.ceil(wait - 1e-6))
        text = (
            f"{_who(standing)} is limited to {rpm:g} requests a minute until {_when(standing.until)}. "
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
        return Refusal(status, ((b"content-type", b"application/json"), (b"content-length", length), *more), body)


class _Buckets:
    """Token buckets that fill with time. A full one is as good as none, so forgetting old ones is mostly harmless."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()  # tokens left, as of an instant

    def wait(self, subject: str, rpm: float, now: int) -> float:
        """Take a token: 0 when there was one, else the seconds until there will be."""
        most = max(1.0, rpm * BURST_SECONDS / 60)
        tokens, at = self._buckets.get(subject, (most, now))
        # A clock that was set back takes nothing away.
        tokens = min(most, tokens + max(now - at, 0) * rpm / 60_000)
        granted = tokens >= 1
        self._buckets[subject] = (tokens - 1 if granted else tokens, now)
        self._buckets.move_to_end(subject)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return 0.0 if granted else (1 - tokens) * 60 / rpm


def _who(standing: Standing) -> str:
    # Nobody is told that they are counted to a campaign.
    return _WHO.get(standing.scope, "This account")


def _when(until: int) -> str:
    try:
        return f"{datetime.fromtimestamp(until / 1000, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return "further notice"
