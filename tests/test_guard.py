"""What stands against a subject, and what does not."""

import gc
import time
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stories import HOUR, MINUTE, SECOND, T0

from gateway.guard import Guard, Standing
from gateway.verdict import ACTIONS, Reason, Verdict


def verdict(value: str = "ada", action: str = "throttle", seq: int = 1, **fields: object) -> Verdict:
    """A verdict of an hour, decided at T0."""
    given = {"id": f"{value}-{seq}", "at": T0, "expires_at": T0 + HOUR, "scope": "account", "score": 0.95, **fields}
    return msgspec.convert(
        {"value": value, "action": action, "seq": seq, "policy": "p", "model": "m", **given}, Verdict
    )


def guard_with(*verdicts: Verdict, most: int = 100) -> Guard:
    guard = Guard(most=most)
    for one in verdicts:
        guard.take(one, T0)
    guard.confirm(T0)
    return guard


def action(found: Standing | None) -> str:
    return "allow" if found is None else found.action


def test_no_verdict_means_allow() -> None:
    assert guard_with().find(T0, "ada", "acme", ("k1",)) is None


def test_a_verdict_holds_until_it_ends() -> None:
    guard = Guard(when_stale="keep")
    guard.take(verdict(), T0)
    assert [action(guard.find(T0 + after, "ada")) for after in (0, HOUR - 1, HOUR, HOUR + 1)] == [
        *("throttle", "throttle"),
        *("allow", "allow"),
    ]


def test_what_a_reply_needs_of_it_is_kept() -> None:
    reasons = (
        Reason(signal="volume", weight=2.0, text="sends 900 requests an hour"),
        Reason(signal="cues", weight=1.0, text="asks for reasoning"),
    )
    parameters: dict[str, float | str] = {"rpm": 20.0, "link": "https://verify.example/ada"}
    guard = guard_with(verdict(reasons=reasons, parameters=parameters))
    found = guard.find(T0, "ada")
    assert found is not None
    assert msgspec.structs.asdict(found) == dict(
        id="ada-1",
        seq=1,
        until=T0 + HOUR,
        action="throttle",
        enforced=True,
        scope="account",
        value="ada",
        campaign=None,
        reason="sends 900 requests an hour",
        rpm=20.0,
        link="https://verify.example/ada",
        strength=0.0,
    )


def test_the_harshest_of_account_organisation_and_key_counts() -> None:
    guard = guard_with(
        verdict("ada", "watch"),
        verdict("acme", "throttle", scope="org"),
        verdict("k1", "suspend", scope="key"),
        verdict("k2", "verify", scope="key"),
    )
    assert action(guard.find(T0, "ada")) == "watch"
    assert action(guard.find(T0, "ada", "acme")) == "throttle"
    assert action(guard.find(T0, "ada", "acme", ("k0", "k2"))) == "verify"
    assert action(guard.find(T0, "ada", "acme", ("k1", "k2"))) == "suspend"
    assert guard.find(T0, "acme", "ada", ("ada",)) is None, "an organisation's name is nobody's account"


def test_a_campaign_reaches_the_accounts_that_a_live_verdict_counts_to_it() -> None:
    guard = guard_with(
        verdict("ada", "watch", campaign="c-1"),
        verdict("bob", "watch", campaign="c-2"),
        verdict("c-1", "verify", scope="campaign"),
    )
    found = guard.find(T0, "ada")
    assert found is not None
    assert (found.action, found.subject) == ("verify", "campaign:c-1")
    assert action(guard.find(T0, "bob")) == "watch"
    assert action(guard.find(T0, "eve")) == "allow"


def test_all_that_concerns_a_request_is_told_and_each_subject_once() -> None:
    guard = guard_with(
        verdict("ada", "throttle", campaign="c-1"),
        verdict("acme", "watch", scope="org", campaign="c-1"),
        verdict("k1", "throttle", scope="key", campaign="c-2"),
        verdict("k2", "suspend", scope="key", mode="shadow", campaign="c-3"),
        verdict("c-1", "throttle", scope="campaign"),
        verdict("c-2", "throttle", scope="campaign", expires_at=T0 + 1),
        verdict("c-3", "suspend", scope="campaign"),
    )
    found = guard.all(T0 + 1, "ada", "acme", ("k0", "k1", "k2"))
    assert [held.subject for held in found] == ["account:ada", "org:acme", "key:k1", "campaign:c-1"]
    assert guard.all(T0, "eve") == []
    guard.clear()
    assert guard.all(T0, "ada") == [], "a table that nobody confirms is not trusted"


