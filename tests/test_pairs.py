"""Pairs: those that three accounts hold are found, with all who hold them, and nothing that nobody holds."""

from collections import defaultdict
from itertools import combinations
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.pairs import PAIRED, pairs
from models.rarity import COHORT, GROUP_OF, GROUPS, LEAST_OWNERS, MANNER, NAMES, PIVOT, SOFTWARE, Rarity

TRAITS = 30

HELD = st.sets(st.tuples(st.integers(0, 7), st.integers(0, TRAITS - 1)), min_size=1, max_size=120)
KINDS = st.lists(st.integers(0, len(NAMES) - 1), min_size=TRAITS, max_size=TRAITS)


def rare(kinds: list[int], account: np.ndarray, of: np.ndarray) -> Rarity:
    owners = np.bincount(of, minlength=TRAITS)
    none, weight = np.zeros(TRAITS, dtype=np.int64), np.full(TRAITS, 5.0)
    return Rarity(np.arange(TRAITS, dtype=np.uint64), np.array(kinds), owners, none, weight, none > 0, of)


def one_by_one(account: np.ndarray, of: np.ndarray, old: np.ndarray, found: Rarity) -> dict[tuple[int, int], dict]:
    """For each pair of traits who holds it, and whether for long: by hand."""
    holders: dict[tuple[int, int], dict[int, bool]] = defaultdict(dict)
    for own in set(account.tolist()):
        brought = []
        for group, name in enumerate(GROUPS):
            shown = [place for place in np.flatnonzero(account == own) if GROUP_OF[found.kind[of[place]]] == group]
            brought += sorted(shown, key=lambda place: -found.owners[of[place]])[: PAIRED[name]]
        for one, other in combinations(brought, 2):
            kinds = found.kind[of[one]], found.kind[of[other]]
            groups = [GROUP_OF[kind] for kind in kinds]
            setup = {SOFTWARE, MANNER} & set(groups)
            if groups[0] != groups[1] and (not {COHORT, PIVOT} & set(kinds) or setup):
                holders[int(of[one]), int(of[other])][own] = bool(old[one] and old[other])
    return holders


@settings(max_examples=50)
@given(HELD, KINDS, st.randoms(use_true_random=False))
def test_they_are_what_one_finds_one_by_one(held: set[tuple[int, int]], kinds: list[int], luck: Random) -> None:
    account, of = np.array(sorted(held)).T
    order = np.random.default_rng(luck.getrandbits(32)).permutation(len(account))
    account, of = account[order], of[order]
    old = (account + of) % 3 > 0
    found = rare(kinds, account, of)
    told: dict[tuple[int, int], dict[int, bool]] = defaultdict(dict)
    for pair, holder, long in zip(*(column.tolist() for column in pairs(account, of, old, found)), strict=True):
        assert holder not in told[divmod(pair, TRAITS)]
        told[divmod(pair, TRAITS)][holder] = long
    by_hand = one_by_one(account, of, old, found)
    assert all(by_hand[pair] == who for pair, who in told.items())
    assert {pair for pair, who in by_hand.items() if len(who) >= LEAST_OWNERS} <= told.keys()
