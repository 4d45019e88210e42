"""Degrade: answers without what a student learns most from: probabilities, many choices, raw reasoning.

Chain-of-thought traces and token probabilities are what makes an answer worth more to a student than to its reader;
withholding them works best of all known measures, and few honest customers need them. The request is rewritten, so that
the model does not even produce them, and so is the answer, in case it does. Probabilities may also be told otherwise
than they are: then they are asked for, and what comes back is rewritten.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from .exchange import parsed
from .marking import FIELD
from .probabilities import Telling, retold

_NOT_ASKED: Final = (
    "logit_bias",
    "prompt_logprobs",
    "n",
    "best_of",
    "return_token_ids",
    "return_tokens_as_token_ids",
)
"""Left out of a request; the last are vLLM's. With a bias true probabilities can be measured, whatever is told."""

_PROBABILITIES: Final = ("logprobs", "top_logprobs", "message.output_text.logprobs")
"""Left out of it too, or out of its `include`, unless they are told otherwise."""

_NOT_INCLUDED: Final = ("reasoning.encrypted_content",)

_NOT_SAID: Final = frozenset(
    ("reasoning_content", "reasoning_details", "thinking", "thinking_blocks", "prompt_logprobs", "token_ids")
)
"""Left out of an answer, wherever they stand. `reasoning` goes only as text: the Responses API echoes a setting so."""

_TAG: Final = re.compile(r"\s*<(think|thinking|reasoning|thought|scratchpad)>")
_LONGEST_START: Final = 64
"""Characters of an answer that are held back until it is clear whether it begins with a tag."""


def asks_probabilities(body: bytes) -> bool:
    """Whether a request wants probabilities."""
    asked = parsed(body)
    include = asked.get("include")
    named = set(include) if isinstance(include, list) and all(isinstance(each, str) for each in include) else set()
    return not named.isdisjoint(_PROBABILITIES) or any(asked.get(name) not in (None, False) for name in _PROBABILITIES)


def request(body: bytes, *, telling: Telling | None = None, mark: str | None = None) -> bytes:
    """A request that asks for one plain answer, with no more probabilities than are told, and for its mark.

    What is no JSON object stays as it is.
    """
    asked = parsed(body)
    if not asked:
        return body
    never = _PROBABILITIES if telling is None else ()
    changed = {name: value for name, value in asked.items() if name not in _NOT_ASKED and name not in never}
    include = changed.get("include")
    if isinstance(include, list):
        changed["include"] = [each for each in include if each not in _NOT_INCLUDED and each not in never]
    if telling is not None:
        for name in ("logprobs", "top_logprobs"):
            if isinstance(many := changed.get(name), int) and not isinstance(many, bool):
                changed[name] = min(many, telling.alternatives)
    if mark is not None:
        more = changed.get("vllm_xargs")
        changed["vllm_xargs"] = (more if isinstance(more, dict) else {}) | {FIELD: mark}
    return body if changed == asked else _encoded(changed)


def answer(body: bytes, telling: Telling | None = None) -> bytes:
    """An answer without what was not to be told; what is no JSON object stays as it is."""
    said = parsed(body)
    if not said:
        return body
    plain = _plain(_first_choice(said), telling)
    for choice in _dicts(plain, "choices"):
        for place, name in ((choice.get("message"), "content"), (choice, "text")):
            if isinstance(place, dict) and isinstance(text := place.get(name), str):
                hidden = Hidden()
                place[name] = hidden.feed(text) + hidden.rest()
    return _encoded(plain)


