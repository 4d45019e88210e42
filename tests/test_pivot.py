"""Pivot: accounts that go over to one model on one day share that, unless many others do too."""

from collections.abc import Iterable
from functools import cache

import numpy as np
from crowds import World
from stories import DAY, HOUR, T0, request
from test_profiles import observed

from gateway.request import Request
from models.kinship import kindred
from models.rarity import NAMES, STAYED, Ties, rarity
from streams.inferred import pivot_ties, together
from streams.profiles import Block

BEFORE, NEW, OTHER = "a", "c", "d"
"""Models of three buckets."""

PIVOT_AT = T0 + 4 * DAY
NOW = T0 + 5 * DAY


def asked(
    account: str, *models: tuple[float, str], until: float = 5.0, daily: int = 12, **shown: object
) -> list[Request]:
    """Requests at an even pace, of the model that was last begun with: (day, model)."""
    begins = models[0][0]
    found = []
    for n in range(round((until - begins) * daily)):
        day = begins + n / daily
        model = [name for since, name in models if since <= day][-1]
        found.append(request(account, int(T0 + day * DAY), id=f"{account}-{n}", model=model, **shown))
    return found


def profiles(*accounts: Iterable[Request]) -> Block:
    """One profile for each account, in their order."""
    sent = [list(requests) for requests in accounts]
    return observed([one for requests in sent for one in requests]).table[: len(sent)]


@cache
def told(*models: tuple[tuple[float, str], ...], until: tuple[float, ...] = (), now: int = NOW) -> list[set[int]]:
    """The traits of each of some accounts among a hundred that keep to their model."""
    crew = [
        asked(f"eve{n}", *each, until=until[n] if until else 5.0, daily=24) for n, each in enumerate(models)
    ]  # fmt: skip
    block = profiles(*crew, *(asked(f"ada{n}", (0, BEFORE)) for n in range(100)))
    ties = pivot_ties(block, np.ones(len(block), dtype=bool), now, T0)
    assert set(ties.kind.tolist()) == {NAMES.index("pivot")}
    return [set(ties.trait[ties.account == number].tolist()) for number in range(len(models))]


WENT = ((0.0, BEFORE), (4.0, NEW))


def town(pivots: int, settled: int = 300) -> tuple[Ties, np.ndarray]:
    """Settled accounts and, after them, newcomers with a program of their own; the last `pivots` of all go over to
    another model on one day."""
    everybody = settled + 20
    block = profiles(
        *(asked(f"a{n}", *(WENT if n >= everybody - pivots else WENT[:1]), until=5.2) for n in range(everybody))
    )
    ties = pivot_ties(block, np.ones(everybody, dtype=bool), NOW, T0)
    account = np.arange(everybody)
    program = np.where(account < settled, account % 40, 99).astype(np.uint64) + np.uint64(1_000)
    stack = Ties(account, np.full(everybody, NAMES.index("stack")), program, account < settled)
    return together((stack, ties)), account < settled


def test_a_few_that_go_over_to_one_model_on_one_day_share_what_tells_and_with_one_program_are_a_group() -> None:
    ties, established = town(pivots=20)
    owner = np.arange(320)
    found = rarity(ties, owner, established)
    weight = found.weight[(found.kind == NAMES.index("pivot")) & (found.trait != STAYED)]
    assert np.allclose(weight, -np.log(20.5 / 321))
    (group,) = kindred(ties, owner, established)
    assert group.members.tolist() == list(range(300, 320))
    assert {NAMES[kind] for _, kind, *_ in group.traits} == {"stack", "pivot"}


def test_without_the_pivot_one_program_joins_nobody() -> None:
    ties, established = town(pivots=0)
    assert kindred(ties, np.arange(320), established) == []


def test_who_stays_says_how_rare_a_pivot_is_and_shares_nothing() -> None:
    ties, established = town(pivots=20)
    found = rarity(ties, np.arange(320), established)
    (stayed,) = np.flatnonzero(found.trait == STAYED)
    assert (found.owners[stayed], found.established[stayed], found.weight[stayed]) == (300, 300, 0.0)


def test_a_day_on_which_many_go_over_is_a_launch_and_tells_nothing() -> None:
    """A quarter of everybody, and all of the newcomers."""
    ties, established = town(pivots=80)
    assert set(ties.trait[ties.kind == NAMES.index("pivot")].tolist()) == {int(STAYED)}
    assert kindred(ties, np.arange(320), established) == []


def test_a_launch_is_told_by_those_who_were_reported_since() -> None:
    """Of 320 only 40 were heard of since the launch, ten of which went over: that is a quarter."""
    crew = [asked(f"eve{n}", *WENT) for n in range(10)]
    heard = [asked(f"ada{n}", (0, BEFORE)) for n in range(30)]
    unheard = [asked(f"bob{n}", (0, BEFORE), until=3.5) for n in range(280)]
    block = profiles(*crew, *heard, *unheard)
    ties = pivot_ties(block, np.ones(320, dtype=bool), NOW, T0)
    assert set(ties.trait.tolist()) == {int(STAYED)}


def test_who_goes_over_on_both_sides_of_midnight_shares_a_trait() -> None:
    late, early = told(((0.0, BEFORE), (3.7, NEW)), ((0.0, BEFORE), (4.3, NEW)))
    assert len(late) == len(early) == 2
    assert len(late & early) == 1


