"""What a verdict means for a request."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stories import HOUR, SECOND, T0

from gateway.actions import Actions, Refusal, limits
from gateway.buckets import Limit
from gateway.guard import Standing


def standing(action: str = "throttle", **fields: object) -> Standing:
    given = {
        "id": "d-1",
        "seq": 1,
        "until": T0 + HOUR,
        "action": action,
        "enforced": True,
        "scope": "account",
        "value": "ada",
        "campaign": None,
        "reason": "sends 900 requests an hour; 12 is typical",
        "rpm": 20.0,
        "link": None,
        "strength": 0.0,
        **fields,
    }
    return msgspec.convert(given, Standing)


def error(refusal: Refusal | None) -> dict[str, Any]:
    assert refusal is not None
    assert dict(refusal.headers)[b"content-length"] == str(len(refusal.body)).encode()
    return json.loads(refusal.body)["error"]


@pytest.mark.parametrize("action", ["allow", "watch", "degrade"])
def test_what_passes(action: str) -> None:
    assert Actions().refusal([standing(action)], T0) is None


def test_a_throttle_lets_pass_what_its_rate_allows() -> None:
    """20 a minute: 5 saved up, then one every 3 seconds."""
    actions = Actions()
    passed = [actions.refusal([standing()], T0) is None for _ in range(7)]
    assert passed == [True] * 5 + [False] * 2
    later = [after for after in range(1, 13) if actions.refusal([standing()], T0 + after * SECOND) is None]
    assert later == [3, 6, 9, 12]


def test_a_throttled_reply_says_when_to_come_back() -> None:
    actions = Actions()
    for _ in range(5):
        actions.refusal([standing()], T0)
    refusal = actions.refusal([standing()], T0 + SECOND)
    assert refusal is not None
    assert (refusal.status, dict(refusal.headers)[b"retry-after"]) == (429, b"2")
    assert error(refusal) == {
        "message": (
            "This account is limited to 20 requests a minute until 2026-01-01 01:00 UTC. Try again in 2 s. "
            "Reason: sends 900 requests an hour; 12 is typical. "
            "If this is wrong, write to us and quote decision d-1."
        ),
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
        "decision": "d-1",
    }


def test_each_replica_grants_its_share() -> None:
    actions = Actions(replicas=4)  # 5 a minute each: 1.25 saved up, then one every 12 seconds
    granted = [after for after in range(60) if actions.refusal([standing()], T0 + after * SECOND) is None]
    assert granted == [0, 9, 21, 33, 45, 57]


def test_all_accounts_of_a_campaign_share_one_rate_and_others_have_their_own() -> None:
    actions = Actions()
    campaign = [actions.refusal([standing(scope="campaign", value="c-1")], T0) is None for _ in range(6)]
    assert campaign == [True] * 5 + [False]
    assert actions.refusal([standing(value="bob")], T0) is None


def test_a_request_needs_a_token_of_every_bucket_that_concerns_it() -> None:
    """Ada may go on at 20 a minute (5 saved up), her campaign at 8 (2 saved up): what it refuses costs her nothing."""
    actions = Actions()
    ada, campaign = standing(), standing(scope="campaign", value="c-1", rpm=8.0, id="d-2")
    assert [actions.refusal([ada, campaign], T0) is None for _ in range(4)] == [True, True, False, False]
    refusal = actions.refusal([ada, campaign], T0)
    assert error(refusal)["decision"] == "d-2"
    assert dict(refusal.headers)[b"retry-after"] == b"8"  # type: ignore[union-attr]  # error() has looked
    assert [actions.refusal([ada], T0) is None for _ in range(4)] == [True, True, True, False]


def test_whoever_must_verify_does_not_get_past_by_being_degraded_too() -> None:
    both = [standing("degrade", scope="campaign"), standing("verify"), standing("throttle", scope="org")]
    refusal = Actions().refusal(both, T0)
    assert error(refusal)["code"] == "verification_required"
    assert limits(both) == []
    assert error(Actions().refusal([standing("verify"), standing("suspend", value="k")], T0))["code"] == (
        "account_suspended"
    )


def test_waits_may_come_from_elsewhere() -> None:
    actions, throttles = Actions(), [standing(), standing(scope="org", value="acme", rpm=6.0), standing(rpm=None)]
    assert limits(throttles) == [Limit("account:ada", 20.0), Limit("org:acme", 6.0)]
    assert all(actions.refusal(throttles, T0, [0.0, 0.0]) is None for _ in range(100))
    assert dict(actions.refusal(throttles, T0, [1.2, 0.0]).headers)[b"retry-after"] == b"2"  # type: ignore[union-attr]


@pytest.mark.parametrize("rpm", [None, 0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_is_none_lets_pass(rpm: float | None) -> None:
    actions = Actions()
    assert all(actions.refusal([standing(rpm=rpm)], T0) is None for _ in range(100))


def test_a_clock_set_back_neither_blocks_nor_grants() -> None:
    actions = Actions()
    for _ in range(5):
        actions.refusal([standing()], T0)
    assert actions.refusal([standing()], T0 - HOUR) is not None
    assert actions.refusal([standing()], T0 - HOUR + 3 * SECOND) is None


@given(st.lists(st.integers(0, 5_000), max_size=60), st.sampled_from([1.0, 7.0, 20.0, 600.0]))
def test_never_more_than_the_rate_and_what_was_saved(gaps: list[int], rpm: float) -> None:
    actions, now, passed = Actions(), T0, 0
    for gap in gaps:
        now += gap
        passed += actions.refusal([standing(rpm=rpm)], now) is None
    assert passed <= max(1.0, rpm / 4) + (now - T0) * rpm / 60_000 + 1e-6


def test_buckets_are_bounded() -> None:
    actions = Actions(most_buckets=10)
    for n in range(100):
        actions.refusal([standing(value=f"a{n}")], T0)
    assert len(actions._buckets) == 10


def test_verify_says_where() -> None:
    refusal = Actions(verify_url="https://example.com/verify?decision={decision}").refusal([standing("verify")], T0)
    found = error(refusal)
    assert refusal is not None
    assert (refusal.status, found["code"]) == (403, "verification_required")
    assert found["verify_url"] == "https://example.com/verify?decision=d-1"
    assert found["verify_url"] in found["message"]


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("https://id.example/ada", "https://id.example/ada"),
        ("javascript:alert(1)", "https://example.com/v"),
        (None, "https://example.com/v"),
    ],
)
def test_the_verdict_may_name_its_own_place_to_verify(link: str | None, expected: str) -> None:
    actions = Actions(verify_url="https://example.com/v")
    assert error(actions.refusal([standing("verify", link=link)], T0))["verify_url"] == expected


def test_without_a_place_to_verify_it_still_says_what_is_wanted() -> None:
    found = error(Actions().refusal([standing("verify")], T0))
    assert "verify_url" not in found
    assert "must be verified" in found["message"]


def test_suspend_refuses_until_an_instant() -> None:
    refusal = Actions().refusal([standing("suspend", scope="org", value="acme")], T0)
    found = error(refusal)
    assert refusal is not None
    assert (refusal.status, found["code"]) == (403, "account_suspended")
    assert found["message"].startswith("This organisation is suspended until 2026-01-01 01:00 UTC.")


def test_reasons_may_be_kept_from_customers_and_campaigns_always_are() -> None:
    found = error(Actions(explain=False).refusal([standing("suspend", scope="campaign", value="c-1")], T0))
    assert "900" not in found["message"]
    assert "c-1" not in json.dumps(found)
    assert found["message"].startswith("This account is suspended")


def test_an_end_beyond_all_calendars() -> None:
    assert "until further notice" in error(Actions().refusal([standing("suspend", until=2**53)], T0))["message"]