class Stream:
    """The same for an answer that comes as server-sent events, piece by piece."""

    def __init__(self, telling: Telling | None = None) -> None:
        self._waiting = b""
        self._hidden = Hidden()
        self._telling = telling

    def feed(self, chunk: bytes) -> bytes:
        """What may go on to the client now; an event that is not complete waits for its end."""
        *events, self._waiting = re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)", self._waiting + chunk)
        return b"".join(map(self._event, events))

    def rest(self) -> bytes:
        """What is left when the answer has ended."""
        waiting, self._waiting = self._waiting, b""
        return self._event(waiting) if waiting.strip() else waiting

    def _event(self, event: bytes) -> bytes:
        lines = event.splitlines(keepends=True)
        for position, line in enumerate(lines):
            if line.startswith(b"data:") and (said := parsed(line[5:])):
                plain = self._told(said)
                if plain is None:
                    return b""
                lines[position] = b"data: " + _encoded(plain) + line[len(line.rstrip(b"\r\n")) :]
        return b"".join(lines)

    def _told(self, said: dict[str, object]) -> dict[str, object] | None:
        kind = said.get("type")
        if isinstance(kind, str) and kind.startswith("response.reasoning_text."):
            return None
        plain = _plain(_first_choice(said), self._telling)
        # Without its reasoning many an event says nothing: it would only tell how long the model thought.
        worth = not said.get("choices") or bool(plain.get("usage"))
        for choice in _dicts(plain, "choices"):
            delta = choice.get("delta")
            place, name = (delta, "content") if isinstance(delta, dict) else (choice, "text")
            text, ended = place.get(name), choice.get("finish_reason") is not None
            shown = self._hidden.feed(text) if isinstance(text, str) else ""
            if ended:
                shown += self._hidden.rest()
            if shown or isinstance(text, str):
                place[name] = shown
            worth = worth or ended or bool(shown) or any(delta.values() if isinstance(delta, dict) else ())
        return plain if worth else None


class Hidden:
    """Takes reasoning out of a text that begins with it, inside tags such as <think>; the text may come in pieces."""

    def __init__(self) -> None:
        self._waiting = ""
        self._step: Callable[[str], str] = self._begin

    def feed(self, text: str) -> str:
        """What may be shown of the next piece."""
        return self._step(text)

    def rest(self) -> str:
        """What was held back at the start and turned out to be no tag; nothing of reasoning that was cut short."""
        waiting = self._waiting if self._step == self._begin else ""
        self._waiting, self._step = "", self._show
        return waiting

    def _begin(self, text: str) -> str:
        self._waiting += text
        found = _TAG.match(self._waiting)
        if found:
            rest, self._waiting = self._waiting[found.end() :], ""
            self._closing = f"</{found[1]}>"
            self._step = self._hide
            return self._hide(rest)
        start = self._waiting.lstrip()
        if len(self._waiting) < _LONGEST_START and (not start or (start.startswith("<") and ">" not in start)):
            return ""
        return self.rest()

    def _hide(self, text: str) -> str:
        self._waiting += text
        _, closed, after = self._waiting.partition(self._closing)
        if not closed:
            self._waiting = self._waiting[-len(self._closing) :]
            return ""
        self._waiting, self._step = "", self._after
        return self._after(after)

    def _after(self, text: str) -> str:
        text = text.lstrip()
        if text:
            self._step = self._show
        return text

    def _show(self, text: str) -> str:
        return text


def _first_choice(said: dict[str, object]) -> dict[str, object]:
    choices = said.get("choices")
    if not isinstance(choices, list):
        return said
    return said | {"choices": [each for each in choices if not (isinstance(each, dict) and each.get("index"))]}


def _plain(said: Mapping[str, object], telling: Telling | None) -> dict[str, object]:
    """A copy, at any depth, without what is not said, and with probabilities retold."""
    plain: dict[str, object] = {}
    hidden = said.get("type") == "reasoning"
    for name, value in said.items():
        if name in _NOT_SAID or (name == "reasoning" and isinstance(value, str)):
            continue
        if name == "logprobs" and telling is not None:
            plain[name] = retold(value, telling)
        elif name in ("logprobs", "top_logprobs") or (hidden and name in ("content", "encrypted_content")):
            plain[name] = [] if isinstance(value, list) else None
        else:
            plain[name] = _plain_value(value, telling)
    return plain


def _plain_value(value: object, telling: Telling | None) -> object:
    if isinstance(value, dict):
        return _plain(value, telling)
    return [_plain_value(each, telling) for each in value] if isinstance(value, list) else value


def _dicts(said: Mapping[str, object], name: str) -> list[dict[str, object]]:
    found = said.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _encoded(body: object) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        return json.dumps(body).encode()  # Half an emoji, as it came.
