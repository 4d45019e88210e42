"""Peers: what accounts on the same plan, of the same model and of the same size show, and what evidence is worth there.

A likelihood ratio P(seen | attack) / P(seen | honest) is at most 1 / P(seen | honest), whatever attacks look like. So a
signal weighs at most -log(share of peers that show as much of it): what every large customer of a plan does says
nothing of the next one. Shares of a small group lean on the wider one around it, which counts as `LEANS` accounts more.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from .detector import BoolVector, FloatMatrix, FloatVector, IntMatrix, IntVector

SIZES: Final = (30.0, 300.0, 3_000.0)
"""Requests a day at which the next size of accounts begins. Half of recorded API clients send under 100."""

MODELS: Final = 4
"""Groups of models."""

MOST_PLANS: Final = 16
"""Plans with peers of their own, the largest; an account on another plan, or on none that we know, is compared with all
of its size."""

LEANS: Final = 50.0
"""Peers at which a group's own share counts as much as that of the wider group around it."""

ENOUGH: Final = 100
"""Peers from which a share bounds evidence and a median is called typical: nineteen times of twenty, 40 to 60 % of all
lie below the median of so many."""

STEPS: Final = 20
"""Steps between no evidence and a signal's cap."""


Shares = npt.NDArray[np.float64]
Key = tuple[int, ...]
"""A plan, a model and a size; -1 for any."""


class Group(NamedTuple):
    """Which peers each account has: a number of its plan (0: unknown), its group of models (below MODELS), and its
    requests of a day."""

    plan: IntVector
    model: IntVector
    requests_day: FloatVector

    @property
    def size(self) -> IntVector:
        """The place of each account among SIZES."""
        return np.digitize(self.requests_day, SIZES)


class Peers:
    """What a sample of accounts showed, by group; made whole from a sample, never changed.

    `weights` (accounts x signals, log-odds) is what signals said of each, at most `caps`; `values` (accounts x
    features) what can be typical, NaN where absent. Where `volume` is true a signal, or a feature, is about how much is
    sent, and accounts of any size are compared: within a size all send alike.
    """

    def __init__(
        self,
        group: Group,
        weights: FloatMatrix,
        caps: FloatVector,
        volume: BoolVector,
        values: FloatMatrix,
        volume_values: BoolVector,
    ) -> None:
        self._caps = caps
        self._plans = _largest(group.plan)
        plan, size = self._plan(group.plan), group.size
        shape = (len(self._plans) + 1, MODELS, len(SIZES) + 1)
        self._most = _most(np.ravel_multi_index((plan, group.model, size), shape), shape, self._steps(weights), volume)
        self._volume_values = volume_values
        everywhere, on_a_plan = np.full(len(plan), -1), plan < len(self._plans)
        self._medians: dict[Key, FloatVector] = {}
        for some, keys in (
            (slice(None), (everywhere, everywhere, everywhere)),
            (slice(None), (everywhere, everywhere, size)),
            (on_a_plan, (plan, everywhere, everywhere)),
            (on_a_plan, (plan, everywhere, size)),
            (on_a_plan, (plan, group.model, everywhere)),
            (on_a_plan, (plan, group.model, size)),
        ):
            self._medians.update(_medians(np.stack(keys, axis=1)[some], values[some]))

    def bounded(self, weights: FloatMatrix, group: Group) -> FloatMatrix:
        """Evidence (accounts x signals), none above -log(share of the account's peers that show as much)."""
        most = self._most[self._plan(group.plan), group.model, group.size]
        at = self._steps(weights)[:, :, None]
        bounded: FloatMatrix = np.minimum(weights, np.take_along_axis(most, at, axis=2)[:, :, 0])
        return bounded

    def median(self, feature: int, group: Group) -> float | None:
        """The median of one feature (a column of `values`) among the peers of the first account of `group`: of the
        narrowest group around it with enough peers; None where there is none."""
        plan, model = int(self._plan(group.plan)[0]), int(group.model[0])
        size = -1 if self._volume_values[feature] else int(group.size[0])
        for key in ((plan, model, size), (plan, -1, size), (-1, -1, size), (-1, -1, -1)):
            if key in self._medians:
                median = float(self._medians[key][feature])
                return None if np.isnan(median) else median
        return None

    def _plan(self, plan: IntVector) -> IntVector:
        """The place of each plan among those with peers of their own; behind them all that have none."""
        if not len(self._plans):
            return np.zeros(len(plan), dtype=np.int64)
        place = np.minimum(np.searchsorted(self._plans, plan), len(self._plans) - 1)
        known: IntVector = np.where(self._plans[place] == plan, place, len(self._plans))
        return known

    def _steps(self, weights: FloatMatrix) -> IntMatrix:
        """How far each weight lies towards its cap: 0 for none, else the step it lies in, 1 to STEPS."""
        steps: IntMatrix = np.ceil(np.clip(weights / self._caps, 0.0, 1.0) * STEPS).astype(np.int64)
        return steps


def _largest(plan: IntVector) -> IntVector:
    """The MOST_PLANS known plans with most accounts, ascending."""
    plans, counts = np.unique(plan[plan != 0], return_counts=True)
    largest: IntVector = np.sort(plans[np.argsort(-counts, kind="stable")[:MOST_PLANS]])
    return largest


def _most(leaf: IntVector, shape: tuple[int, int, int], steps: IntMatrix, volume: BoolVector) -> Shares:
    """The most each signal may weigh by plan, model, size, signal and step."""
    signals = steps.shape[1]
    if len(leaf) < ENOUGH:
        return np.full((*shape, signals, STEPS + 1), np.inf)
    cells = (leaf[:, None] * signals + np.arange(signals)) * (STEPS + 1) + steps
    counts = np.bincount(cells.ravel(), minlength=int(np.prod(shape)) * signals * (STEPS + 1))
    # How many accounts of each group lie in a step or above it; in step 0 or above lie all.
    above = counts.reshape(*shape, signals, STEPS + 1)[..., ::-1].cumsum(axis=-1)[..., ::-1].astype(np.float64)
    everybody = above.sum(axis=(0, 1, 2), keepdims=True)
    share = (everybody + 0.5) / (everybody[..., :1] + 1.0)
    on_plans = above.copy()
    on_plans[-1] = 0.0  # those on other plans have no plan in common
    sized = _leaning(above.sum(axis=(0, 1), keepdims=True), share)
    sized = _leaning(on_plans, _leaning(on_plans.sum(axis=1, keepdims=True), sized))
    any_size = on_plans.sum(axis=2, keepdims=True)
    unsized = _leaning(any_size, _leaning(any_size.sum(axis=1, keepdims=True), share))
    most: Shares = -np.log(np.where(volume[:, None], unsized, sized))
    return most


def _leaning(above: Shares, around: Shares) -> Shares:
    """The shares of groups, each leaning on the share of the wider group around it."""
    leaning: Shares = (above + LEANS * around) / (above[..., :1] + LEANS)
    return leaning


def _medians(keys: IntMatrix, values: FloatMatrix) -> Iterator[tuple[Key, FloatVector]]:
    """The median of each column of `values` for every key that ENOUGH rows have; NaN where a column has none."""
    groups, of, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    for number in np.flatnonzero(counts >= ENOUGH).tolist():
        own = np.sort(values[of.ravel() == number], axis=0)  # NaN goes to the end
        known = np.count_nonzero(~np.isnan(own), axis=0)
        column, middle = np.arange(own.shape[1]), np.maximum(known - 1, 0)
        median = 0.5 * (own[middle // 2, column] + own[(middle + 1) // 2, column])
        yield tuple(groups[number].tolist()), median
