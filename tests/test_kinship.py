"""Kinship: groups that share rare things of independent kinds, and only those."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.belonging import Kin
from models.kinship import kindred
from models.rarity import KINDS, LEAST_OWNERS, NAMES, Ties, holders, numbered, rarity

SETTLED = 200
"""Accounts of the background; each has a place, a card, a client and a first day; the settings are one of four."""


def town(*shown: tuple[int, str, int], newcomers: int = 0, old: bool = False) -> tuple[Ties, np.ndarray, np.ndarray]:
    """A background of settled accounts, numbered from 0, and newcomers after them that have `shown` (account, kind,
    trait) and are not `old`."""
    rows = [(account, "place", 1_000 + account, True) for account in range(SETTLED)]
    rows += [(account, "settings", 10 + account % 4, True) for account in range(SETTLED)]
    rows += [(account, "payment", 5_000 + account, True) for account in range(SETTLED)]
    rows += [(account, "stack", 7_000 + account % 40, True) for account in range(SETTLED)]
    rows += [(account, "cohort", 8_000 + account % 60, True) for account in range(SETTLED)]
    rows += [(account, kind, trait, old or account < SETTLED) for account, kind, trait in shown]
    account, kind, trait, held = zip(*rows, strict=True)
    ties = Ties(
        np.array(account),
        np.array([NAMES.index(name) for name in kind]),
        np.array(trait, dtype=np.uint64),
        np.array(held),
    )
    everyone = np.arange(SETTLED + newcomers)
    return ties, everyone, everyone < SETTLED


def groups(*shown: tuple[int, str, int], newcomers: int = 0, owner: dict[int, int] | None = None) -> list[list[int]]:
    ties, owners, established = town(*shown, newcomers=newcomers)
    for account, name in (owner or {}).items():
        owners[account] = name
    return [kin.members.tolist() for kin in kindred(ties, owners, established)]


NEW = list(range(SETTLED, SETTLED + 5))


def test_strangers_that_share_a_card_and_a_place_are_one_group() -> None:
    shown = [(account, kind, 7) for account in NEW for kind in ("payment", "place")]
    shown = [(account, kind, 90 + NAMES.index(kind)) for account, kind, _ in shown]
    assert groups(*shown, newcomers=5) == [NEW]


def test_one_kind_alone_joins_nobody() -> None:
    assert groups(*[(account, "payment", 90) for account in NEW], newcomers=5) == []


def test_two_kinds_of_one_group_join_nobody() -> None:
    """Whoever uses one tool shares its system prompt and its settings."""
    shown = [(account, kind, 90 + NAMES.index(kind)) for account in NEW for kind in ("system", "settings")]
    assert groups(*shown, newcomers=5) == []


def test_many_newcomers_with_one_rare_setup_are_one_group_though_they_share_only_the_day() -> None:
    shown = [(account, kind, 90 + NAMES.index(kind)) for account in NEW for kind in ("stack", "cohort")]
    others = [(account, "cohort", 90 + NAMES.index("cohort")) for account in range(NEW[-1] + 1, NEW[-1] + 41)]
    assert groups(*shown, *others, newcomers=45) == [NEW]


def test_newcomers_of_one_day_with_a_common_setup_are_strangers() -> None:
    """A quarter of the background has these settings, and so has a quarter of those who came today."""
    today = range(SETTLED, SETTLED + 40)
    shown = [(account, "cohort", 90) for account in today]
    shown += [(account, "settings", 10 + account % 4) for account in today]
    assert groups(*shown, newcomers=40) == []


def test_a_day_makes_no_group_with_anything_but_software() -> None:
    shown = [(account, kind, 90 + NAMES.index(kind)) for account in NEW for kind in ("place", "cohort")]
    assert groups(*shown, newcomers=5) == []


def test_an_hour_is_as_common_as_those_who_act_in_it_now() -> None:
    """The background cannot have what comes now: an hour of launch day is no rare thing because it is new."""
    today = [(account, "signup", 90) for account in range(SETTLED, SETTLED + 60)]
    ties, owners, established = town(*today, newcomers=60)
    found = rarity(ties, owners, established)
    # Too few of the background have shown an hour at all: then none of its hours means anything.
    assert found.weight[found.trait == 90] == [0.0]
    hours = [(account, "signup", 1_000 + account % 24) for account in range(SETTLED)]
    ties, owners, established = town(*today, *hours, newcomers=60, old=True)
    found = rarity(ties, owners, established)
    assert found.weight[found.trait == 90] == pytest.approx(-np.log(60.5 / 261))


def test_who_has_been_around_with_it_for_long_is_no_member() -> None:
    """One settled account has had the newcomers' setup and card since long ago."""
    crew = list(range(SETTLED, SETTLED + 20))
    shown = [(account, kind, 90 + NAMES.index(kind)) for account in [3, *crew] for kind in ("stack", "payment")]
    assert groups(*shown, newcomers=20) == [crew]


