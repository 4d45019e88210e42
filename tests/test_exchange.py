"""What a request and its answer say of themselves, however they are written."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stories import T0

from gateway.answer import LARGEST, Answer, Reader, Said
from gateway.exchange import Draft, Exchange, Identity, milliseconds
from gateway.request import decode, encode
from gateway.sketch import sketch

ADA = Identity(account="ada", org="acme", keys=("k-new", "k-old"), plan="pro", opened_at=T0 - 1, ip="192.0.2.7")

USAGE = {
    "prompt_tokens": 90,
    "completion_tokens": 400,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 300},
}


def drafted(asked: object, said: Said | None = None) -> Draft:
    raw = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    exchange = Exchange(id="r-1", at=T0, operation="chat", who=ADA, asked=raw, said=said or Said(200), latency_ms=12.5)
    return exchange.draft()


def replied(body: object, status: int = 200, kind: bytes = b"application/json", piece: int = 7) -> Said:
    """An answer that comes in small pieces."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    reader = Reader()
    reader.start(status, [(b"Content-Type", kind)])
    for start in range(0, len(raw), piece):
        reader.feed(raw[start : start + piece])
    return reader.said()


def read(body: object, status: int = 200, kind: bytes = b"application/json", piece: int = 7) -> Answer:
    return replied(body, status, kind, piece).answer()


def events(*bodies: object, end: bytes = b"\n\n") -> bytes:
    return b"".join(b"data: " + json.dumps(body).encode() + end for body in bodies) + b"data: [DONE]" + end


def test_a_chat_request_says_all_it_asks() -> None:
    asked = {
        "model": "large-2",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "Why is"}, {"type": "text", "text": "the sky blue?"}],
            },
        ],
        "tools": [{}, {}],
        "stream": True,
        "max_tokens": 16_384,
        "temperature": 0.6,
        "top_p": 0.95,
        "n": 4,
        "logprobs": True,
        "top_logprobs": 20,
    }
    answer = replied({"model": "large-2-0601", "usage": USAGE, "choices": [{"finish_reason": "length"}]})
    found = drafted(asked, answer)
    one = found.request
    assert (found.text, found.instructions) == ("Why is\nthe sky blue?", "Be brief.")
    assert (one.id, one.at, one.account, one.org, one.key, one.plan) == ("r-1", T0, "ada", "acme", "k-new", "pro")
    assert (one.model, one.operation, one.turns, one.tools, one.stream) == ("large-2", "chat", 3, 2, True)
    assert (one.input_tokens, one.output_tokens, one.reasoning_tokens, one.cached_tokens) == (90, 400, 300, 64)
    assert (one.max_tokens, one.temperature, one.top_p, one.choices, one.top_logprobs) == (16_384, 0.6, 0.95, 4, 20)
    assert (one.status, one.finish, one.latency_ms, one.ip) == (200, "length", 12.5, "192.0.2.7")
    assert decode(encode(one)) == one


@pytest.mark.parametrize(
    ("asked", "text", "instructions", "turns"),
    [
        ({"prompt": "Once upon"}, "Once upon", None, 1),
        ({"prompt": ["a", "b"]}, "a\nb", None, 1),
        ({"prompt": [1, 2, 3]}, None, None, 1),
        ({"input": "Hi", "instructions": "Be kind."}, "Hi", "Be kind.", 1),
        (
            {
                "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
                "instructions": "Be kind.",
            },
            *("Hi", "Be kind.", 1),
        ),
        ({"messages": [{"role": "tool", "content": "42"}]}, "42", None, 1),
        ({"messages": [{"role": "user", "content": None}]}, "", None, 1),
        ({"messages": ["hello"]}, "hello", None, 1),
        ({"messages": 7}, None, None, None),
        ({}, None, None, None),
        (b"not json", None, None, None),
        (b"[1]", None, None, None),
        (b"[" * 100_000, None, None, None),
    ],
)
def test_a_prompt_is_found_wherever_it_stands(
    asked: object, text: str | None, instructions: str | None, turns: int | None
) -> None:
    found = drafted(asked)
    assert (found.text, found.instructions, found.request.turns) == (text, instructions, turns)
    assert found.request.model == "unknown"


