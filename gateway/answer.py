"""Answer: what became of a request, read from the reply without holding it up."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from .request import FAILURES

LARGEST: Final = 8 * 1024 * 1024
"""Bytes of one answer that are kept until it is read; of a longer one only the length is known."""

CHARS_A_TOKEN: Final = 4
"""To estimate tokens where an answer states no usage; a common rule of thumb for English."""

_TAIL: Final = 16 * 1024
_LARGEST_COUNT: Final = 2**31 - 1
_FINISHES: Final = {
    "content_filter": "refusal",
    "function_call": "tool_calls",
    "max_output_tokens": "length",
    "max_tokens": "length",
    "completed": "stop",
    "failed": "error",
}


class Answer(msgspec.Struct, kw_only=True):
    """What became of a request. What the reply does not say is None."""

    status: int | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    finish: str | None = None
    chars: int = 0
    """Characters of text in it."""
    deltas: int | None = None
    """Tokens of a streamed one, guessed: one a piece, or what its characters make where pieces hold two and more."""


class Said(msgspec.Struct, frozen=True, gc=False):
    """A reply as it was, to be read when nobody waits."""

    status: int | None = None
    streamed: bool = False
    kept: bytes = b""
    """The whole body, the end of a streamed one, or nothing of one that was too long."""
    size: int = 0
    """Bytes of the whole."""
    events: int = 0
    finish: str | None = None
    """How it ended, where that is known without reading."""

    def answer(self) -> Answer:
        """What became of the request. Reading a long answer takes its time: not for the event loop."""
        found = Answer(status=self.status, finish=self.finish)
        if self.finish is not None:
            return found
        if self.status is not None and self.status >= 400:
            found.finish = "error"
        elif self.streamed:
            # The first and the last event carry no text, and then comes [DONE].
            pieces, with_text = max(self.events - 3, 0), 0
            for line in self.kept.splitlines():
                if line.startswith(b"data:") and b"{" in line:
                    before = found.chars
                    _look(line[5:], found)
                    with_text += found.chars > before
            # A server that is busy sends several tokens in one piece; the last ones tell how many.
            tokens = found.chars / with_text / CHARS_A_TOKEN if with_text else 0.0
            found.deltas = round(pieces * tokens) if tokens >= 2 else pieces
        else:
            found.chars = self.size if not self.kept else 0
            _look(self.kept, found)
        return found


class _Message(msgspec.Struct):
    content: object = None
    reasoning_content: object = None
    refusal: object = None


class _Choice(msgspec.Struct):
    finish_reason: object = None
    message: _Message | None = None
    delta: _Message | None = None
    text: object = None


class _Body(msgspec.Struct):
    """An answer, an event of a streamed one, or an event of the Responses API, which holds an answer itself."""

    model: object = None
    usage: object = None
    choices: list[_Choice] | None = None
    status: object = None
    incomplete_details: object = None
    response: "_Body | None" = None


_decoder: Final = msgspec.json.Decoder(_Body)


class Reader:
    """Watches a reply pass, and keeps of it what has to be read afterwards."""

    def __init__(self) -> None:
        self._status: int | None = None
        self._streamed = False
        self._kept = bytearray()
        self._limit = _TAIL
        self._size = 0
        self._events = 0

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The reply's head."""
        self._status = status
        self._streamed = any(
            name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
            for name, value in headers
        )

    def feed(self, chunk: bytes) -> None:
        """A piece of the reply's body, as it passed."""
        self._size += len(chunk)
        kept = self._kept
        if self._streamed:
            self._events += (bytes(kept[-4:]) + chunk).count(b"data:")
            kept += chunk
            if len(kept) > self._limit:
                # The last events say how it ended and what it used; one event more, for the newest may be cut short.
                del kept[: max(_event_before(kept, 4), len(kept) - LARGEST)]
                self._limit = 2 * len(kept) + _TAIL
        elif self._size <= LARGEST:
            kept += chunk
        else:
            kept.clear()

    def said(self) -> Said:
        """The reply, as far as it came."""
        return Said(self._status, self._streamed, bytes(self._kept), self._size, self._events)


def _event_before(kept: bytearray, events: int) -> int:
    place = len(kept)
    for _ in range(events):
        place = max(kept.rfind(b"\n\n", 0, place), kept.rfind(b"\r\n\r\n", 0, place))
        if place < 0:
            return 0
    return place


def _look(raw: bytes, found: Answer) -> None:
    """Add what one body or event says."""
    try:
        body = _decoder.decode(raw)
    except FAILURES:
        return
    if body.response is not None:
        body = body.response
    if isinstance(body.model, str):
        found.model = body.model
    for choice in body.choices or ():
        finish = choice.finish_reason
        found.chars += _length(choice.text)
        for said in (choice.message, choice.delta):
            if said is not None:
                found.chars += _length(said.content) + _length(said.reasoning_content)
                if said.refusal:
                    finish = "refusal"
        if isinstance(finish, str) and finish:
            found.finish = _FINISHES.get(finish, finish)
    if body.choices is None and isinstance(body.status, str):
        details = body.incomplete_details
        finish = details.get("reason") if isinstance(details, dict) else body.status
        found.finish = _FINISHES.get(finish, found.finish) if isinstance(finish, str) else found.finish
    if isinstance(body.usage, dict):
        _use(body.usage, found)


def _use(usage: Mapping[str, object], found: Answer) -> None:
    """The tokens used, under the names of either API."""
    for name in ("prompt", "input"):
        found.input_tokens = _tokens(usage, f"{name}_tokens", found.input_tokens)
        details = usage.get(f"{name}_tokens_details")
        if isinstance(details, dict):
            found.cached_tokens = _tokens(details, "cached_tokens", found.cached_tokens)
    for name in ("completion", "output"):
        found.output_tokens = _tokens(usage, f"{name}_tokens", found.output_tokens)
        details = usage.get(f"{name}_tokens_details")
        if isinstance(details, dict):
            found.reasoning_tokens = _tokens(details, "reasoning_tokens", found.reasoning_tokens)
    if found.output_tokens is None and found.input_tokens is not None and "completion_tokens" not in usage:
        found.output_tokens = 0  # Embeddings write nothing.


def _tokens(usage: Mapping[str, object], name: str, otherwise: int | None) -> int | None:
    value = usage.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return otherwise
    return int(min(value, _LARGEST_COUNT))


def _length(text: object) -> int:
    return len(text) if isinstance(text, str) else 0