def test_an_appeal_takes_an_account_out_of_its_campaign() -> None:
    guard = guard_with(
        verdict("ada", "throttle", campaign="c-1"),
        verdict("ada", "allow", seq=2, campaign="c-1"),
        verdict("c-1", "suspend", scope="campaign"),
    )
    assert guard.find(T0, "ada") is None
    assert guard.all(T0, "ada") == []


@pytest.mark.parametrize("mode", ["account", "campaign"])
def test_what_is_in_shadow_is_never_enforced_nor_does_it_make_a_member(mode: str) -> None:
    shadow = {mode: "shadow"}
    guard = guard_with(
        verdict("ada", "suspend", campaign="c-1", mode=shadow.get("account", "enforce")),
        verdict("c-1", "suspend", scope="campaign", mode=shadow.get("campaign", "enforce")),
    )
    expected = "allow" if mode == "account" else "suspend"
    assert action(guard.find(T0, "ada")) == expected
    only_shadow = guard_with(verdict("bob", "suspend", mode="shadow"))
    assert only_shadow.find(T0, "bob") is None


def test_an_unknown_action_is_watch() -> None:
    assert action(guard_with(verdict(action="quarantine")).find(T0, "ada")) == "watch"


def test_what_comes_late_changes_nothing() -> None:
    guard = guard_with(verdict(action="watch", seq=5), verdict(action="suspend", seq=4))
    assert (action(guard.find(T0, "ada")), guard.late) == ("watch", 1)


def test_the_same_number_again_replaces_as_on_the_topic() -> None:
    guard = guard_with(verdict(action="watch", seq=5), verdict(action="throttle", seq=5))
    assert (action(guard.find(T0, "ada")), guard.late) == ("throttle", 0)


def test_numbers_may_start_anew_once_the_old_verdict_is_over() -> None:
    guard = guard_with(verdict(action="throttle", seq=9))
    later = T0 + 2 * HOUR
    assert guard.take(verdict(action="watch", seq=1, at=later, expires_at=later + HOUR), later)
    guard.confirm(later)
    assert action(guard.find(later, "ada")) == "watch"


def test_a_lifted_verdict_does_not_come_back_late() -> None:
    guard = guard_with(verdict(seq=5))
    guard.lift("account:ada", T0 + SECOND)
    assert guard.find(T0 + SECOND, "ada") is None
    assert not guard.take(verdict(seq=5), T0 + 2 * SECOND)
    assert not guard.take(verdict(seq=4), T0 + 2 * SECOND)
    assert guard.take(verdict(action="watch", seq=7), T0 + 2 * SECOND)
    assert action(guard.find(T0 + 2 * SECOND, "ada")) == "watch"


def test_a_verdict_that_says_allow_lifts_too() -> None:
    guard = guard_with(verdict(seq=1), verdict(action="allow", seq=2))
    assert guard.find(T0, "ada") is None
    assert not guard.take(verdict(seq=1), T0)


@pytest.mark.parametrize("subject", ["account:eve", "account:", "planet:mars", "", ":", "nonsense"])
def test_lifting_what_is_not_there_does_nothing(subject: str) -> None:
    guard = guard_with(verdict())
    guard.lift(subject, T0)
    assert action(guard.find(T0, "ada")) == "throttle"


def test_a_newer_verdict_that_is_already_over_ends_the_older_one() -> None:
    guard = guard_with(verdict(seq=1), verdict(seq=2, expires_at=T0))
    assert (guard.find(T0, "ada"), len(guard)) == (None, 0)


def test_a_slow_clock_prolongs_nothing_and_a_fast_one_ends_early() -> None:
    slow, fast = T0 - 24 * HOUR, T0 + 24 * HOUR
    guard = Guard(when_stale="keep")
    guard.take(verdict(), slow)
    assert action(guard.find(slow + HOUR - 1, "ada")) == "throttle"
    assert action(guard.find(slow + HOUR, "ada")) == "allow"
    assert not guard.take(verdict("bob"), fast)


def test_a_table_that_nobody_confirms_is_not_trusted() -> None:
    careful, stubborn = Guard(stale_seconds=60), Guard(stale_seconds=60, when_stale="keep")
    for guard in (careful, stubborn):
        guard.take(verdict(), T0)
        assert guard.stale(T0), "stale until the topic was read once"
        guard.confirm(T0)
    for after, expected in ((60 * SECOND, "throttle"), (60 * SECOND + 1, "allow")):
        assert action(careful.find(T0 + after, "ada")) == expected
        assert action(stubborn.find(T0 + after, "ada")) == "throttle"
    careful.confirm(T0 + MINUTE)
    assert action(careful.find(T0 + 2 * MINUTE, "ada")) == "throttle"


