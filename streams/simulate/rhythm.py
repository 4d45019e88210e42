"""Rhythm: when people and their machines send, by hour of the day and day of the week."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .accounts import DAY_MS

HOUR_MS: Final = 3_600_000

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def _shares(*weights: float) -> Floats:
    hours = np.array(weights, np.float64)
    return hours / np.sum(hours)


# Share of a day's requests by local hour. Peaks and the depth of the night follow the shape of the public Azure and
# ServeGen traces: office traffic falls to under a tenth at night and a quarter at weekends, private use to a fifth.
OFFICE: Final = _shares(1, 1, 1, 1, 1, 2, 5, 15, 40, 70, 80, 75, 50, 70, 80, 75, 65, 45, 25, 15, 10, 7, 4, 2)
PRIVATE: Final = _shares(20, 10, 6, 4, 4, 5, 10, 20, 30, 38, 42, 45, 45, 44, 45, 48, 52, 58, 66, 78, 85, 82, 65, 40)
ALWAYS: Final = _shares(*[1.0] * 24)

WORKDAYS: Final = np.array([1.0, 1.05, 1.05, 1.0, 0.9, 0.25, 0.25])
EVERY_DAY: Final = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.1, 1.15])


def day_weights(start_at: int, days: int, zone: int, week: Floats) -> Floats:
    """How busy each of `days` local days is; the first one holds `start_at` (ms UTC). 1970-01-01 was a Thursday."""
    first = (start_at + zone * HOUR_MS) // DAY_MS
    return week[(first + 3 + np.arange(days)) % 7]


def instants(dice: np.random.Generator, start_at: int, counts: Ints, zone: int, hours: Floats) -> Ints:
    """`counts[d]` instants (ms UTC, unsorted) on day d after `start_at`, spread over the local hours of the day.

    A day runs 24 hours from `start_at`; within the hour the rhythm is not sharper than that.
    """
    total = int(counts.sum())
    days = np.repeat(np.arange(len(counts)), counts)
    local = (start_at // HOUR_MS + zone) % 24
    shifted = np.roll(hours, -local)
    hour = np.searchsorted(np.cumsum(shifted)[:-1], dice.random(total), side="right")
    return start_at + days * DAY_MS + hour * HOUR_MS + dice.integers(0, HOUR_MS, total)
