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
from .rarity import (
    COHORT,
    GROUP_OF,
    GROUPS,
    LEAST_OWNERS,
    MANNER,
    SOFTWARE,
    Rarity,
    Ties,
    different,
    distinct,
    rarity,
    tells,
)

SETUP: Final = np.array([SOFTWARE, MANNER])
"""A day is coarse: it makes a pair with these groups only, where so many newcomers with one setup are more than chance.
"""

SURPRISE: Final = 9.0
"""Nats by which the owners of a pair must exceed what chance explains. With millions of pairs under test, e^-9 each
leaves some by chance; they are small, and the campaign's own evidence judges them."""

PURITY: Final = 0.1
"""The most of a pair's owners that chance may explain."""

BUCKET_BITS: Final = 22
"""Four million buckets, over which pairs are spread by Fibonacci hashing (Knuth, "The Art of Computer Programming",
volume 3, section 6.4)."""

PAIRED: Final = {"identity": 2, "place": 3, "software": 3, "content": 10, "time": 6, "manner": 2}
"""How many telling traits of each group an account brings into pairs."""


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
    pair, holder, old = _pairs(account, trait, held_old, found)
    if not len(pair):
        return []
    known = np.zeros(len(established), dtype=bool)
    known[ties.account] = True
    crowd = Crowd(owner, int(owner.max()) + 1, established, float(established[known].mean()))
    joined = _surprising(pair, holder, old, crowd, found)
    return _components(joined, pair, holder, ties, crowd, found, telling)


def _pairs(
    account: IntVector, trait: IntVector, old: BoolVector, found: Rarity
) -> tuple[npt.NDArray[np.int64], IntVector, BoolVector]:
    """Pairs of telling traits of different groups that one account holds: (pair as trait * size + trait, account, both
    held for long)."""
    group = GROUP_OF[found.kind[trait]]
    # The traits that most owners share first: a pair of two of them is where a group shows.
    order = np.lexsort((-found.owners[trait], group, account))
    account, trait, old, group = account[order], trait[order], old[order], group[order]
    fresh = np.ones(len(account), dtype=bool)
    fresh[1:] = (account[1:] != account[:-1]) | (group[1:] != group[:-1])
    starts = np.flatnonzero(fresh)
    rank = np.arange(len(account)) - starts[np.cumsum(fresh) - 1]
    rows, row = np.unique(account, return_inverse=True)
    widths = np.array([PAIRED[name] for name in GROUPS])
    ends = np.cumsum(widths)
    # One row a place of a group, one column an account: pairs of places are then compared in one stretch of memory.
    table = np.full((int(ends[-1]), len(rows)), -1, dtype=np.int64)
    held = np.zeros(table.shape, dtype=bool)
    fits = rank < widths[group]
    place = (ends - widths)[group] + rank
    table[place[fits], row[fits]] = trait[fits]
    held[place[fits], row[fits]] = old[fits]
    several = (np.add.reduceat(table >= 0, ends - widths, axis=0) > 0).sum(axis=0) >= 2
    table, held, rows = table[:, several], held[:, several], rows[several]
    size = len(found.trait)
    shown = table >= 0
    fine = shown & (found.kind[table] != COHORT)
    beyond = np.repeat(ends, widths).tolist()
    # What the other place of a pair allows.
    allowed = [shown if setup else fine for setup in np.repeat(np.isin(np.arange(len(GROUPS)), SETUP), widths)]
    pairs, holders, olds = [], [], []
    for i in range(len(table)):
        for j in range(beyond[i], len(table)):
            both = np.flatnonzero(allowed[j][i] & allowed[i][j])
            pairs.append(table[i, both] * size + table[j, both])
            holders.append(rows[both])
            olds.append(held[i, both] & held[j, both])
    pair = np.concatenate(pairs)
    shared = np.flatnonzero(_often(pair))
    return pair[shared], np.concatenate(holders)[shared], np.concatenate(olds)[shared]


def _often(pair: npt.NDArray[np.int64]) -> BoolVector:
    """Which pairs may come LEAST_OWNERS times. Most are one account's own: counted in buckets none that comes so often
    is missed, and few are left to sort."""
    spread = pair.view(np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15) >> np.uint64(64 - BUCKET_BITS)
    bucket = spread.view(np.int64)
    often: BoolVector = (np.bincount(bucket, minlength=1 << BUCKET_BITS) >= LEAST_OWNERS)[bucket]
    return often


