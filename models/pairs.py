"""Pairs: telling traits of independent groups that one account holds, as far as several accounts may hold them."""

from typing import Final

import numpy as np
import numpy.typing as npt

from .detector import BoolVector, IntVector
from .rarity import COHORT, GROUP_OF, GROUPS, LEAST_OWNERS, MANNER, PIVOT, SOFTWARE, Rarity

SETUP: Final = np.array([SOFTWARE, MANNER])
"""A day is coarse: it makes a pair with these groups only, where so many newcomers with one setup are more than chance.
So is a pivot: of those who ask about one subject, or are one small team, many like a new model on one day."""

MOST_BUCKET_BITS: Final = 22
"""At most four million buckets, else one or two a pair, over which pairs are spread by Fibonacci hashing (Knuth, "The
Art of Computer Programming", volume 3, section 6.4)."""

PAIRED: Final = {"identity": 2, "place": 3, "software": 3, "content": 10, "time": 6, "manner": 2}
"""How many telling traits of each group an account brings into pairs."""

_WIDTHS: Final = np.array([PAIRED[name] for name in GROUPS])
_DAY, _NO_SETUP = 2, 1
_MEETS: Final = np.where(np.isin(GROUP_OF, SETUP), 0, _NO_SETUP).astype(np.int8)
_MEETS[[COHORT, PIVOT]] = _DAY
"""What each kind counts as in a pair: a day and what is no setup make none."""


def pairs(
    account: IntVector, trait: IntVector, old: BoolVector, found: Rarity
) -> tuple[npt.NDArray[np.int64], IntVector, BoolVector]:
    """Pairs of telling traits of different groups that one account holds: (pair as trait * size + trait, account, both
    held for long)."""
    group = GROUP_OF[found.kind[trait]]
    place = account * len(GROUPS) + group
    # The traits that most owners share first: a pair of two of them is where a group shows.
    most = int(found.owners.max())
    order = np.argsort(place * (most + 1) + most - found.owners[trait], kind="stable")
    begins, _ = _stretch(place[order])
    order = order[np.arange(len(order)) - begins < _WIDTHS[group[order]]]
    account, trait, old, place = account[order], trait[order], old[order], place[order]
    # Each meets what its account shows of later groups: what stands from the end of its own to that of the account.
    _, from_ = _stretch(place)
    _, to = _stretch(account)
    met = to - from_
    other = np.arange(int(met.sum())) + np.repeat(from_ - np.cumsum(met) + met, met)
    pair = np.repeat(trait * len(found.trait), met) + trait[other]
    meets = _MEETS[found.kind[trait]]
    shared = np.flatnonzero(_often(pair) & (np.repeat(meets, met) + meets[other] != _DAY + _NO_SETUP))
    other = other[shared]
    return pair[shared], account[other], np.repeat(old, met)[shared] & old[other]


def _stretch(ordered: IntVector) -> tuple[IntVector, IntVector]:
    """Where the stretch of equal values begins and ends that each value of an ordered column stands in."""
    cuts = np.flatnonzero(np.diff(ordered)) + 1
    edges = np.concatenate(([0], cuts, [len(ordered)]))
    lengths = np.diff(edges)
    return np.repeat(edges[:-1], lengths), np.repeat(edges[1:], lengths)


def _often(pair: npt.NDArray[np.int64]) -> BoolVector:
    """Which pairs may come LEAST_OWNERS times. Most are one account's own: counted in buckets none that comes so often
    is missed, and few are left to sort."""
    bits = min(MOST_BUCKET_BITS, len(pair).bit_length())
    spread = pair.view(np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15) >> np.uint64(64 - bits)
    bucket = spread.view(np.int64)
    often: BoolVector = (np.bincount(bucket, minlength=1 << bits) >= LEAST_OWNERS)[bucket]
    return often
