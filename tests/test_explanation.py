"""A verdict says why, and what would have kept it from being given."""

from math import exp

import msgspec
import pytest
from stories import HOUR, T0

from gateway.verdict import Exposure, Reason, Verdict
from sinks.explanation import action_said, otherwise, served_said
from sinks.policy import Policy

POLICY = Policy.load()
THROTTLE = next(rung for rung in POLICY.rungs if rung.action == "throttle")


def score(log_odds: float) -> float:
    return round(1 / (1 + exp(-log_odds)), 6)


def verdict(log_odds: float, *reasons: tuple[str, float], **more: object) -> Verdict:
    fields = {
        "id": "v", "at": T0, "seq": 1, "scope": "account", "value": "eve", "action": "throttle",
        "score": score(log_odds), "expires_at": T0 + HOUR, "policy": POLICY.version, "model": "m",
        "parameters": {"rpm": 20.0},
        "exposure": Exposure(requests=900, output_tokens=2e6, reasoning_tokens=1e6, cost=31.5, share_of_budget=0.05),
        "reasons": tuple(Reason(signal=name, weight=weight, text=f"{name} is high") for name, weight in reasons),
    }  # fmt: skip
    return msgspec.structs.replace(Verdict(**fields), **more)


def ways(one: Verdict) -> list[str]:
    return list(otherwise(one, POLICY))


# A throttle begins at 0.85: log-odds of 1.735.


def test_each_term_that_was_needed_is_named_with_what_the_score_would_have_been() -> None:
    found = ways(verdict(2.0, ("harvest", 2.0), ("cues", 0.5), ("volume", 0.26), ("churn", 0.25)))
    assert found[:2] == [
        "without harvest: it would have counted as 0.50, and a throttle begins at 0.85",
        "without cues: it would have counted as 0.82, and a throttle begins at 0.85",
    ]
    assert not any("volume" in way or "churn" in way for way in found)


def test_where_no_term_was_needed_alone_the_fewest_largest_are_named_together() -> None:
    found = ways(verdict(4.0, ("harvest", 1.5), ("cues", 1.0), ("newness", 0.9), ("volume", 0.5)))
    assert found[0] == "without harvest and cues: it would have counted as 0.82, and a throttle begins at 0.85"


def test_pace_is_a_term_like_the_others() -> None:
    # Odds of 1 to 1 and a pace that stands in for 3: it counted as 0.95.
    found = ways(verdict(0.0, ("harvest", 1.0), ("pace", 3.0)))
    assert found[0] == "without pace: it would have counted as 0.50, and a throttle begins at 0.85"
    assert not any("harvest" in way for way in found)


def test_less_served_and_fewer_kinds_are_ways_too() -> None:
    found = ways(verdict(2.0, ("harvest", 2.0)))
    assert "fewer than 200 requests and less than 2% of a viable budget served, where it had 900" in found
    assert "fewer than 3 independent kinds of evidence: no single one leads there" in found


def test_who_came_with_a_higher_score_than_now_is_told_when_it_ends() -> None:
    (way,) = ways(verdict(1.0, ("harvest", 1.0)))
    assert way.startswith("a score below 0.65 at the end of its time")


def test_who_had_a_whole_budget_is_told_so() -> None:
    served = Exposure(requests=20_000, output_tokens=1, reasoning_tokens=1, cost=1, share_of_budget=1.2)
    (way,) = ways(verdict(0.5, ("harvest", 1.0), action="verify", exposure=served))
    assert way.startswith("less than 100% of a viable budget served, or having shown who it is")


def test_people_and_campaigns_are_named_as_what_they_are() -> None:
    assert ways(verdict(9.0, origin="analyst")) == ["a person decided so: only they, or its end, takes it back"]
    assert ways(verdict(9.0, campaign="c-17"))[0].startswith("not belonging to campaign c-17")
    assert ways(verdict(9.0, action="allow")) == []
    assert ways(verdict(9.0, action="banish")) == [f"the policy {POLICY.version} has no rung banish: another decided"]


def test_a_score_of_one_is_not_beyond_reach() -> None:
    assert ways(verdict(30.0, ("harvest", 20.0)))[0].startswith("without harvest: it would have counted as 0.00")


@pytest.mark.parametrize("weights", [(2.2, 2.0, 1.6, 1.5, 0.4), (0.3, 0.3), (5.0,)])
@pytest.mark.parametrize("log_odds", [1.8, 2.5, 4.0, 6.0])
def test_what_is_said_would_have_been_so(weights: tuple[float, ...], log_odds: float) -> None:
    """Take the named terms away, and the policy's own arithmetic no longer reaches the rung."""
    names = {f"s{n}": weight for n, weight in enumerate(weights)}
    for way in ways(verdict(log_odds, *names.items())):
        if way.startswith("without "):
            removed = way.removeprefix("without ").partition(":")[0].replace(" and ", ", ").split(", ")
            assert score(log_odds - sum(names[name] for name in removed)) < THROTTLE.score


def test_what_it_means_and_what_was_served_is_said_in_words() -> None:
    one = verdict(2.0)
    assert action_said(one) == "may send no more than 20 requests a minute"
    assert action_said(verdict(2.0, parameters={})) == "may send fewer requests than before"
    assert one.exposure is not None
    assert served_said(one.exposure) == (
        "900 requests, 2,000,000 tokens written, 1,000,000 of them as reasoning, $31.50 at list price, "
        "5.0% of a viable budget"
    )
