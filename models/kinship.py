"""Kinship: which accounts share more than strangers do, by rare traits of independent kinds.

A **trait** is something an account showed: a card, an address block, a prompt. How much it tells is learned from the
background, the accounts that have been around for long: what many of them share is worth nothing. Two accounts are
never joined by one trait, nor by two of one group (whoever uses one tool shares its system prompt and its settings):
what joins is a **pair** of traits from independent groups that far more owners hold than chance and the background
explain. Accounts of one organisation are one owner: a company is no campaign.

Prior art: SynchroTrap (Cao and others, "Uncovering large groups of active malicious accounts in online social
networks", 2014) and CopyCatch (Beutel and others, 2013) join accounts by what they do at the same time; rarity stands
here in place of their fixed thresholds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from .detector import BoolVector, FloatMatrix, FloatVector, IntVector

Hashes = npt.NDArray[np.uint64]


class Kind(NamedTuple):
    """A kind of trait: what it is independent of, and how many of its newest traits an account keeps; none where they
    are worked out from its profile."""

    group: str
    kept: int


KINDS: Final[Mapping[str, Kind]] = {
    "payment": Kind("identity", 2),
    "place": Kind("place", 4),
    "system": Kind("software", 4),
    "settings": Kind("software", 8),
    "prefix": Kind("content", 4),
    "band": Kind("content", 4),
    "prompt": Kind("content", 6),
    "topic": Kind("content", 0),
    "signup": Kind("time", 1),
    "debut": Kind("time", 2),
    "second": Kind("time", 4),
    "stack": Kind("software", 4),
    "cohort": Kind("time", 2),
    "manner": Kind("manner", 0),
}
"""Every kind of trait; a new one goes to the end, for messages name a kind by its place here. `place` is the address
block together with the client fingerprint; `settings` are max_tokens, temperature, top_p and choices together, `stack`
those with the client fingerprint; `prefix` and `band` are beginnings and near copies that one account sent twice,
`prompt` is a sample of what it sent once; `signup` the hour an account was opened in; `debut` the minute of its first
request, `cohort` its day; `second` a second in which a slow account acted; `topic` a region of topic means (see
`same_source`); `manner` that of a campaign that was acted on (see `manner`).
"""

NAMES: Final = tuple(KINDS)
GROUPS: Final = tuple(dict.fromkeys(kind.group for kind in KINDS.values()))
GROUP_OF: Final = np.array([GROUPS.index(kind.group) for kind in KINDS.values()])

PASSING: Final = np.array([kind.group == "time" for kind in KINDS.values()])
"""Kinds of which the background cannot have what comes now: how rare an hour is tells how many act in it today."""

ARRIVAL: Final = np.array([NAMES.index(name) for name in ("signup", "debut", "cohort")])
"""Kinds that tell when an account came."""

COHORT: Final = NAMES.index("cohort")
TOPIC: Final = NAMES.index("topic")
SOFTWARE: Final = GROUPS.index("software")
MANNER: Final = GROUPS.index("manner")
SETUP: Final = np.array([SOFTWARE, MANNER])
"""A day is coarse: it makes a pair with these groups only, where so many newcomers with one setup are more than chance.
"""

PROGRAM: Final = np.array([NAMES.index("settings"), NAMES.index("stack")])
"""Kinds that show a program, whatever it is; a system prompt shows one only where it is not everybody's."""

SYSTEM: Final = NAMES.index("system")
EVERYBODYS: Final = 1 / 12
"""The share of those with a system prompt from which one is everybody's."""

ALIKE: Final = np.isin(GROUP_OF, [GROUPS.index(group) for group in ("software", "content", "manner")])
"""Kinds in which the accounts of one campaign are alike, as one pipeline makes them."""

LEAST_BACKGROUND: Final = 50
"""Established owners that must have shown a kind of trait before its rarity means anything."""

LEAST_OWNERS: Final = 3
"""Two owners that share two rare things may be one person's two accounts."""

TELLING: Final = 2.5
"""Log-odds: a trait that more than one in twelve of the background has tells nothing."""

SURPRISE: Final = 9.0
"""Nats by which the owners of a pair must exceed what chance explains. With millions of pairs under test, e^-9 each
leaves some by chance; they are small, and the campaign's own evidence judges them."""

PURITY: Final = 0.1
"""The most of a pair's owners that chance may explain."""

MEMBER: Final = 0.9
"""Probability from which an account counts as one of a group: in the arena and at full size most below it were
strangers, while one member in a thousand was."""

COMMON: Final = 0.05
"""What so large a share of a group's owners has is common among them."""

LEAST_OTHERS: Final = 0.05
"""The least share of a group that may show something else than the rest: nobody is cleared by one oddity."""

BUCKET_BITS: Final = 22
"""Four million buckets, over which pairs are spread by Fibonacci hashing (Knuth, "The Art of Computer Programming",
volume 3, section 6.4)."""

PAIRED: Final = {"identity": 2, "place": 3, "software": 3, "content": 10, "time": 6, "manner": 2}
"""How many telling traits of each group an account brings into pairs."""