def test_half_an_emoji_hides_nobody() -> None:
    found = drafted(rb'{"model": "m\ud83d", "messages": [{"role": "user", "content": "\ud83d Think step by step."}]}')
    assert decode(encode(found.request)).model == "m?"
    assert sketch(found.text or "").cues == ("reasoning",)


@pytest.mark.parametrize("value", [-1, "many", None, [], {}, True, math.nan, math.inf, 10**400, "1e999"])
def test_numbers_that_are_none_are_left_out(value: object) -> None:
    asked = {"max_tokens": value, "temperature": value, "n": value, "model": value}
    one = drafted(json.dumps(asked).encode()).request
    assert (one.max_tokens, one.choices) == (None, None)
    assert decode(encode(one)) == one


def test_numbers_beyond_all_measure_are_cut_and_written_ones_read() -> None:
    one = drafted({"max_tokens": 10**12, "n": "3", "temperature": "0.5"}).request
    assert (one.max_tokens, one.choices, one.temperature) == (2**31 - 1, 3, 0.5)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, None),
        ({"logprobs": False, "top_logprobs": 5}, None),
        ({"logprobs": True}, 1),
        ({"logprobs": True, "top_logprobs": 5}, 5),
        ({"logprobs": 0}, 1),  # The older API: the chosen token's alone.
        ({"logprobs": 5}, 5),
        ({"top_logprobs": 3}, 3),  # The Responses API.
    ],
)
def test_probabilities_asked_for(asked: object, expected: int | None) -> None:
    assert drafted(asked).request.top_logprobs == expected


def test_a_long_message_is_cut_and_its_sketch_stays_the_same() -> None:
    message = "".join(f"word{n} " for n in range(10_000))
    found = drafted({"messages": [{"role": "user", "content": message}]})
    assert found.text is not None
    assert (len(found.text), found.chars) == (2 * 8_192 + 1, len(message))
    whole, kept = sketch(message), sketch(found.text)
    assert (whole.bands, whole.topic, whole.prefix) == (kept.bands, kept.topic, kept.prefix)


def test_an_answer_without_usage_is_estimated() -> None:
    answer = replied({"choices": [{"message": {"content": "x" * 40, "reasoning_content": "y" * 40}}]})
    one = drafted({"messages": [{"role": "user", "content": "z" * 40}]}, answer).request
    assert (one.input_tokens, one.output_tokens) == (10, 20)


def test_a_streamed_answer_says_what_it_used_in_its_last_event() -> None:
    pieces = [{"choices": [{"delta": {"content": "word "}, "finish_reason": None}]} for _ in range(2_000)]
    last = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    stream = events(*pieces, last, {"choices": [], "usage": USAGE, "model": "m"})
    for end in (b"\n\n", b"\r\n\r\n"):
        answer = read(stream.replace(b"\n\n", end), kind=b"text/event-stream; charset=utf-8", piece=50)
        assert (answer.output_tokens, answer.reasoning_tokens, answer.finish) == (400, 300, "stop")


def test_a_streamed_answer_without_usage_is_counted() -> None:
    role = {"choices": [{"delta": {"role": "assistant"}}]}
    pieces = [{"choices": [{"delta": {"content": "word "}}]}] * 50
    last = {"choices": [{"delta": {}, "finish_reason": "length"}]}
    said = replied(events(role, *pieces, last), kind=b"text/event-stream", piece=1_000)
    answer = said.answer()
    assert (answer.output_tokens, answer.deltas, answer.finish) == (None, 50, "length")
    assert drafted({}, said).request.output_tokens == 50


