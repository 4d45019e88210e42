"""Constellation: the accounts of one campaign and the traits they share, as a graph small enough to look at."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .campaign import Campaign, Member, Shared

MOST_STARS: Final = 28
"""Nodes of accounts at most: those that share the same traits are one."""

MOST_TRAITS: Final = 20


@dataclass(frozen=True, slots=True)
class Star:
    """Accounts that share the same: their names, those served most first, and the requests they were served. For each
    trait of the constellation, `holds` is the share of them that has it."""

    accounts: tuple[str, ...]
    requests: float
    holds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Constellation:
    """Stars, those of most requests first, and the traits between them, rare and common ones, by kind."""

    campaign: Campaign
    traits: tuple[Shared, ...]
    stars: tuple[Star, ...]
    unseen: int
    """Shared traits that are left out: worked out anew at each look (topics), or not among the most shared."""


def constellation(campaign: Campaign, members: Sequence[Member], held: Mapping[str, set[int]]) -> Constellation:
    """The graph of a campaign; `held` gives for each member the traits (hashes) it showed.

    Accounts that hold the same traits are one star. Where that leaves too many, the traits that fewest share count no
    longer for who is alike, one after the other; every star still says how many of its accounts hold each.
    """
    seen = {trait for own in held.values() for trait in own}
    drawn = [shared for shared in campaign.shared if shared.trait in seen]
    traits = sorted(drawn, key=lambda shared: -shared.share)[:MOST_TRAITS]
    holds = np.zeros((len(members), len(traits)), dtype=bool)
    for row, member in enumerate(members):
        own = held.get(member.account, set())
        holds[row] = [shared.trait in own for shared in traits]
    counted = len(traits)
    while len({row.tobytes() for row in holds[:, :counted]}) > MOST_STARS and counted:
        counted -= 1
    alike: dict[bytes, list[int]] = defaultdict(list)
    for row in range(len(members)):
        alike[holds[row, :counted].tobytes()].append(row)
    stars = [
        Star(
            tuple(members[row].account for row in rows),
            sum(members[row].requests for row in rows),
            tuple(holds[rows].mean(axis=0).tolist()),
        )
        for rows in alike.values()
    ]
    stars.sort(key=lambda star: (-star.requests, star.accounts))
    return Constellation(campaign, tuple(traits), tuple(stars), len(campaign.shared) - len(traits))
