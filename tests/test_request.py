import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.request import (
    EARLIEST_AT,
    FAILURES,
    MAX_AHEAD_MS,
    MAX_BYTES,
    REASONS,
    Request,
    Sketch,
    UnreadableError,
    check_at,
    decode,
    decoder,
    encode,
)

GOLDEN = Path(__file__).parent / "golden"

REQUIRED = {
    "id": "r-1",
    "at": 1_767_225_600_000,
    "account": "ada",
    "model": "large",
    "input_tokens": 12,
    "output_tokens": 30,
}
SKETCH = {"v": 1, "prefix": "0" * 16, "bands": [1, 2, 3, 4, 5, 6, 7, 8], "topic": "A" * 86 + "==", "chars": 5}


def message(**fields: object) -> bytes:
    return json.dumps({**REQUIRED, **fields}).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in REQUIRED.items() if key != name}).encode()


def unreadable(raw: bytes) -> tuple[str, str | None, str | None]:
    with pytest.raises(UnreadableError) as caught:
        decode(raw)
    error = caught.value
    assert error.reason in REASONS
    assert error.field is None or str(error).startswith(f"{error.field}: ")
    assert error.value is None or (error.value in str(error) and len(error.value) <= 80)
    assert "\n" not in str(error)
    return error.reason, error.field, error.value


MINIMAL = Request(id="r-1", at=1_767_225_600_000, account="ada", model="large", input_tokens=12, output_tokens=30)
FULL = Request(
    id="r-2",
    at=1_767_225_600_123,
    account="ada",
    model="large",
    input_tokens=1_200,
    output_tokens=3_000,
    org="lovelace",
    key="5c1f",
    plan="pro",
    opened_at=1_764_547_200_000,
    pathway="first_party",
    operation="chat",
    session="s-9",
    turns=3,
    tools=2,
    stream=True,
    reasoning_tokens=2_500,
    cached_tokens=1_000,
    max_tokens=16_384,
    temperature=0.6,
    top_p=0.95,
    choices=4,
    top_logprobs=5,
    status=200,
    finish="stop",
    latency_ms=812.5,
    ip="203.0.113.7",
    asn=64_496,
    country="NL",
    network="datacenter",
    client="t13d/py-1.2",
    payment="9ab0",
    billing_country="NL",
    sketch=Sketch(
        v=1,
        system="00000000000000ff",
        prefix="ffffffffffffffff",
        bands=(0, 1, 2, 3, 4, 5, 6, 4_294_967_295),
        topic=bytes(range(64)),
        chars=2_000,
        cues=("reasoning", "rubric"),
    ),
    text="Why is the sky blue?",
    instructions="Answer like a painter.",
)


@pytest.mark.parametrize(("name", "request_"), [("request_minimal.json", MINIMAL), ("request_full.json", FULL)])
def test_the_bytes_of_the_contract_are_frozen(name: str, request_: Request) -> None:
    golden = (GOLDEN / name).read_bytes().rstrip(b"\n")
    assert encode(request_) == golden
    assert decode(golden) == request_


def test_the_full_golden_message_leaves_no_field_out() -> None:
    golden = json.loads((GOLDEN / "request_full.json").read_bytes())
    assert set(golden) == set(Request.__struct_fields__)
    assert set(golden["sketch"]) == set(Sketch.__struct_fields__)


@pytest.mark.parametrize("struct", [Request, Sketch])
def test_every_field_is_described(struct: type[Request | Sketch]) -> None:
    properties = msgspec.json.schema(struct)["$defs"][struct.__name__]["properties"]
    assert [name for name, found in properties.items() if not found.get("description")] == []


def test_unknown_fields_are_kept_out_of_the_way() -> None:
    assert decode(message(weather={"rain": [1, 2]})) == MINIMAL


@pytest.mark.parametrize("name", [name for name in Request.__struct_fields__ if name not in REQUIRED])
def test_null_counts_as_absent(name: str) -> None:
    assert decode(message(**{name: None})) == MINIMAL


def test_cues_may_be_null_too() -> None:
    found = decode(message(sketch={**SKETCH, "cues": None, "system": None}))
    assert found.sketch is not None
    assert (found.sketch.cues, found.sketch.system) == (None, None)


