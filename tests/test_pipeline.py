"""The pipeline: requests in, decisions out, in event time."""

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from stories import DAY, HOUR, MINUTE, SECOND, T0, Raw, records, request, sketch

from gateway.request import Request
from gateway.verdict import encode
from models.signals import WORDS
from models.snapshot import SnapshotError
from sinks.policy import PACKAGED, Decision, Policy
from streams.pipeline import Outcome, Pipeline

POLICY = Policy.load()


def harvest(account: str = "eve", start: int = T0, count: int = 3_000, pause: int = SECOND) -> list[Request]:
    """A question list worked off by a new account: one turn each, new prompts, long reasoning, many addresses."""
    return [
        request(
            account, start + n * pause, id=f"{account}-{n}", turns=1, opened_at=T0 - DAY,
            input_tokens=60, output_tokens=2_400, reasoning_tokens=2_200, max_tokens=16_384, temperature=0.6,
            ip=f"10.{n % 200}.0.1", asn=n % 40, client="sdk", sketch=sketch(n, axis=n % 60, cues=("reasoning",)),
        )
        for n in range(count)
    ]  # fmt: skip


def chat(account: str, start: int = T0, count: int = 60, pause: int = 3 * MINUTE) -> list[Request]:
    """A person talking to a model: long sessions, one address, moderate answers."""
    return [
        request(
            account, start + n * pause, id=f"{account}-{n}", turns=2 + n % 7, session=f"{account}-{n // 8}",
            input_tokens=400 + 37 * (n % 9), output_tokens=300 + 23 * (n % 11), opened_at=T0 - 200 * DAY,
            ip="10.9.8.7", asn=1, client="web", sketch=sketch(10_000 + n, axis=n % 4),
        )
        for n in range(count)
    ]  # fmt: skip


def in_batches(requests: Iterable[Request], size: int = 250) -> Iterator[list[Raw]]:
    ordered = sorted(requests, key=lambda one: one.at)
    for start in range(0, len(ordered), size):
        yield records(ordered[start : start + size], start)


def run(pipeline: Pipeline, requests: Iterable[Request]) -> list[Decision]:
    return [decision for batch in in_batches(requests) for decision in pipeline.process(batch).decisions]


def actions(decisions: Iterable[Decision], account: str) -> list[str]:
    return [one.verdict.action for one in decisions if one.verdict.value == account]


def test_a_harvester_climbs_the_ladder_and_a_chat_next_to_it_sees_nothing() -> None:
    decisions = run(Pipeline(POLICY), [*harvest(), *chat("ada"), *chat("bob")])
    assert {one.verdict.value for one in decisions} == {"eve"}
    assert actions(decisions, "eve")[0] == "watch"
    assert {"throttle", "verify"} & set(actions(decisions, "eve"))


def test_a_verdict_explains_itself() -> None:
    decisions = run(Pipeline(POLICY), harvest())
    verdict = decisions[-1].verdict
    assert verdict.subject == "account:eve"
    assert verdict.scenario == "chain-of-thought extraction"
    assert {"harvest", "newness"} <= {reason.signal for reason in verdict.reasons}
    weights = [reason.weight for reason in verdict.reasons]
    assert weights == sorted(weights, reverse=True)
    assert all(reason.text for reason in verdict.reasons)
    assert verdict.exposure is not None
    assert verdict.exposure.requests >= 200
    assert verdict.exposure.cost == pytest.approx(verdict.exposure.requests * (60 * 3 + 2_400 * 15) / 1e6)


def test_sequence_numbers_rise_by_one_and_times_make_sense() -> None:
    decisions = run(Pipeline(POLICY), harvest())
    assert [one.verdict.seq for one in decisions] == list(range(1, len(decisions) + 1))
    assert all(one.verdict.at < one.verdict.expires_at for one in decisions)


def test_a_rung_is_renewed_while_it_is_earned_and_lifted_when_its_time_is_over() -> None:
    pipeline = Pipeline(POLICY)
    run(pipeline, harvest(count=6_000, pause=10 * SECOND))
    row = pipeline.profiles.table[pipeline.profiles.rows(["eve"])[0]]
    until = int(row["until"])
    assert pipeline.expire(until - 1) == []
    (lifted,) = pipeline.expire(until)
    assert lifted.lifted
    assert lifted.verdict.at == until
    assert pipeline.expire(until + DAY) == []


def test_slowing_down_does_not_set_an_account_free_before_its_time() -> None:
    pipeline = Pipeline(POLICY)
    before = run(pipeline, harvest())
    top = before[-1].verdict
    assert top.action != "watch"
    later = run(pipeline, harvest(start=T0 + 2 * HOUR, count=20, pause=5 * MINUTE))
    assert "allow" not in actions(later, "eve")
    assert "watch" not in actions(later, "eve")


def test_other_peoples_time_lifts_an_expired_rung() -> None:
    pipeline = Pipeline(POLICY)
    run(pipeline, harvest())
    later = run(pipeline, chat("ada", start=T0 + 10 * DAY))
    assert actions(later, "eve") == ["allow"]


def test_a_shadow_policy_marks_every_verdict() -> None:
    shadow = PACKAGED.read_text().replace('mode = "enforce"', 'mode = "shadow"')
    decisions = run(Pipeline(Policy.parse(shadow, "shadow")), harvest())
    assert decisions
    assert {one.verdict.mode for one in decisions} == {"shadow"}


def test_an_exempt_account_is_watched_and_no_more() -> None:
    exempt = PACKAGED.read_text() + '\n[[exempt]]\nscope = "account"\nvalue = "eve"\n'
    decisions = run(Pipeline(Policy.parse(exempt, "exempt")), harvest())
    assert set(actions(decisions, "eve")) == {"watch"}


