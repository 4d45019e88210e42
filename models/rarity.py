"""Rarity: what accounts may have in common, and how much each thing tells.

A **trait** is something an account showed: a card, an address block, a prompt. How much it tells is learned from the
background, the accounts that have been around for long: what many of them share is worth nothing. Accounts of one
organisation are one owner.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from .detector import BoolVector, FloatVector, IntVector

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
    "pivot": Kind("time", 0),
}
"""Every kind of trait; a new one goes to the end, for messages name a kind by its place here. `place` is the address
block together with the client fingerprint; `settings` are max_tokens, temperature, top_p and choices together, `stack`
those with the client fingerprint; `prefix` and `band` are beginnings and near copies that one account sent twice,
`prompt` is a sample of what it sent once; `signup` the hour an account was opened in; `debut` the minute of its first
request, `cohort` its day; `second` a second in which a slow account acted; `topic` a region of topic means (see
`same_source`); `manner` that of a campaign that was acted on (see `manner`); `pivot` a model that an account went over
to, with the days around the instant it did.
"""

NAMES: Final = tuple(KINDS)
GROUPS: Final = tuple(dict.fromkeys(kind.group for kind in KINDS.values()))
GROUP_OF: Final = np.array([GROUPS.index(kind.group) for kind in KINDS.values()])

PASSING: Final = np.array([kind.group == "time" for kind in KINDS.values()])
"""Kinds of which the background cannot have what comes now: how rare an hour is tells how many act in it today."""

STAYED: Final = np.uint64(0x57A1_ED57_A1ED)
"""The trait of those who could have gone over to another model and did not: they say how rare a pivot is, and share
nothing."""

COHORT: Final = NAMES.index("cohort")
PIVOT: Final = NAMES.index("pivot")
TOPIC: Final = NAMES.index("topic")
SOFTWARE: Final = GROUPS.index("software")
MANNER: Final = GROUPS.index("manner")

PROGRAM: Final = np.array([NAMES.index("settings"), NAMES.index("stack")])
"""Kinds that show a program, whatever it is; a system prompt shows one only where it is not everybody's."""

SYSTEM: Final = NAMES.index("system")
EVERYBODYS: Final = 1 / 12
"""The share of those with a system prompt from which one is everybody's."""

LEAST_BACKGROUND: Final = 50
"""Established owners that must have shown a kind of trait before its rarity means anything."""

LEAST_OWNERS: Final = 3
"""Two owners that share two rare things may be one person's two accounts."""

TELLING: Final = 2.5
"""Log-odds: a trait that more than one in twelve of the background has tells nothing."""


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
    background), 0 for STAYED and where its kind has too little background, and whether it shows a program; `of` gives
    the trait of each tie."""

    trait: Hashes
    kind: IntVector
    owners: IntVector
    established: IntVector
    weight: FloatVector
    program: BoolVector
    of: IntVector


def rarity(ties: Ties, owner: IntVector, established: BoolVector) -> Rarity:
    """How rare each trait is. `owner` numbers the owner of each account from 0, `established` marks the background."""
    trait, of = np.unique(ties.trait, return_inverse=True)
    kind = np.empty(len(trait), dtype=ties.kind.dtype)
    kind[of[::-1]] = ties.kind[::-1]  # the first of equal traits is written last; `unique` takes twice as long for it
    owners = holders(of, ties.account, owner, len(trait))
    seen = established[ties.account]
    old = seen & ties.old
    background = holders(of[old], ties.account[old], owner, len(trait))
    own = owner[ties.account]
    everybody, crowd = showing(ties.kind, own), showing(ties.kind[seen], own[seen])
    share = (background + 0.5) / (crowd[kind] + 1.0)
    share = np.where(PASSING[kind], np.maximum(share, (owners + 0.5) / (everybody[kind] + 1.0)), share)
    meant = (crowd[kind] >= LEAST_BACKGROUND) & (trait != STAYED)
    weight = np.where(meant, np.maximum(-np.log(share), 0.0), 0.0)
    program = np.isin(kind, PROGRAM) | ((kind == SYSTEM) & (owners < EVERYBODYS * everybody[kind]))
    return Rarity(trait, kind, owners, background, weight, program, of)


def tells(weight: FloatVector, kind: IntVector) -> BoolVector:
    """What tells something. What many do today may still be more than chance together with something else."""
    telling: BoolVector = (weight >= TELLING) | (PASSING[kind] & (weight > 0))
    return telling


def holders(of: IntVector, account: IntVector, owner: IntVector, size: int) -> IntVector:
    """Different owners for each value of `of` below `size`, given the accounts that hold it, none twice. An account
    that is its owner's only one needs but to be counted, and most are."""
    several = (np.bincount(owner)[owner] > 1)[account]
    counts: IntVector = np.bincount(of[~several], minlength=size)
    return counts + distinct(of[several], owner[account[several]], size)


def showing(kind: IntVector, own: IntVector) -> IntVector:
    """Different owners that show something of each kind."""
    shows = np.zeros((len(NAMES), int(own.max(initial=-1)) + 1), dtype=bool)
    shows[kind, own] = True
    counts: IntVector = np.count_nonzero(shows, axis=1)
    return counts


def distinct(of: IntVector, own: IntVector, size: int) -> IntVector:
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


def numbered(ordered: IntVector) -> tuple[IntVector, IntVector]:
    """The different values of a column that is in order, and the number of each place's, as `np.unique` tells them of
    any column."""
    first = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first], np.cumsum(first) - 1


def different(owners: IntVector) -> int:
    """How many different owners there are among those given."""
    return int(np.count_nonzero(np.bincount(owners)))