def _surprising(
    pair: npt.NDArray[np.int64],
    holder: IntVector,
    old: BoolVector,
    crowd: Crowd,
    found: Rarity,
) -> BoolVector:
    """Which of the (pair, holder) rows belong to a pair that more owners hold than chance and the background explain.

    Of n owners where e are expected, n log(n / e) - (n - e) is the log-likelihood ratio of two Poisson counts.
    """
    unique, of = np.unique(pair, return_inverse=True)
    owners = distinct(of, crowd.owner[holder], len(unique))
    background = distinct(of[old], crowd.owner[holder[old]], len(unique))
    one, other = unique // len(found.trait), unique % len(found.trait)
    old_crowd = max(different(crowd.owner[crowd.established]), 1)
    by_chance = np.exp(-found.weight[one] - found.weight[other])
    expected = crowd.size * np.maximum(by_chance, background / old_crowd)
    n = np.maximum(owners, 1)
    surprise = n * np.log(n / expected) - (n - expected)
    telling: BoolVector = (owners >= LEAST_OWNERS) & (surprise >= SURPRISE) & (expected <= PURITY * n)
    return telling[of]


def _components(
    joined: BoolVector,
    pair: npt.NDArray[np.int64],
    holder: IntVector,
    ties: Ties,
    crowd: Crowd,
    found: Rarity,
    telling: BoolVector,
) -> list[Kin]:
    """Accounts that hold a common pair, and those that hold a common pair with them: one group for each setup among
    them, without the members that do not belong."""
    if not joined.any():
        return []
    _, of_pair = np.unique(pair[joined], return_inverse=True)
    rows, of_row = np.unique(holder[joined], return_inverse=True)
    size = len(rows) + int(of_pair.max()) + 1
    graph = coo_array((np.ones(len(of_row), np.int8), (of_row, len(rows) + of_pair)), shape=(size, size))
    _, label = connected_components(graph, directed=False)
    label = label[: len(rows)]
    place = np.full(int(ties.account.max()) + 1, -1)
    place[rows] = np.arange(len(rows))
    inside = np.flatnonzero(place[ties.account] >= 0)
    by_label = inside[np.argsort(label[place[ties.account[inside]]], kind="stable")]
    labels = label[place[ties.account[by_label]]]
    cuts = np.flatnonzero(np.diff(labels)) + 1
    parts = [piece for part in np.split(by_label, cuts) for piece in _setups(part, ties, found, telling)]
    groups = [belonging(part, ties, crowd, found) for part in parts]
    return sorted((kin for kin in groups if kin is not None), key=lambda kin: (-len(kin.members), int(kin.members[0])))


def _setups(part: IntVector, ties: Ties, found: Rarity, telling: BoolVector) -> list[IntVector]:
    """The ties of one component, apart for each setup among its accounts. `telling` says which traits tell something.

    Thousands of newcomers to whom one hour and one subject are common hang together by a few of them, whatever they
    are: a campaign, the users of a new tool, people. What tells them apart is the program. An account goes with the
    telling software of its own that most of the others hold; with the largest setup where it shows no program at all,
    and with the likes of it where it shows none that tells.
    """
    rows, row = np.unique(ties.account[part], return_inverse=True)
    of, kind = found.of[part], ties.kind[part]
    own = np.flatnonzero((GROUP_OF[kind] == SOFTWARE) & telling[of])
    if not len(own):
        return [part]
    _, trait, holders = np.unique(of[own], return_inverse=True, return_counts=True)
    # By account, and of each the most common trait first.
    order = np.lexsort((-holders[trait], row[own]))
    owner, first = np.unique(row[own][order], return_index=True)
    home = np.full(len(rows), -1)
    home[owner] = trait[order][first]
    home[~with_setup(row, found.program[of], len(rows))] = np.bincount(home[owner]).argmax()
    by_home = np.argsort(home[row], kind="stable")
    return np.split(part[by_home], np.flatnonzero(np.diff(home[row[by_home]])) + 1)
