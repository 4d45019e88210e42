"""Outbox: everything said is kept in sight until it is delivered."""

import asyncio
from asyncio import Future

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from stories import T0, Raw

from gateway.verdict import Verdict, decode
from sinks.alerts import alert
from sinks.alerts import encode as encode_alert
from sinks.audit import Chain, verify
from sinks.policy import Decision
from sinks.unreadable import Headers
from streams.batch import SetAside
from streams.engine.outbox import KEPT_BYTES, DeliveryError, Outbox, delivered
from streams.settings import LARGEST_MESSAGE, Settings
from streams.topics import REQUESTS

SETTINGS = Settings(topic_prefix="x.")


class Wire:
    """A broker that is a list; it refuses what is too large, as a producer does."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes | None, bytes | None, Headers | None]] = []

    async def send(
        self, topic: str, value: bytes | None, key: bytes | None, *, headers: Headers | None = None
    ) -> Future[object]:
        if len(value or b"") + sum(len(text) for _, text in headers or []) > LARGEST_MESSAGE:
            raise MessageSizeTooLargeError
        self.sent.append((topic, key, value, headers))
        done: Future[object] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


def decision(action: str, seq: int) -> Decision:
    return Decision(
        Verdict(
            id=f"v{seq}", at=T0, seq=seq, scope="account", value="mallory", action=action, score=0.9,
            expires_at=T0 + 60_000, policy="p", model="m",
        )
    )  # fmt: skip


async def test_a_verdict_goes_to_enforcement_and_audit_and_its_end_leaves_nothing() -> None:
    wire, chain = Wire(), Chain("worker")

    under_way = await Outbox(wire.send, SETTINGS).announce([decision("throttle", 1), decision("allow", 2)], chain)

    assert len(under_way) == 4
    assert [(topic, key) for topic, key, _, _ in wire.sent] == [
        ("x.enforcement", b"account:mallory"),
        ("x.audit", b"account:mallory"),
        ("x.enforcement", b"account:mallory"),
        ("x.audit", b"account:mallory"),
    ]
    announced, _, lifted, _ = (value for _, _, value, _ in wire.sent)
    assert announced is not None
    assert decode(announced) == decision("throttle", 1).verdict
    assert lifted is None
    assert verify([value or b"" for topic, _, value, _ in wire.sent if topic == "x.audit"]) is None


async def test_what_cannot_be_read_travels_on_untouched() -> None:
    wire = Wire()
    record = Raw(b"\xff\x00 {", offset=7, key=b"\xfe")

    await Outbox(wire.send, SETTINGS).set_aside([SetAside(record, "not_json", "what a mess")], REQUESTS, partition=3)

    assert wire.sent == [
        (
            "x.unreadable",
            b"\xfe",
            b"\xff\x00 {",
            [
                ("reason", b"not_json"),
                ("text", b"what a mess"),
                ("topic", b"x.requests"),
                ("partition", b"3"),
                ("offset", b"7"),
            ],
        )
    ]


async def test_what_is_too_large_to_travel_on_is_cut_and_says_so() -> None:
    wire = Wire()
    record = Raw(b"x" * LARGEST_MESSAGE)

    await Outbox(wire.send, SETTINGS).set_aside([SetAside(record, "too_large", "too large")], REQUESTS, partition=0)

    [(_, _, value, headers)] = wire.sent
    assert value == b"x" * KEPT_BYTES
    assert ("cut_from_bytes", str(LARGEST_MESSAGE).encode()) in (headers or [])


async def test_a_message_that_the_broker_did_not_take_is_an_error() -> None:
    failed: Future[object] = asyncio.get_running_loop().create_future()
    failed.set_exception(KafkaTimeoutError())

    with pytest.raises(DeliveryError, match="KafkaTimeoutError"):
        await delivered([failed])


async def test_an_alert_goes_to_its_topic_under_its_subject() -> None:
    wire = Wire()
    found = alert("campaign_found", "campaign:c-1", T0, "12 accounts share a card.")

    (sent,) = await Outbox(wire.send, SETTINGS).alert([found])

    await sent
    assert wire.sent == [("x.alerts", b"campaign:c-1", encode_alert(found), None)]