def test_what_is_given_twice_counts_as_its_last() -> None:
    assert decode(b'{"model":"small",' + message()[1:]).model == "large"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" \n",
        b"nope",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf" + message(),  # a byte order mark
        message()[:-1],
        message() + b"x",
        message().replace(b"12", b"NaN"),
        message().replace(b"12", b"Infinity"),
        message().replace(b"12", b"012"),
        message().replace(b"ada", b"\xc3"),  # not UTF-8
        message().replace(b"ada", b"a\nb"),
        message().replace(b"ada", b"\\x"),
        b"[" * 60_000,
        b'{"a":' * 12_000,
        message(deep=0).replace(b'"deep": 0', b'"deep": ' + b"[" * 30_000 + b"]" * 30_000),
    ],
)
def test_what_is_not_json(raw: bytes) -> None:
    assert unreadable(raw) == ("not_json", None, None)


@pytest.mark.parametrize(
    ("raw", "value"),
    [(b"[]", "an array of 0"), (b"7", "a number"), (b"null", "null"), (b'"a secret"', "a string of 8 characters")],
)
def test_json_that_is_no_object(raw: bytes, value: str) -> None:
    assert unreadable(raw) == ("wrong_type", None, value)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_field_is_missing(name: str) -> None:
    assert unreadable(without(name)) == ("missing_field", name, None)
    assert unreadable(message(**{name: None})) == ("missing_field", name, "null")


def test_a_part_of_the_sketch_is_missing() -> None:
    for name in SKETCH:
        short = {key: value for key, value in SKETCH.items() if key != name}
        assert unreadable(message(sketch=short)) == ("missing_field", f"sketch.{name}", None)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("at", "2026-01-01", "'2026-01-01'"),
        ("at", 1.5, "1.5"),
        ("input_tokens", True, "true"),
        ("input_tokens", 1.0, "1.0"),
        ("output_tokens", "30", "'30'"),
        ("account", 7, "7"),
        ("model", ["large"], "an array of 1"),
        ("org", {"id": 1, "name": "x"}, "an object of 2 fields"),
        ("stream", 1, "1"),
        ("temperature", "hot", "'hot'"),
        ("asn", 1.5, "1.5"),
        ("finish", 0, "0"),
    ],
)
def test_a_wrong_type(name: str, value: object, shown: str) -> None:
    assert unreadable(message(**{name: value})) == ("wrong_type", name, shown)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("input_tokens", -1, "-1"),
        ("output_tokens", 2**31, "2147483648"),
        ("id", "", "''"),
        ("account", "", "''"),
        ("latency_ms", -0.5, "-0.5"),
        ("asn", -1, "-1"),
        ("org", "x" * 513, "'" + "x" * 76 + "..."),
        ("choices", 10**30, "1" + "0" * 30),
    ],
)
def test_out_of_range(name: str, value: object, shown: str) -> None:
    assert unreadable(message(**{name: value})) == ("out_of_range", name, shown)


def test_neighbours_of_the_limits() -> None:
    assert decode(message(input_tokens=0)).input_tokens == 0
    assert decode(message(input_tokens=2**31 - 1)).input_tokens == 2**31 - 1
    assert decode(message(id="x" * 512)).id == "x" * 512
    assert decode(message(asn=2**32 - 1)).asn == 2**32 - 1
    assert decode(message(temperature=0)).temperature == 0


def test_numbers_beyond_all_measure() -> None:
    assert unreadable(message().replace(b"12", b"9" * 5_000)) == ("out_of_range", "input_tokens", None)
    assert unreadable(message(top_p=0).replace(b'"top_p": 0', b'"top_p": 1e999')) == ("out_of_range", "top_p", "1e999")


def test_the_place_inside_of_a_sketch() -> None:
    bands = [1, 2, 3, -4, 5, 6, 7, 8]
    assert unreadable(message(sketch={**SKETCH, "bands": bands})) == ("out_of_range", "sketch.bands[3]", "-4")
    assert unreadable(message(sketch={**SKETCH, "bands": bands[:3]})) == (
        "out_of_range",
        "sketch.bands",
        "an array of 3",
    )
    assert unreadable(message(sketch={**SKETCH, "topic": "?"})) == (
        "wrong_type",
        "sketch.topic",
        "a string of 1 characters",
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"text": ["hush"]},
        {"text": {"hush": "hush"}},
        {"instructions": 4_111_111},
        {"payment": 4_111_111},
        {"key": 4_111_111},
        {"ip": 4_111_111},
        {"sketch": "hush"},
        {"sketch": {**SKETCH, "prefix": "hush, the first words"}},
        {"sketch": {**SKETCH, "cues": "hush"}},
        {"id": {"text": "hush"}},
        {"account": 1, "text": "hush"},
    ],
)
def test_neither_words_nor_secrets_are_shown(fields: dict[str, object]) -> None:
    with pytest.raises(UnreadableError) as caught:
        decode(message(**fields))
    assert "hush" not in str(caught.value)
    assert "4111111" not in str(caught.value)


