"""Exchange: what a request to an OpenAI-compatible API says of itself.

Everything here was written by somebody else, perhaps to be missed: what is too long is cut, what is out of range or of
another type is left out, and nothing raises. A request that Stillwatch refuses to read is one that nobody sees.
"""

import json
import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from .answer import CHARS_A_TOKEN, Answer, Said
from .request import FAILURES, Request
from .sketch import KEPT_CHARS

OPERATIONS: Final[Mapping[str, str]] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/responses": "chat",
    "/v1/embeddings": "embeddings",
}
"""What is watched and guarded: the path, and OpenTelemetry's name of the operation."""

UNKNOWN: Final = "unknown"
"""Stands for a model or an account that nobody named."""

_NAME_CHARS: Final = 512
_LARGEST_COUNT: Final = 2**31 - 1
_EARLIEST_MS: Final = 10**11  # Smaller numbers are seconds: 10^11 s is the year 5138, 10^11 ms is 1973.


class Identity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who sent a request, as far as the deployment knows. Names are as a Request carries them: hashed already.

    `keys` are the names of the API key under every valid secret, the newest first.
    """

    account: str
    org: str | None = None
    keys: tuple[str, ...] = ()
    plan: str | None = None
    opened_at: int | None = None
    payment: str | None = None
    billing_country: str | None = None
    pathway: str | None = None
    ip: str | None = None
    asn: str | None = None
    country: str | None = None
    network: str | None = None
    client: str | None = None


class Draft(NamedTuple):
    """A request on its way out: all of it but the sketch."""

    request: Request
    text: str | None = None
    """The last user message, cut to what a sketch looks at."""
    instructions: str | None = None
    """The system prompt, cut likewise."""
    chars: int | None = None
    """Length of the message before it was cut, when it was."""

    def draft(self) -> "Draft":
        """Itself: nothing is left to be read."""
        return self


class Prompt(NamedTuple):
    """What a body asks."""

    text: str | None = None
    instructions: str | None = None
    turns: int | None = None
    """Messages so far, without the system's."""
    chars: int = 0
    """Characters of all messages together."""


class Exchange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An exchange that is over, as it was: read later, when nobody waits.

    Thousands may wait while Kafka is away. Nothing in one is for the garbage collector to visit: with ordinary objects
    its full runs would hold up replies for a tenth of a second.
    """

    id: str
    at: int
    operation: str
    who: Identity
    asked: bytes
    """The request's body as it came, perhaps not even JSON."""
    said: Said
    latency_ms: float | None = None

    @property
    def size(self) -> int:
        """Bytes it keeps."""
        return len(self.asked) + len(self.said.kept)

    def draft(self) -> Draft:
        """The message about it."""
        return _draft(self, self.said.answer())


def _draft(exchange: Exchange, answer: Answer) -> Draft:
    who = exchange.who
    body = parsed(exchange.asked)
    prompt = prompt_of(body)
    tools = body.get("tools")
    stream = body.get("stream")
    conversation = body.get("conversation")
    input_tokens, output_tokens = answer.input_tokens, answer.output_tokens
    if input_tokens is None:
        input_tokens = prompt.chars // CHARS_A_TOKEN
    if output_tokens is None:
        output_tokens = answer.deltas if answer.deltas is not None else answer.chars // CHARS_A_TOKEN
    request = Request(
        id=_text(exchange.id) or UNKNOWN,
        at=exchange.at,
        account=_text(who.account) or UNKNOWN,
        model=_text(body.get("model")) or _text(answer.model) or UNKNOWN,
        input_tokens=min(input_tokens, _LARGEST_COUNT),
        output_tokens=min(output_tokens, _LARGEST_COUNT),
        org=_text(who.org),
        key=who.keys[0] if who.keys else None,
        plan=_text(who.plan),
        opened_at=who.opened_at,
        pathway=_text(who.pathway),
        operation=exchange.operation,
        session=_text(conversation.get("id") if isinstance(conversation, dict) else conversation),
        turns=prompt.turns,
        tools=len(tools) if isinstance(tools, list) else None,
        stream=stream if isinstance(stream, bool) else None,
        reasoning_tokens=answer.reasoning_tokens,
        cached_tokens=answer.cached_tokens,
        max_tokens=count(_first(body, "max_completion_tokens", "max_tokens", "max_output_tokens")),
        temperature=_number(body.get("temperature")),
        top_p=_number(body.get("top_p")),
        choices=count(body.get("n")),
        top_logprobs=_top_logprobs(body),
        status=answer.status,
        finish=answer.finish,
        latency_ms=exchange.latency_ms,
        ip=_text(who.ip),
        asn=_text(who.asn),
        country=_text(who.country),
        network=_text(who.network),
        client=_text(who.client),
        payment=_text(who.payment),
        billing_country=_text(who.billing_country),
    )
    text, instructions = cut(prompt.text), cut(prompt.instructions)
    shorter = prompt.text is not None and text is not None and len(text) < len(prompt.text)
    return Draft(request, text, instructions, len(prompt.text) if shorter and prompt.text else None)


