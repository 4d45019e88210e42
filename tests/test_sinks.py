"""What leaves: announcements, what could not be read, and numbers."""

from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest

from gateway.verdict import Verdict, decode
from sinks.enforcement import announcement
from sinks.metrics import Metrics
from sinks.policy import Decision
from sinks.unreadable import set_aside


def decision(action: str) -> Decision:
    return Decision(
        Verdict(
            id="v1",
            at=1,
            seq=1,
            scope="account",
            value="acme",
            action=action,
            score=0.9,
            expires_at=60_000,
            policy="p",
            model="m",
        )
    )


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    offset: int


def test_a_verdict_is_announced_under_its_subject():
    key, value = announcement(decision("throttle"))
    assert key == b"account:acme"
    assert value is not None
    assert decode(value) == decision("throttle").verdict


def test_a_lifted_verdict_leaves_nothing_behind():
    assert announcement(decision("allow")) == (b"account:acme", None)


def test_what_cannot_be_read_keeps_its_bytes_and_gets_its_reason_beside_them():
    key, value, headers = set_aside(
        Record(b"\xff", b"{\x00", 7), reason="not_json", text="not JSON: \udcff", topic="t", partition=3
    )
    assert (key, value) == (b"\xff", b"{\x00")
    assert dict(headers) == {
        "reason": b"not_json",
        "text": b"not JSON: \\udcff",
        "topic": b"t",
        "partition": b"3",
        "offset": b"7",
    }


def test_verdicts_are_counted_by_action_and_mode():
    metrics = Metrics(CollectorRegistry())
    metrics.decided([decision("watch"), decision("watch"), decision("allow")])
    exposed = generate_latest(metrics.registry).decode()
    assert 'stillwatch_verdicts_total{action="watch",mode="enforce"} 2.0' in exposed
    assert 'stillwatch_verdicts_total{action="allow",mode="enforce"} 1.0' in exposed
