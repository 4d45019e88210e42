"""What people say of an account changes how it stands at once, and what they took back leaves no trace."""

from collections.abc import Iterable

import msgspec
import numpy as np
import pytest
from stories import DAY, HOUR, MINUTE, SECOND, T0, Raw, records
from test_pipeline import chat, harvest, in_batches, run

from gateway.feedback import Feedback, Kind, encode
from gateway.request import Request
from gateway.verdict import ACTIONS, Verdict
from models.score import NAMES
from sinks.audit import Chain, verify
from sinks.policy import PACKAGED, Policy
from streams.hearing import Heard
from streams.layouts import LAYOUTS
from streams.pipeline import Pipeline
from streams.profiles import KEPT_MS

POLICY = Policy.load()
AFTER = T0 + HOUR
"""When people speak: ten minutes after the harvest of 50 minutes."""


def said(kind: Kind, account: str = "eve", at: int = AFTER, **more: object) -> Feedback:
    fields = {"id": f"{kind}-{at}", "at": at, "scope": "account", "value": account, "kind": kind}
    return msgspec.convert({**fields, "by": "noor", "reason": "looked at it", **more}, Feedback)


def messages(*told: Feedback, first_offset: int = 0) -> list[Raw]:
    return [Raw(encode(one), offset, one.value.encode(), one.at) for offset, one in enumerate(told, first_offset)]


def hear(pipeline: Pipeline, *told: Feedback, first_offset: int = 0) -> Heard:
    return pipeline.hear(messages(*told, first_offset=first_offset))


def verdicts(heard: Heard) -> list[Verdict]:
    return [one.verdict for one in heard.decisions]


def caught(policy: Policy = POLICY) -> Pipeline:
    """A pipeline in which the account eve has harvested and stands on a rung."""
    pipeline = Pipeline(policy)
    run(pipeline, harvest())
    assert standing(pipeline) in ("verify", "throttle", "degrade")
    return pipeline


def standing(pipeline: Pipeline, account: str = "eve") -> str:
    return ACTIONS[int(column(pipeline, "rung", account))]


def column(pipeline: Pipeline, name: str, account: str = "eve") -> float:
    """One field of a profile; of several numbers the first."""
    return float(pipeline.profiles.table[name][pipeline.profiles.rows([account])[0]].flat[0])


def score(pipeline: Pipeline, account: str = "eve") -> float:
    return column(pipeline, "score", account)


@pytest.mark.parametrize("kind", ["false_alarm", "lift"])
def test_after_it_was_cleared_an_account_scores_as_a_stranger_does(kind: Kind) -> None:
    """The same requests, once by an account whose suspicion was wiped out and once by one never seen before."""
    pipeline = caught()
    (verdict,) = verdicts(hear(pipeline, said(kind)))
    assert (verdict.action, verdict.value, verdict.reasons) == ("allow", "eve", ())
    assert standing(pipeline) == "allow"
    for name in ("until", "added", "added_until", "strikes", "struck_at", "score"):
        assert column(pipeline, name) == 0, name
    assert not pipeline.live()
    detectors = pipeline.snapshot_models()
    stranger = Pipeline(POLICY)
    stranger.restore_models(detectors)
    pipeline.restore_models(detectors)
    for one in (pipeline, stranger):
        # An offset further on, as the topic has it.
        for start in range(3_000, 3_240, 60):
            told = harvest(start=AFTER + start * SECOND, count=60)
            one.process(records([msgspec.structs.replace(r, id=f"{r.id}+{start}") for r in told], start))
    assert score(pipeline) == score(stranger) > 0
    ours, theirs = (one.profiles.table[one.profiles.rows(["eve"])] for one in (pipeline, stranger))
    kept = {"seq", "cleared_at", "heard", "taught_at", "ruled_at"}
    assert [
        name for name in ours.dtype.names if name not in kept and ours[name].tobytes() != theirs[name].tobytes()
    ] == []


def later(pipeline: Pipeline, told: Iterable[Request], first_offset: int = 100_000) -> list[str]:
    """The actions announced of eve while further requests come in, behind all offsets so far."""
    ordered = sorted(told, key=lambda one: one.at)
    found: list[str] = []
    for start in range(0, len(ordered), 250):
        outcome = pipeline.process(records(ordered[start : start + 250], first_offset + start))
        found += [one.verdict.action for one in outcome.decisions if one.verdict.value == "eve"]
    return found


