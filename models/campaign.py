"""Campaign: how likely a group of kindred accounts is one attack, from what they share and what they do together.

The same additive evidence as for one account, in log-odds, on the pooled profile of the members and on how they compare
with one another. Honest groups form too (a class, a launch, the users of one new tool): they are new, they share
things, and then their members differ: in how much they send, in what they ask, in what they take. So kinship alone
never reaches a throttle.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from . import score
from .detector import FloatMatrix, FloatVector, IntVector
from .signals import Features, Signal, Terms, log_ramp, ramp

VERSION: Final = "campaigns-2"

PRIOR: Final = -5.5
"""Log-odds that a group found by kinship is an attack, before its evidence is weighed: of the groups that form, most
are honest, and there are few of either."""

STRUCTURE: Final = ("kinship", "newcomers", "sameness", "evenness", "likeness")
"""Signals of how a group hangs together, not of what it takes."""

STRUCTURE_CAP: Final = 5.4
"""The most that they weigh together, short of even odds: honest groups hang together too. To be called a campaign a
group must be seen to take what attacks take."""


def _several(f: Features) -> FloatVector:
    """How many accounts speak: three that are alike may be so by chance, and such threes are many."""
    return log_ramp(f["accounts"], 3.0, 10.0)


def kinship(f: Features) -> Terms:
    """Its accounts share rare things of several independent kinds.

    Misleads: people of one place and time (a class, a launch) share them too; so it grows with the kinds, not with the
    accounts. Source: "shared payment", "same fingerprint", "same generation settings" in vendors' reports of 2026.
    """
    return {
        "shared_kinds": 2.5 * ramp(f["shared_kinds"], 1.0, 4.0),
        "rarity": 1.0 * ramp(f["rarity"], 6.0, 15.0),
    }


def newcomers(f: Features) -> Terms:
    """Nearly all of its accounts are new to us, far more than of all accounts.

    Misleads: launches, the first day of a term. Source: accounts at maximum use at once; standby pools (2026).
    """
    lift = f["newcomers"] - f["newcomers_everywhere"]
    return {"newcomers": 1.5 * ramp(f["newcomers"], 0.6, 0.95) * ramp(lift, 0.2, 0.6)}


def sameness(f: Features) -> Terms:
    """What one account asks cannot be told from what the others ask: one list, split.

    Misleads: a class with one exercise, a tool with one purpose. Source: public pipelines split one question list over
    their keys by index modulo; `models.same_source` is the statistic.
    """
    return {"sameness": 1.5 * _several(f) * ramp(f["sameness"], 0.3, 2.0) * ramp(f["topic_spread"], 0.3, 0.6)}


def evenness(f: Features) -> Terms:
    """Its accounts send at one rate, as a load balancer spreads them; rates as uneven as people's speak against it.

    Misleads: accounts that do one fixed task each. Source: "load balancing" across accounts, as a vendor put it (2026);
    honest accounts differ more than tenfold. Both bounds of the variation must agree, so few requests say nothing. Ten
    accounts may be even by chance, hundreds of strangers are not: the chance falls exponentially with their number, and
    the weight grows with its logarithm, for such accounts are seldom as independent as that.
    """
    weight = 1.8 + 1.0 * log_ramp(f["accounts"], 30.0, 300.0)
    return {
        "rate_variation": weight * _several(f) * ramp(f["rate_variation"], 0.6, 0.35),
        "rate_variation_least": -2.2 * ramp(f["rate_variation_least"], 0.5, 0.9),
    }


def likeness(f: Features) -> Terms:
    """Its accounts get answers of one length to questions of one length.

    Misleads: the users of one product. So it weighs little.
    """
    enough = ramp(f["paced"], 3.0, 12.0)
    return {"length_variation": 0.5 * enough * ramp(f["length_variation"], 0.5, 0.15)}


def harvest(f: Features) -> Terms:
    """Output is collected rather than used: see `signals.harvest`.

    Pooled over members, so that each may be small. Misleads: the customers of a reasoning model, writers.
    """
    worth = log_ramp(f["requests_week"], 50, 1_000)
    core = log_ramp(f["core_requests"], 50, 1_000)
    return {
        "core_output_per_input": 1.3 * core * log_ramp(f["core_output_per_input"], 3, 15),
        "core_output_length": 1.1 * core * log_ramp(f["core_output_length"], 600, 2_000),
        "capped_share": 0.5 * worth * ramp(f["capped_share"], 0.1, 0.5),
        "reasoning_share": 0.6 * worth * ramp(f["reasoning_share"], 0.4, 0.9),
        "logprobs_share": 1.5 * worth * ramp(f["logprobs_share"], 0.2, 0.8),
        "many_choices_share": 0.8 * worth * ramp(f["many_choices_share"], 0.2, 0.8),
    }


def breadth(f: Features) -> Terms:
    """Single questions that never repeat: see `signals.breadth`. Misleads: search boxes, labelling."""
    listed = log_ramp(f["requests_week"], 100, 2_000) * ramp(f["fresh_share"], 0.1, 0.4)
    return {"single_turn_share": 1.0 * listed * ramp(f["single_turn_share"], 0.7, 0.98)}


def cues(f: Features) -> Terms:
    """Prompts ask for what a student is trained on: see `signals.cues`."""
    worth = log_ramp(f["requests_week"], 30, 500)
    return {
        "inline_tags_cue_share": 2.0 * worth * ramp(f["inline_tags_cue_share"], 0.1, 0.6),
        "reasoning_cue_share": 1.0 * worth * ramp(f["reasoning_cue_share"], 0.3, 0.9),
        "rationale_cue_share": 1.5 * worth * ramp(f["rationale_cue_share"], 0.1, 0.6),
        "grading_cue_share": 1.0 * worth * ramp(f["grading_cue_share"], 0.1, 0.6),
    }


SIGNALS: Final[Mapping[str, Signal]] = {
    "kinship": Signal(kinship, 3.0, "identity"),
    "newcomers": Signal(newcomers, 1.5, "identity"),
    "sameness": Signal(sameness, 1.5, "content"),
    "evenness": Signal(evenness, 2.8, "timing"),
    "likeness": Signal(likeness, 0.5, "output"),
    "harvest": Signal(harvest, 2.8, "output"),
    "breadth": Signal(breadth, 1.0, "content"),
    "cues": Signal(cues, 2.2, "content"),
}
"""Every signal of a campaign."""

WORDS: Final[Mapping[str, str]] = {
    "shared_kinds": "its accounts share rare traits of {observed} independent kinds; strangers share none",
    "rarity": "what they share has about one in {observed} of other accounts",
    "newcomers": "{observed:%} of its accounts are new; {typical:%} of all accounts are",
    "sameness": "what its accounts ask cannot be told apart",
    "rate_variation": "its accounts send at one rate: they vary by {observed:%}; {typical:%} is typical",
    "rate_variation_least": "its accounts' rates vary by {observed:%}, as people's do",
    "length_variation": "its accounts' questions and answers are of one length: they vary by {observed:%}",
    "core_output_per_input": "it receives {observed} tokens for each token sent",
    "core_output_length": "its answers have {observed} tokens on average",
    "capped_share": "{observed:%} of its answers are cut at the length limit",
    "reasoning_share": "{observed:%} of its output is reasoning",
    "logprobs_share": "it asks for token probabilities in {observed:%} of requests",
    "many_choices_share": "it asks for several choices in {observed:%} of requests",
    "single_turn_share": "{observed:%} of its requests are single questions that never come again",
    "inline_tags_cue_share": "{observed:%} of its prompts ask for reasoning inside tags",
    "reasoning_cue_share": "{observed:%} of its prompts ask for reasoning step by step",
    "rationale_cue_share": "{observed:%} of its prompts ask for the reasoning behind a given answer",
    "grading_cue_share": "{observed:%} of its prompts ask for grades",
}
"""A sentence for every term."""

TYPICAL: Final[Mapping[str, str]] = {"newcomers": "newcomers_everywhere", "rate_variation": "typical_variation"}
"""Where a typical value is known: the feature that holds it."""

_KIND_OF: Final = tuple(signal.kind for signal in SIGNALS.values())
_STRUCTURE: Final = np.array([list(SIGNALS).index(name) for name in STRUCTURE])


class Weighed(NamedTuple):
    """The evidence against groups: weights of shape (groups, signals), and for each the term that weighs most (None
    where it weighs nothing)."""

    weights: FloatMatrix
    terms: list[list[str | None]]


def evidence(f: Features, groups: int) -> Weighed:
    """Weigh what is known of some groups; columns in the order of SIGNALS."""
    weights = np.zeros((groups, len(SIGNALS)))
    largest: list[list[str | None]] = [[None] * len(SIGNALS) for _ in range(groups)]
    for column, signal in enumerate(SIGNALS.values()):
        terms = {name: np.nan_to_num(value) for name, value in signal.terms(f).items()}
        weights[:, column] = np.minimum(np.sum(list(terms.values()), axis=0), signal.cap)
        for group in np.flatnonzero(weights[:, column] > 0).tolist():
            largest[group][column] = max(terms, key=lambda name: float(terms[name][group]))
    structure = weights[:, _STRUCTURE].sum(axis=1)
    over = structure > STRUCTURE_CAP
    weights[np.ix_(over, _STRUCTURE)] *= (STRUCTURE_CAP / np.maximum(structure[over], 1e-9))[:, None]
    return Weighed(weights, largest)


def log_odds(weights: FloatMatrix) -> FloatVector:
    """The log-odds of an attack for each row of weights."""
    odds: FloatVector = PRIOR + weights.sum(axis=1)
    return odds


def kinds(weights: FloatMatrix) -> IntVector:
    """How many independent kinds of evidence each row carries."""
    return score.kinds(weights, _KIND_OF)