@dataclass(frozen=True, slots=True)
class Ties:
    """Links as columns of equal length, no (account, trait) twice: who (a row of the account columns), what kind (an
    index into NAMES), which trait, and whether it was held for long (`old`)."""

    account: IntVector
    kind: IntVector
    trait: Hashes
    old: BoolVector


class Rarity(NamedTuple):
    """Every trait once, ascending: its kind, its owners now, its owners in the background, its weight -log(share of the
    background), 0 where its kind has too little background, and whether it shows a program; `of` gives the trait of
    each tie."""

    trait: Hashes
    kind: IntVector
    owners: IntVector
    established: IntVector
    weight: FloatVector
    program: BoolVector
    of: IntVector


class Crowd(NamedTuple):
    """Everybody: the owner of each account, numbered from 0 to below `size`; which accounts are background, and their
    share of those that have shown anything."""

    owner: IntVector
    size: int
    established: BoolVector
    settled: float


class Kin(NamedTuple):
    """A group of accounts: rows of its members, ascending, each one's probability of belonging, and for each of its
    telling traits (trait, kind, share of its owners that hold it, share of the background that does)."""

    members: IntVector
    belonging: FloatVector
    traits: list[tuple[int, int, float, float]]


def rarity(ties: Ties, owner: IntVector, established: BoolVector) -> Rarity:
    """How rare each trait is. `owner` numbers the owner of each account from 0, `established` marks the background."""
    trait, first, of = np.unique(ties.trait, return_index=True, return_inverse=True)
    kind = ties.kind[first]
    own = owner[ties.account]
    owners = _distinct(of, own, len(trait))
    old = established[ties.account] & ties.old
    background = _distinct(of[old], own[old], len(trait))
    seen = established[ties.account]
    crowd = _distinct(ties.kind[seen], own[seen], len(NAMES))
    share = (background + 0.5) / (crowd[kind] + 1.0)
    everybody = _distinct(ties.kind, own, len(NAMES))
    share = np.where(PASSING[kind], np.maximum(share, (owners + 0.5) / (everybody[kind] + 1.0)), share)
    weight = np.where(crowd[kind] >= LEAST_BACKGROUND, np.maximum(-np.log(share), 0.0), 0.0)
    program = np.isin(kind, PROGRAM) | ((kind == SYSTEM) & (owners < EVERYBODYS * everybody[kind]))
    return Rarity(trait, kind, owners, background, weight, program, of)


def kindred(ties: Ties, owner: IntVector, established: BoolVector, found: Rarity | None = None) -> list[Kin]:
    """The groups that share more than chance and the background explain, largest first. At least LEAST_OWNERS owners.

    O(n log n) in the number of ties; no pair of accounts is ever compared.
    """
    found = found if found is not None else rarity(ties, owner, established)
    telling = (found.owners >= LEAST_OWNERS) & _tells(found.weight, found.kind)
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


def _tells(weight: FloatVector, kind: IntVector) -> BoolVector:
    """What tells something. What many do today may still be more than chance together with something else."""
    tells: BoolVector = (weight >= TELLING) | (PASSING[kind] & (weight > 0))
    return tells


