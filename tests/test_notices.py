"""Notices: what is news about an alert, and in whose words it is told."""

import json

import msgspec
from stories import HOUR, MINUTE, SECOND, T0

from sinks import alertmanager, webhook
from sinks.alerts import Alert, alert
from sinks.notices import KEPT_MS, Notice, Notices

RUNBOOKS = "https://docs.example/runbooks"


def strays(at: int = T0, **more: object) -> Alert:
    return msgspec.structs.replace(alert("strays", "topic:requests", at, "Strays."), **more)


def told(notices: list[Notice]) -> list[tuple[str, str, bool]]:
    return [(notice.alert.subject, notice.alert.severity, notice.firing) for notice in notices]


def test_an_alert_is_news_when_it_begins_and_when_it_ends_and_not_when_it_is_said_again():
    notices, first = Notices(), strays()
    assert told(notices.take(first)) == [("topic:requests", "warning", True)]
    assert notices.take(first.again(T0 + MINUTE)) == []
    assert notices.take(strays(T0 + 2 * MINUTE)) == []  # by a publisher that knows of no first one
    assert notices.firing()[0].since == T0
    (end,) = notices.take(first.ended(T0 + 3 * MINUTE))
    assert (end.firing, end.alert.since, end.alert.ends_at) == (False, T0, T0 + 3 * MINUTE)
    assert notices.take(first.ended(T0 + 4 * MINUTE)) == []
    assert told(notices.take(strays(T0 + 5 * MINUTE))) == [("topic:requests", "warning", True)]


def test_an_alert_that_nobody_says_again_ends_by_itself():
    notices = Notices()
    notices.take(strays())
    notices.take(strays().again(T0 + 30 * MINUTE))
    assert notices.expire(T0 + HOUR) == []
    assert told(notices.expire(T0 + HOUR + 30 * MINUTE)) == [("topic:requests", "warning", False)]
    assert notices.expire(T0 + 2 * HOUR) == []


def test_the_newest_message_counts_whatever_the_order():
    notices = Notices()
    notices.take(strays())
    assert told(notices.take(strays().ended(T0 + MINUTE))) == [("topic:requests", "warning", False)]
    assert notices.take(strays().again(T0 + SECOND)) == []
    assert notices.firing() == []


def test_more_severe_is_news_and_an_alertmanager_hears_the_end_of_the_milder_one():
    notices = Notices()
    notices.take(strays())
    (worse,) = notices.take(strays(T0 + MINUTE, severity="critical"))
    assert (worse.alert.severity, worse.firing, worse.alert.since) == ("critical", True, T0)
    assert [(one.severity, one.ends_at) for one in notices.standing()] == [
        ("warning", T0 + MINUTE),
        ("critical", T0 + MINUTE + HOUR),
    ]


def test_what_has_ended_is_told_for_a_day_and_then_forgotten():
    notices = Notices()
    notices.take(strays())
    notices.take(strays().ended(T0 + MINUTE))
    notices.expire(T0 + MINUTE + KEPT_MS - 1)
    assert len(notices.standing()) == 1
    notices.expire(T0 + MINUTE + KEPT_MS)
    assert notices.standing() == []


def test_a_notice_has_one_id_however_often_it_is_told_and_an_alert_one_key():
    first, again = Notices(), Notices()
    (begun,) = first.take(strays())
    (same,) = again.take(strays())
    (ended,) = first.take(strays().ended(T0 + MINUTE))
    (anew,) = first.take(strays(T0 + HOUR))
    assert begun.id == same.id
    assert len({begun.id, ended.id, anew.id}) == 3
    assert begun.key == ended.key == anew.key
    assert Notice(strays(labels={"zone": "a"}), firing=True).key != begun.key


def test_an_alertmanager_is_told_in_its_own_words():
    found = alert(
        "campaign_found", "campaign:c-1", T0, "12 accounts share a card.",
        labels={"scenario": "harvest", "severity": "none", "alertname": "Forged"},
        details={"accounts": 12_000.0, "traits": ["payment", "prefix"]},
    )  # fmt: skip
    assert json.loads(alertmanager.body([found], RUNBOOKS + "/")) == [
        {
            "labels": {
                "alertname": "StillwatchCampaignFound",
                "severity": "warning",
                "subject": "campaign:c-1",
                "scenario": "harvest",
            },
            "annotations": {
                "summary": "12 accounts share a card.",
                "runbook_url": "https://docs.example/runbooks/campaign-found.md",
                "details": "accounts: 12,000\ntraits: payment, prefix",
            },
            "startsAt": "2026-01-01T00:00:00.000+00:00",
            "endsAt": "2026-01-02T00:00:00.000+00:00",
        }
    ]


def test_an_end_before_the_beginning_is_told_as_no_time_at_all():
    (row,) = json.loads(alertmanager.body([strays(since=T0 + HOUR, ends_at=T0)], RUNBOOKS))
    assert row["startsAt"] == row["endsAt"]


def test_a_webhook_gets_the_alert_with_its_state_and_its_id():
    (begun,) = Notices().take(strays(details={"strays": 3}))
    body = json.loads(webhook.body(begun, RUNBOOKS))
    assert body == {
        "id": begun.id,
        "key": begun.key,
        "state": "firing",
        "name": "StillwatchStrays",
        "runbook": "https://docs.example/runbooks/strays.md",
        "kind": "strays",
        "subject": "topic:requests",
        "severity": "warning",
        "at": T0,
        "since": T0,
        "ends_at": T0 + HOUR,
        "summary": "Strays.",
        "labels": {},
        "details": {"strays": 3},
    }
    assert webhook.headers(begun, "s3cret")["Authorization"] == "Bearer s3cret"
    assert webhook.headers(begun, None) == {"Content-Type": "application/json", "Idempotency-Key": begun.id}