def more(start: int = AFTER + HOUR, count: int = 3_000, pause: int = SECOND) -> list[Request]:
    """The same harvest again, with ids of its own."""
    return [msgspec.structs.replace(one, id=f"{one.id}+{start}") for one in harvest("eve", start, count, pause)]


def without(line: str) -> Policy:
    """The packaged policy without one of its lines."""
    text = PACKAGED.read_text("utf-8")
    assert line in text
    return Policy.parse(text.replace(line, f"# {line}"), "policy.toml")


# --- cleared ---


def test_a_cleared_account_is_not_met_for_the_same_use_again() -> None:
    pipeline, strict = caught(), caught(without("cleared = {"))
    for one in (pipeline, strict):
        hear(one, said("false_alarm"))
    assert set(later(pipeline, more())) <= {"watch"}
    assert "verify" in later(strict, more())


def test_what_was_said_in_favour_wears_off() -> None:
    pipeline = caught()
    hear(pipeline, said("false_alarm"))
    assert "throttle" in later(pipeline, more(start=AFTER + 31 * DAY))


# --- licensed, verified ---


def test_a_licence_holds_before_the_first_request_and_until_its_end() -> None:
    pipeline = Pipeline(POLICY)
    (verdict,) = verdicts(hear(pipeline, said("licensed", at=T0 - DAY, until=T0 + DAY)))
    assert (verdict.action, verdict.seq) == ("allow", 1)
    assert set(later(pipeline, harvest())) <= {"watch"}
    assert "verify" in later(pipeline, more(start=T0 + DAY), 200_000)


def test_a_licence_survives_a_crash_and_five_silent_weeks() -> None:
    first = Pipeline(POLICY)
    hear(first, said("licensed", at=T0, until=T0 + 90 * DAY))
    second = Pipeline(POLICY)
    second.restore(first.snapshot_dirty())
    second.process(records(chat("ada", start=T0 + 60 * DAY)))
    assert second.sweep() == 0
    assert set(later(second, more(start=T0 + 60 * DAY))) <= {"watch"}


def test_a_licence_frees_who_was_caught_at_once() -> None:
    pipeline = caught()
    (verdict,) = verdicts(hear(pipeline, said("licensed", until=AFTER + DAY)))
    assert verdict.action == "allow"
    assert verdict.exposure is not None
    assert verdict.exposure.requests == 0
    assert set(later(pipeline, more())) <= {"watch"}


def test_who_is_verified_is_free_counts_from_zero_and_is_not_asked_again() -> None:
    pipeline = caught()
    (verdict,) = verdicts(hear(pipeline, said("verified")))
    assert verdict.action == "allow"
    assert column(pipeline, "totals") == 0
    assert score(pipeline) > 0.9  # what was seen is still known; it only counts for less
    assert "verify" not in later(pipeline, more())


def test_what_people_told_us_is_kept_for_a_year_and_then_forgotten() -> None:
    pipeline = Pipeline(POLICY)
    hear(pipeline, said("verified", at=T0))
    assert pipeline.profiles.sweep(T0 + KEPT_MS - DAY) == 0
    assert pipeline.profiles.sweep(T0 + KEPT_MS + DAY) == 1


# --- against an account ---


@pytest.mark.parametrize(("kind", "action"), [("confirmed", "degrade"), ("verification_failed", "verify")])
def test_what_people_found_is_acted_on_before_the_next_request(kind: Kind, action: str) -> None:
    pipeline = Pipeline(POLICY)
    pipeline.process(records(chat("eve")))
    (verdict,) = verdicts(hear(pipeline, said(kind)))
    assert (verdict.action, verdict.origin, verdict.at) == (action, "analyst", AFTER)
    assert verdict.expires_at == AFTER + DAY
    # Innocent requests do not shorten it, nor renew it.
    assert later(pipeline, chat("eve", start=AFTER + HOUR, count=20)) == []
    assert [one.lifted for one in pipeline.expire(AFTER + DAY)] == [True]


