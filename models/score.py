"""Score: evidence added up to one probability, with its reasons."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from .detector import FloatMatrix, FloatVector, IntVector
from .signals import SIGNALS, Kind

VERSION: Final = "signals-4 ensemble-1 judgement-2"
"""Which evidence a score was made of; every verdict names it."""

PRIOR: Final = -6.0
"""Log-odds that an account is harvesting before anything is known of it: about 1 in 400."""

ANOMALY_CAP: Final = 1.5
"""The most that strangeness alone may weigh: what is rare is not yet guilty."""

HOLD_SECONDS: Final = 21_600.0
"""Evidence that is no longer seen fades with this time constant (six hours), so a pause does not wipe it out."""

OWN: Final = (*SIGNALS, "anomaly")
"""What an account shows by itself."""

NAMES: Final = (*OWN, "judgement")
"""The columns of a weight matrix: what it shows, and what people judged of others like it."""

_KIND_OF: Final[tuple[Kind, ...]] = (*(signal.kind for signal in SIGNALS.values()), "model", "model")

KIND_COUNTS_FROM: Final = 0.5
"""Evidence below this (odds of 1.6 to 1) is too weak to count as a kind of its own."""


def anomaly(tail: FloatVector) -> FloatVector:
    """Evidence in a conformal p-value: the log of the e-value 0.5 / sqrt(p), not below 0, capped.

    Source: Vovk and Wang, "E-values: calibration, combination and applications" (2021), calibrator k * p^(k-1), k =
    0.5.
    """
    weight: FloatVector = np.clip(np.log(0.5) - 0.5 * np.log(np.maximum(tail, 1e-12)), 0.0, ANOMALY_CAP)
    return weight


def hold(now: FloatMatrix, before: FloatMatrix, elapsed_ms: IntVector) -> FloatMatrix:
    """Evidence as it stands: what is seen now, or what was seen before and has faded, whichever is more."""
    held: FloatMatrix = np.maximum(now, before * np.exp(-elapsed_ms / (HOLD_SECONDS * 1000.0))[:, None])
    return held


def score(weights: FloatMatrix) -> FloatVector:
    """The probability of an attack for each row of weights (log-odds, columns NAMES)."""
    probability: FloatVector = 1.0 / (1.0 + np.exp(-(PRIOR + weights.sum(axis=1))))
    return probability


def kinds(weights: FloatMatrix, kind_of: Sequence[Kind] = _KIND_OF) -> IntVector:
    """How many independent kinds of evidence each row carries; `kind_of` gives the kind of each column."""
    strong = weights >= KIND_COUNTS_FROM
    counted = np.zeros(len(weights), dtype=np.int64)
    for kind in dict.fromkeys(kind_of):
        counted += strong[:, [column for column, own in enumerate(kind_of) if own == kind]].any(axis=1)
    return counted


def scenario(terms: set[str]) -> str:
    """The field's word for what seems to go on, from the terms that carry evidence."""
    if "rationale_cue_share" in terms:
        return "chain-of-thought critiquing"
    if terms & {"inline_tags_cue_share", "reasoning_cue_share", "reasoning_share"}:
        return "chain-of-thought extraction"
    if "grading_cue_share" in terms:
        return "autograding"
    return "synthetic data generation"
