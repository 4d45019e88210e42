"""The brake: counts within an hour, pulls, and lets go by the rule that the policy states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stories import HOUR, MINUTE, T0

from sinks.brake import Brake, Said
from sinks.rules import Limits

LIMITS = Limits(accounts=0.1, traffic=0.5, least=3, seconds=3_600)


def brake(part: float = 1.0) -> Brake:
    """A brake that has seen 100 accounts with 1,000 requests in the first minute of an hour."""
    made = Brake(LIMITS, part)
    made.seen(T0, 100, 1_000)
    return made


@pytest.mark.parametrize(("accounts", "pulled"), [(0, False), (9, False), (10, False), (11, True), (100, True)])
def test_it_is_pulled_above_its_share_of_accounts(accounts: int, pulled: bool) -> None:
    made = brake()
    made.stopped(T0, accounts, 1)
    assert (made.turn(T0) == "pulled") is made.pulled is pulled


@pytest.mark.parametrize(("requests", "pulled"), [(0, False), (500, False), (501, True)])
def test_it_is_pulled_above_its_share_of_traffic(requests: int, pulled: bool) -> None:
    made = brake()
    made.stopped(T0, 3, requests)
    assert (made.turn(T0) == "pulled") is pulled


def test_few_accounts_never_pull_it_whatever_their_share() -> None:
    made = brake()
    made.stopped(T0, 2, 1_000)
    assert made.turn(T0) is None


def test_of_twelve_partitions_each_takes_its_part_of_the_least_number() -> None:
    made = brake(part=1 / 12)
    made.stopped(T0, 1, 1_000)
    assert made.turn(T0) == "pulled"


def test_an_hour_slides() -> None:
    made = brake()
    made.stopped(T0, 20, 1)
    for minutes, left in ((30, 20), (60, 20), (90, 10), (120, 0), (180, 0)):
        # Of this clock hour all counts, of the one before what still lies within sixty minutes.
        assert made.shares(T0 + minutes * MINUTE).stopped == left


def test_it_lets_go_after_its_time_when_half_the_shares_are_not_reached() -> None:
    made = brake()
    made.stopped(T0, 20, 1)
    assert made.turn(T0) == "pulled"
    made.seen(T0 + HOUR, 100, 1_000)
    assert made.turn(T0 + HOUR - 1) is None
    # At the end of the first hour all 20 of 200 still count: 10 %, above half of the limit.
    assert made.turn(T0 + HOUR) is None
    # 40 minutes on a third of the first hour is left: 6.7 of 133, which is 5 %.
    assert made.turn(T0 + HOUR + 39 * MINUTE) is None
    assert made.turn(T0 + HOUR + 41 * MINUTE) == "released"
    assert not made.pulled


def test_without_limits_it_is_never_pulled_and_lets_go_at_once() -> None:
    made = brake()
    made.stopped(T0, 100, 1_000)
    made.turn(T0)
    made.limits = None
    assert not made.pulled
    assert made.turn(T0) is None


@given(st.lists(st.tuples(st.integers(0, 10 * HOUR), st.integers(0, 50), st.integers(0, 50)), max_size=30))
def test_shares_are_shares_and_no_count_is_below_nothing(told: list[tuple[int, int, int]]) -> None:
    made = Brake(LIMITS)
    for after, seen, stopped in told:
        made.seen(T0 + after, seen, seen)
        made.stopped(T0 + after, stopped, stopped)
        count, accounts, traffic = made.shares(T0 + after)
        assert count >= 0
        assert 0 <= accounts <= 1
        assert 0 <= traffic <= 1


def test_people_hear_when_it_is_pulled_each_hour_while_it_is_and_when_it_is_over() -> None:
    made, said = brake(), Said()
    assert said.of(made, "v1", T0) == []
    made.stopped(T0, 20, 100)
    made.turn(T0)
    (first,) = said.of(made, "v1", T0)
    assert (first.kind, first.subject, first.severity) == ("brake_pulled", "policy:v1", "critical")
    assert first.summary.startswith("20 accounts, 20.0% of those active, with 10.0% of the requests would have been")
    assert said.of(made, "v1", T0 + HOUR - 1) == []
    (again,) = said.of(made, "v1", T0 + HOUR)
    assert (again.identity, again.since) == (first.identity, T0)
    made.pulled_at = None
    (over,) = said.of(made, "v1", T0 + HOUR + 1)
    assert over.over
    assert over.identity == first.identity
    assert said.of(made, "v1", T0 + HOUR + 2) == []
