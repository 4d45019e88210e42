"""Signals: named pieces of evidence that an account is harvesting, each a function of its features.

Evidence is in log-odds: how much more often a value like this is seen in an attack than among honest accounts. It is
never negative, stops at the signal's cap, and is zero where the fields it reads are absent. The ranges below were set
from published attacks and from recorded honest clients (each docstring says which); none of them convicts alone. What
is common among an account's peers is worth less than they say (see `peers`).
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .detector import FloatMatrix, FloatVector

Features = Mapping[str, FloatVector]
Kind = Literal["volume", "output", "timing", "identity", "content", "model"]
Terms = Mapping[str, FloatVector]
"""Evidence by the feature it comes from. A signal is the sum of its terms, capped; its largest one is its reason."""


def ramp(value: FloatVector, low: float, high: float) -> FloatVector:
    """0 at `low` and below, 1 at `high` and beyond, straight in between; `low` may lie above `high`. Absent gives 0."""
    # fmax, unlike maximum and clip, prefers the number to NaN.
    risen: FloatVector = np.minimum(np.fmax((value - low) * (1.0 / (high - low)), 0.0), 1.0)
    return risen


def log_ramp(value: FloatVector, low: float, high: float) -> FloatVector:
    """`ramp` on a log scale, for what spans powers of ten. `low` and `high` are positive."""
    return ramp(np.log(np.maximum(value, 1e-9)), float(np.log(low)), float(np.log(high)))


def _settled(f: Features, requests: float) -> FloatVector:
    """How far shares can be trusted: n / (n + requests), n decayed requests of a week."""
    n = f["requests_week"]
    return n / (n + requests)


def worth(f: Features) -> FloatVector:
    """How much an answer can teach a student, 0 to 1: by the length of what is shown, or by the probabilities that come
    with it.

    Tokens of reasoning count a tenth: they are many whatever was asked, and most APIs keep them or sum them up. Source:
    traces that made a student average 3,000 tokens; an answer of a support bot has about 100, of a classifier 3.
    Distributions over a few dozen tokens teach as much.
    """
    return np.fmax(log_ramp(_shown(f, reasoning=0.1), 200, 600), _distilled(f))


def _shown(f: Features, reasoning: float) -> FloatVector:
    """Tokens of an answer that its reader sees; one of `reasoning` counts so much."""
    length: FloatVector = f["output_length"] * (1.0 - (1.0 - reasoning) * np.nan_to_num(f["reasoning_share"]))
    return length


def _distilled(f: Features) -> FloatVector:
    """How far probabilities of more than a label come with the answers, 0 to 1."""
    return ramp(f["logprobs_share"], 0.2, 0.8) * log_ramp(f["output_length"], 4, 40)


def volume(f: Features) -> Terms:
    """Far more requests than one person or product needs.

    Misleads: every large honest customer; so its cap is low. Source: loud campaigns send 700-860 requests a day an
    account, 17,000 traces were enough for one student model; half of recorded API clients send under 100 a day.
    """
    return {
        "requests_hour": 1.2 * log_ramp(f["requests_hour"], 150, 3_000),
        "requests_day": 1.5 * log_ramp(f["requests_day"], 600, 15_000),
    }


def harvest(f: Features) -> Terms:
    """Output is collected rather than used: long answers from short questions, cut at the limit, with reasoning,
    probabilities or several choices.

    Misleads: a classifier's confidence needs probabilities too, but of an answer of one to three tokens; every client
    of a reasoning model gets reasoning, so that alone weighs little; batch writing (median 53 tokens in, 1,578 out is
    an ordinary recorded batch job); reasoning models, a third of whose clients write five times what they read.
    """
    enough = _settled(f, 30) * log_ramp(f["requests_week"], 50, 1_000)
    return {
        "output_per_input": 0.9 * enough * log_ramp(f["output_per_input"], 3, 15),
        "output_length": 0.8 * enough * log_ramp(f["output_length"], 700, 4_000),
        "capped_share": 0.5 * enough * ramp(f["capped_share"], 0.1, 0.5),
        "reasoning_share": 0.5 * enough * ramp(f["reasoning_share"], 0.4, 0.9),
        "logprobs_share": 2.0 * enough * ramp(f["logprobs_share"], 0.2, 0.8) * log_ramp(f["output_length"], 4, 40),
        "many_choices_share": 0.8 * enough * ramp(f["many_choices_share"], 0.2, 0.8),
    }


def automation(f: Features) -> Terms:
    """A machine's rhythm: an even pace, no sleep, settings that never vary.

    Misleads: agents, CI and support bots never sleep either, and every product has fixed settings; so an even pace
    counts only at volume, and all of it together stays below what a throttle needs.
    """
    busy = log_ramp(f["requests_day"], 200, 3_000)
    return {
        "waking_share": 0.7 * busy * ramp(f["waking_share"], 0.75, 1.0),
        "steadiness": 0.8 * log_ramp(f["requests_hour"], 60, 600) * ramp(f["steadiness"], 0.9, 0.3),
        "settings": 0.3 * busy * np.where(f["settings"] < 1.6, 1.0, 0.0),
    }


def churn(f: Features) -> Terms:
    """Addresses, networks and clients change as they do behind a proxy pool.

    Misleads: phones change address daily, a large customer's servers scale out; so dozens are needed, and what counts
    is addresses against requests and networks that have nothing to do with each other.
    """
    spread = ramp(f["addresses"] / np.maximum(f["requests_total"], 1.0), 0.005, 0.05)
    return {
        "addresses": 1.4 * spread * log_ramp(f["addresses"], 15, 150),
        "networks": 1.3 * log_ramp(f["networks"], 6, 30),
        "clients": 0.6 * log_ramp(f["clients"], 6, 30),
    }


def breadth(f: Features) -> Terms:
    """Many different prompts, one turn each, over many topics: a list being worked off.

    Misleads: labelling jobs and support bots also see a new text each time, so narrow topics weigh nothing; chat
    products send many turns, so only what is known to be a single turn counts.
    """
    listed = log_ramp(f["prompts"], 200, 4_000) * ramp(f["fresh_share"], 0.15, 0.5)
    return {
        "prompts": 0.4 * listed,
        "single_turn_share": 0.4 * listed * ramp(f["single_turn_share"], 0.7, 0.98),
        "topic_spread": 0.4 * listed * ramp(f["topic_spread"], 0.5, 0.9),
    }


def templates(f: Features) -> Terms:
    """One template filled in again and again, or each prompt asked several times.

    Misleads: evaluation suites (8-shot prefixes), products with one prompt, retries; weak on its own. A template longer
    than 256 characters shows as many texts behind one prefix, a shorter one as prompts nearly alike.
    """
    enough = log_ramp(f["requests_week"], 200, 3_000)
    return {
        "similar_share": 0.6 * enough * ramp(f["similar_share"], 0.3, 0.8),
        "template_share": 0.6 * enough * ramp(f["template_share"], 0.3, 0.8),
        "text_repeats": 1.2 * enough * ramp(f["text_repeats"], 2.2, 3.6) * ramp(f["text_repeats"], 40.0, 12.0),
    }


def search(f: Features) -> Terms:
    """Hundreds of refusals, and then volume: a technique was looked for, and found.

    Misleads: red-teamers are refused all the time, so most of the rest must have been answered; a large product meets
    3 % of refusals every day, so only those beyond count. Source: a campaign of 2026 tried more than 12,000 tricks
    and then used the winner.
    """
    refused = f["refused_share"] * f["requests_week"] - 0.03 * f["requests_week"]
    answered = log_ramp(f["requests_day"], 300, 2_000) * ramp(f["refused_share"], 0.5, 0.25)
    return {"refused_share": 1.2 * log_ramp(refused, 50, 400) * answered}


def pivot(f: Features) -> Terms:
    """Went over to another model within a day, at volume: to a new one for what it can do, to an older one for what
    it lets through.

    Misleads: whoever likes a new model changes too; so it weighs little. Source: a campaign of 2026 moved nearly half
    of its traffic within a day of a release (0.3 of its last day, decayed, by then; 0.43 a day later), another went
    back to an older, weaker-guarded model.
    """
    return {"pivot": 0.6 * log_ramp(f["requests_day"], 300, 3_000) * ramp(f["pivot"], 0.15, 0.4)}


def cues(f: Features) -> Terms:
    """Prompts ask for what a student is trained on: reasoning written out, inside tags or after the fact; grades.

    Misleads: "think step by step" is everyday advice and part of evaluation suites; tags are rarer; so the share
    decides. Source: campaigns of 2026 that forced reasoning into inline tags in every request, and that graded by
    rubric.
    """
    settled = _settled(f, 30) * log_ramp(f["requests_week"], 30, 500)
    return {
        "inline_tags_cue_share": 2.0 * settled * ramp(f["inline_tags_cue_share"], 0.2, 0.8),
        "reasoning_cue_share": 1.0 * settled * ramp(f["reasoning_cue_share"], 0.3, 0.9),
        "rationale_cue_share": 1.5 * settled * ramp(f["rationale_cue_share"], 0.2, 0.8),
        "grading_cue_share": 1.0 * settled * ramp(f["grading_cue_share"], 0.2, 0.8),
    }


def newness(f: Features) -> Terms:
    """A new account at full rate from its first days, or one that we had never seen before.

    Misleads: every large customer was new once, and launches are real; so it needs the volume as well, and most of it
    answers worth collecting. Accounts are bought old, so an account that appears at full rate counts half whatever
    its age; while the detector itself is new, none does.
    """
    rate = np.maximum(log_ramp(f["requests_day"], 150, 1_500), log_ramp(f["requests_hour"], 60, 600))
    rate = rate * (0.3 + 0.7 * worth(f))
    return {
        "age_days": 1.6 * rate * ramp(f["age_days"], 30.0, 3.0),
        "appeared_days": 0.8 * rate * ramp(f["appeared_days"], 7.0, 1.0),
    }


def full_swing(f: Features) -> FloatVector:
    """How far what is served now looks like a harvest in full swing, 0 to 1: hour after hour at more than a request a
    minute, or thousands in one go, with answers worth collecting that are single turns, or come with their
    probabilities.

    No evidence of its own: large honest jobs do the same. A policy that sees the exposure grow fast asks such an
    account for less evidence before it slows it down or asks who it is. In one go: a public tool at its own pace asks
    17,000 questions in 2.3 hours; of simulated honest batch jobs the largest has 6,500 within a day, most under 3,700.
    """
    listed = log_ramp(_shown(f, reasoning=0.0), 200, 450) * ramp(f["single_turn_share"], 0.5, 0.9)
    going = np.fmax(ramp(f["busy_hours"], 5.0, 7.0), log_ramp(f["requests_day"], 4_500, 8_000))
    return np.fmax(listed, _distilled(f)) * going


class Signal(NamedTuple):
    """One signal: its function, the most it may weigh (log-odds), and the kind of evidence it is.

    Signals of one kind are not independent; policies count kinds.
    """

    terms: Callable[[Features], Terms]
    cap: float
    kind: Kind


SIGNALS: Final[Mapping[str, Signal]] = {
    "volume": Signal(volume, 1.5, "volume"),
    "harvest": Signal(harvest, 2.2, "output"),
    "automation": Signal(automation, 1.5, "timing"),
    "churn": Signal(churn, 1.9, "identity"),
    "breadth": Signal(breadth, 1.2, "content"),
    "templates": Signal(templates, 1.4, "content"),
    "search": Signal(search, 1.2, "output"),
    "pivot": Signal(pivot, 0.6, "timing"),
    "cues": Signal(cues, 2.0, "content"),
    "newness": Signal(newness, 1.6, "identity"),
}

WORDS: Final[Mapping[str, str]] = {
    "requests_hour": "sends {observed} requests an hour; {typical} is typical",
    "requests_day": "sends {observed} requests a day; {typical} is typical",
    "output_per_input": "receives {observed} tokens for each token sent; {typical} is typical",
    "output_length": "receives answers of {observed} tokens on average; {typical} is typical",
    "capped_share": "{observed:%} of answers run to the length limit; {typical:%} is typical",
    "reasoning_share": "{observed:%} of the output is reasoning; {typical:%} is typical",
    "logprobs_share": "asks for token probabilities in {observed:%} of requests; {typical:%} is typical",
    "many_choices_share": "asks for several choices in {observed:%} of requests; {typical:%} is typical",
    "waking_share": "was active in {observed:%} of all hours, nights included; {typical:%} is typical",
    "steadiness": "keeps an even machine pace: dispersion {observed} where {typical} is typical",
    "settings": "never varied its generation settings: {observed} combination; {typical} is typical",
    "addresses": "came from {observed} addresses within two weeks; {typical} is typical",
    "networks": "came from {observed} networks within two weeks; {typical} is typical",
    "clients": "used {observed} different clients within two weeks; {typical} is typical",
    "prompts": "sent {observed} different prompts within two weeks; {typical} is typical",
    "single_turn_share": "{observed:%} of requests are a single turn; {typical:%} is typical",
    "topic_spread": "prompts cover unrelated topics: spread {observed} of 1; {typical} is typical",
    "similar_share": "{observed:%} of different prompts are nearly alike; {typical:%} is typical",
    "template_share": "{observed:%} of different prompts begin word for word like others; {typical:%} is typical",
    "refused_share": "was refused in {observed:%} of requests and went on at volume; {typical:%} is typical",
    "pivot": "went over to another model with {observed:%} of a day's requests; {typical:%} is typical",
    "text_repeats": "asks each prompt {observed} times; {typical} is typical",
    "inline_tags_cue_share": "asks for reasoning inside tags in {observed:%} of prompts; {typical:%} is typical",
    "reasoning_cue_share": "asks for written-out reasoning in {observed:%} of prompts; {typical:%} is typical",
    "rationale_cue_share": "asks for the reasoning behind answers in {observed:%} of prompts; {typical:%} is typical",
    "grading_cue_share": "asks for grades or verdicts in {observed:%} of prompts; {typical:%} is typical",
    "age_days": "is {observed} days old and already at full rate; {typical} days is typical",
    "appeared_days": "appeared {observed} days ago and is already at full rate; {typical} days is typical",
}
"""What a signal's largest term says to a person."""


TermIndices = npt.NDArray[np.int8]


class Evidence(NamedTuple):
    """What every signal says of every profile: capped log-odds, and the index in WORDS of the largest term (or -1)."""

    weights: FloatMatrix
    terms: TermIndices


_TERM_INDEX: Final = {name: position for position, name in enumerate(WORDS)}


def evidence(f: Features, rows: int) -> Evidence:
    """Weigh the features of `rows` profiles: two arrays of shape (rows, signals), columns in the order of SIGNALS."""
    weights = np.zeros((rows, len(SIGNALS)))
    largest = np.full((rows, len(SIGNALS)), -1, dtype=np.int8)
    for column, signal in enumerate(SIGNALS.values()):
        terms = signal.terms(f)
        parts = np.stack(list(terms.values()))
        weights[:, column] = np.minimum(parts.sum(axis=0), signal.cap)
        names = np.array([_TERM_INDEX[name] for name in terms], dtype=np.int8)
        largest[:, column] = np.where(parts.max(axis=0) > 0, names[parts.argmax(axis=0)], -1)
    return Evidence(weights, largest)