def test_whoever_spoke_for_a_confirmed_attacker_was_mistaken() -> None:
    pipeline = Pipeline(POLICY)
    hear(pipeline, said("verified", at=T0), said("licensed", at=T0 + 1, until=T0 + DAY), said("confirmed"))
    for name in ("verified_at", "licensed_until", "cleared_at"):
        assert column(pipeline, name) == 0
    assert standing(pipeline) == "degrade"


def test_a_confirmed_attacker_does_not_get_free_by_showing_papers() -> None:
    pipeline = caught()
    confirmed, verified = verdicts(hear(pipeline, said("confirmed"), said("verified", at=AFTER + MINUTE)))
    assert (confirmed.action, verified.action) == ("degrade", "degrade")
    assert verified.expires_at == confirmed.expires_at


def test_who_objects_climbs_no_further_until_the_days_are_over() -> None:
    pipeline = Pipeline(POLICY)
    told = iter(in_batches(harvest()))
    while standing(pipeline) != "throttle":
        pipeline.process(next(told))
    hear(pipeline, said("appeal", at=pipeline.event_at))
    for batch in told:
        pipeline.process(batch)
    assert standing(pipeline) == "throttle"
    assert "verify" in later(pipeline, more(start=T0 + 4 * DAY))


def test_an_appeal_before_anything_happened_protects_from_nothing() -> None:
    pipeline = Pipeline(POLICY)
    hear(pipeline, said("appeal", at=T0))
    run(pipeline, harvest())
    assert standing(pipeline) == "verify"


# --- operators ---


def test_an_operators_verdict_holds_until_its_instant() -> None:
    pipeline = Pipeline(POLICY)
    (verdict,) = verdicts(hear(pipeline, said("add", action="suspend", until=AFTER + 90 * MINUTE)))
    assert (verdict.action, verdict.origin, verdict.expires_at) == ("suspend", "analyst", AFTER + 90 * MINUTE)
    assert later(pipeline, chat("eve", start=AFTER, count=25)) == []
    assert [one.verdict.action for one in pipeline.expire(AFTER + 90 * MINUTE)] == ["allow"]


def test_the_detector_may_be_harsher_than_an_operator_and_falls_back_to_what_he_said() -> None:
    pipeline = caught()
    hear(pipeline, said("add", action="watch", until=AFTER + 30 * DAY))
    assert standing(pipeline) == "verify"
    until = int(column(pipeline, "until"))
    (fallen,) = (one.verdict for one in pipeline.expire(until))
    assert (fallen.action, fallen.origin, fallen.expires_at) == ("watch", "analyst", AFTER + 30 * DAY)
    (ended,) = (one.verdict for one in pipeline.expire(AFTER + 30 * DAY))
    assert ended.action == "allow"


def test_a_lift_ends_an_operators_own_verdict() -> None:
    pipeline = Pipeline(POLICY)
    heard = hear(pipeline, said("add", action="degrade", until=AFTER + DAY), said("lift", at=AFTER + 1))
    assert [one.action for one in verdicts(heard)] == ["degrade", "allow"]
    assert pipeline.expire(AFTER + DAY) == []


# --- how it is heard ---


def test_a_message_heard_twice_counts_once() -> None:
    pipeline = caught()
    assert hear(pipeline, said("false_alarm")).heard == 1
    later(pipeline, more(start=AFTER + 40 * DAY))
    before = pipeline.profiles.table[0].tobytes()
    again = hear(pipeline, said("false_alarm"))
    assert (again.heard, again.skipped, again.decisions) == (0, 1, [])
    assert pipeline.profiles.table[0].tobytes() == before


def test_what_was_heard_before_a_crash_is_not_heard_again_after_it() -> None:
    first = Pipeline(POLICY)
    told = [said("add", action="throttle", until=AFTER + DAY), said("lift", at=AFTER + 1)]
    hear(first, told[0])
    second = Pipeline(POLICY)
    second.restore(first.snapshot_dirty())
    (live,) = (one.verdict for one in second.live())
    assert (live.action, live.origin, live.at, live.seq) == ("throttle", "analyst", AFTER, 1)
    heard = hear(second, *told)
    assert (heard.heard, heard.skipped) == (1, 1)
    assert [(one.action, one.seq) for one in verdicts(heard)] == [("allow", 2)]


