"""Alerts: what a person should see, as messages."""

import pytest

from sinks.alerts import KINDS, UnreadableAlertError, alert, announcement, decode, encode

HOUR = 3_600_000


def test_an_alert_carries_the_severity_and_time_of_its_kind():
    brake = alert("brake_pulled", "policy:worker-0", 1_000, "3 % of accounts would be throttled.")
    assert (brake.severity, brake.since, brake.at, brake.ends_at) == ("critical", 1_000, 1_000, 1_000 + 2 * HOUR)
    assert not brake.over
    assert alert("campaign_found", "campaign:c-1", 0, "12 accounts.", severity="critical").severity == "critical"


def test_said_again_it_is_the_same_alert_and_holds_longer_until_it_is_ended():
    drift = alert("drift", "model:anomaly", 0, "The crowd changed.", labels={"feature": "share"}, details={"p": 0.01})
    again, ended = drift.again(5 * HOUR), drift.ended(7 * HOUR)
    assert drift.identity == again.identity == ended.identity
    assert (again.since, again.ends_at, again.over) == (0, 11 * HOUR, False)
    assert (ended.since, ended.ends_at, ended.over) == (0, 7 * HOUR, True)
    other = alert("drift", "model:anomaly", 0, "The crowd changed.", labels={"feature": "gaps"})
    assert other.identity != drift.identity


def test_an_alert_travels_under_its_subject_and_arrives_as_it_left():
    found = alert(
        "campaign_found", "campaign:c-1", 1, "12 accounts share a card.",
        labels={"scenario": "harvest"}, details={"accounts": 12.0, "traits": ["payment", "prefix"], "known": False},
    )  # fmt: skip
    key, value = announcement(found)
    assert key == b"campaign:c-1"
    assert decode(value) == found
    assert encode(decode(value)) == value


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "truncated"),
        (b"[]", "Expected `object`"),
        (b"\xff", "malformed"),
        (b"[" * 100_000, "not an alert"),
        (b'{"kind": "drift"}', "missing required field `subject`"),
    ],
)
def test_what_is_no_alert_is_refused_with_what_is_wrong(raw, complaint):
    with pytest.raises(UnreadableAlertError, match="not an alert") as caught:
        decode(raw)
    assert complaint in str(caught.value)


def test_a_label_cannot_carry_what_prometheus_would_refuse():
    sound = encode(alert("strays", "topic:requests", 0, "Strays.", labels={"partition": "3"}))
    with pytest.raises(UnreadableAlertError, match="labels"):
        decode(sound.replace(b'"partition"', b'"par tition"'))


def test_an_unknown_kind_of_a_newer_release_is_kept_and_unknown_fields_are_ignored():
    sound = encode(alert("strays", "topic:requests", 0, "Strays."))
    assert decode(sound.replace(b'"strays"', b'"moonrise"')).kind == "moonrise"
    assert decode(sound[:-1] + b',"new":1}').kind == "strays"


def test_every_kind_has_a_sentence_and_an_end():
    for name, kind in KINDS.items():
        assert kind.meaning.endswith("."), name
        assert kind.holds_ms > 0, name
