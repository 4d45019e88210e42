"""Repeats: which request ids came a moment ago, in bounded memory."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from models.detector import BoolVector

from .distinct import Hashes
from .windows import Groups

BUCKETS: Final = 2**16
WAYS: Final = 8


class Repeats:
    """The hashes of the newest ids, in buckets that forget their oldest entry first: 4 MiB, whatever comes.

    Of n other ids that came since, Poisson(n / 65,536) fell into an id's own bucket, and eight push it out. So a repeat
    is missed in 0.1 % of cases after 131,000 other requests of the partition, in 5 % after 260,000. Two different ids
    are taken for one with a probability of 2^-61 a look-up. A restart forgets everything: what is read again is known
    by its offset, but an id that a producer repeats across a restart counts twice.
    """

    def __init__(self) -> None:
        self._entries: Hashes = np.zeros((BUCKETS, WAYS), dtype=np.uint64)
        self._next = np.zeros(BUCKETS, dtype=np.int64)

    def first_seen(self, ids: Sequence[str]) -> BoolVector:
        """Which of the ids were not seen lately, and remember them. Of equal ids in one call the first is new."""
        # Python's own hash: fast, 64 bits, and different in each process, so nobody can aim at a bucket.
        hashes = np.fromiter(map(hash, ids), dtype=np.int64, count=len(ids)).view(np.uint64)
        bucket = (hashes & np.uint64(BUCKETS - 1)).astype(np.int64)
        fresh: BoolVector = ~(self._entries[bucket] == hashes[:, None]).any(axis=1)
        _, first = np.unique(hashes, return_index=True)
        if len(first) < len(hashes):
            earliest = np.zeros(len(hashes), dtype=bool)
            earliest[first] = True
            fresh &= earliest
        self._remember(hashes[fresh], bucket[fresh])
        return fresh

    def _remember(self, hashes: Hashes, bucket: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> None:
        if not len(hashes):
            return
        groups = Groups.by(bucket)
        place = np.arange(len(hashes)) - groups.starts[groups.of]
        own = groups.rows[groups.of]
        self._entries[own, (self._next[own] + place) % WAYS] = hashes[groups.order]
        counts = np.diff(groups.starts, append=len(hashes))
        self._next[groups.rows] += counts
