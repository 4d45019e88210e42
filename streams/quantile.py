"""Quantile: of many groups of values at once, where one call of numpy for each took a sixth of a look for campaigns."""

import numpy as np

from models.detector import FloatVector, IntVector


def quantile(ordered: FloatVector, starts: IntVector, ends: IntVector, part: float) -> FloatVector:
    """The quantile at `part`, below 1, of each stretch of at least two values in order: `np.quantile`'s to the last
    bit."""
    at = (ends - starts - 1) * part
    before = at.astype(np.int64)
    beyond = at - before
    low, high = ordered[starts + before], ordered[starts + before + 1]
    # From the nearer end, as numpy does.
    quantiles: FloatVector = np.where(beyond < 0.5, low + (high - low) * beyond, high - (high - low) * (1 - beyond))
    return quantiles
