"""Crowd: what all accounts that have not shown who they are were served together."""

import numpy as np

from models.detector import BoolVector, FloatVector
from sinks.policy import Policy

from .profiles import TOTALS, VOLUMES, Block
from .windows import SPANS_SECONDS

_DAY = 2
"""The span of a day, in SPANS_SECONDS."""

_OF_VOLUMES = [VOLUMES.index(name) for name in TOTALS if name in VOLUMES]


class Crowd:
    """Sums that forget with the time constant of a day, one for each of TOTALS."""

    def __init__(self) -> None:
        self._at = 0
        self._sums = np.zeros(len(TOTALS))

    def add(self, at: int, served: FloatVector) -> None:
        """Count what was served (one number for each of TOTALS) until the instant `at` (ms)."""
        self._sums = self._faded(at) + served
        self._at = max(self._at, at)

    def add_profiles(self, block: Block, who: BoolVector, at: int) -> None:
        """Count what some profiles remember of their day; what they do not remember by day, the cost, stays out."""
        kept = who * np.exp(-np.maximum(at - block["at"], 0) / (SPANS_SECONDS[_DAY] * 1000.0))
        volumes = (block["volumes"][:, _DAY] * kept[:, None]).sum(axis=0)
        served = np.zeros(len(TOTALS))
        served[: len(_OF_VOLUMES)] = volumes[_OF_VOLUMES]
        self.add(at, served)

    def served(self, at: int) -> FloatVector:
        """What was served within about a day before `at`: one number for each of TOTALS."""
        return self._faded(at)

    def share(self, policy: Policy, at: int) -> float:
        """How many budgets of a viable extraction that is."""
        requests, _, output_tokens, reasoning_tokens, _ = self._faded(at)
        amounts = (np.array([amount]) for amount in (requests, output_tokens, reasoning_tokens))
        return float(policy.share_of_budget(*amounts)[0])

    def _faded(self, at: int) -> FloatVector:
        faded: FloatVector = self._sums * np.exp(-max(at - self._at, 0) / (SPANS_SECONDS[_DAY] * 1000.0))
        return faded