def test_who_has_other_settings_than_all_of_a_group_is_a_stranger_of_the_same_day() -> None:
    """A fifth of a campaign resells to customers with uncommon settings; a newcomer of that day uses those too."""
    crew, guest = list(range(SETTLED, SETTLED + 60)), SETTLED + 60
    shown = [(account, "cohort", 90) for account in [*crew, guest]]
    shown += [(account, "stack", 91) for account in crew]
    shown += [(account, "stack", 92) for account in [*range(3), *crew[:12], guest]]
    assert groups(*shown, newcomers=61) == [crew]


def test_what_the_background_has_tells_nothing() -> None:
    shown = [(account, "settings", 10) for account in NEW] + [(account, "payment", 90) for account in NEW]
    assert groups(*shown, newcomers=5) == []


def test_a_pair_that_the_background_has_together_tells_nothing() -> None:
    """Ten settled neighbours of one place pay with one card: whoever moves in there is no campaign."""
    settled = [(account, kind, 90 + NAMES.index(kind)) for account in range(10) for kind in ("payment", "place")]
    shown = [(account, kind, 90 + NAMES.index(kind)) for account in NEW for kind in ("payment", "place")]
    assert groups(*settled, *shown, newcomers=5) == []


def test_accounts_of_one_organisation_are_one_owner() -> None:
    shown = [(account, kind, 90 + NAMES.index(kind)) for account in NEW for kind in ("payment", "place")]
    assert groups(*shown, newcomers=5, owner=dict.fromkeys(NEW, 999)) == []


def test_two_owners_are_too_few() -> None:
    shown = [(account, kind, 90 + NAMES.index(kind)) for account in NEW[:2] for kind in ("payment", "place")]
    assert groups(*shown, newcomers=2) == []


def test_groups_that_share_different_things_stay_apart() -> None:
    shown = [
        (SETTLED + i, kind, 90 + 50 * (i % 2) + NAMES.index(kind)) for i in range(8) for kind in ("payment", "place")
    ]
    assert groups(*shown, newcomers=8) == [[SETTLED + i for i in range(0, 8, 2)], [SETTLED + i for i in range(1, 8, 2)]]


def test_two_programs_whose_users_share_a_card_and_a_place_are_two_groups() -> None:
    """A few that have both in common do not make a campaign's accounts out of a new tool's users."""
    those, others = NEW, [account + 5 for account in NEW]
    shown = [(account, "stack", 90) for account in those] + [(account, "stack", 91) for account in others]
    shown += [(account, "cohort", 92) for account in (*those, *others)]
    bridge = (*those[:3], *others[:3])
    shown += [(account, kind, 93 + NAMES.index(kind)) for account in bridge for kind in ("payment", "place")]
    assert groups(*shown, newcomers=10) == [those, others]


def test_who_shows_no_program_goes_with_the_largest_group() -> None:
    those, silent = NEW, [account + 5 for account in NEW]
    shown = [(account, "stack", 90) for account in those]
    shown += [(account, kind, 93 + NAMES.index(kind)) for account in (*those, *silent) for kind in ("payment", "place")]
    assert groups(*shown, newcomers=10) == [[*those, *silent]]


def test_a_system_prompt_that_anybody_may_have_is_no_program() -> None:
    """An account without settings resells to one customer, whose prompt is a common one: its manner still counts."""
    crew, hidden = list(range(SETTLED, SETTLED + 20)), SETTLED + 20
    shown = [(account, "system", 80) for account in (*range(SETTLED), hidden)]
    shown += [(account, "manner", 20 + (account > 2)) for account in range(SETTLED)]
    shown += [(account, "manner", 90) for account in (*crew, hidden)]
    shown += [(account, "stack", 91) for account in crew]
    shown += [(account, "cohort", 92) for account in (*crew, hidden)]
    assert groups(*shown, newcomers=21) == [[*crew, hidden]]


def test_a_system_prompt_of_its_own_is_a_program() -> None:
    """A batch job asks as fast and as briefly as a campaign does, under a prompt that nobody else has."""
    crew, batch = list(range(SETTLED, SETTLED + 20)), SETTLED + 20
    shown = [(account, "system", 60_000 + account) for account in (*range(40), batch)]
    shown += [(account, "manner", 20) for account in range(SETTLED)]
    shown += [(account, "manner", 90) for account in (*crew, batch)]
    shown += [(account, "stack", 91) for account in crew]
    shown += [(account, "cohort", 92) for account in (*crew, batch)]
    assert groups(*shown, newcomers=21) == [crew]


def test_who_runs_another_program_with_the_same_settings_is_a_stranger() -> None:
    """One background account in sixty has a campaign's settings; a newcomer of the day has them in a program of its
    own. The campaign has two."""
    crew, guest = list(range(SETTLED, SETTLED + 40)), SETTLED + 40
    shown = [(account, "settings", 90) for account in (0, 60, 120, *crew, guest)]
    shown += [(account, "stack", 91 + (account % 5 == 0)) for account in crew] + [(guest, "stack", 93)]
    shown += [(account, "cohort", 94) for account in (*crew, guest)]
    assert groups(*shown, newcomers=41) == [crew]


