"""Inferred: ties that no single request shows, worked out from the profiles at each look for groups.

Where an account's topics lie, whether it asks in the manner of a campaign that was acted on, and whether it lately went
over to another model. No message tells them and no acquaintance holds them.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from models.detector import BoolVector, IntVector
from models.manner import LEAST_ASKED, Manner, within
from models.rarity import NAMES, STAYED, TELLING, Ties
from models.same_source import BANDS, BITS, LEAST_PROMPTS, Sources

from .distinct import Hashes, mix
from .pivots import LATELY_DAYS, LEAST_REQUESTS, pivots
from .portrait import bare_questions, effective_prompts, topics
from .profiles import MODEL_BUCKETS, Block
from .traits import traits
from .windows import DAY, SPANS_SECONDS

_ELSEWHERE: Final = np.uint64(0xE15E_3E1E)
"""The manner of the others."""

_REGIONS: Final = mix(
    ((np.arange(BANDS)[:, None] << 32) + np.arange(1 << BITS) + 1).astype(np.uint64) ^ np.uint64(0x7090_1C5E)
)
"""The trait of each region of each band."""

WENT_OVER: Final = 0.2
"""The share of an account's last day that a new model has after a pivot. A campaign of 2026 moved nearly half of its
traffic within a day of a release: half a day later that is 0.2 of a decayed day, a day later 0.3."""

DAY_MS: Final = DAY * 1_000

_DAY: Final = SPANS_SECONDS.index(DAY)

_NOBODY: Final[tuple[IntVector, Hashes]] = (np.zeros(0, np.int64), np.zeros(0, np.uint64))


def topic_ties(profiles: Block, told: BoolVector, newcomer: BoolVector, sources: Sources) -> Ties:
    """For each account with prompts enough the regions its topic mean lies in; `sources` takes them in first.

    `told` says which profiles hold what an account may be judged by.
    """
    prompts = effective_prompts(profiles)
    rows = np.flatnonzero(told & (prompts >= LEAST_PROMPTS))
    means = topics(profiles, rows)
    sources.fit(means, prompts[rows])
    if not len(rows) or not len(sources.between):
        return _ties("topic", *_NOBODY, newcomer)
    regions = sources.regions(sources.place(means))
    return _ties("topic", np.repeat(rows, BANDS), _REGIONS[np.arange(BANDS), regions].ravel(), newcomer)


def manner_ties(
    profiles: Block, told: BoolVector, newcomer: BoolVector, manners: Mapping[int, Manner], now: int
) -> Ties:
    """For each account the campaigns, by number, in whose manner it asks. Background that asks otherwise, or no bare
    questions at all, is told too, for it says how rare a manner is; of newcomers nothing is held against them."""
    if not manners:
        return _ties("manner", *_NOBODY, newcomer)
    points, asked = bare_questions(profiles, now)
    rows = np.flatnonzero(told & (profiles["totals"][:, 0] >= LEAST_ASKED))
    elsewhere = ~newcomer[rows]
    account, trait = [], []
    for number, one in manners.items():
        inside = within(one, points[rows], asked[rows])
        elsewhere &= ~inside
        account.append(rows[inside])
        trait.append(np.full(int(inside.sum()), manner_trait(number), dtype=np.uint64))
    account.append(rows[elsewhere])
    trait.append(np.full(int(elsewhere.sum()), _ELSEWHERE, dtype=np.uint64))
    return _ties("manner", np.concatenate(account), np.concatenate(trait), newcomer)


def manner_trait(number: int) -> np.uint64:
    """The trait of those who ask in the manner of a campaign."""
    trait: np.uint64 = mix(np.array([number], dtype=np.uint64) ^ np.uint64(0x3A22_E400_0000_0000))[0]
    return trait


def pivot_ties(profiles: Block, told: BoolVector, now: int, cut: int) -> Ties:
    """For each account that lately went over to a model that it had not used, the model and the days around the instant
    it did: two spans of two days, a day apart, so that who does so within a day of another shares one of them. Whoever
    could have, with requests enough before and after, and did not is told as STAYED.

    When is told from how much more of the new model the week holds than the day, to some hours (half a day for people,
    who sleep), whenever the account was reported. A model that more than one in twelve of those who were reported since
    went over to is a launch: that is told of nobody. Where two models share a bucket, a pivot between them is missed.
    `now` and `cut`, until when what is shown is background, in ms.
    """
    lately = told & (profiles["at"] > now - LATELY_DAYS * DAY_MS) & (profiles["volumes"][:, _DAY, 0] >= LEAST_REQUESTS)
    rows = np.flatnonzero(lately & (profiles["at"] - profiles["first_at"] >= DAY_MS))
    at = profiles["at"][rows]
    day, week = profiles["models"][rows].astype(np.float64).sum(axis=2).T
    able = week - day >= LEAST_REQUESTS
    who, bucket, share, days = pivots(profiles["models"][rows], (at - profiles["first_at"][rows]) / DAY_MS)
    went_at = at[who] - (days * DAY_MS).astype(np.int64)
    meant = (share >= WENT_OVER) & ~_launched(bucket, went_at, at[able])
    who, bucket, went_at = who[meant], bucket[meant], went_at[meant]
    able[who] = False
    stayed = rows[able]
    spans = np.concatenate((went_at // (2 * DAY_MS) * 2, (went_at + DAY_MS) // (2 * DAY_MS) * 2 + 1))
    trait = traits("pivot", (spans * MODEL_BUCKETS + np.tile(bucket, 2)).astype(np.uint64))
    account = np.concatenate((np.tile(rows[who], 2), stayed))
    kind = np.full(len(account), NAMES.index("pivot"))
    old = np.concatenate((np.tile(went_at <= cut, 2), np.ones(len(stayed), dtype=bool)))
    return Ties(account, kind, np.concatenate((trait, np.full(len(stayed), STAYED))), old)


def _launched(bucket: IntVector, went_at: IntVector, reported_at: IntVector) -> BoolVector:
    """Which pivots went with many others'."""
    launched = np.zeros(MODEL_BUCKETS, dtype=bool)
    for one in np.unique(bucket).tolist():
        own = went_at[bucket == one]
        # Who was reported before the middle one of them went over could not have shown it.
        since = np.count_nonzero(reported_at >= np.median(own))
        launched[one] = len(own) > np.exp(-TELLING) * since
    return launched[bucket]


def together(parts: Sequence[Ties]) -> Ties:
    """All of these ties."""
    return Ties(
        np.concatenate([part.account for part in parts]),
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.trait for part in parts]),
        np.concatenate([part.old for part in parts]),
    )


def _ties(kind: str, account: IntVector, trait: Hashes, newcomer: BoolVector) -> Ties:
    return Ties(account, np.full(len(account), NAMES.index(kind)), trait, ~newcomer[account])
