"""Strength: how much a degrade verdict takes from its subject: more with exposure and systematic probing, nothing else.

Kariyappa and Qureshi (Defending Against Model Stealing Attacks With Adaptive Misinformation, CVPR 2020) give wrong
answers only to queries unlike honest ones, and Dziedzic et al. (Increasing the Cost of Model Extraction with Calibrated
Proof of Work, ICLR 2022) charge each customer by what it has learnt so far. So here: an honest customer has no degrade
verdict and gets the model's own numbers, and of those who have one the thief with the larger haul gets the worse ones.
"""

import math
from typing import Final

from .verdict import Verdict

LEVELS: Final = 4
"""Strengths are rounded up to quarters. Noise is drawn anew at each, so whoever repeats a question while the strength
rises sees at most four draws of it, and cannot extrapolate to none."""

FULL_SHARE: Final = 0.5
"""Share of a viable extraction's budget from which on the strength is full."""

SURE: Final = 0.99
"""A score from which on probing counts as systematic; the packaged policy degrades from there."""


def strength(verdict: Verdict) -> float:
    """From 0 to 1, in quarters: 0 for any other action, else at least a quarter.

    The verdict's parameter `strength` decides where it is a number from 0 to 1. Else it is the share of the budget
    served (against FULL_SHARE), times how sure the detector is (log-odds of the score, against those of SURE; a subject
    in a campaign counts as sure). Without an exposure nothing speaks for mildness: full.
    """
    if verdict.effective_action != "degrade":
        return 0.0
    stated = verdict.parameters.get("strength")
    if isinstance(stated, float | int) and 0 <= stated <= 1:
        return _stepped(stated)
    sure = verdict.scope == "campaign" or verdict.campaign is not None or verdict.score >= SURE
    probing = 1.0 if sure else max(_log_odds(verdict.score), 0.0) / _log_odds(SURE)
    haul = 1.0 if verdict.exposure is None else min(verdict.exposure.share_of_budget / FULL_SHARE, 1.0)
    return max(_stepped(probing * haul), 1 / LEVELS)


def _stepped(value: float) -> float:
    # A hair is taken off first: three times a tenth is no step above 0.3.
    return math.ceil(value * LEVELS - 1e-9) / LEVELS


def _log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability)) if probability > 0 else -math.inf
