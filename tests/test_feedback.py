"""The feedback message: bytes that others rely on, and what is refused with its field."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stories import DAY, MINUTE, T0

from gateway.feedback import KINDS, REASONS, Feedback, UnreadableFeedbackError, decode, encode, key

GOLDEN = Path(__file__).parent / "golden"

MINIMAL = Feedback(
    id="f-1", at=T0, scope="account", value="ada", kind="false_alarm", by="noor", reason="a batch job they announced"
)
FULL = Feedback(
    id="f-2", at=T0, scope="campaign", value="c-17", kind="add", by="noor", reason="seen at a partner",
    until=T0 + DAY, action="throttle",
)  # fmt: skip

REQUIRED = json.loads(encode(MINIMAL))


@pytest.mark.parametrize(("name", "one"), [("feedback_minimal.json", MINIMAL), ("feedback_full.json", FULL)])
def test_the_bytes_of_the_contract_are_frozen(name: str, one: Feedback) -> None:
    golden = (GOLDEN / name).read_bytes().rstrip(b"\n")
    assert encode(one) == golden
    assert decode(golden) == one


def test_it_is_keyed_as_the_requests_of_its_account_are() -> None:
    assert key(MINIMAL) == b"ada"
    assert (MINIMAL.subject, FULL.subject) == ("account:ada", "campaign:c-17")


@pytest.mark.parametrize(
    ("changes", "reason", "complaint"),
    [
        ({"untl": 5}, "unknown_field", "untl: unknown field; did you mean until?"),
        ({"kind": "false-alarm"}, "out_of_range", "kind: unknown kind 'false-alarm'; did you mean false_alarm?"),
        ({"kind": "zzz"}, "out_of_range", "kind: unknown kind 'zzz'; one of confirmed, false_alarm,"),
        ({"scope": "ip"}, "out_of_range", "scope: unknown scope 'ip'; one of account, campaign"),
        ({"at": "now"}, "wrong_type", "at: expected int, got 'now'"),
        ({"at": T0 + 0.5}, "wrong_type", "at: expected int, got 1767225600000.5"),
        ({"at": 5}, "too_old", "at: before 2020, got 5"),
        ({"at": -1}, "out_of_range", "at: expected int >= 0, got -1"),
        ({"value": ""}, "out_of_range", "value: expected str of length >= 1, got ''"),
        ({"reason": ""}, "out_of_range", "reason: expected str of length >= 1, got ''"),
        ({"reason": None}, "wrong_type", "reason: expected str, got None"),
        ({"until": T0 + DAY}, "unknown_field", f"until: false_alarm takes none, got {T0 + DAY}"),
        ({"kind": "licensed"}, "missing_field", "until: missing; licensed needs it"),
        ({"kind": "licensed", "until": T0}, "out_of_range", f"until: {T0} is not after at, {T0}"),
        ({"kind": "licensed", "until": T0 + 1, "action": "watch"}, "unknown_field", "action: licensed takes none"),
        ({"kind": "add", "until": T0 + 1}, "missing_field", "action: missing; add needs it"),
        ({"kind": "add", "action": "allow"}, "out_of_range", "action: unknown action 'allow'; one of watch"),
    ],
)
def test_what_is_not_understood_in_full_is_refused_with_its_field(changes, reason: str, complaint: str) -> None:
    with pytest.raises(UnreadableFeedbackError) as refused:
        decode(msgspec.json.encode(REQUIRED | changes))
    assert str(refused.value).startswith(complaint)
    assert refused.value.reason == reason


@pytest.mark.parametrize("field", REQUIRED)
def test_every_required_field_is_missed_by_name(field: str) -> None:
    with pytest.raises(UnreadableFeedbackError, match=f"^{field}: missing$"):
        decode(msgspec.json.encode({name: value for name, value in REQUIRED.items() if name != field}))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not_json"), (b"junk", "not_json"), (b'{"id":"\xff"}', "not_json"), (b"[]", "wrong_type"),
        (b'{"id":' + b"[" * 5_000, "not_json"), (b" " * 20_000, "too_large"), (b'{"id":"\\ud800"}', "not_json"),
        (b'{"id":5, "at"', "not_json"),
    ],
)  # fmt: skip
def test_what_is_no_message_at_all_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFeedbackError) as refused:
        decode(raw)
    assert refused.value.reason == reason


def test_a_clock_ten_minutes_ahead_of_the_broker_is_refused() -> None:
    assert decode(encode(MINIMAL), broker_at=T0 - 10 * MINUTE) == MINIMAL
    with pytest.raises(UnreadableFeedbackError, match="at: 601 s ahead of the broker"):
        decode(encode(MINIMAL), broker_at=T0 - 10 * MINUTE - 1_000)


def test_what_no_reader_would_take_cannot_be_written() -> None:
    with pytest.raises(UnreadableFeedbackError, match="until: missing"):
        encode(msgspec.structs.replace(MINIMAL, kind="licensed"))


fields = st.sampled_from([*REQUIRED, "until", "action", "x"])
values = st.sampled_from([None, True, 0, -1, 2**70, 1.5, T0 + 1, "", "a", "add", "licensed", "account", [], {}])


@given(st.binary(max_size=200) | st.dictionaries(fields, values).map(lambda some: msgspec.json.encode(REQUIRED | some)))
def test_whatever_comes_is_read_or_refused_with_a_known_reason(raw: bytes) -> None:
    try:
        kind = decode(raw).kind
    except UnreadableFeedbackError as error:
        refused = error.reason
    else:
        refused = None
        assert kind in KINDS
    assert refused is None or refused in REASONS