def test_when_an_account_was_reported_changes_nothing() -> None:
    """Twelve hours after it went over, a day, and two and a half."""
    reports = told(WENT, WENT, WENT, until=(4.5, 5.0, 6.5), now=T0 + 13 * DAY // 2)
    assert set.intersection(*reports) - {int(STAYED)}


def test_other_days_and_other_models_are_other_traits() -> None:
    first, later, elsewhere = told(
        ((0.0, BEFORE), (2.6, NEW)), ((0.0, BEFORE), (4.5, NEW)), ((0.0, BEFORE), (4.5, OTHER))
    )
    assert not first & later
    assert not later & elsewhere
    assert all(len(each) == 2 for each in (first, later, elsewhere))


def test_half_of_the_traffic_is_enough_and_a_tenth_is_not() -> None:
    half = [*asked("eve", (0, BEFORE)), *asked("eve", (4, NEW))]
    tenth = [*asked("bob", (0, BEFORE), daily=100), *asked("bob", (4, NEW))]
    block = profiles(half, tenth, *(asked(f"ada{n}", (0, BEFORE)) for n in range(100)))
    ties = pivot_ties(block, np.ones(len(block), dtype=bool), NOW, T0)
    traits = [set(ties.trait[ties.account == number].tolist()) for number in range(2)]
    assert len(traits[0] - {int(STAYED)}) == 2
    assert traits[1] == {int(STAYED)}


def test_a_new_account_that_tries_two_models_on_its_first_day_shows_nothing() -> None:
    assert told(((4.2, BEFORE), (4.5, NEW))) == [set()]
    assert told(((3.6, BEFORE), (4.2, NEW))) == [{int(STAYED)}]


def test_who_comes_back_to_its_only_model_after_a_week_shows_nothing() -> None:
    """There is no other that it used before."""
    back = [*asked("eve", (0, NEW), until=2), *asked("eve", (9, NEW), until=10)]
    block = profiles(back, *(asked(f"ada{n}", (5, BEFORE), until=10) for n in range(100)))
    ties = pivot_ties(block, np.ones(101, dtype=bool), T0 + 10 * DAY, T0)
    assert set(ties.trait.tolist()) == {int(STAYED)}


def test_who_has_always_used_two_models_stays() -> None:
    both = [*asked("eve", (0, BEFORE)), *asked("eve", (0.01, NEW), daily=10)]
    assert set(pivot_ties(profiles(both), np.ones(1, dtype=bool), NOW, T0).trait.tolist()) == {int(STAYED)}


def test_who_sent_little_before_or_after_shows_nothing() -> None:
    few = asked("eve", *WENT, daily=5)
    assert not len(pivot_ties(profiles(few), np.ones(1, dtype=bool), NOW, T0).trait)


def test_a_pivot_is_forgotten_three_days_after_it_was_reported() -> None:
    block = profiles(*(asked(f"eve{n}", *WENT) for n in range(3)), *(asked(f"ada{n}", (0, BEFORE)) for n in range(97)))
    everybody = np.ones(100, dtype=bool)
    assert len(pivot_ties(block, everybody, NOW + 2 * DAY, T0).account) == 6 + 97
    assert not len(pivot_ties(block, everybody, NOW + 3 * DAY, T0).account)


def test_what_an_account_may_not_be_judged_by_is_not_told() -> None:
    assert not len(pivot_ties(profiles(asked("eve", *WENT)), np.zeros(1, dtype=bool), NOW, T0).account)


def with_shared(ties: Ties, kind: str) -> Ties:
    """The same, and the newcomers share something else that others have one by one."""
    account = np.arange(320)
    trait = np.where(account < 300, account, 999).astype(np.uint64) + np.uint64(5_000)
    return together((ties, Ties(account, np.full(320, NAMES.index(kind)), trait, account < 300)))


def test_a_pivot_and_one_card_are_no_group() -> None:
    """Friends who pay with one card like a new model on one day."""
    ties, established = town(pivots=20)
    ties = with_shared(ties, "payment")
    told = ties.kind != NAMES.index("stack")
    ties = Ties(ties.account[told], ties.kind[told], ties.trait[told], ties.old[told])
    assert kindred(ties, np.arange(320), established) == []


def test_nobody_is_a_stranger_for_having_stayed() -> None:
    """Half of those with one program and one card go over."""
    ties, established = town(pivots=10)
    (group,) = kindred(with_shared(ties, "payment"), np.arange(320), established)
    assert group.members.tolist() == list(range(300, 320))
    assert "pivot" in {NAMES[kind] for _, kind, *_ in group.traits}


def test_a_campaign_agent_finds_accounts_of_one_program_by_the_day_they_went_over() -> None:
    """Five accounts came half a day apart, each with a card and a place of its own."""
    people = [
        one
        for n in range(200)
        for one in asked(
            f"ada{n}", (n / 1_000, BEFORE), until=10, daily=8 + n % 12, client="web",
            max_tokens=(1_000, 2_000, 4_000)[n % 3], org=f"org-{n}",
        )
    ]  # fmt: skip
    crew = [
        one
        for n in range(5)
        for one in asked(
            f"eve{n}", (5.1 + n / 2.1, BEFORE), (8.05, NEW), until=10, daily=48, client="sdk", max_tokens=16_384,
            temperature=0.6, org=f"org-eve{n}",
        )
    ]  # fmt: skip
    world = World().run([*people, *crew])
    world.run([request("late", T0 + 10 * DAY + HOUR)])
    (found,) = world.campaigns.found.values()
    assert {one.kind for one in found.shared} == {"settings", "stack", "pivot"}
    assert {one.account for one in world.campaigns.members_of(found)} == {f"eve{n}" for n in range(5)}