def test_the_same_batches_give_the_same_bytes() -> None:
    told = [*harvest(), *chat("ada"), *chat("bob")]
    first, second = (b"".join(encode(one.verdict) for one in run(Pipeline(POLICY), told)) for _ in range(2))
    assert first == second


def test_requests_that_a_restored_row_holds_are_skipped_for_that_row() -> None:
    first = Pipeline(POLICY)
    told = [request(account, T0 + n, id=f"{account}-{n}") for n in range(50) for account in ("ada", "bob")]
    batch = records(told)
    first.process(batch[:60])
    second = Pipeline(POLICY)
    second.restore(first.snapshot_dirty())
    outcome = second.process(batch)
    assert (outcome.skipped, outcome.requests) == (60, 40)
    assert second.profiles.table["totals"][second.profiles.rows(["ada", "bob"]), 0].tolist() == [50, 50]


def test_of_profiles_restored_in_pieces_the_same_is_typical_as_at_once() -> None:
    first = Pipeline(POLICY)
    first.process(records([request(f"a{n}", T0 + n, input_tokens=n, output_tokens=2_000 - n) for n in range(1_200)]))
    rows = first.snapshot_dirty()
    at_once, in_pieces = Pipeline(POLICY), Pipeline(POLICY)

    at_once.restore(rows)
    for start in range(0, 1_200, 300):
        in_pieces.restore(rows[start : start + 300], 1_200)

    one = at_once.profiles.table[:1]
    typical = {name: at_once.typical.median(name, one) for name in WORDS}
    assert {name: in_pieces.typical.median(name, one) for name in WORDS} == typical
    assert typical["output_length"] == pytest.approx(1_400, rel=0.1)  # half of them have more


def test_a_restored_rung_still_ends() -> None:
    first = Pipeline(POLICY)
    run(first, harvest())
    second = Pipeline(POLICY)
    second.restore(first.snapshot_dirty())
    until = int(second.profiles.table["until"][second.profiles.rows(["eve"])[0]])
    assert [one.lifted for one in second.expire(until)] == [True]


def test_an_id_that_comes_twice_counts_once() -> None:
    pipeline = Pipeline(POLICY)
    told = [request(at=T0 + n, id=f"r{n % 30}", sketch=sketch(n, axis=n % 64)) for n in range(40)]
    outcome = pipeline.process(records(told))
    assert (outcome.requests, outcome.repeated) == (30, 10)
    assert pipeline.profiles.table["totals"][0, 0] == 30
    assert pipeline.profiles.table["traits"][0, 7] == pytest.approx(30, rel=1e-3)


def test_garbage_alone_decides_nothing_and_harms_nobody() -> None:
    pipeline = Pipeline(POLICY)
    outcome = pipeline.process([Raw(b"garbage", offset) for offset in range(1_000)])
    assert isinstance(outcome, Outcome)
    assert (outcome.requests, len(outcome.unreadable), outcome.decisions) == (0, 1_000, [])
    assert pipeline.accounts == 0


def test_scores_are_probabilities() -> None:
    outcome = Pipeline(POLICY).process(records([*harvest(count=100), *chat("ada")]))
    assert len(outcome.scores) == 2
    assert ((outcome.scores > 0) & (outcome.scores < 1)).all()
    assert outcome.event_at == T0 + 59 * 3 * MINUTE
    assert np.isfinite(outcome.scores).all()


def test_restored_models_go_on_as_if_nothing_had_happened() -> None:
    first, second = Pipeline(POLICY), Pipeline(POLICY)
    crowd = [one for n in range(60) for one in chat(f"user-{n}", start=T0 + n * MINUTE)]
    run(first, crowd)
    second.restore(first.snapshot_dirty())
    stored = first.snapshot_models()
    second.restore_models(stored)
    assert len(stored) < 1_000_000
    later = records(harvest(start=T0 + DAY), first_offset=100_000)
    assert first.process(later).scores.tolist() == second.process(later).scores.tolist()


def test_models_of_another_release_are_refused() -> None:
    with pytest.raises(SnapshotError, match="cannot be read"):
        Pipeline(POLICY).restore_models(b"something else")


def test_live_verdicts_are_announced_again_as_they_were() -> None:
    first, second = Pipeline(POLICY), Pipeline(POLICY)
    last = run(first, harvest())[-1].verdict
    second.restore(first.snapshot_dirty())
    (again,) = (one.verdict for one in second.live())
    assert (again.id, again.seq, again.at, again.action, again.expires_at) == (
        last.id, last.seq, last.at, last.action, last.expires_at,
    )  # fmt: skip
    assert [reason.signal for reason in again.reasons]
    assert second.live()[0].verdict.seq == last.seq
    assert Pipeline(POLICY).live() == []


def test_an_id_recalled_from_before_the_start_counts_no_second_time() -> None:
    pipeline = Pipeline(POLICY)
    pipeline.recall(["r1", "r2"])
    outcome = pipeline.process(records([request(id="r2"), request(id="r3", at=T0 + 1)]))
    assert (outcome.requests, outcome.repeated) == (1, 1)


def test_what_a_verdict_kept_from_being_served_counts_nowhere() -> None:
    pipeline = Pipeline(POLICY)
    told = [request(id=f"r{n}", at=T0 + n, finish="blocked" if n % 2 else "stop") for n in range(40)]
    outcome = pipeline.process(records(told))
    assert (outcome.requests, outcome.blocked, outcome.repeated) == (20, 20, 0)
    assert pipeline.profiles.table["totals"][0, 0] == 20
    only_blocked = pipeline.process(records(told[1::2], first_offset=40))
    assert (only_blocked.requests, only_blocked.blocked, only_blocked.decisions) == (0, 20, [])