def test_the_audit_keeps_what_was_said() -> None:
    chain = Chain("w")
    lines = [chain.append(one) for one in hear(caught(), said("confirmed"), said("lift", at=AFTER + 1)).decisions]
    assert verify(lines) is None
    first = msgspec.json.decode(lines[0])
    assert first["feedback"]["by"] == "noor"
    assert first["feedback"]["reason"] == "looked at it"
    assert first["verdict"]["action"] == "degrade"
    assert verify([lines[0].replace(b"looked at it", b"looked at us"), lines[1]]) == 0


def test_what_cannot_be_read_is_set_aside_and_what_is_of_a_campaign_left_to_others() -> None:
    pipeline = Pipeline(POLICY)
    told = [Raw(b"junk", 0), Raw(None, 1), *messages(said("lift", scope="campaign"), said("lift"), first_offset=2)]
    heard = pipeline.hear(told)
    assert (heard.heard, heard.skipped, len(heard.unreadable)) == (1, 1, 1)
    assert heard.unreadable[0].reason == "not_json"
    assert heard.appeared == ["eve"]


# --- profiles of earlier releases ---


def test_a_profile_of_the_first_layout_is_brought_up_to_date() -> None:
    old = np.zeros(1, LAYOUTS[1].profile)
    old["at"], old["offset"], old["rung"], old["until"], old["seq"] = T0, 7, 2, T0 + HOUR, 3
    old["totals"] = [1, 2, 3, 4, 5]
    old["evidence"] = range(9)
    old["opened_at"] = np.nan
    pipeline = Pipeline(POLICY)
    pipeline.restore([("ada", (1).to_bytes(8, "little") + old.tobytes())])
    assert column(pipeline, "heard", "ada") == -1
    assert column(pipeline, "offset", "ada") == 7
    assert pipeline.profiles.table["totals"][0].tolist() == [1, 2, 3, 4, 5]
    evidence = dict(zip(NAMES, pipeline.profiles.table["evidence"][0].tolist(), strict=True))
    assert evidence["volume"] == 0
    assert [evidence.get(name) for name in ("harvest", "anomaly")] == [1, 8]
    assert [one.verdict.action for one in pipeline.live()] == ["throttle"]
    assert [one.lifted for one in pipeline.expire(T0 + HOUR)] == [True]


def test_a_row_of_the_first_layout_that_is_cut_short_is_refused() -> None:
    with pytest.raises(ValueError, match="account 'ada': 5 bytes, where layout 1 has 1552"):
        Pipeline(POLICY).restore([("ada", (1).to_bytes(8, "little")[:5])])


def test_what_people_confirm_and_clear_weighs_in_on_the_next_accounts() -> None:
    """Twenty accounts asked for reasoning and were confirmed, twenty wrote long answers only and were cleared."""
    pipeline = Pipeline(POLICY)
    asking = [f"asking-{n}" for n in range(20)]
    writing = [f"writing-{n}" for n in range(20)]
    for name in (*asking, *writing):
        run(pipeline, _as(name))
    before = {name: column_of(pipeline, "judgement", name) for name in (asking[0], writing[0])}
    assert set(before.values()) == {0}
    for n in range(20):
        hear(pipeline, said("confirmed", asking[n]), said("false_alarm", writing[n]), first_offset=2 * n)
    for name in ("asking-next", "writing-next"):
        run(pipeline, _as(name))
    assert column_of(pipeline, "judgement", "asking-next") > 0.4
    assert column_of(pipeline, "judgement", "writing-next") < -0.2
    again = Pipeline(POLICY)
    again.restore_models(pipeline.snapshot_models())
    run(again, _as("writing-next"))
    assert column_of(again, "judgement", "writing-next") == column_of(pipeline, "judgement", "writing-next")


def _as(name: str) -> list[Request]:
    """An hour's harvest of an account; one whose name begins with writing asks for no reasoning."""
    told = harvest(name, T0, 400, SECOND)
    if name.startswith("asking"):
        return told
    return [
        msgspec.structs.replace(one, sketch=one.sketch and msgspec.structs.replace(one.sketch, cues=())) for one in told
    ]


def column_of(pipeline: Pipeline, name: str, account: str) -> float:
    """One column of an account's evidence."""
    row = pipeline.profiles.rows([account])[0]
    return float(pipeline.profiles.table["evidence"][row, NAMES.index(name)])
