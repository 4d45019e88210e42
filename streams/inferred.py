"""Inferred: ties that no single request shows, worked out from the profiles at each look for groups.

Where an account's topics lie, and whether it asks in the manner of a campaign that was acted on. No message tells them
and no acquaintance holds them.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from models.detector import BoolVector, IntVector
from models.manner import LEAST_ASKED, Manner, within
from models.rarity import NAMES, Ties
from models.same_source import BANDS, BITS, LEAST_PROMPTS, Sources

from .distinct import Hashes, mix
from .portrait import bare_questions, effective_prompts, topics
from .profiles import Block

_ELSEWHERE: Final = np.uint64(0xE15E_3E1E)
"""The manner of the others."""

_REGIONS: Final = mix(
    ((np.arange(BANDS)[:, None] << 32) + np.arange(1 << BITS) + 1).astype(np.uint64) ^ np.uint64(0x7090_1C5E)
)
"""The trait of each region of each band."""

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
