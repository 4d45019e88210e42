"""Answers without what a student learns most from."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import degrade


def asked(**fields: object) -> dict[str, Any]:
    return json.loads(degrade.request(json.dumps({"model": "m", **fields}).encode()))


def told(**fields: object) -> dict[str, Any]:
    return json.loads(degrade.answer(json.dumps(fields).encode()))


def streamed(*events: object, piece: int = 11, end: str = "\n\n") -> list[Any]:
    """What a client reads of a degraded stream that comes in small pieces."""
    raw = "".join(f"data: {json.dumps(event)}{end}" for event in events) + f"data: [DONE]{end}"
    stream, out = degrade.Stream(), b""
    for start in range(0, len(raw), piece):
        out += stream.feed(raw.encode()[start : start + piece])
    out += stream.rest()
    lines = [line.removeprefix("data: ") for line in out.decode().splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def delta(index: int = 0, finish: str | None = None, **fields: object) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": index, "delta": fields, "finish_reason": finish, "logprobs": {"x": 1}}]}


def said(events: list[Any]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for event in events if event.get("choices") for choice in event["choices"]
    )


def test_probabilities_and_choices_are_not_even_asked_for() -> None:
    assert asked(logprobs=True, top_logprobs=20, n=5, prompt_logprobs=1, temperature=0.6, messages=[]) == {
        "model": "m",
        "temperature": 0.6,
        "messages": [],
    }
    assert asked(prompt="x", logprobs=5, best_of=3) == {"model": "m", "prompt": "x"}
    include = ["message.output_text.logprobs", "reasoning.encrypted_content", "file_search_call.results"]
    assert asked(input="x", include=include) == {"model": "m", "input": "x", "include": include[2:]}


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[1]", b'{"model":"m",  "temperature":1}', b"\xff"])
def test_what_asks_for_nothing_special_stays_byte_for_byte(body: bytes) -> None:
    assert degrade.request(body) == body


def test_an_answer_loses_them_in_case_they_are_there() -> None:
    choices = [
        {"index": 0, "message": {"content": "42", "reasoning_content": "secret"}, "logprobs": {"content": []}},
        {"index": 1, "message": {"content": "43"}},
    ]
    assert told(id="c", choices=choices, usage={"total_tokens": 5}, prompt_logprobs=[1]) == {
        "id": "c",
        "choices": [{"index": 0, "message": {"content": "42"}, "logprobs": None}],
        "usage": {"total_tokens": 5},
    }


def test_the_responses_api_keeps_its_summaries_and_its_settings() -> None:
    output = [
        {"type": "reasoning", "summary": ["short"], "content": ["raw"], "encrypted_content": "xyz"},
        {"type": "message", "content": [{"type": "output_text", "text": "42", "logprobs": [1]}]},
    ]
    assert told(output=output, reasoning={"effort": "high"}) == {
        "output": [
            {"type": "reasoning", "summary": ["short"], "content": [], "encrypted_content": None},
            {"type": "message", "content": [{"type": "output_text", "text": "42", "logprobs": []}]},
        ],
        "reasoning": {"effort": "high"},
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<think>secret</think>42", "42"),
        ("\n<reasoning>\nsecret\n</reasoning>\n\n42", "42"),
        ("<think>secret that is cut short", ""),
        ("<thinking about it", "<thinking about it"),
        ("<b>42</b>", "<b>42</b>"),
        ("see <think>tags</think>", "see <think>tags</think>"),
        ("<", "<"),
        ("", ""),
        ("   42", "   42"),
    ],
)
def test_reasoning_at_the_start_of_a_text_is_taken_out_in_whole_or_in_pieces(text: str, shown: str) -> None:
    assert told(choices=[{"message": {"content": text}}])["choices"][0]["message"]["content"] == shown
    assert told(choices=[{"text": text}])["choices"][0]["text"] == shown
    for size in (1, 3, 100):
        pieces = [delta(content=text[start : start + size]) for start in range(0, len(text), size)]
        assert said(streamed(*pieces, delta(finish="stop"))) == shown


def test_a_streamed_answer_loses_them_too_and_reads_on() -> None:
    events = streamed(
        delta(role="assistant", content=""),
        delta(reasoning_content="secret"),
        delta(reasoning="secret"),
        delta(content="4"),
        delta(index=1, content="43"),
        delta(content="2"),
        delta(finish="stop"),
        {"choices": [], "usage": {"total_tokens": 5}},
    )
    assert said(events) == "42"
    assert [len(event["choices"]) for event in events] == [1, 1, 1, 1, 0]
    assert events[-1]["usage"] == {"total_tokens": 5}
    assert "secret" not in json.dumps(events)
    assert all(choice["logprobs"] is None for event in events for choice in event["choices"])


def test_events_of_the_responses_api() -> None:
    events = streamed(
        {"type": "response.reasoning_text.delta", "delta": "secret"},
        {"type": "response.reasoning_summary_text.delta", "delta": "short"},
        {"type": "response.output_text.delta", "delta": "42", "logprobs": [1]},
        {"type": "response.completed", "response": {"output": [{"type": "reasoning", "content": ["secret"]}]}},
        end="\r\n\r\n",
    )
    assert [event["type"].removeprefix("response.") for event in events] == [
        *("reasoning_summary_text.delta", "output_text.delta", "completed"),
    ]
    assert events[1]["logprobs"] == []
    assert "secret" not in json.dumps(events)


def test_event_names_and_comments_stay() -> None:
    stream = degrade.Stream()
    assert stream.feed(b": ping\n\nevent: x\ndata: {}\n\n") == b": ping\n\nevent: x\ndata: {}\n\n"


@given(st.text(max_size=60), st.integers(1, 9))
def test_honest_text_is_never_lost(text: str, size: int) -> None:
    hidden = degrade.Hidden()
    shown = "".join(hidden.feed(text[start : start + size]) for start in range(0, len(text), size)) + hidden.rest()
    if "<" not in text:
        assert shown == text


@given(st.binary(max_size=200), st.integers(1, 50))
def test_a_stream_of_anything_passes(raw: bytes, size: int) -> None:
    stream = degrade.Stream()
    out = b"".join(stream.feed(raw[start : start + size]) for start in range(0, len(raw), size)) + stream.rest()
    if b"data:" not in raw:
        assert out == raw
