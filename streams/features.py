"""Features: a profile as named numbers, in units a person knows."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.detector import BoolVector, FloatMatrix, FloatVector, IntVector

from .distinct import estimate
from .pivots import pivots
from .profiles import DISTINCT, TRAITS, VOLUMES, Block
from .windows import HOURS, MINUTES, steadiness

Features = Mapping[str, FloatVector]
"""Each feature's value for every profile of a block; NaN where nothing is known."""


class Limits(NamedTuple):
    """The fixed range that a detector sees of a feature: clipped, on a log scale or not, mapped to [0, 1]."""

    low: float
    high: float
    log: bool = False


LIMITS: Final[Mapping[str, Limits]] = {
    "requests_minute": Limits(0, 3_000, log=True),
    "requests_hour": Limits(0, 50_000, log=True),
    "requests_day": Limits(0, 200_000, log=True),
    "requests_week": Limits(0, 1_000_000, log=True),
    "output_length": Limits(0, 32_768, log=True),
    "input_length": Limits(0, 131_072, log=True),
    "output_per_input": Limits(0, 1_000, log=True),
    "reasoning_share": Limits(0, 1),
    "capped_share": Limits(0, 1),
    "logprobs_share": Limits(0, 1),
    "many_choices_share": Limits(0, 1),
    "single_turn_share": Limits(0, 1),
    "addresses": Limits(0, 2_000, log=True),
    "networks": Limits(0, 200, log=True),
    "clients": Limits(0, 200, log=True),
    "settings": Limits(0, 200, log=True),
    "prompts": Limits(0, 100_000, log=True),
    "fresh_share": Limits(0, 1),
    "text_repeats": Limits(0, 1_000, log=True),
    "template_share": Limits(0, 1),
    "refused_share": Limits(0, 1),
    "pivot": Limits(0, 1),
    "similar_share": Limits(0, 1),
    "topic_spread": Limits(0, 1),
    "waking_share": Limits(0, 1),
    "steadiness": Limits(0, 100, log=True),
    "cue_share": Limits(0, 1),
    "reasoning_cue_share": Limits(0, 1),
    "inline_tags_cue_share": Limits(0, 1),
    "rationale_cue_share": Limits(0, 1),
    "grading_cue_share": Limits(0, 1),
    "age_days": Limits(0, 3_650, log=True),
    "appeared_days": Limits(0, 3_650, log=True),
}
"""Fixed, documented limits: no learned scaler, for a scaler that follows an attack hides it."""

BUSY: Final = 60
"""Requests that make an hour a busy one: one a minute."""

DETECTOR_FEATURES: Final = (
    "requests_minute", "requests_hour", "requests_day", "requests_week", "output_length", "input_length",
    "reasoning_share", "capped_share", "single_turn_share", "addresses", "networks", "clients", "prompts",
    "fresh_share", "topic_spread", "waking_share", "steadiness", "cue_share",
)  # fmt: skip
"""What the detectors learn from."""


def features(block: Block, watched_since: int | None = None) -> Features:
    """Name the numbers of each profile of a block, all taken at the instant of its newest request.

    `watched_since` (ms) is the oldest request of any account: one that appears a day later is new to us.
    """
    at, first_at = block["at"], block["first_at"]
    found: dict[str, FloatVector] = {}
    volumes = block["volumes"]
    for position, span in enumerate(("minute", "hour", "day", "week")):
        found[f"requests_{span}"] = volumes[:, position, 0]
    week = dict(zip(VOLUMES, volumes[:, -1].T, strict=True))
    requests = np.maximum(week["requests"], 1e-9)
    found["output_day"] = volumes[:, 2, VOLUMES.index("output_tokens")]
    found["reasoning_day"] = volumes[:, 2, VOLUMES.index("reasoning_tokens")]
    found["input_length"] = week["input_tokens"] / requests
    found["output_length"] = week["output_tokens"] / requests
    found["output_per_input"] = week["output_tokens"] / np.maximum(week["input_tokens"], 1.0)
    found["reasoning_share"] = np.minimum(week["reasoning_tokens"] / np.maximum(week["output_tokens"], 1.0), 1.0)

    traits = dict(zip(TRAITS, block["traits"].T / requests, strict=True))
    found.update({f"{trait}_share": share for trait, share in traits.items() if not trait.endswith("_cue")})
    sketched = np.maximum(traits["sketched"], 1e-9)
    for cue in ("reasoning_cue", "inline_tags_cue", "rationale_cue", "grading_cue"):
        found[f"{cue}_share"] = np.where(traits["sketched"] > 0, traits[cue] / sketched, np.nan)
    found["cue_share"] = np.fmax(found["reasoning_cue_share"], found["inline_tags_cue_share"])

    seen = _distinct(block)
    found["addresses"], found["networks"], found["clients"] = seen["address"], seen["network"], seen["client"]
    found["prompts"], found["settings"] = seen["prefix"], seen["settings"]
    # The weeks' requests that had a sketch: decayed, so it undercounts what the registers still hold; at most 1.
    with_sketch = np.where(traits["sketched"] > 0, traits["sketched"] * requests, np.nan)
    found["texts"] = seen["text"]
    found["fresh_share"] = np.minimum(seen["prefix"] / np.maximum(with_sketch, 1.0), 1.0)
    found["text_repeats"] = with_sketch / np.maximum(seen["text"], 1.0)
    found["template_share"] = np.maximum(1.0 - seen["prefix"] / np.maximum(seen["text"], 1.0), 0.0)
    found["similar_share"] = np.maximum(1.0 - seen["band"] / np.maximum(seen["prefix"], 1.0), 0.0)
    found["topic_spread"] = _topic_spread(block)

    hours = HOURS.span(at, first_at)
    found["hours_seen"] = hours.astype(np.float64)
    found["waking_share"] = np.where(hours >= 20, np.count_nonzero(block["hours"], axis=1) / hours, np.nan)
    found["steadiness"] = steadiness(block["minutes"].astype(np.float64), MINUTES.span(at, first_at), MINUTES.tick(at))
    found["age_days"] = np.where(block["opened_at"] <= at, (at - block["opened_at"]) / 86_400_000.0, np.nan)
    appeared = np.inf if watched_since is None else watched_since + 86_400_000
    found["appeared_days"] = np.where(first_at >= appeared, (at - first_at) / 86_400_000.0, np.nan)
    found["busy_hours"] = _busy_hours(block["hours"], HOURS.tick(at))
    found["pivot"] = _pivot(block)
    found["requests_total"] = block["totals"][:, 0]
    return found


