"""Typical: peers are those who have long done what they do; an attack in its first days is nobody's peer."""

import numpy as np
import pytest
from stories import DAY, HOUR, MINUTE, T0

from models.signals import SIGNALS, WORDS
from streams.features import features
from streams.profiles import Block, Profiles, blank
from streams.typical import LOOK_MS, Typical, settled
from streams.whole import pick

NOW = T0 + 30 * DAY
"""Watching began at T0."""

AUTOMATION = list(SIGNALS).index("automation")


def steady(count: int, day: float = 3_000, *, first_at: int = T0, hours: int = 168) -> Block:
    """Accounts that have sent `day` requests a day ever since, round the clock, with one settings and no sketches."""
    block = blank(count)
    days = (NOW - first_at) / DAY
    block["at"], block["first_at"], block["plan"], block["opened_at"] = NOW, first_at, 7, T0 - 90 * DAY
    for place, span in ((2, 1.0), (3, 7.0)):
        block["volumes"][:, place, 0] = day * span * -np.expm1(-days / span)
    block["totals"][:, 0] = day * days
    block["hours"][:, :hours] = 1
    block["models"][:, :, 2] = 1.0
    return block


def looked(*crowds: Block, on_a_rung: int = 0) -> Typical:
    """What a look at these accounts finds; the last few of them are on a rung."""
    block = np.concatenate(crowds)
    if on_a_rung:
        block["rung"][-on_a_rung:] = 2
    profiles = Profiles()
    profiles.put(profiles.rows([f"a{n}" for n in range(len(block))]), block)
    typical = Typical()
    typical.look(profiles, NOW, T0)
    return typical


def automation(typical: Typical, one: Block) -> float:
    """What its even pace round the clock, worth 1, still weighs."""
    weights = np.zeros((1, len(SIGNALS)))
    weights[0, AUTOMATION] = 0.7
    return float(typical.bounded(weights, one, features(one, T0))[0, AUTOMATION])


def test_among_those_who_all_run_round_the_clock_it_says_nothing() -> None:
    machines, people = steady(300, day=20_000), steady(300, day=100, hours=20)
    typical = looked(machines, people)
    assert automation(typical, machines[:1]) < 0.1
    assert automation(typical, people[:1]) == 0.7


def test_newcomers_in_full_swing_do_not_make_each_other_typical() -> None:
    newcomers = steady(3_000, day=20_000, first_at=NOW - 12 * HOUR)
    assert automation(looked(steady(300, day=100, hours=20), newcomers), newcomers[:1]) == 0.7


def test_nor_do_accounts_that_slept_for_weeks_before_they_began() -> None:
    sleepers = steady(3_000, day=20_000, first_at=NOW - 12 * HOUR)
    sleepers["first_at"] = T0
    assert automation(looked(steady(300, day=100, hours=20), sleepers), sleepers[:1]) == 0.7


def test_nor_do_accounts_on_a_rung() -> None:
    caught = steady(300, day=20_000)
    assert automation(looked(steady(300, day=100, hours=20), caught, on_a_rung=300), caught[:1]) == 0.7


@pytest.mark.parametrize(
    ("first_at", "peer"),
    [(T0, True), (NOW - 8 * DAY, True), (NOW - 6 * DAY, False), (NOW - HOUR, False)],
)
def test_an_account_is_a_peer_after_a_week_of_the_same(first_at: int, peer: bool) -> None:
    assert settled(steady(1, first_at=first_at), NOW, T0).tolist() == [peer]


def test_when_watching_has_just_begun_everybody_is_a_peer() -> None:
    assert settled(steady(1, first_at=NOW - MINUTE), NOW, NOW - 10 * MINUTE).all()
    assert settled(steady(1, first_at=NOW - 2 * DAY), NOW, NOW - 2 * DAY).all()


def test_who_was_not_seen_for_a_week_is_no_peer() -> None:
    assert not settled(steady(1), NOW + 8 * DAY, T0).any()


def test_of_an_account_on_another_plan_other_things_are_typical() -> None:
    large, small = steady(200, day=20_000), steady(200, day=100)
    small["plan"] = 9
    typical = looked(large, small)
    assert typical.median("requests_day", pick(large, slice(0, 1))) == pytest.approx(20_000, rel=0.01)
    assert typical.median("requests_day", pick(small, slice(0, 1))) == pytest.approx(100, rel=0.01)
    reason = typical.reason("volume", 1.2, "requests_day", {"requests_day": 40_000.0}, pick(small, slice(0, 1)))
    assert reason.text == "sends 40,000 requests a day; 100 is typical"
    assert (reason.observed, reason.typical) == (40_000, 100)


def test_before_enough_was_seen_a_reason_names_nothing_typical() -> None:
    few = steady(20)
    reason = looked(few).reason("volume", 1.2, "requests_day", {"requests_day": 40_000.0}, few[:1])
    assert reason.text == "sends 40,000 requests a day"
    assert reason.typical is None
    assert all(looked(few).median(word, few[:1]) is None for word in WORDS)


def test_it_looks_again_after_some_hours_or_when_there_are_twice_as_many() -> None:
    profiles, typical = Profiles(), Typical()
    profiles.put(profiles.rows([f"a{n}" for n in range(200)]), steady(200, day=100))
    typical.look(profiles, NOW, T0)
    one = profiles.table[:1].copy()

    profiles.put(profiles.rows([f"a{n}" for n in range(200)]), steady(200, day=900))
    typical.look(profiles, NOW + LOOK_MS - 1, T0)
    assert typical.median("requests_day", one) == pytest.approx(100, rel=0.01)
    typical.look(profiles, NOW + LOOK_MS, T0)
    assert typical.median("requests_day", one) == pytest.approx(900, rel=0.01)

    profiles.put(profiles.rows([f"b{n}" for n in range(300)]), steady(300, day=2_000))
    typical.look(profiles, NOW + LOOK_MS, T0)
    assert typical.median("requests_day", one) == pytest.approx(2_000, rel=0.01)