def _distinct(of: IntVector, own: IntVector, size: int) -> IntVector:
    """Distinct values of `own` for each value of `of` below `size`."""
    if not len(of):
        return np.zeros(size, dtype=np.int64)
    span = int(own.max()) + 1
    # By sorting: `np.unique` hashes integers, and is a hundred times slower on such products.
    ordered = np.sort(of.astype(np.int64) * span + own)
    first = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    counts: IntVector = np.bincount(ordered[first] // span, minlength=size)
    return counts


def _different(owners: IntVector) -> int:
    """How many different owners there are among those given."""
    return len(set(owners.tolist()))


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
    of_place = np.repeat(np.arange(len(GROUPS)), widths)
    pairs, holders, olds = [], [], []
    for i, one in enumerate(of_place.tolist()):
        for j in range(int(ends[one]), len(table)):
            of_one = shown if of_place[j] in SETUP else fine
            of_other = shown if one in SETUP else fine
            both = np.flatnonzero(of_one[i] & of_other[j])
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
    owners = _distinct(of, crowd.owner[holder], len(unique))
    background = _distinct(of[old], crowd.owner[holder[old]], len(unique))
    one, other = unique // len(found.trait), unique % len(found.trait)
    old_crowd = max(_different(crowd.owner[crowd.established]), 1)
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
    groups = [_belonging(part, ties, crowd, found) for part in parts]
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
    home[~_with_setup(row, found.program[of], len(rows))] = np.bincount(home[owner]).argmax()
    by_home = np.argsort(home[row], kind="stable")
    return np.split(part[by_home], np.flatnonzero(np.diff(home[row[by_home]])) + 1)


def _with_setup(row: IntVector, program: BoolVector, accounts: int) -> BoolVector:
    """Which accounts show a program, telling or not: of each tie the account is given and whether it shows one."""
    shows = np.zeros(accounts, dtype=bool)
    shows[row[program]] = True
    return shows


def _speaking(row: IntVector, kind: IntVector, speaks: FloatVector, members: int) -> FloatMatrix:
    """What speaks for each account in each kind (members, kinds): the loudest of its traits. The regions of its topic
    mean are views of one thing, so it is what they say on average, not the best of several tries. Given are the
    account, the kind and the weight of each tie."""
    said = np.zeros((members, len(NAMES)))
    np.maximum.at(said, (row, kind), speaks)
    view = kind == TOPIC
    views = np.maximum(np.bincount(row[view], minlength=members), 1)
    said[:, TOPIC] = np.log(np.maximum(np.bincount(row[view], np.exp(speaks[view]), members) / views, 1.0))
    return said


def _lacking(row: IntVector, kind: IntVector, common: BoolVector, said: FloatMatrix) -> FloatMatrix:
    """What speaks against each account in each group of kinds: of a kind it has shown something, but nothing that is
    common among the others; the loudest kind counts. Cards, addresses and hours are everybody's own.

    Given are the account and the kind of each tie, whether its trait is common, and what `_speaking` found.
    """
    shown, has = np.zeros(said.shape, dtype=bool), np.zeros(said.shape, dtype=bool)
    shown[row, kind] = True
    has[row[common], kind[common]] = True
    has[:, TOPIC] &= said[:, TOPIC] > 0
    has[:, ~ALIKE] = True
    covered = (has & shown).sum(axis=0) / np.maximum(shown.sum(axis=0), 1)
    surprise = np.where(shown & ~has, -np.log(np.maximum(1.0 - covered, LEAST_OTHERS)), 0.0)
    return -_loudest(surprise)


def _loudest(said: FloatMatrix) -> FloatMatrix:
    """Of each group of kinds the loudest: (members, kinds) to (members, groups)."""
    loudest = np.zeros((len(said), len(GROUPS)))
    np.maximum.at(loudest.T, GROUP_OF, said.T)
    return loudest


def _belonging(part: IntVector, ties: Ties, crowd: Crowd, found: Rarity) -> Kin | None:
    """A group from the ties of its accounts: what its owners share, and how likely each account is one of them.

    Naive Bayes over the groups of kinds: in each the trait that speaks loudest for or against, log(share of the group
    / share of the background); what an account lacks is no evidence, what it has instead is. What it showed when it was
    background is its own, and in a group of newcomers who has been around for long is likely no member.
    """
    members, row = np.unique(ties.account[part], return_inverse=True)
    trait = found.of[part]
    owners = _different(crowd.owner[members])
    if owners < LEAST_OWNERS:
        return None
    traits, of = np.unique(trait, return_inverse=True)
    holders = _distinct(of, crowd.owner[ties.account[part]], len(traits))
    kind = found.kind[traits]
    with_kind = _distinct(ties.kind[part], crowd.owner[ties.account[part]], len(NAMES))
    share = holders / np.maximum(with_kind[kind], 1)
    background = np.exp(-found.weight[traits])
    telling = _tells(found.weight[traits], kind) & (holders >= LEAST_OWNERS)
    speaks = np.where(telling, np.log(np.maximum(share, 1e-9) / background), 0.0)
    own = ties.old[part] & crowd.established[ties.account[part]]
    said = _speaking(row, kind[of], np.where(own, 0.0, np.maximum(speaks[of], 0.0)), len(members))
    against = _lacking(row, kind[of], (telling & (share >= COMMON))[of], said)
    # A manner stands in for what is not shown: honest batch jobs, with a setup of their own, ask like harvesters too.
    theirs = said[:, GROUP_OF == SOFTWARE].any(axis=1) & (against[:, SOFTWARE] == 0)
    said[np.ix_(_with_setup(row, found.program[trait], len(members)) & ~theirs, GROUP_OF == MANNER)] = 0.0
    independent = (_loudest(said) > 0).sum(axis=1)
    settled = crowd.established[members]
    among, usual = np.clip((settled.mean(), crowd.settled), 0.02, 0.98)
    new = float(np.log((1.0 - among) / (1.0 - usual)))
    # That an account is new is weighed by itself: of when it came only what is left tells.
    said[:, ARRIVAL] = np.maximum(said[:, ARRIVAL] - np.where(settled, 0.0, max(new, 0.0))[:, None], 0.0)
    odds = (_loudest(said) + against).sum(axis=1) + np.where(settled, np.log(among / usual), new)
    belonging = 1.0 / (1.0 + np.exp(-np.clip(odds + np.log(owners / crowd.size), -30, 30)))
    kept = (belonging >= MEMBER) & (independent >= 2)
    if _different(crowd.owner[members[kept]]) < LEAST_OWNERS:
        return None
    order = np.argsort(-share * telling, kind="stable")[:32]
    shared = [
        (int(found.trait[traits[i]]), int(kind[i]), float(share[i]), float(background[i]))
        for i in order.tolist() if telling[i]
    ]  # fmt: skip
    return Kin(members[kept], belonging[kept], shared)
