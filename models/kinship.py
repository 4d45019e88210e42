"""Kinship: which accounts share more than strangers do, by rare traits of independent kinds.

Two accounts are never joined by one trait, nor by two of one group (whoever uses one tool shares its system prompt and
its settings): what joins is a **pair** of traits from independent groups that far more owners hold than chance and the
background explain (see `rarity`). Accounts of one organisation are one owner: a company is no campaign. Who of those
that hang together belongs to the group is told by `belonging`.

Prior art: SynchroTrap (Cao and others, "Uncovering large groups of active malicious accounts in online social
networks", 2014) and CopyCatch (Beutel and others, 2013) join accounts by what they do at the same time; rarity stands
here in place of their fixed thresholds.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from .belonging import Crowd, Kin, belonging, with_setup
from .detector import BoolVector, IntVector
from .pairs import pairs
from .rarity import (
    GROUP_OF,
    LEAST_OWNERS,
    SOFTWARE,
    Rarity,
    Ties,
    different,
    holders,
    numbered,
    rarity,
    tells,
)

SURPRISE: Final = 9.0
"""Nats by which the owners of a pair must exceed what chance explains. With millions of pairs under test, e^-9 each
leaves some by chance; they are small, and the campaign's own evidence judges them."""

PURITY: Final = 0.1
"""The most of a pair's owners that chance may explain."""


def kindred(ties: Ties, owner: IntVector, established: BoolVector, found: Rarity | None = None) -> list[Kin]:
    """The groups that share more than chance and the background explain, largest first. At least LEAST_OWNERS owners.

    O(n log n) in the number of ties; no pair of accounts is ever compared.
    """
    found = found if found is not None else rarity(ties, owner, established)
    telling = (found.owners >= LEAST_OWNERS) & tells(found.weight, found.kind)
    chosen = np.flatnonzero(telling[found.of])
    if not len(chosen):
        return []
    account, trait = ties.account[chosen], found.of[chosen]
    held_old = ties.old[chosen] & established[account]
    pair, holder, old = pairs(account, trait, held_old, found)
    if not len(pair):
        return []
    known = np.zeros(len(established), dtype=bool)
    known[ties.account] = True
    crowd = Crowd(owner, int(owner.max()) + 1, established, float(established[known].mean()))
    unique, of = np.unique(pair, return_inverse=True)
    joined = _surprising(unique, of, holder, old, crowd, found)[of]
    parts = _components(of[joined], holder[joined], ties, len(owner))
    groups = [belonging(piece, ties, crowd, found) for part in parts for piece in _setups(part, ties, found, telling)]
    return sorted((kin for kin in groups if kin is not None), key=lambda kin: (-len(kin.members), int(kin.members[0])))


def _surprising(
    pair: npt.NDArray[np.int64],
    of: IntVector,
    holder: IntVector,
    old: BoolVector,
    crowd: Crowd,
    found: Rarity,
) -> BoolVector:
    """Which pairs more owners hold than chance and the background explain. `of` gives the pair that each holder holds.

    Of n owners where e are expected, n log(n / e) - (n - e) is the log-likelihood ratio of two Poisson counts.
    """
    owners = holders(of, holder, crowd.owner, len(pair))
    background = holders(of[old], holder[old], crowd.owner, len(pair))
    one, other = pair // len(found.trait), pair % len(found.trait)
    old_crowd = max(different(crowd.owner[crowd.established]), 1)
    by_chance = np.exp(-found.weight[one] - found.weight[other])
    expected = crowd.size * np.maximum(by_chance, background / old_crowd)
    n = np.maximum(owners, 1)
    surprise = n * np.log(n / expected) - (n - expected)
    telling: BoolVector = (owners >= LEAST_OWNERS) & (surprise >= SURPRISE) & (expected <= PURITY * n)
    return telling


def _components(of: IntVector, holder: IntVector, ties: Ties, accounts: int) -> list[IntVector]:
    """The ties of accounts that hold a common pair, and of those that hold a common pair with them, in the order of
    accounts: one part for each such component. `of` gives the pair that each holder holds."""
    if not len(of):
        return []
    # Whoever holds a pair is joined to one that holds it: as good as to each of them.
    another = np.empty(int(of.max()) + 1, dtype=np.int64)
    another[of] = holder
    graph = coo_array((np.ones(len(of), dtype=bool), (holder, another[of])), shape=(accounts, accounts))
    _, label = connected_components(graph, directed=False)
    joined = np.zeros(accounts, dtype=bool)
    joined[holder] = True
    inside = np.flatnonzero(joined[ties.account])
    labels = label[ties.account[inside]].astype(np.int64)
    order = np.argsort(labels * accounts + ties.account[inside], kind="stable")
    return np.split(inside[order], np.flatnonzero(np.diff(labels[order])) + 1)


def _setups(part: IntVector, ties: Ties, found: Rarity, telling: BoolVector) -> list[IntVector]:
    """The ties of one component, in the order of accounts, apart for each setup among them. `telling` says which traits
    tell something.

    Thousands of newcomers to whom one hour and one subject are common hang together by a few of them, whatever they
    are: a campaign, the users of a new tool, people. What tells them apart is the program. An account goes with the
    telling software of its own that most of the others hold; with the largest setup where it shows no program at all,
    and with the likes of it where it shows none that tells.
    """
    rows, row = numbered(ties.account[part])
    of, kind = found.of[part], ties.kind[part]
    own = np.flatnonzero((GROUP_OF[kind] == SOFTWARE) & telling[of])
    if not len(own):
        return [part]
    _, trait, times = np.unique(of[own], return_inverse=True, return_counts=True)
    # By account, and of each the most common trait first.
    order = np.lexsort((-times[trait], row[own]))
    owner, first = np.unique(row[own][order], return_index=True)
    home = np.full(len(rows), -1)
    home[owner] = trait[order][first]
    home[~with_setup(row, found.program[of], len(rows))] = np.bincount(home[owner]).argmax()
    by_home = np.argsort(home[row], kind="stable")
    return np.split(part[by_home], np.flatnonzero(np.diff(home[row[by_home]])) + 1)
