"""Shared: one rate for all replicas, kept in Redis."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from .buckets import BURST_SECONDS, Limit

logger: Final = logging.getLogger("stillwatch_gateway")

RETRY_SECONDS: Final = 1.0
"""So long Redis is left alone after it failed: an outage costs one reply in so many seconds its wait, not all."""

MOST_CONNECTIONS: Final = 100

# One script, so that no other replica comes in between. The clock is that of Redis: those of replicas differ.
# What is refused writes nothing: who hammers on costs a read.
_TAKE: Final = """
local burst, time = tonumber(ARGV[1]), redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local left, waits, granted = {}, {}, true
for i, key in ipairs(KEYS) do
  local rate = tonumber(ARGV[i + 1]) / 60
  local most = math.max(1, rate * burst)
  local held = redis.call('HMGET', key, 'tokens', 'at')
  left[i] = most
  if held[1] and held[2] then
    left[i] = math.min(most, tonumber(held[1]) + math.max(0, now - tonumber(held[2])) * rate)
  end
  waits[i] = 0
  if left[i] < 1 then
    granted = false
    waits[i] = math.ceil((1 - left[i]) / rate * 1000)
  end
end
if granted then
  for i, key in ipairs(KEYS) do
    local rate = tonumber(ARGV[i + 1]) / 60
    redis.call('HSET', key, 'tokens', string.format('%.9f', left[i] - 1), 'at', string.format('%.6f', now))
    redis.call('PEXPIRE', key, math.ceil(math.max(1, rate * burst) / rate * 1000) + 1000)
  end
end
return waits
"""


class SharedBuckets:
    """The token buckets of all replicas that use one Redis (version 5 or newer), under `prefix`.

    `take` answers within `seconds`, with None when Redis did not: then the caller's own buckets hold. All keys share
    one slot of a Redis Cluster. `clock` gives seconds.
    """

    def __init__(self, url: str, prefix: str, seconds: float, clock: Callable[[], float]) -> None:
        """Raises ValueError for an address that is none."""
        self.failures = 0
        """Times that Redis did not answer in time."""
        self._seconds = seconds
        self._clock = clock
        self._name = f"{{{prefix}throttle}}:"
        self._away_until = 0.0
        self._redis = Redis.from_url(
            url,
            max_connections=MOST_CONNECTIONS,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self._script = self._redis.register_script(_TAKE)

    async def take(self, limits: Sequence[Limit]) -> list[float] | None:
        """Take a token of each bucket, or of none where one is empty: for each limit the seconds to wait, or 0."""
        if self._clock() < self._away_until:
            return None
        keys = [self._name + limit.subject for limit in limits]
        try:
            async with asyncio.timeout(self._seconds):
                waits = await self._script(keys, [BURST_SECONDS, *(limit.rpm for limit in limits)])
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return None
        return [wait / 1000 for wait in waits]

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()

    def _failed(self, error: Exception) -> None:
        if self._clock() >= self._away_until + 60 * RETRY_SECONDS or not self.failures:
            logger.warning("Redis does not answer, each replica throttles for itself: %r", error)
        self.failures += 1
        self._away_until = self._clock() + RETRY_SECONDS
