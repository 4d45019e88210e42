"""Windows: what happened lately, remembered so that order does not matter.

Two kinds. `decayed` sums forget exponentially: a request counts `exp(-age / tau)`, so a late one is simply added with
the weight it would have had. `Ring` counts keep one slot a minute (or hour) of the newest stretch and drop what is
older. Both give the same result for any order and any split of the same requests: sums to float64 rounding, rings
exactly.
"""

from typing import Final, NamedTuple

import numpy as np

from models.detector import FloatMatrix, FloatVector, IntVector

MINUTE, HOUR, DAY, WEEK = 60, 3_600, 86_400, 604_800
SPANS_SECONDS: Final = (MINUTE, HOUR, DAY, WEEK)
"""Time constants of the decayed sums. At a steady rate a sum equals rate x constant: `requests` of DAY are requests a
day."""


def weights(age_ms: IntVector, spans_seconds: tuple[int, ...]) -> FloatMatrix:
    """What a request of each age still counts in each span: shape (ages, spans), 1 for age 0."""
    rates = -1e-3 / np.asarray(spans_seconds, dtype=np.float64)
    return np.exp(age_ms[:, None] * rates)


class Groups(NamedTuple):
    """A batch sorted by the profile it belongs to.

    `order` sorts the batch (stable), `starts` are the first positions of each group in that order, `of` gives the
    group of each sorted request. All are int64; group g stands for the g-th distinct row, ascending.
    """

    rows: IntVector
    order: IntVector
    starts: IntVector
    of: IntVector

    @classmethod
    def by(cls, row_of_request: IntVector) -> "Groups":
        """Group the requests by row. At least one request is expected."""
        order = np.argsort(row_of_request, kind="stable")
        ordered = row_of_request[order]
        first = np.empty(len(ordered), dtype=bool)
        first[0] = True
        np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
        starts = np.flatnonzero(first)
        return cls(ordered[starts], order, starts, np.cumsum(first) - 1)

    def unsorted(self, values: IntVector) -> IntVector:
        """Values given in sorted order, in the order of the batch."""
        back = np.empty_like(values)
        back[self.order] = values
        return back

    def newest(self, at: IntVector) -> IntVector:
        """The largest value of each group, of values given in sorted order."""
        newest: IntVector = np.maximum.reduceat(at, self.starts)
        return newest

    def sums(self, values: FloatMatrix) -> FloatMatrix:
        """The column sums of each group, of rows given in sorted order."""
        sums: FloatMatrix = np.add.reduceat(values, self.starts, axis=0)
        return sums


def add_decayed(
    sums: FloatMatrix, kept: FloatMatrix, counted: FloatMatrix, measures: FloatMatrix, groups: Groups
) -> FloatMatrix:
    """What is left of each group's sums, and its requests added.

    `sums` has shape (groups, spans, measures), `measures` (requests, measures) in sorted order. Both weights come
    from `weights`: `kept` (groups, spans) for the time since the sums were last right, `counted` (requests, spans)
    for the age of each request at the new instant. A late request simply counts less.
    """
    added = counted[:, :, None] * measures[:, None, :]
    shape = added.shape
    return sums * kept[:, :, None] + groups.sums(added.reshape(shape[0], -1)).reshape(-1, shape[1], shape[2])


class Ring(NamedTuple):
    """Counts in the newest `slots` ticks of `seconds` each; slot `tick % slots` holds that tick's count."""

    seconds: int
    slots: int
    most: int
    """Counts stop here: the largest number that the column's type holds."""

    def tick(self, at: IntVector) -> IntVector:
        """The tick that each instant (ms) lies in."""
        return at // (self.seconds * 1000)

    def add(
        self,
        counts: "np.ndarray[tuple[int, int], np.dtype[np.unsignedinteger]]",
        was_at: IntVector,
        now_at: IntVector,
        at: IntVector,
        groups: Groups,
    ) -> None:
        """Move each group's ring from `was_at` to `now_at` (ms), then count its requests (`at` in sorted order), in
        place.

        `counts` has shape (groups, slots). Requests older than the ring are dropped, as they would have been had they
        come in time.
        """
        now = self.tick(now_at)
        passed = np.minimum(now - self.tick(was_at), self.slots)
        total = int(passed.sum())
        if total:
            back = np.arange(total) - np.repeat(np.cumsum(passed) - passed, passed)
            counts[np.repeat(np.arange(len(now)), passed), (np.repeat(now, passed) - back) % self.slots] = 0
        tick = self.tick(at)
        live = tick > now[groups.of] - self.slots
        slot = (groups.of * self.slots + tick % self.slots)[live]
        touched, times = np.unique(slot, return_counts=True)
        group, column = touched // self.slots, touched % self.slots
        counts[group, column] = np.minimum(counts[group, column].astype(np.int64) + times, self.most)

    def span(self, now_at: IntVector, since_at: IntVector) -> IntVector:
        """How many slots can have counted anything, if nothing was seen before `since_at` (ms): 1 to `slots`."""
        ticks: IntVector = np.minimum(self.tick(now_at) - self.tick(since_at) + 1, self.slots)
        return ticks


MINUTES: Final = Ring(seconds=60, slots=60, most=65_535)
HOURS: Final = Ring(seconds=3_600, slots=168, most=255)


def steadiness(minutes: FloatMatrix, span: IntVector, newest_tick: IntVector) -> FloatVector:
    """Index of dispersion (variance / mean) of the counts in the last `span` minutes: 1 for a Poisson stream, near 0
    for a machine that keeps a constant pace, far above 1 for bursts. NaN with fewer than 10 minutes or 20 requests.

    The newest minute is unfinished, so it is left out. Source: Fano, "Ionization yield of radiations II" (1947).
    """
    slots = minutes.shape[1]
    age = (newest_tick[:, None] - np.arange(slots)) % slots
    inside = (age > 0) & (age < span[:, None])
    count = inside.sum(axis=1)
    total = np.where(inside, minutes, 0.0).sum(axis=1)
    enough = (count >= 10) & (total >= 20)
    mean = total / np.maximum(count, 1)
    squares = np.where(inside, (minutes - mean[:, None]) ** 2, 0.0).sum(axis=1)
    return np.where(enough, squares / np.maximum(count - 1, 1) / np.maximum(mean, 1e-12), np.nan)