def operation_of(method: str, path: str) -> str | None:
    """The operation that a request asks for; None for one that is none of our business."""
    _, found, last = path.rpartition("/v1/")
    return OPERATIONS.get(found + last) if method == "POST" else None


def parsed(raw: bytes) -> dict[str, object]:
    """A body as an object; empty when it is none."""
    body: object
    try:
        body = msgspec.json.decode(raw)
    except FAILURES:
        try:
            # Half an emoji or NaN is not for msgspec, but servers take it, and so must we.
            body = json.loads(raw)
        except (ValueError, RecursionError):
            return {}
    return body if isinstance(body, dict) else {}


def prompt_of(body: Mapping[str, object]) -> Prompt:
    """What is asked: the last user message and the system prompt, wherever the four operations put them."""
    asked = _first(body, "messages", "input", "prompt")
    instructions = body.get("instructions")
    if isinstance(asked, str):
        return Prompt(asked, instructions if isinstance(instructions, str) else None, 1, len(asked))
    if not isinstance(asked, list):
        return Prompt()
    messages = [each for each in asked if isinstance(each, dict)]
    if not messages:
        plain = [each for each in asked if isinstance(each, str)]
        text = "\n".join(plain) if plain else None
        return Prompt(text, None, 1, len(text or ""))
    spoken = [(each.get("role"), _content(each.get("content"))) for each in messages]
    system = [text for role, text in spoken if role in ("system", "developer")]
    said = [text for role, text in spoken if role == "user"] or [text for _, text in spoken]
    if isinstance(instructions, str):
        system.insert(0, instructions)
    return Prompt(
        said[-1],
        "\n".join(system) if system else None,
        len(spoken) - sum(role in ("system", "developer") for role, _ in spoken),
        sum(len(text) for _, text in spoken),
    )


def cut(text: str | None) -> str | None:
    """A text as far as a sketch looks at it: its two ends, joined as the sketch joins them."""
    if text is None or len(text) <= 2 * KEPT_CHARS:
        return text
    return f"{text[:KEPT_CHARS]} {text[-KEPT_CHARS:]}"


def count(value: object) -> int | None:
    """A whole number of at least 0, cut to what a Request may carry; None for anything else."""
    number = _number(value)
    return int(min(number, _LARGEST_COUNT)) if number is not None and number >= 0 else None


def milliseconds(value: object) -> int | None:
    """An instant in ms, given in seconds or milliseconds since 1970; None for anything else."""
    number = _number(value)
    if number is None or not 0 < number <= 2**53:
        return None
    return int(number if number >= _EARLIEST_MS else number * 1000)


def _content(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict))
    return "\n".join(text for text in texts if isinstance(text, str))


def _first(body: Mapping[str, object], *names: str) -> object:
    return next((body[name] for name in names if body.get(name) is not None), None)


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    short = value[:_NAME_CHARS]
    # Half an emoji cannot be sent. Nearly every name is ASCII, and this is asked fourteen times a request.
    return short if short.isascii() else short.encode("utf-8", "replace").decode()


def _number(value: object) -> float | None:
    # Servers are lenient: they take "0.7" for 0.7.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _top_logprobs(body: Mapping[str, object]) -> int | None:
    """How many alternatives were asked for; at least 1 where probabilities were, for the chosen token has one too."""
    asked = body.get("logprobs")
    alternatives = count(body.get("top_logprobs"))
    if isinstance(asked, bool):
        return max(alternatives or 0, 1) if asked else None
    if asked is None:
        return alternatives
    number = count(asked)
    return None if number is None else max(number, 1)