def test_when_full_the_mildest_goes_first_and_of_those_what_ends_soonest() -> None:
    guard = guard_with(
        verdict("w1", "watch", expires_at=T0 + 40 * MINUTE),
        verdict("w2", "watch", expires_at=T0 + 20 * MINUTE),
        verdict("t1", "throttle", expires_at=T0 + 5 * MINUTE),
        most=3,
    )
    kept = []
    for name, minutes in (("s1", 60), ("s2", 50), ("s3", 40), ("s4", 60)):
        guard.take(verdict(name, "suspend", expires_at=T0 + minutes * MINUTE), T0)
        kept.append(sorted(one.value for one in guard))
    assert kept == [["s1", "t1", "w1"], ["s1", "s2", "t1"], ["s1", "s2", "s3"], ["s1", "s2", "s4"]]
    guard.take(verdict("w3", "watch"), T0)
    assert (sorted(one.value for one in guard), guard.dropped) == (["s1", "s2", "s4"], 5)


def test_when_full_what_is_over_goes_before_anything_that_lives() -> None:
    guard = guard_with(verdict("w1", "watch"), verdict("s1", "suspend", expires_at=T0 + MINUTE), most=2)
    guard.take(verdict("t1", "throttle", expires_at=T0 + 3 * HOUR), T0 + 3 * MINUTE)
    assert (sorted(one.value for one in guard), guard.dropped) == (["t1", "w1"], 0)


def test_what_is_over_is_forgotten_within_a_minute() -> None:
    guard = guard_with(verdict("ada"), verdict("bob", expires_at=T0 + 3 * HOUR))
    assert [guard.expire(T0 + HOUR + after) for after in (0, MINUTE)] == [0, 1]
    assert [one.value for one in guard] == ["bob"]


steps = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d", "e"]),
        st.sampled_from([*ACTIONS, "null"]),
        st.integers(1, 6),
        st.integers(0, 5),
    ),
    max_size=40,
)


@given(steps, st.integers(1, 5))
def test_whatever_comes_the_table_keeps_its_bounds_and_agrees_with_itself(
    story: list[tuple[str, str, int, int]], most: int
) -> None:
    guard, now = Guard(most=most, when_stale="keep"), T0
    for value, what, seq, minutes in story:
        now += 30 * SECOND
        if what == "null":
            guard.lift(f"account:{value}", now)
        else:
            guard.take(verdict(value, what, seq, at=now, expires_at=now + minutes * MINUTE), now)
        assert len(guard) <= most
        found = [guard.find(now, name) for name in "abcde"]
        assert all(one is None or (one.until > now and one.enforced) for one in found)
    guard.expire(now + HOUR)
    assert len(guard) == 0
    assert not any(map(len, guard._ends))


def test_memory_does_not_grow_with_renewals() -> None:
    """One subject renewed 20,000 times, each time until another minute: as small as after the first thousand."""
    guard = Guard(most=10)
    sizes = []
    tracemalloc.start()
    for seq in range(1, 20_001):
        guard.take(verdict("ada", "watch", seq, expires_at=T0 + seq * 61 * SECOND), T0)
        if seq % 1_000 == 0:
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[-1] < sizes[0] + 20_000


def test_the_garbage_collector_has_nothing_to_visit() -> None:
    """With a million verdicts each of its full runs would hold up replies for a tenth of a second."""
    guard = guard_with(*(verdict(f"a{n}") for n in range(1_000)), most=2_000)
    tables = [*guard._tables.values(), *(slot for ends in guard._ends for slot in ends._slots.values())]
    assert sum(map(len, tables)) == 2_000
    assert not any(gc.is_tracked(each) for each in (*tables, *guard))


def test_a_look_up_takes_less_than_two_microseconds() -> None:
    guard = guard_with(*(verdict(f"a{n}", campaign=f"c{n}") for n in range(1_000)), most=2_000)
    names = [f"a{n}" for n in range(2_000)]

    def once() -> float:
        started = time.perf_counter()
        for name in names:
            guard.find(T0, name, "acme", ("k1",))
        return (time.perf_counter() - started) / len(names)

    assert min(once() for _ in range(20)) < 2e-6
