"""Belonging: who of the accounts that hang together is one of them.

Thousands of newcomers hang together by an hour, a subject, common settings; those of a campaign are alike in what one
pipeline makes: its program, what it asks, its manner. Naive Bayes over what each account shows, for and against.
"""

from typing import Final, NamedTuple

import numpy as np

from .detector import BoolVector, FloatMatrix, FloatVector, IntVector
from .rarity import (
    GROUP_OF,
    GROUPS,
    LEAST_OWNERS,
    MANNER,
    NAMES,
    SOFTWARE,
    TOPIC,
    Rarity,
    Ties,
    different,
    holders,
    numbered,
    showing,
    tells,
)

MEMBER: Final = 0.9
"""Probability from which an account counts as one of a group. In recorded looks at a twentieth of full size six of 14
strangers lay between 0.8 and this, and one look at a member in 10,000; of a list split over 500 accounts one in 200
(simulated)."""

COMMON: Final = 0.05
"""What so large a share of a group's owners has is common among them."""

LEAST_OTHERS: Final = 0.05
"""The least share of a group that may show something else than the rest: nobody is cleared by one oddity."""

ARRIVAL: Final = np.array([NAMES.index(name) for name in ("signup", "debut", "cohort")])
"""Kinds that tell when an account came."""

ALIKE: Final = np.isin(GROUP_OF, [GROUPS.index(group) for group in ("software", "content", "manner")])
"""Kinds in which the accounts of one campaign are alike, as one pipeline makes them."""


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


def belonging(part: IntVector, ties: Ties, crowd: Crowd, found: Rarity) -> Kin | None:
    """A group from the ties of its accounts, which are in the order of accounts: what its owners share, and how likely
    each account is one of them.

    Naive Bayes over the groups of kinds: in each the trait that speaks loudest for or against, log(share of the group
    / share of the background); what an account lacks is no evidence, what it has instead is. What it showed when it was
    background is its own, and in a group of newcomers who has been around for long is likely no member.
    """
    account, trait = ties.account[part], found.of[part]
    members, row = numbered(account)
    numbers, owner = np.unique(crowd.owner[members], return_inverse=True)
    owners = len(numbers)
    if owners < LEAST_OWNERS:
        return None
    traits, of = np.unique(trait, return_inverse=True)
    held_by = holders(of, row, owner, len(traits))
    kind = found.kind[traits]
    with_kind = showing(kind[of], owner[row])
    share = held_by / np.maximum(with_kind[kind], 1)
    background = np.exp(-found.weight[traits])
    telling = tells(found.weight[traits], kind) & (held_by >= LEAST_OWNERS)
    speaks = np.where(telling, np.log(np.maximum(share, 1e-9) / background), 0.0)
    own = ties.old[part] & crowd.established[account]
    said = _speaking(row, kind[of], np.where(own, 0.0, np.maximum(speaks[of], 0.0)), len(members))
    against = _lacking(row, kind[of], (telling & (share >= COMMON))[of], said)
    # A manner stands in for what is not shown: honest batch jobs, with a setup of their own, ask like harvesters too.
    theirs = said[:, GROUP_OF == SOFTWARE].any(axis=1) & (against[:, SOFTWARE] == 0)
    said[np.ix_(with_setup(row, found.program[trait], len(members)) & ~theirs, GROUP_OF == MANNER)] = 0.0
    independent = (_loudest(said) > 0).sum(axis=1)
    settled = crowd.established[members]
    among, usual = np.clip((settled.mean(), crowd.settled), 0.02, 0.98)
    new = float(np.log((1.0 - among) / (1.0 - usual)))
    # That an account is new is weighed by itself: of when it came only what is left tells.
    said[:, ARRIVAL] = np.maximum(said[:, ARRIVAL] - np.where(settled, 0.0, max(new, 0.0))[:, None], 0.0)
    odds = (_loudest(said) + against).sum(axis=1) + np.where(settled, np.log(among / usual), new)
    probability = 1.0 / (1.0 + np.exp(-np.clip(odds + np.log(owners / crowd.size), -30, 30)))
    kept = (probability >= MEMBER) & (independent >= 2)
    if different(owner[kept]) < LEAST_OWNERS:
        return None
    order = np.argsort(-share * telling, kind="stable")[:32]
    shared = [
        (int(found.trait[traits[i]]), int(kind[i]), float(share[i]), float(background[i]))
        for i in order.tolist() if telling[i]
    ]  # fmt: skip
    return Kin(members[kept], probability[kept], shared)


def with_setup(row: IntVector, program: BoolVector, accounts: int) -> BoolVector:
    """Which accounts show a program, telling or not: of each tie the account is given and whether it shows one."""
    shows = np.zeros(accounts, dtype=bool)
    shows[row[program]] = True
    return shows


def _speaking(row: IntVector, kind: IntVector, speaks: FloatVector, members: int) -> FloatMatrix:
    """What speaks for each account in each kind (members, kinds): the loudest of its traits. The regions of its topic
    mean are views of one thing, so it is what they say on average, not the best of several tries. Given are the
    account, the kind and the weight of each tie."""
    said = np.zeros((members, len(NAMES)))
    np.maximum.at(said.reshape(-1), row * len(NAMES) + kind, speaks)  # in one dimension numpy is ten times as fast
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