def test_a_value_given_twice_is_not_shown_for_it_may_be_the_good_one() -> None:
    raw = b'{"input_tokens":-5,' + message()[1:]
    assert unreadable(raw) == ("out_of_range", "input_tokens", None)


def test_half_an_emoji_does_not_make_a_request_invisible() -> None:
    assert decode(message(text="\ud83d cut")).text == "\ufffd cut"
    assert decode(message(text="\ude00\ude00")).text == "\ufffd\ufffd"
    assert decode(message(text="\U0001f600")).text == "\U0001f600"
    assert decode(message(text="\\ud83d \ud83d")).text == "\\ud83d \ufffd"  # the first is a backslash and five letters
    assert unreadable(message(text="\ud83d", at="x")) == ("wrong_type", "at", "'x'")


def test_too_large() -> None:
    fitting = message(text="x" * (MAX_BYTES - len(message(text=""))))
    assert len(fitting) == MAX_BYTES
    assert decode(fitting).account == "ada"
    assert unreadable(fitting + b" ") == ("too_large", None, None)


def test_times_before_2020_are_too_old() -> None:
    assert decode(message(at=EARLIEST_AT)).at == EARLIEST_AT
    assert unreadable(message(at=EARLIEST_AT - 1)) == ("too_old", "at", "1577836799999")
    assert unreadable(message(at=1_767_225_600)) == ("too_old", "at", "1767225600")  # seconds, not ms
    assert unreadable(message(at=-(10**30)))[:2] == ("too_old", "at")
    assert unreadable(message(at=10**30))[:2] == ("in_future", "at")


def test_ten_minutes_ahead_of_the_broker_is_the_limit() -> None:
    broker_at = 1_767_225_600_000
    assert check_at(broker_at + MAX_AHEAD_MS, broker_at) is None
    ahead = check_at(broker_at + MAX_AHEAD_MS + 1, broker_at)
    assert ahead is not None
    assert (ahead.reason, ahead.field, ahead.value) == ("in_future", "at", str(broker_at + MAX_AHEAD_MS + 1))


@pytest.mark.parametrize("broker_at", [None, -1])
def test_without_a_brokers_time_only_the_past_is_checked(broker_at: int | None) -> None:
    assert check_at(2**53, broker_at) is None
    old = check_at(0, broker_at)
    assert old is not None
    assert old.reason == "too_old"


@pytest.mark.parametrize("literal", ["1e99999999999999999999", "-1E+99999999999999999999", "9" * 30_000 + ".5"])
def test_no_number_is_too_strange_to_be_explained(literal: str) -> None:
    raw = message(top_p=0).replace(b'"top_p": 0', b'"top_p": ' + literal.encode())
    assert unreadable(raw)[:2] == ("out_of_range", "top_p")
    assert unreadable(raw.replace(b"12", b"-12")) == ("out_of_range", "input_tokens", "-12")


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
SIMPLE = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING = st.recursive(
    SIMPLE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    readable_or_explained(raw)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(Request.__struct_fields__), ANYTHING, max_size=3), st.data())
def test_no_json_raises_anything_else(fields: dict[str, object], data: st.DataObject) -> None:
    raw = message(**fields)
    readable_or_explained(raw)
    place = data.draw(st.integers(0, len(raw) - 1))
    readable_or_explained(raw[:place])
    readable_or_explained(raw[:place] + data.draw(st.binary(max_size=3)) + raw[place + 1 :])


def readable_or_explained(raw: bytes) -> None:
    reason, length = "", 0
    try:
        decode(raw)
    except UnreadableError as error:
        reason, length = error.reason, len(str(error))
    assert reason in ("", *REASONS)
    assert length < 300


@settings(max_examples=200)
@given(
    st.builds(
        Request,
        id=NAMES,
        at=st.integers(EARLIEST_AT, 2**53),
        account=NAMES,
        model=NAMES,
        input_tokens=st.integers(0, 2**31 - 1),
        output_tokens=st.integers(0, 2**31 - 1),
        temperature=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        asn=st.none() | NAMES | st.integers(0, 2**32 - 1),
        session=st.none() | NAMES,
        text=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    )
)
def test_what_is_encoded_can_be_decoded(request_: Request) -> None:
    assert decode(encode(request_)) == request_


def test_the_bare_decoder_raises_nothing_but_its_failures() -> None:
    for raw in (b"", b"{}", message(at="x"), message().replace(b"ada", b"\xff"), b'{"a":' * 12_000):
        with pytest.raises(FAILURES):
            decoder.decode(raw)
