"""Strays: accounts on a partition where murmur2 would not put them."""

from typing import Final

from sinks.alerts import Alert, alert
from streams.partitioner import partition_of

ENOUGH: Final = 10
"""Strays from which we speak: fewer are messages sent by hand."""

SHARE: Final = 0.01
"""Share of what is looked at from which we speak. murmur2 and CRC32 disagree on nine keys of ten."""

WINDOW_MS: Final = 600_000
"""The time over which strays are counted, and in which we speak once."""


def stray(account: str, partition: int, partitions: int) -> bool:
    """Whether murmur2 would put an account on another of so many partitions."""
    return partition_of(account.encode(), partitions) != partition


class Strays:
    """Notices a producer that partitions otherwise, and says so every ten minutes while it does.

    Its accounts then have two profiles, each half as busy. The alert runs out by itself: of several workers none can
    say for the others that it is over.
    """

    def __init__(self, topic: str, partitions: int) -> None:
        self._topic = topic
        self._partitions = partitions
        self._window_at = -WINDOW_MS
        self._looked_at = 0
        self._strays = 0
        self._said = False

    def look(self, account: str, partition: int, now: int) -> tuple[bool, Alert | None]:
        """Whether an account is astray on this partition, and what to say about it at `now` (ms UTC), if anything."""
        astray = stray(account, partition, self._partitions)
        if now - self._window_at >= WINDOW_MS:
            self._window_at, self._looked_at, self._strays, self._said = now, 0, 0, False
        self._looked_at += 1
        self._strays += astray
        if self._said or self._strays < max(ENOUGH, SHARE * self._looked_at):
            return astray, None
        self._said = True
        return astray, alert(
            "strays",
            f"topic:{self._topic}",
            now,
            f"Of {self._looked_at} requests looked at, {self._strays} came on a partition where murmur2 would not put "
            f"their account: a producer of {self._topic} uses another partitioner, or another number of partitions.",
            details={"looked_at": self._looked_at, "strays": self._strays, "partitions": self._partitions},
        )