def test_pieces_of_many_tokens_are_counted_by_their_characters() -> None:
    """2,000 pieces of 24 characters: the newest are looked at, six tokens each. A refusal is told in pieces too."""
    pieces = [{"choices": [{"delta": {"reasoning_content": "a word, and another one "}}]}] * 2_000
    role = {"choices": [{"delta": {"role": "assistant"}}]}
    stream = events(role, *pieces, {"choices": [{"delta": {"refusal": "no"}, "finish_reason": "stop"}]})
    answer = replied(stream, kind=b"text/event-stream", piece=1_000).answer()
    assert (answer.deltas, answer.finish) == (12_000, "refusal")


def test_the_responses_api_says_it_in_its_own_words() -> None:
    usage = {"input_tokens": 9, "output_tokens": 40, "output_tokens_details": {"reasoning_tokens": 30}}
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "usage": usage}
    answer = read(cut)
    assert (answer.input_tokens, answer.output_tokens, answer.reasoning_tokens) == (9, 40, 30)
    assert answer.finish == "length"
    text = {"type": "response.output_text.delta", "delta": "word"}
    whole = {"status": "completed", "usage": usage, "output": [{"content": "x" * 100_000}]}
    streamed = read(events(*[text] * 500, {"type": "response.completed", "response": whole}), kind=b"text/event-stream")
    assert (streamed.output_tokens, streamed.finish) == (40, "stop")


def test_embeddings_write_nothing() -> None:
    answer = read({"model": "e", "usage": {"prompt_tokens": 12, "total_tokens": 12}, "data": [{"embedding": [0.1]}]})
    assert (answer.input_tokens, answer.output_tokens) == (12, 0)


@pytest.mark.parametrize(
    ("choice", "finish"),
    [
        ({"finish_reason": "content_filter"}, "refusal"),
        ({"finish_reason": "stop", "message": {"refusal": "I cannot."}}, "refusal"),
        ({"finish_reason": "function_call"}, "tool_calls"),
        ({"finish_reason": None}, None),
    ],
)
def test_how_it_ended(choice: object, finish: str | None) -> None:
    assert read({"choices": [choice]}).finish == finish


def test_an_error_is_an_error() -> None:
    answer = read({"error": {"message": "no such model"}}, status=404)
    assert (answer.status, answer.finish, answer.output_tokens) == (404, "error", None)


def test_of_an_enormous_answer_little_is_kept() -> None:
    reader = Reader()
    reader.start(200, [])
    for _ in range(LARGEST // 65_536 + 10):
        reader.feed(b"x" * 65_536)
    assert reader.said().kept == b""
    assert reader.said().answer().chars > LARGEST
    reader = Reader()
    reader.start(200, [(b"content-type", b"text/event-stream")])
    for _ in range(20_000):
        reader.feed(b"data: " + b"x" * 1_000 + b"\n\n")
    assert len(reader.said().kept) < 64 * 1024


@pytest.mark.parametrize(
    ("value", "expected"),
    [(T0, T0), (T0 // 1000, T0), (str(T0), T0), ("2026", 2_026_000), ("", None), (-1, None), (0, None), (10**30, None)],
)
def test_instants_in_seconds_or_milliseconds(value: object, expected: int | None) -> None:
    assert milliseconds(value) == expected


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.sampled_from(
        ["role", "content", "text", "user", "type", "usage", "choices", "message", "prompt_tokens", "finish_reason"]
    ), each, max_size=4),
    max_leaves=20,
)  # fmt: skip
names = ["model", "messages", "input", "prompt", "instructions", "n", "logprobs", "top_logprobs", "tools", "max_tokens"]


@given(
    st.dictionaries(st.sampled_from(names), anything), st.binary(max_size=50) | anything.map(json.dumps).map(str.encode)
)
def test_whatever_is_written_becomes_a_request_that_can_be_read(body: dict[str, object], reply: bytes) -> None:
    for kind in (b"application/json", b"text/event-stream"):
        said = replied(b"data: " + reply + b"\n\n" if b"event" in kind else reply, kind=kind)
        one = drafted(body, said).request
        assert decode(encode(one)) == one
