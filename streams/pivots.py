"""Pivots: models that accounts began to use lately, told from a day and a week of requests to each.

Both are decayed sums. Of a model used evenly for long the week holds seven times what the day does, of one begun with
just now as much: so how much more it holds tells when the account began.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.detector import FloatVector, IntVector

from .windows import DAY, WEEK

LEAST_REQUESTS: Final = 6.0
"""Requests of about the last day to a new model, and as many to others in the days before, from which an account may
show a pivot: of fewer it would be chance which model they went to."""

LATELY_DAYS: Final = 3.0
"""A pivot shows for so long after it was made: later a day and a week of requests no longer tell when."""

_DAYS_USED: Final = np.linspace(0.0, LATELY_DAYS, 61)
_WEEK_PER_DAY: Final = np.concatenate(
    ([1.0], WEEK / DAY * np.expm1(-_DAYS_USED[1:] * DAY / WEEK) / np.expm1(-_DAYS_USED[1:]))
)
"""The decayed week over the decayed day of requests that began so long ago and came evenly since."""


class Pivots(NamedTuple):
    """An account's row, the model (bucket) that it went over to, the share of its last day that this model has, and how
    many days ago it began to use it. An account may show two."""

    who: IntVector
    model: IntVector
    share: FloatVector
    days: FloatVector


def pivots(models: npt.NDArray[np.float32], days_seen: FloatVector) -> Pivots:
    """Who went over to a model within the last LATELY_DAYS, a day or later after their first request.

    `models` (accounts x 2 x buckets) are decayed requests of a day and of a week, `days_seen` how long ago each account
    sent its first. Exact for an even pace; of people who sleep half a day too early or too late.
    """
    day, week = models.astype(np.float64).transpose(1, 0, 2)
    before = week - day
    others = before.sum(axis=1, keepdims=True) - before
    young = (day >= LEAST_REQUESTS) & (others >= LEAST_REQUESTS) & (week < _WEEK_PER_DAY[-1] * day)
    who, model = np.nonzero(young)
    days: FloatVector = np.interp(week[who, model] / day[who, model], _WEEK_PER_DAY, _DAYS_USED)
    share: FloatVector = day[who, model] / day[who].sum(axis=1)
    settled = days_seen[who] - days >= 1.0
    return Pivots(who[settled], model[settled], share[settled], days[settled])
