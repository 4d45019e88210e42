"""Buckets: how fast each throttled subject may go on."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

BURST_SECONDS: Final = 15.0
"""A throttled subject may save up the requests of so many seconds: people and agents come in small bursts."""

MOST_BUCKETS: Final = 100_000
"""Throttled subjects whose rate is watched at once; beyond that, who was silent longest begins anew."""


class Limit(NamedTuple):
    """One rate that a request must keep to."""

    subject: str
    rpm: float
    """Requests a minute, of all replicas together."""


class Buckets:
    """Token buckets of this process, which fill with time; each of `replicas` grants its share of a rate.

    Replicas do not talk to each other here, so where a load balancer is not even a subject may get less, never more.
    A full bucket is as good as none, so forgetting old ones is mostly harmless.
    """

    def __init__(self, replicas: int = 1, most: int = MOST_BUCKETS) -> None:
        self._replicas = replicas
        self._most = most
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()  # tokens left, as of an instant

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, limits: Sequence[Limit], now: int) -> list[float]:
        """Take a token of each bucket at `now` (ms UTC), or of none where one is empty.

        For each limit 0 when there was one, else the seconds until there will be.
        """
        found = [self._left(limit, now) for limit in limits]
        spent = 1 if all(tokens >= 1 for tokens in found) else 0
        for limit, tokens in zip(limits, found, strict=True):
            self._buckets[limit.subject] = (tokens - spent, now)
            self._buckets.move_to_end(limit.subject)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        return [
            0.0 if tokens >= 1 else (1 - tokens) * 60 * self._replicas / limit.rpm
            for limit, tokens in zip(limits, found, strict=True)
        ]

    def _left(self, limit: Limit, now: int) -> float:
        rpm = limit.rpm / self._replicas
        most = max(1.0, rpm * BURST_SECONDS / 60)
        tokens, at = self._buckets.get(limit.subject, (most, now))
        # A clock that was set back takes nothing away.
        return min(most, tokens + max(now - at, 0) * rpm / 60_000)