def test_of_eight_views_of_one_subject_the_average_counts() -> None:
    """One newcomer shares a region of topics in eight with a campaign by chance, another shares six."""
    crew, chance, kin = list(range(SETTLED, SETTLED + 20)), SETTLED + 20, SETTLED + 21
    shown = [(account, "topic", 300 + 50 * view + account % 50) for account in range(SETTLED) for view in range(8)]
    shown += [(account, "topic", 900 + view) for account in crew for view in range(8)]
    shown += [(chance, "topic", 900 + view if view < 1 else 2_000 + view) for view in range(8)]
    shown += [(kin, "topic", 900 + view if view < 6 else 2_000 + view) for view in range(8)]
    shown += [(account, "payment", 96) for account in (*crew, chance, kin)]
    ties, owners, established = town(*shown, newcomers=22)
    (group,) = kindred(ties, owners, established)
    assert group.members.tolist() == [*crew, chance, kin]
    odds = np.log(group.belonging / (1.0 - group.belonging))[-3:]
    assert odds[0] - odds[1] == pytest.approx(np.log(8), abs=0.3)
    assert odds[0] - odds[2] == pytest.approx(np.log(8 / 6), abs=0.3)


def test_nothing_is_told_while_there_is_no_background() -> None:
    account = np.repeat(np.arange(5), 2)
    kind = np.tile([NAMES.index("payment"), NAMES.index("place")], 5)
    ties = Ties(account, kind, kind.astype(np.uint64) + 90, np.zeros(10, bool))
    assert kindred(ties, np.arange(5), np.zeros(5, bool)) == []
    assert (
        kindred(Ties(*(np.zeros(0, t) for t in (int, int, np.uint64, bool))), np.zeros(0, int), np.zeros(0, bool)) == []
    )


def test_a_member_that_shows_something_else_throughout_does_not_belong() -> None:
    """A stranger behind the campaign's address block shares a trait by chance and nothing else."""
    shown = [(a, kind, 90 + NAMES.index(kind)) for a in NEW for kind in ("payment", "place", "system")]
    stranger = SETTLED + 5
    shown += [(stranger, "place", 90 + NAMES.index("place")), (stranger, "payment", 4_000), (stranger, "system", 4_001)]
    assert groups(*shown, newcomers=6) == [NEW]


def test_the_weight_of_a_trait_is_the_log_of_its_share_of_the_background() -> None:
    ties, owners, established = town()
    found = rarity(ties, owners, established)
    weight = dict(zip(found.trait.tolist(), found.weight.tolist(), strict=True))
    assert weight[10] == -np.log(50.5 / 201)  # a quarter of 200
    assert weight[1_000] == -np.log(1.5 / 201)


@given(
    st.lists(st.integers(0, 4), min_size=9, max_size=9),
    st.sets(st.tuples(st.integers(0, 5), st.integers(0, 8))),
)
def test_accounts_of_one_owner_hold_a_trait_once(owner: list[int], held: set[tuple[int, int]]) -> None:
    of, account = np.array(sorted(held), dtype=np.int64).reshape(-1, 2).T
    by_hand = [len({owner[account] for trait, account in held if trait == one}) for one in range(6)]
    assert holders(of, account, np.array(owner), 6).tolist() == by_hand


@given(st.lists(st.integers(0, 9), max_size=30))
def test_a_column_in_order_is_numbered_as_any_column_is(values: list[int]) -> None:
    values = np.sort(np.array(values, dtype=np.int64))
    expected = np.unique(values, return_inverse=True)
    assert [column.tolist() for column in numbered(values)] == [column.tolist() for column in expected]


def test_an_account_keeps_traits_of_every_kind_but_those_worked_out_from_its_profile() -> None:
    assert {name for name, kind in KINDS.items() if not kind.kept} == {"topic", "manner", "pivot"}


@settings(max_examples=25)
@given(st.randoms(use_true_random=False), st.integers(3, 12))
def test_the_order_of_links_and_accounts_changes_nothing(luck: Random, size: int) -> None:
    new = range(SETTLED, SETTLED + size)
    ties, owners, established = town(
        *[(account, kind, 90 + NAMES.index(kind)) for account in new for kind in ("payment", "place")], newcomers=size
    )
    order = list(range(len(ties.account)))
    luck.shuffle(order)
    mixed = Ties(*(column[order] for column in (ties.account, ties.kind, ties.trait, ties.old)))

    def told(found: list[Kin]) -> list[tuple[list[int], list[float]]]:
        return [(kin.members.tolist(), kin.belonging.round(9).tolist()) for kin in found]

    assert told(kindred(mixed, owners, established)) == told(kindred(ties, owners, established))
    assert len(told(kindred(ties, owners, established))[0][0]) == max(size, LEAST_OWNERS)