def matrix(found: Features, names: Sequence[str] = DETECTOR_FEATURES) -> FloatMatrix:
    """Features on their fixed scales: one row a profile, one column a name, in [0, 1]; NaN where absent."""
    scale = _scale(tuple(names))
    values = np.stack([found[name] for name in names], axis=1)
    values = np.minimum(np.maximum(values, scale.low), scale.high) - scale.low
    values[:, scale.log] = np.log1p(values[:, scale.log])
    return values * scale.factor


class _Scale(NamedTuple):
    low: FloatVector
    high: FloatVector
    log: BoolVector
    factor: FloatVector


@cache
def _scale(names: tuple[str, ...]) -> _Scale:
    low, high, log = (np.array(column) for column in zip(*(LIMITS[name] for name in names), strict=True))
    return _Scale(low, high, log, 1.0 / np.where(log, np.log1p(high - low), high - low))


def unscaled(name: str, value: float) -> float:
    """The feature in its own unit, back from [0, 1]."""
    low, high, log = LIMITS[name]
    return low + (float(np.expm1(value * np.log1p(high - low))) if log else value * (high - low))


def _distinct(block: Block) -> dict[str, FloatVector]:
    """Different values in this week of event time and the one before; NaN when the field never came."""
    found: dict[str, FloatVector] = {}
    for size in sorted(set(DISTINCT.values())):
        kinds = [kind for kind, registers in DISTINCT.items() if registers == size]
        seen = np.stack([block[f"{kind}_seen"] for kind in kinds])
        counts = estimate(np.maximum(seen[:, :, 0], seen[:, :, 1]))
        found |= zip(kinds, np.where(counts > 0, counts, np.nan), strict=True)
    return found


def _busy_hours(hours: npt.NDArray[np.uint8], newest: IntVector) -> FloatVector:
    """Hours of the last 24 with at least BUSY requests."""
    lately = (newest[:, None] - np.arange(24)) % HOURS.slots
    busy: FloatVector = np.count_nonzero(np.take_along_axis(hours, lately, axis=1) >= BUSY, axis=1).astype(np.float64)
    return busy


def _pivot(block: Block) -> FloatVector:
    """The share of the last day that went to a model which the account lately went over to; 0 where it went to none."""
    found = pivots(block["models"], (block["at"] - block["first_at"]) / 86_400_000.0)
    share = np.zeros(len(block))
    np.maximum.at(share, found.who, found.share)
    return share


def _topic_spread(block: Block) -> FloatVector:
    """1 - the mean cosine between two different prompts of the account; NaN below an effective 10 prompts.

    Topic vectors have length 1, so |sum|^2 = sum of w^2 + the pairs' products: taking the former away leaves the pairs.
    """
    total, squares = block["topic_weights"].T
    length = np.einsum("ij,ij->i", block["topic"], block["topic"]).astype(np.float64)
    pairs = total * total - squares
    enough = pairs > 90.0
    cosine = (length - squares) / np.where(enough, pairs, 1.0)
    return np.where(enough, np.clip(1.0 - cosine, 0.0, 1.0), np.nan)
