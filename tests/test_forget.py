"""Forget: an account that is to be forgotten leaves nothing behind where something can be taken away."""

from stories import request
from test_hearing import AFTER, caught, column, hear, messages, said, verdicts
from test_pipeline import run

from sinks.audit import Chain, verify
from sinks.enforcement import announcement
from streams.pipeline import Pipeline
from streams.standing import Standing
from streams.standing import encode as encode_standing

STANDING = Standing(campaign="c-1", action="throttle", score=0.9, at=AFTER, until=AFTER + 86_400_000)


def test_profile_verdict_and_standing_go_at_once() -> None:
    pipeline = caught()
    pipeline.stand([("eve", encode_standing(STANDING))])
    pipeline.snapshot_dirty()

    heard = hear(pipeline, said("forget"))

    assert "eve" not in pipeline.profiles
    assert pipeline.snapshot_dirty() == [("eve", None)]
    assert pipeline.live_count == 0
    (decision,) = heard.decisions
    assert announcement(decision) == (b"account:eve", None)
    (verdict,) = verdicts(heard)
    assert verdict.reasons == ()
    assert verdict.campaign is None
    assert verdict.exposure is not None
    assert verdict.exposure.requests == 0


def test_the_audit_says_who_asked_for_it_and_why() -> None:
    pipeline = caught()
    heard = hear(pipeline, said("forget", reason="ticket 4711"))
    record = Chain("w").append(heard.decisions[0])
    assert verify([record]) is None
    assert b'"forget"' in record
    assert b"ticket 4711" in record


def test_who_comes_back_is_a_stranger() -> None:
    pipeline = caught()
    hear(pipeline, said("forget"))
    run(pipeline, [request("eve", AFTER, id="new")])
    assert column(pipeline, "totals") == 1
    assert column(pipeline, "evidence") == 0
    assert column(pipeline, "strikes") == 0
    assert column(pipeline, "heard") == -1


def test_an_account_that_is_not_known_is_erased_where_it_may_be_stored() -> None:
    pipeline = Pipeline(caught().policy)
    heard = hear(pipeline, said("forget", account="nobody"))
    assert heard.heard == 1
    assert heard.appeared == []
    assert pipeline.snapshot_dirty() == [("nobody", None)]
    assert announcement(heard.decisions[0]) == (b"account:nobody", None)


def test_neighbours_in_the_same_batch_keep_what_was_said_of_them() -> None:
    pipeline = Pipeline(caught().policy)
    heard = pipeline.hear(messages(said("verified", "ada"), said("forget", "eve"), said("verified", "bob")))
    assert heard.appeared == ["ada", "bob"]
    assert [account for account, row in pipeline.snapshot_dirty() if row is not None] == ["ada", "bob"]
